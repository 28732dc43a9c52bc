"""A door for a promised path; see `pyimgano.utils.datasets`."""

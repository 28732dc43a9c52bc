"""Work on whole sets of images: run directories, their reports, evaluations."""

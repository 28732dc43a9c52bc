"""Feature extractors: images in, one grid of patch vectors an image out.

`pyimgano.features.base` holds the protocol and the registry; each other public module registers one
extractor under its name. Importing this package imports none of them.
"""

"""The promised path to the data sets, which live in `pyimgano.datasets`."""

from __future__ import annotations

from pyimgano.datasets.base import Dataset, DatasetInfo, load_dataset
from pyimgano.datasets.mvtec import MVTecDataset
from pyimgano.datasets.visa import VisADataset

__all__ = ["Dataset", "DatasetInfo", "MVTecDataset", "VisADataset", "load_dataset"]

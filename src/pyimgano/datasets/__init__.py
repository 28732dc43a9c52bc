"""Data sets on disk: readers of published layouts and of plain folders."""

from __future__ import annotations

from pyimgano.datasets.base import DATASETS, Dataset, DatasetInfo, list_categories, load_dataset

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "list_categories", "load_dataset"]

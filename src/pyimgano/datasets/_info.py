"""The facts of a data set, as lists, reports and runs show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DatasetInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The facts of one category of a data set.

    Parameters
    ----------
    name : str
        Registered name of its reader: ``"mvtec"``.
    category : str
        What is shown: ``"screw"``.
    root : Path
        The folder that was given.
    n_train : int
        Good training images.
    n_train_defect : int
        Defective images that a few-shot protocol gives for training.
    n_test, n_test_good, n_test_defect : int
        Test images, all and by label.
    defects : tuple of str
        Kinds of defects in the test split, in natural order.
    has_masks : bool
        Whether the defective test images have ground-truth masks.
    saturates : bool
        Whether the masks declare how much of a defect is enough: see `Dataset.channels`.
    summary, licence, layout, source : str
        What its reader says of the data set: one line, the terms of use, the tree on disk, where
        it is described.
    protocol : str
        Which images are learned from: ``"one-class"``, or what `datasets.protocols` made of it.
    """

    name: str
    category: str
    root: Path
    n_train: int
    n_train_defect: int
    n_test: int
    n_test_good: int
    n_test_defect: int
    defects: tuple[str, ...]
    has_masks: bool
    saturates: bool
    summary: str
    licence: str
    layout: str
    source: str
    protocol: str = "one-class"

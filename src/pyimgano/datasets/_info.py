"""The facts of a data set, as lists, reports and runs show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyimgano.datasets._files import natural_key
from pyimgano.records import DEFECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyimgano.records import Sample

__all__ = ["DatasetInfo", "counted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The facts of one category of a data set.

    Parameters
    ----------
    name, category : str
        Registered name of its reader, ``"mvtec"``; what is shown, ``"screw"``.
    root : Path
        The folder that was given.
    n_train, n_train_defect : int
        Good training images; defective ones that a few-shot protocol gives.
    n_test, n_test_good, n_test_defect : int
        Test images, all and by label.
    defects : tuple of str
        Kinds of defects in the test split, in natural order.
    has_masks, saturates : bool
        Whether the defective test images have ground-truth masks, and whether these declare how
        much of a defect is enough: see `Dataset.channels`.
    summary, licence, layout, source : str
        What its reader says: one line, the terms of use, the tree on disk, where it is described.
    protocol : str
        Which images are learned from: ``"one-class"``, or what `datasets.protocols` made of it.
    options : mapping
        The reader's own options, such as ``fold`` of ``"ksdd"``.
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
    options: Mapping[str, Any] = field(default_factory=dict)


def counted(
    train: Sequence[Sample], train_defects: Sequence[Sample], test: Sequence[Sample]
) -> dict[str, Any]:
    """Return the facts that are counted: numbers of images, and the kinds of defects."""
    defective = [sample for sample in test if sample.label == DEFECT]
    return {
        "n_train": len(train),
        "n_train_defect": len(train_defects),
        "n_test": len(test),
        "n_test_good": len(test) - len(defective),
        "n_test_defect": len(defective),
        "defects": tuple(sorted({sample.defect for sample in defective}, key=natural_key)),
    }

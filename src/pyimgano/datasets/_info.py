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
    """The facts of one category of a data set."""

    name: str  #: Registered name of its reader: ``"mvtec"``.
    category: str  #: What is shown: ``"screw"``.
    root: Path  #: The folder that was given.
    n_train: int  #: Good training images.
    n_train_defect: int  #: Defective images that a few-shot protocol gives for training.
    n_test: int  #: Test images, of which good and defective:
    n_test_good: int
    n_test_defect: int
    defects: tuple[str, ...]  #: Kinds of defects in the test split, in natural order.
    has_masks: bool  #: Whether the defective test images have ground-truth masks.
    saturates: bool  #: Whether these declare how much of a defect is enough: `Dataset.channels`.
    summary: str  #: One line by its reader.
    licence: str  #: Terms of use.
    layout: str  #: Tree on disk.
    source: str  #: Where it is described.
    protocol: str = "one-class"  #: Which images are learned from, see `datasets.protocols`.
    options: Mapping[str, Any] = field(default_factory=dict)  #: The reader's, as ``fold`` of ksdd.


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

"""Protocols: a data set made from another by a rule that papers share, told in its ``info``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, final

import numpy as np

from pyimgano.datasets._checks import refuse_repeats
from pyimgano.datasets._info import counted
from pyimgano.datasets.base import Dataset
from pyimgano.errors import DatasetError, ParameterError
from pyimgano.records import DEFECT, GOOD, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyimgano.datasets.base import DatasetInfo

__all__ = ["Derived", "contaminated", "few_shot", "multi_class"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Derived(Dataset):
    """A data set made from others: the same face, other images to learn from.

    ``origin`` are the facts of that one, of which counts and kinds of defects are taken anew;
    ``samples`` stand in the order in which they are learned from and judged.
    """

    origin: DatasetInfo = field(kw_only=True, repr=False)
    samples: tuple[Sample, ...] = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        refuse_repeats(self.samples)
        learned = [sample for sample in self.samples if sample.split == "train"]
        parts = {
            "train": tuple(sample for sample in learned if sample.label == GOOD),
            "train_defects": tuple(sample for sample in learned if sample.label == DEFECT),
            "test": tuple(sample for sample in self.samples if sample.split == "test"),
        }
        defective = [sample for sample in parts["test"] if sample.label == DEFECT]
        masked = bool(defective) and all(sample.mask_path for sample in defective)
        info = replace(self.origin, **counted(**parts), has_masks=masked)
        for name, value in {**parts, "others": (), "info": info}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:  # noqa: ARG003
        """Return nothing: its samples are chosen already."""
        return ()

    def _read(self) -> Sequence[Sample]:
        return self.samples


def few_shot(dataset: Dataset, k: int, seed: int = 0) -> Derived:
    """Keep k good training images: those from ``seed * k`` on, of the paths sorted as text.

    The rule of AnomalyDINO (arXiv 2405.14529, its official code), so that figures can be compared:
    shots of different seeds share no image. All other images stay as they are. A ``k`` below 1 or a
    negative ``seed`` is a `ParameterError`, fewer than ``(seed + 1) * k`` images a `DatasetError`.
    """
    if k < 1 or seed < 0:
        raise ParameterError(f"k must be at least 1 and seed not negative, got {k} and {seed}")
    ordered = sorted(dataset.train, key=lambda sample: sample.path.as_posix())
    if len(ordered) < (seed + 1) * k:
        raise DatasetError(
            f"{k} shots of seed {seed} need {(seed + 1) * k} good training images, "
            f"{dataset.info.category} has {len(ordered)}: use fewer shots or a smaller seed"
        )
    told = f"few-shot: {k} of {len(ordered)} good images, seed {seed}"
    return _derived(dataset, told, ordered[seed * k : (seed + 1) * k], dataset.test)


def contaminated(dataset: Dataset, share: float, seed: int = 0) -> Derived:
    """Mix defective test images into the good training images, and take them out of the test.

    They are labelled good, as somebody would who has overlooked them; their kind of defect stays.
    The ``share`` of the good training images, above 0 and below 1, is rounded to whole images;
    images of one group go together, so there may be a few more. The ``seed`` decides which, and
    where they stand among the good ones. A share that rounds to none, or a negative seed, is a
    `ParameterError`, a test without a defective image left a `DatasetError`.
    """
    wanted = round(share * len(dataset.train)) if 0 < share < 1 else 0
    if wanted < 1 or seed < 0:
        raise ParameterError(
            f"share must lie above 0 and below 1 and make at least one of "
            f"{len(dataset.train)} images, and seed not be negative; got {share} and {seed}"
        )
    generator = np.random.default_rng(seed)
    groups: dict[str, list[Sample]] = {}
    for sample in dataset.test:
        if sample.label == DEFECT:
            groups.setdefault(sample.group or str(sample.path), []).append(sample)
    names, moved = list(groups), list[Sample]()
    for i in generator.permutation(len(names)).tolist():
        if len(moved) >= wanted:
            break
        moved += groups[names[i]]
    # A part may also have good views: they would tell the test apart, and leave it as well.
    taken = {sample.path for sample in moved}
    parts = {sample.group for sample in moved} - {None}
    test = [s for s in dataset.test if s.path not in taken and s.group not in parts]
    if len(moved) < wanted or not any(sample.label == DEFECT for sample in test):
        raise DatasetError(
            f"{wanted} defective images are to be learned from, but the test of "
            f"{dataset.info.category} has {dataset.info.n_test_defect} and must keep one: "
            "use a smaller share"
        )
    train = list(dataset.train)
    for sample in moved:
        hidden = replace(sample, split="train", label=GOOD, mask_path=None)
        train.insert(int(generator.integers(len(train) + 1)), hidden)
    told = (
        f"contaminated: {len(moved)} defective test images among {len(dataset.train)} good ones "
        f"({share:.3g}), seed {seed}"
    )
    return _derived(dataset, told, train, test)


def multi_class(datasets: Sequence[Dataset]) -> Derived:
    """Make one data set of several categories, for one model that serves them all.

    Each sample keeps its category, so that figures can be told by category. Fewer than two data
    sets, or two of one category, are a `ParameterError`; an image in two of them is a
    `DatasetError`.
    """
    names = [dataset.info.category for dataset in datasets]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ParameterError(f"multi-class needs two or more different categories, got {names}")
    first = datasets[0]
    origin = replace(
        first.info,
        category=" + ".join(names),
        saturates=all(one.info.saturates for one in datasets),
        protocol=_told(first, f"multi-class: one model for {len(names)} categories"),
    )
    parts = [part for one in datasets for part in (one.train, one.train_defects, one.test)]
    return Derived(first.root, origin=origin, samples=tuple(chain.from_iterable(parts)))


def _derived(
    dataset: Dataset, protocol: str, train: Sequence[Sample], test: Sequence[Sample]
) -> Derived:
    origin = replace(dataset.info, protocol=_told(dataset, protocol))
    samples = (*train, *dataset.train_defects, *test)
    return Derived(dataset.root, category=dataset.category, origin=origin, samples=samples)


def _told(dataset: Dataset, protocol: str) -> str:
    before = dataset.info.protocol
    return protocol if before == "one-class" else f"{before}; {protocol}"

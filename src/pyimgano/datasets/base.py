"""What a data set is: samples with facts, read from disk without decoding an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pyimgano.datasets import _checks
from pyimgano.datasets._files import in_natural_order, list_images, near
from pyimgano.datasets._info import DatasetInfo, counted
from pyimgano.errors import DatasetError, MaskError, ParameterError
from pyimgano.images import read_image
from pyimgano.registry import Metadata, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.records import Sample

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "list_categories", "list_images", "load_dataset"]
__all__ += ["reader_options"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset(ABC):
    """One category of a data set: immutable, listed when it is built, decoded when it is read.

    A reader is one file: a frozen dataclass whose further fields are its options, with `_read` and
    `categories`, registered in `DATASETS`. The folders must be as its layout demands, else
    `DatasetNotFoundError` or `DatasetError` says what is there; a `MaskError` tells that some masks
    exist and a defective image has none.

    Parameters
    ----------
    root : Path or str
        Folder of the data set, or of one category.
    category : str, optional
        Which category; None if ``root`` is one itself.

    Attributes
    ----------
    train : tuple of Sample
        Good training images only, in natural order of the paths, which is capture order.
    train_defects : tuple of Sample
        Defective images that a few-shot protocol gives for training; mostly empty.
    test : tuple of Sample
        Test images in natural order of the paths.
    others : tuple of Sample
        Images of the further splits in ``SPLITS``, such as good ones for validation, or without a
        label; mostly empty.
    info : DatasetInfo
        Counts, kinds of defects, licence.

    Examples
    --------
    >>> screw = load_dataset("mvtec", "mvtec_ad", category="screw")  # doctest: +SKIP
    >>> screw.info.n_train, screw.info.defects[:2]  # doctest: +SKIP
    (320, ('manipulated_front', 'scratch_head'))
    """

    SPLITS: ClassVar[tuple[str, ...]] = ()

    root: Path
    category: str | None = field(default=None, kw_only=True)
    train: tuple[Sample, ...] = field(init=False, repr=False)
    train_defects: tuple[Sample, ...] = field(init=False, repr=False)
    test: tuple[Sample, ...] = field(init=False, repr=False)
    others: tuple[Sample, ...] = field(init=False, repr=False)
    info: DatasetInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        samples = in_natural_order(self._read(), lambda sample: sample.path)
        _checks.refuse_repeats(samples)
        parts = {
            "train": tuple(s for s in samples if s.split == "train" and s.label == 0),
            "train_defects": tuple(s for s in samples if s.split == "train" and s.label == 1),
            "test": tuple(s for s in samples if s.split == "test" and s.label is not None),
            "others": tuple(s for s in samples if s.split in self.SPLITS),
        }
        if sum(map(len, parts.values())) < len(samples):
            raise DatasetError(f"{self!r} has samples without a label, or of a split unknown here")
        if not parts["train"]:
            raise DatasetError(f"{self!r} has no good training image")
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        object.__setattr__(self, "info", self._describe())

    @classmethod
    @abstractmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""

    @abstractmethod
    def _read(self) -> Sequence[Sample]:
        """Return all samples with label and split, in any order.

        The split is ``"train"``, ``"test"`` or one of ``SPLITS``, where a label may be missing.
        """

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the test images, int64 of shape (n_test,), 0 good and 1 defective."""
        return np.array([sample.label for sample in self.test], dtype=np.int64)

    def images(self, split: str) -> Iterator[NDArray[np.uint8 | np.uint16]]:
        """Decode the images of a split (see `part`) one by one: RGB, shape (H, W, 3).

        One that cannot be decoded is an `ImageReadError` when it is reached.
        """
        return (read_image(sample.path) for sample in self.part(split))

    def part(self, split: str) -> tuple[Sample, ...]:
        """Return the samples of ``"train"``, ``"train_defects"``, ``"test"`` or one of ``SPLITS``.

        Another name is a `ParameterError`.
        """
        parts = {"train": self.train, "train_defects": self.train_defects, "test": self.test}
        if split in parts:
            return parts[split]
        if split not in self.SPLITS:
            names = ", ".join((*parts, *self.SPLITS))
            raise ParameterError(f"split must be one of {names}, got {split!r}")
        return tuple(sample for sample in self.others if sample.split == split)

    def masks(self) -> Iterator[NDArray[np.bool_] | None]:
        """Read the masks (H, W) of the test images one by one: True where defective; None if good.

        A set without masks is a `MaskError` at once; a mask that cannot be read, or is of another
        size than its image, when it is reached.
        """
        if self.info.n_test_defect and not self.info.has_masks:
            raise MaskError(
                f"{self.info.name} {self.info.category} in {self.root} has no ground-truth masks; "
                f"only image-level figures can be computed (info.has_masks tells)"
            )
        return (_checks.read_truth(sample) for sample in self.test)

    def channels(self) -> Iterator[tuple[tuple[NDArray[np.bool_], int], ...] | None]:
        """Read the channels of the ground truth of the test images; errors as of `masks`.

        Each is a mask (H, W) with its saturation area in pixels, as ``pyimgano.metrics.aspro``
        takes them; None for a good image. A set without saturation areas is a `MaskError`.
        """
        if not self.info.saturates:
            raise MaskError(
                f"{self.info.name} {self.info.category} declares no saturation areas; use masks() "
                f"(info.saturates tells)"
            )
        return (_checks.read_channels(sample) for sample in self.test)

    def verify(self) -> list[str]:
        """Decode every image and mask, and list what is wrong: one sentence a problem.

        Images and masks that cannot be read; masks that are missing, of another size than their
        image, or without a defective pixel; marked pixels of a good image.
        """
        return [
            problem
            for sample in (*self.train, *self.train_defects, *self.test, *self.others)
            for problem in _checks.problems(sample, masked=self.info.has_masks)
        ]

    def audit(self, *, decode: bool = True) -> list[str]:
        """List what `verify` finds, and what would flatter a figure.

        That is test images whose file is a training image too, and groups in both splits. Without
        ``decode`` only the masks of the test are read, and one that cannot be used is a
        `MaskError`: for what reads the images itself.
        """
        if decode:
            found = self.verify()
        else:
            masked = self.info.has_masks
            found = [
                each for one in self.test for each in _checks.mask_problems(one, masked=masked)
            ]
        train = (*self.train, *self.train_defects)
        return [*found, *_checks.split_groups(train, self.test), *_checks.leaks(train, self.test)]

    def _describe(self) -> DatasetInfo:
        name = DATASETS.name_of(type(self))
        facts = DATASETS.entry(name).metadata if name else Metadata(summary="", licence="")
        details = dict(facts.details)
        defective = [sample for sample in self.test if sample.label == 1]
        return DatasetInfo(
            name=name or type(self).__name__,
            category=self.train[0].category,
            root=self.root,
            **counted(self.train, self.train_defects, self.test),
            has_masks=any(sample.mask_path is not None for sample in defective),
            saturates=any(sample.saturation for sample in defective),
            summary=facts.summary,
            licence=facts.licence,
            layout=details.get("layout", ""),
            source=details.get("source", ""),
            options={each: getattr(self, each) for each in reader_options(name)} if name else {},
        )


DATASETS: Registry[type[Dataset]] = Registry(
    "data set", package="pyimgano.datasets", group="pyimgano.datasets"
)


def load_dataset(
    name: str, root: Path | str, *, category: str | None = None, **options: Any
) -> Dataset:
    """List one category of a data set on disk; nothing is decoded.

    Parameters
    ----------
    name : str
        A reader, ``"mvtec"`` or another of `DATASETS`, or that of a plugin; else
        `UnknownNameError`.
    root, category
        As of `Dataset`, as are the errors; `list_categories` lists the categories.
    **options
        The reader's own, such as ``split`` of ``"visa"`` or ``fold`` of ``"ksdd"``; another one is
        a `ParameterError`.

    Returns
    -------
    Dataset
        Its ``train`` and ``test`` are sequences of `Sample`.
    """
    known = reader_options(name)
    for option in options:
        if option not in known:
            meant = near(option, list(known)).replace("It holds", "It has")
            raise ParameterError(f"data set {name!r} has no option {option!r}; {meant}")
    return DATASETS[name](Path(root), category=category, **options)


def reader_options(name: str) -> dict[str, Field[Any]]:
    """Return the fields of a reader beyond root and category: its options."""
    taken = {"root", "category"}
    return {
        each.name: each for each in fields(DATASETS[name]) if each.init and each.name not in taken
    }


def list_categories(name: str, root: Path | str) -> tuple[str, ...]:
    """Return the categories of a data set that are on disk, in natural order.

    Each can be given to `load_dataset`, and errors are the same; empty if ``root`` is one category
    itself.
    """
    return DATASETS[name].categories(Path(root))

"""A plain folder of one's own images: good ones alone, or good, bad and masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from pyimgano.datasets._files import found, is_folder, list_images, sub_folders, walk_images
from pyimgano.datasets._layout import GOOD, Layout, chosen, named, pair_masks, reader
from pyimgano.datasets.base import Dataset
from pyimgano.errors import DatasetError, ParameterError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["FolderDataset"]

GOOD_NAMES = ("good", "ok", "normal")
BAD_NAMES = ("bad", "ng", "defect", "anomaly", "ko")
MASK_NAMES = ("masks",)

_TEXT = """\
  <root>/**/*.png                good images only, flat or nested
or:
  <root>/good/**/*.png           also named ok, normal; perhaps good/train and good/test
  <root>/bad/[<kind>/]*.png      also named ng, defect, anomaly, ko
  <root>/masks/[<kind>/]*.png    optional; <stem>.png or <stem>_mask.png
or several such folders, one a category: <root>/<category>/good/**/*.png"""


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the sub-folder of one of these names, in any case."""
    children = [path for path in sub_folders(folder) if path.name.casefold() in names]
    if len(children) > 1:
        listed = " and ".join(path.name for path in children)
        raise DatasetError(f"{folder} holds {listed}, which mean the same; keep one")
    return children[0] if children else None


def _has_good(folder: Path) -> bool:
    return any(path.name.casefold() in GOOD_NAMES for path in sub_folders(folder))


LAYOUT = Layout(_TEXT, is_category=_has_good)


@reader(
    "custom",
    LAYOUT,
    summary="A folder of one's own images: good ones alone, or good, bad and masks.",
    licence="yours",
    source="one's own images",
)
@dataclass(frozen=True, slots=True, eq=False)
class FolderDataset(Dataset):
    """A folder of one's own images; attributes and errors are those of `Dataset`.

    Without a folder ``good`` all images below ``root`` are good and for training. With it, and
    with a folder ``bad``, the last ``test_fraction`` of the good images in natural order, which
    are the latest of the session, is held out for the test: one contiguous block, because
    neighbours in time resemble each other. Folders ``good/train`` and ``good/test`` decide
    instead. The first folder below ``bad`` names the kind of defect.

    Parameters
    ----------
    root, category
        The folder, or one that holds several such folders, of which any may be named.
    test_fraction : float
        Share of the good images held out for the test, in [0, 1); at least one image if it is not
        zero. Ignored without a folder ``bad``, and with ``good/train`` and ``good/test``.
    """

    test_fraction: float = field(default=0.2, kw_only=True)

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the sub-folders that hold good images; empty if ``root`` is one set itself."""
        LAYOUT.require_root(root)
        return LAYOUT.categories(root) if LAYOUT.holds(root) else ()

    def _read(self) -> Sequence[Sample]:
        if not 0 <= self.test_fraction < 1:
            raise ParameterError(f"test_fraction must lie in [0, 1), got {self.test_fraction}")
        given = self.root if self.category is None else self.root / self.category
        if is_folder(given / "train"):
            raise DatasetError(
                f"{given} holds train/, as data sets in the layout of MVTec AD do: read it as "
                f"'mvtec', or give {given / 'train'} as root to use its images as good ones"
            )
        folder = self._folder()
        good = _child(folder, GOOD_NAMES)
        if good is None:
            return _all_good(folder)
        bad = _child(folder, BAD_NAMES)
        masks = _child(folder, MASK_NAMES)
        _refuse_strays(folder, [path for path in (good, bad, masks) if path is not None])
        train, test = self._split(good, hold_out=bad is not None)
        return [
            *(_good(path, folder.name, "train") for path in train),
            *(_good(path, folder.name, "test") for path in test),
            *(_defective(bad, masks, folder.name) if bad is not None else ()),
        ]

    def _folder(self) -> Path:
        LAYOUT.require_root(self.root)
        if self.category is None and not LAYOUT.holds(self.root):
            return named(self.root)
        if self.category is None or LAYOUT.is_category(self.root):
            return LAYOUT.find(self.root, self.category)
        names = [path.name for path in sub_folders(self.root)]
        return self.root / chosen(self.category, names, self.root)

    def _split(self, good: Path, *, hold_out: bool) -> tuple[list[Path], list[Path]]:
        """Return the good images for training and for the test."""
        train, test = _child(good, ("train",)), _child(good, ("test",))
        if train is not None and test is not None:
            _refuse_strays(good, [train, test])
            return _images(train), _images(test)
        if train is not None or test is not None:
            raise DatasetError(
                f"{good} holds only one of train and test; make both, or put the images of both "
                f"into one folder (found: {found(good)})"
            )
        images = _images(good)
        held = int(len(images) * self.test_fraction + 0.5) if hold_out else 0
        if hold_out and self.test_fraction > 0:
            held = min(max(held, 1), len(images) - 1)
        return images[: len(images) - held], images[len(images) - held :]


def _all_good(folder: Path) -> list[Sample]:
    """Read a folder without classes: everything below it is good, unless a name says otherwise."""
    bad = _child(folder, BAD_NAMES)
    if bad is not None:
        raise DatasetError(
            f"{folder} holds {bad.name}/ but no folder of good images; found: {found(folder)}. "
            f"Expected:\n{_TEXT}"
        )
    return [_good(path, folder.name, "train") for path in _images(folder)]


def _images(folder: Path) -> list[Path]:
    """Return all images below a folder, at least one."""
    images = walk_images(folder)
    if not images:
        raise DatasetError(f"no images below {folder}; found: {found(folder)}. Expected:\n{_TEXT}")
    return images


def _good(path: Path, category: str, split: str) -> Sample:
    return Sample(path, split, category, GOOD, 0)


def _defective(bad: Path, masks: Path | None, category: str) -> Iterator[Sample]:
    """Return the samples below ``bad``, with masks if there is a folder of them."""

    def mask_folder(path: Path) -> Path | None:
        if masks is None:
            return None
        mirrored = masks / path.relative_to(bad).parent
        return mirrored if is_folder(mirrored) else masks

    for where, group in groupby(_images(bad), key=mask_folder):
        images = list(group)
        paired = pair_masks(images, where) if where is not None else [None] * len(images)
        for path, mask in zip(images, paired, strict=True):
            kinds = path.relative_to(bad).parts[:-1]
            yield Sample(path, "test", category, kinds[0] if kinds else bad.name, 1, mask)


def _refuse_strays(folder: Path, classes: Sequence[Path]) -> None:
    """Refuse images beside the folders of the classes: they would be left out in silence."""
    strays = list_images(folder) + [
        path for path in sub_folders(folder) if path not in classes and walk_images(path)
    ]
    if strays:
        raise DatasetError(
            f"{strays[0]} belongs to no class; move or rename it, so that {folder} holds only: "
            f"{', '.join(f'{path.name}/' for path in classes)}. Expected:\n{_TEXT}"
        )

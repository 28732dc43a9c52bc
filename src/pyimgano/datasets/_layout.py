"""Folders of categories: which there are, the train/test tree, the mask of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pyimgano.datasets._files import (
    IMAGE_SUFFIXES,
    found,
    is_folder,
    list_images,
    near,
    sub_folders,
)
from pyimgano.datasets.base import DATASETS, Dataset
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError
from pyimgano.images import read_mask
from pyimgano.records import Sample
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["GOOD", "Layout", "LayoutDataset", "TreeDataset", "below", "chosen", "judged", "marked"]
__all__ += ["named", "pair_masks", "read_kind", "read_tree", "reader", "require", "unwrapped"]

GOOD = "good"

D = TypeVar("D", bound=Dataset)


def chosen(category: str | None, names: Sequence[str], root: Path) -> str:
    """Return the category that is asked for, or say which there are to choose from."""
    if category is None:
        raise DatasetError(
            f"{root} holds categories; choose one with category=...: {', '.join(names)}"
        )
    if category not in names:
        raise DatasetNotFoundError(f"no category {category!r} in {root}; {near(category, names)}")
    return category


def named(root: Path) -> Path:
    """Return a folder under its name: a relative one such as "." has none of its own."""
    return root if root.name not in {"", ".."} else root.resolve()


def below(home: Path, cell: str) -> Path | None:
    """Return the file that a cell names, by either separator; None unless below ``home``."""
    path = PureWindowsPath(cell)
    return None if not cell or path.anchor or ".." in path.parts else home.joinpath(*path.parts)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the categories of a data set lie on disk."""

    text: str  # the expected tree, for people
    is_category: Callable[[Path], bool] = lambda folder: is_folder(folder / "train")

    def require_root(self, root: Path) -> None:
        """Raise `DatasetNotFoundError` unless ``root`` is a folder."""
        if not is_folder(root):
            what = "is a file; unpack it first" if root.is_file() else "does not exist"
            raise DatasetNotFoundError(f"the data set folder {root} {what}. Expected:\n{self.text}")

    def holds(self, folder: Path) -> bool:
        """Tell whether a folder is or holds categories; one that we may not list does not."""
        try:
            return self.is_category(folder) or bool(self._children(folder))
        except DatasetError:
            return False

    def categories(self, root: Path) -> tuple[str, ...]:
        """Return the names of the sub-folders that are categories, in natural order.

        Empty if ``root`` is one category itself.
        """
        self.require_root(root)
        if self.is_category(root):
            return ()
        names = self._children(root)
        if not names:
            raise DatasetNotFoundError(self._nothing(root))
        return names

    def find(self, root: Path, category: str | None) -> Path:
        """Return the folder of a category; ``root`` itself if that is one and None is asked for."""
        names = self.categories(root)
        if names:
            return root / chosen(category, names, root)
        if category is not None:
            raise DatasetNotFoundError(
                f"{root} is one category itself, it does not hold {category!r}: leave category "
                f"out, or give the folder above it as root"
            )
        return named(root)

    def _children(self, root: Path) -> tuple[str, ...]:
        return tuple(path.name for path in sub_folders(root) if self.is_category(path))

    def _nothing(self, root: Path) -> str:
        """Say what was expected in ``root``, and whether a folder nearby has it."""
        above = list(root.resolve().parents)[:2]
        below = sub_folders(root)
        candidates = [
            *(path for path in above if self.is_category(path)),
            *(path for path in below if self.holds(path)),
        ]
        hint = f" Did you mean {candidates[0]}?" if candidates else ""
        return f"no category in {root}.{hint} Found: {found(root)}. Expected:\n{self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class LayoutDataset(Dataset):
    """A reader of categories that lie as ``_layout`` says."""

    _layout: ClassVar[Layout]

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""
        return cls._layout.categories(root)

    def _folder(self) -> Path:
        return self._layout.find(self.root, self.category)


def reader(  # noqa: PLR0913 - facts that lists and tables tell
    name: str,
    layout: Layout,
    *,
    summary: str,
    licence: str,
    source: str,
    paper: str = "",
    verified: str = "a generated miniature, not real data",
) -> Callable[[type[D]], type[D]]:
    """Register a reader of a layout, with what the lists and tables tell of it."""
    details = (("layout", layout.text), ("verified", verified), ("source", source))
    facts = Metadata(summary=summary, paper=paper, licence=licence, details=details)

    def finish(kind: type[D]) -> type[D]:
        if issubclass(kind, LayoutDataset):
            kind._layout = layout
        DATASETS.register(name, facts)(kind)
        return kind

    return finish


@dataclass(frozen=True, slots=True, eq=False)
class TreeDataset(LayoutDataset):
    """A reader of `read_tree`, whose folders of good images are named ``_good``."""

    _good: ClassVar[str] = GOOD

    def _read(self) -> tuple[Sample, ...]:
        return read_tree(self._folder(), good=self._good, layout=self._layout)


def read_tree(folder: Path, *, good: str, layout: Layout) -> tuple[Sample, ...]:
    """Read ``{train,test}/<kind>/*`` with ``ground_truth/<kind>/*``.

    The masks may also lie in ``ground_truth/<split>/<kind>``. If there is a folder
    ``ground_truth``, every defective image must have its mask there.
    """
    for needed in (folder / "train" / good, folder / "test"):
        require(needed, layout)
    samples: list[Sample] = []
    for split in ("train", "test"):
        loose = list_images(folder / split)
        if loose:
            raise DatasetError(
                f"{len(loose)} images such as {loose[0].name} lie directly in {folder / split}; "
                f"each must lie in the folder of its kind. Expected:\n{layout.text}"
            )
        for kind in sub_folders(folder / split):
            samples += _read_kind(folder, split, kind, good=good)
    return tuple(samples)


def require(folder: Path, layout: Layout) -> Path:
    """Return a folder of the layout, or raise `DatasetError` saying what is there instead."""
    if not is_folder(folder):
        raise DatasetError(
            f"the folder {folder} is missing. Found in {folder.parent}: "
            f"{found(folder.parent)}. Expected:\n{layout.text}"
        )
    return folder


def unwrapped(folder: Path) -> Path:
    """Return the folder inside that repeats the name, which some archives have, or ``folder``."""
    inner = folder / folder.name
    return inner if is_folder(inner) else folder


def _read_kind(folder: Path, split: str, kind: Path, *, good: str) -> Iterable[Sample]:
    truth = folder / "ground_truth"
    by_split = truth / split / kind.name
    masks = by_split if is_folder(by_split) else truth / kind.name
    if kind.name != good:
        given = masks if is_folder(truth) else None
        return read_kind(kind, split=split, category=folder.name, defect=kind.name, masks=given)
    # Some sets have masks of good images as well: whether they are empty, the audit says.
    listed = list_images(masks) if split == "test" and is_folder(masks) else ()
    spare = {mask.stem: mask for mask in listed}
    return (
        replace(one, mask_path=spare.get(f"{one.path.stem}_mask") or spare.get(one.path.stem))
        for one in read_kind(kind, split=split, category=folder.name)
    )


def read_kind(
    kind: Path, *, split: str, category: str, defect: str = GOOD, masks: Path | None = None
) -> Iterable[Sample]:
    """Read the images of one folder, all good or of one kind of defect, with their masks."""
    images = list_images(kind)
    if not images:
        raise DatasetError(
            f"the folder {kind} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); "
            f"found: {found(kind)}"
        )
    paired = [None] * len(images) if masks is None else pair_masks(images, masks)
    label = int(defect != GOOD)
    return (
        Sample(image, split, category, defect, label, mask)
        for image, mask in zip(images, paired, strict=True)
    )


def judged(
    image: Path, mask: Path | None, *, split: str, category: str, group: str | None = None
) -> Sample:
    """Return the sample of an image that is defective if it has a mask."""
    bad = mask is not None
    return Sample(image, split, category, "defect" if bad else GOOD, int(bad), mask, group)


def marked(
    folder: Path, ending: str, *, split: str, category: str, group: str | None = None
) -> Iterator[Sample]:
    """Read ``<stem>.*`` with ``<stem><ending>.*``, which is decoded: an empty one is of a good."""
    images = [path for path in list_images(folder) if not path.stem.endswith(ending)]
    if not images:
        raise DatasetError(f"the folder {folder} holds no images; found: {found(folder)}")
    for image, mask in zip(images, pair_masks(images, folder, ending=ending), strict=True):
        drawn = mask if read_mask(mask).any() else None
        yield judged(image, drawn, split=split, category=category, group=group)


def pair_masks(images: Sequence[Path], folder: Path, *, ending: str = "_mask") -> list[Path]:
    """Return the mask of each image: ``<stem><ending>.*`` or, without one, ``<stem>.*``."""
    by_stem: dict[str, list[Path]] = {}
    taken = set(images)
    for mask in list_images(folder) if is_folder(folder) else ():
        if mask not in taken:
            by_stem.setdefault(mask.stem, []).append(mask)
    found_masks = [
        by_stem.get(f"{image.stem}{ending}") or by_stem.get(image.stem) or [] for image in images
    ]
    missing = [image for image, masks in zip(images, found_masks, strict=True) if not masks]
    if missing:
        raise MaskError(
            f"{len(missing)} of {len(images)} defective images in {missing[0].parent} have no mask "
            f"in {folder}, first {missing[0].name}: expected {missing[0].stem}{ending}.png or "
            f"{missing[0].stem}.png. To use the set without masks, move the whole mask folder away."
        )
    for image, masks in zip(images, found_masks, strict=True):
        if len(masks) > 1:
            names = " and ".join(mask.name for mask in masks)
            raise MaskError(f"{image} has several masks in {folder}: {names}; keep one")
    return [masks[0] for masks in found_masks]

"""Folders of categories: which there are, the train/test tree, the mask of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.datasets._files import (
    IMAGE_SUFFIXES,
    found,
    is_folder,
    list_images,
    near,
    sub_folders,
)
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["GOOD", "Layout", "pair_masks", "read_tree"]

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the categories of a data set lie on disk.

    Parameters
    ----------
    text : str
        The expected tree, for people.
    is_category : callable
        Tells whether a folder is one category.
    """

    text: str
    is_category: Callable[[Path], bool]

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

        Raises
        ------
        DatasetNotFoundError
            If ``root`` neither holds nor is a category.
        """
        self.require_root(root)
        if self.is_category(root):
            return ()
        names = self._children(root)
        if not names:
            raise DatasetNotFoundError(self._nothing(root))
        return names

    def find(self, root: Path, category: str | None) -> Path:
        """Return the folder of a category; ``root`` itself if that is one and None is asked for.

        Raises
        ------
        DatasetNotFoundError
            If it is not there; the message says what is.
        DatasetError
            If ``category`` is None and ``root`` holds categories to choose from.
        """
        names = self.categories(root)
        if category is None:
            if names:
                raise DatasetError(
                    f"{root} holds categories; choose one with category=...: {', '.join(names)}"
                )
            # A relative root such as "." has no name of its own.
            return root if root.name not in {"", ".."} else root.resolve()
        if not names:
            raise DatasetNotFoundError(
                f"{root} is one category itself, it does not hold {category!r}: leave category "
                f"out, or give the folder above it as root"
            )
        if category not in names:
            raise DatasetNotFoundError(
                f"no category {category!r} in {root}; {near(category, names)}"
            )
        return root / category

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


def read_tree(folder: Path, *, good: str, layout: Layout) -> tuple[Sample, ...]:
    """Read ``{train,test}/<kind>/*`` with ``ground_truth/<kind>/*``.

    The masks may also lie in ``ground_truth/<split>/<kind>``. If there is a folder
    ``ground_truth``, every defective image must have its mask there.

    Parameters
    ----------
    folder : Path
        The folder of one category; its name is the category.
    good : str
        Name of the folders of good images.
    layout : Layout
        For the messages.

    Returns
    -------
    tuple of Sample
        In natural order of the paths, train before test.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, or images lie beside the folders of their kinds.
    MaskError
        If a mask is missing or ambiguous.
    """
    for needed in (folder / "train" / good, folder / "test"):
        if not is_folder(needed):
            raise DatasetError(
                f"the folder {needed} is missing. Found in {needed.parent}: "
                f"{found(needed.parent)}. Expected:\n{layout.text}"
            )
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


def _read_kind(folder: Path, split: str, kind: Path, *, good: str) -> Iterable[Sample]:
    images = list_images(kind)
    if not images:
        raise DatasetError(
            f"the folder {kind} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); "
            f"found: {found(kind)}"
        )
    is_good = kind.name == good
    truth = folder / "ground_truth"
    masks: Sequence[Path | None] = [None] * len(images)
    if not is_good and is_folder(truth):
        by_split = truth / split / kind.name
        masks = pair_masks(images, by_split if is_folder(by_split) else truth / kind.name)
    return (
        Sample(
            image,
            split=split,
            category=folder.name,
            defect=GOOD if is_good else kind.name,
            label=int(not is_good),
            mask_path=mask,
        )
        for image, mask in zip(images, masks, strict=True)
    )


def pair_masks(images: Sequence[Path], folder: Path) -> list[Path]:
    """Return the mask of each image: ``<stem>_mask.*`` or, without one, ``<stem>.*``.

    Parameters
    ----------
    images : sequence of Path
        Defective images.
    folder : Path
        Where their masks lie.

    Returns
    -------
    list of Path
        In the order of the images.

    Raises
    ------
    MaskError
        If an image has no mask, or several.
    """
    by_stem: dict[str, list[Path]] = {}
    for mask in list_images(folder) if is_folder(folder) else ():
        by_stem.setdefault(mask.stem, []).append(mask)
    found_masks = [
        by_stem.get(f"{image.stem}_mask") or by_stem.get(image.stem) or [] for image in images
    ]
    missing = [image for image, masks in zip(images, found_masks, strict=True) if not masks]
    if missing:
        raise MaskError(
            f"{len(missing)} of {len(images)} defective images in {missing[0].parent} have no mask "
            f"in {folder}, first {missing[0].name}: expected {missing[0].stem}_mask.png or "
            f"{missing[0].stem}.png. To use the set without masks, move the whole mask folder away."
        )
    for image, masks in zip(images, found_masks, strict=True):
        if len(masks) > 1:
            names = " and ".join(mask.name for mask in masks)
            raise MaskError(f"{image} has several masks in {folder}: {names}; keep one")
    return [masks[0] for masks in found_masks]

"""Image files on disk: natural order, listing, and what to say of a folder in a message."""

from __future__ import annotations

import difflib
import re
from collections import deque
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pyimgano.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["IMAGE_SUFFIXES", "entries", "found", "in_natural_order", "is_file", "is_folder"]
__all__ += ["list_images", "natural_key", "near", "sub_folders", "walk_images"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_NUMBER = re.compile(r"([0-9]+)")
_SHOWN = 8

T = TypeVar("T")

NaturalKey = tuple[tuple[tuple[tuple[int, str], ...], str], ...]


def natural_key(path: Path | str) -> NaturalKey:
    """Return the sort key of natural order: numbers by value, case ignored, folder by folder.

    Cameras number their files without leading zeros, so this is capture order: ``normal-2``
    comes before ``normal-10``. Names that differ only in case or in leading zeros are ordered by
    their characters: two paths never share a key.
    """
    return tuple(map(_part_key, Path(path).parts))


def in_natural_order(items: Iterable[T], path_of: Callable[[T], Path]) -> list[T]:
    """Sort items by `natural_key` of their paths; the key of each folder is computed once."""
    folder_key = cache(natural_key)

    def key(item: T) -> NaturalKey:
        path = path_of(item)
        return (*folder_key(path.parent), _part_key(path.name))

    return sorted(items, key=key)


def _part_key(part: str) -> tuple[tuple[tuple[int, str], ...], str]:
    pieces = _NUMBER.split(part.casefold())
    tokens = [(int(piece), "") if i % 2 else (0, piece) for i, piece in enumerate(pieces)]
    return tuple(tokens), part


def is_folder(path: Path) -> bool:
    """Tell whether ``path`` is a folder that we may look into."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Tell whether ``path`` is a file that we may look at."""
    try:
        return path.is_file()
    except OSError:
        return False


def entries(folder: Path) -> list[Path]:
    """Return what a folder holds, hidden names left out, in the order of the file system."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"the folder {folder} cannot be listed: {error}") from error


def sub_folders(folder: Path) -> list[Path]:
    """Return the visible sub-folders in natural order."""
    return in_natural_order(filter(is_folder, entries(folder)), Path)


def list_images(folder: Path) -> list[Path]:
    """Return the files of one folder that are named like images, in natural order.

    Whether a file can be decoded is not looked at: a damaged image is an error when it is read,
    not a silent gap in the list.
    """
    named = (path for path in entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    return in_natural_order((path for path in named if not is_folder(path)), Path)


def walk_images(folder: Path) -> list[Path]:
    """Return the images of a folder and of all folders below it, in natural order of the paths.

    Links to folders are followed, every real folder is visited once: loops end.
    """
    images: list[Path] = []
    seen: set[Path] = set()
    pending = deque([folder])
    while pending:
        current = pending.popleft()
        real = current.resolve()
        if real in seen:
            continue
        seen.add(real)
        images += list_images(current)
        # Links wait until the end, so that an image is listed under its real folder.
        for child in sub_folders(current):
            (pending.append if child.is_symlink() else pending.appendleft)(child)
    return in_natural_order(images, Path)


def found(folder: Path) -> str:
    """Say in a few words what a folder holds, for messages."""
    listed = in_natural_order(entries(folder), Path)
    names = [path.name + ("/" if is_folder(path) else "") for path in listed]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def near(name: str, known: Sequence[str]) -> str:
    """Say which of the known names is meant by ``name``, and list all of them."""
    lowered = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), lowered, n=1, cutoff=0.5)
    guess = f"did you mean {lowered[close[0]]!r}? " if close else ""
    return f"{guess}It holds: {', '.join(known) or 'nothing'}"

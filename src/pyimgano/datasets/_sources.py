"""What a user may pass as X: a folder, a file, an array, a data set, any sequence of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.datasets._files import walk_images
from pyimgano.errors import InputError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_sources"]


def as_sources(given: Any) -> Sequence[Any]:
    """Turn what a user passes as X into a sequence of sources.

    A folder becomes its images in natural order; a file, a single PIL image or array of shape
    (H, W, 3) stays one source; an array (n, H, W, C) is taken apart. A generator is listed whole,
    for learning reads its images more than once: to judge more images than fit into memory, give
    paths, or a sequence that reads an image when it is asked for it.
    """
    if isinstance(given, (str, Path)):
        path = Path(given)
        found: Sequence[Any] = walk_images(path) if path.is_dir() else [path]
        if not found:
            raise InputError(f"there are no images in the folder {path}")
        return found
    if isinstance(given, np.ndarray):
        return _from_array(given)
    if isinstance(given, Sample) or not isinstance(given, Iterable):
        return [given]
    sources = given if isinstance(given, Sequence) else list(given)
    if len(sources) == 0:
        raise InputError("X is empty: at least one image is needed")
    return sources


def _from_array(given: NDArray[Any]) -> Sequence[Any]:
    if given.ndim == 4 and len(given):
        return list(given)
    if given.ndim == 2 or (given.ndim == 3 and given.shape[2] in {3, 4}):
        return [given]
    raise InputError(
        f"an array of shape {given.shape} is neither one image (H, W) or (H, W, 3) nor a batch "
        "(n, H, W, 3): pass a list of arrays"
    )

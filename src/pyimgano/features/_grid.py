"""What the extractors share: the check of an image, and the rectangle that a grid tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError
from pyimgano.features.base import PatchFeatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_image", "tiled"]


def check_image(image: NDArray[np.uint8], *, smallest: int) -> None:
    """Raise `InputError` unless ``image`` is RGB uint8 (H, W, 3), ``smallest`` or more a side."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            "an image to embed must be RGB uint8 of shape (H, W, 3), got "
            f"{image.dtype} {image.shape}; pyimgano.images converts other kinds"
        )
    if min(image.shape[:2]) < smallest:
        raise InputError(
            f"an image to embed needs at least {smallest} pixels a side, got "
            f"{image.shape[0]} x {image.shape[1]}; enlarge or pad it"
        )


def tiled(
    values: NDArray[np.float32], cell: int, layers: tuple[tuple[int, int], ...] = ()
) -> PatchFeatures:
    """Return the features of square cells that start at the top left corner of the image."""
    height, width = values.shape[:2]
    return PatchFeatures(values, (0.0, 0.0, float(cell * height), float(cell * width)), layers)

"""What the extractors share: check, crop and scale of an image; the rectangle that a grid tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError
from pyimgano.features.base import PatchFeatures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["IMAGENET", "alike", "check_image", "covering", "cropped", "inside", "normalised"]
__all__ += ["squeezed", "tiled"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the three channels, of 0 to 1."""


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


def covering(
    values: NDArray[np.float32], image: NDArray[np.uint8], layers: tuple[tuple[int, int], ...] = ()
) -> PatchFeatures:
    """Return the features of cells that tile a whole image."""
    return PatchFeatures(values, (0.0, 0.0, float(image.shape[0]), float(image.shape[1])), layers)


def cropped(image: NDArray[np.uint8], patch: int) -> NDArray[np.uint8]:
    """Cut off at the right and bottom what does not fill a patch."""
    return image[: image.shape[0] // patch * patch, : image.shape[1] // patch * patch]


def squeezed(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring an image to a network's fixed size (H, W), whatever its aspect."""
    from PIL import Image

    if image.shape[:2] == size:
        return image
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def alike(images: list[NDArray[np.uint8]], most: int) -> Iterator[list[NDArray[np.uint8]]]:
    """Group neighbours of one size, at most so many, so that they can run together."""
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        if batch and (len(batch) == most or batch[0].shape != image.shape):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def normalised(
    images: NDArray[np.uint8],
    mean: tuple[float, ...] = IMAGENET[0],
    deviation: tuple[float, ...] = IMAGENET[1],
) -> NDArray[np.float32]:
    """Return images (n, H, W, 3) as (n, 3, H, W), 0 to 1, less the mean, over the deviation."""
    scaled = images.astype(np.float32) / np.float32(255)
    centred = scaled - np.array(mean, np.float32)
    centred /= np.array(deviation, np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def inside(start: float, stop: float, cells: int, length: int) -> tuple[slice, float, float]:
    """Return the cells whose centre lies in [0, length), and the interval they cover."""
    step = (stop - start) / cells
    centres = start + step * (np.arange(cells) + 0.5)
    kept = np.flatnonzero((centres >= 0) & (centres < length))
    first, last = int(kept[0]), int(kept[-1]) + 1
    return slice(first, last), start + step * first, start + step * last

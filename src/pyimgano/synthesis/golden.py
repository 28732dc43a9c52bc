"""Golden images: pseudo-textures that are bit-identical on every machine.

A model file keeps their scores, so that whoever loads it can check the arithmetic of his machine
without a single image of the customer. Whole numbers only, from the raw stream of PCG64, which
numpy promises never to change (NEP 19).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["golden_image"]

COARSE = 512  # pixels a side, beyond which all blocks grow: a large camera must not load slowly
_LAYERS = ((32, 112), (8, 80), (2, 48), (1, 16))  # block side in pixels, levels; they sum to 256


def golden_image(seed: int, size: tuple[int, int] = (256, 256)) -> NDArray[np.uint8]:
    """Return a deterministic texture of blocks of several scales: uint8 (H, W, 3), never constant.

    Each ``seed`` from 0 gives another image, of ``size`` (H, W), at least 2 pixels a side; others
    are a `ParameterError`.

    Examples
    --------
    >>> golden_image(0, (2, 3)).shape
    (2, 3, 3)
    """
    if seed < 0 or min(size) < 2:
        raise ParameterError(f"need seed >= 0 and sides >= 2 pixels, got seed {seed}, size {size}")
    step = -(-max(size) // COARSE)
    if step > 1:
        small = golden_image(seed, (max(2, -(-size[0] // step)), max(2, -(-size[1] // step))))
        return _enlarged(small, step, size)
    stream = np.random.PCG64(seed)
    image = np.zeros((*size, 3), np.uint8)
    for side, levels in _LAYERS:
        rows, columns = (-(-length // side) for length in size)
        raw = stream.random_raw(rows * columns * 3).reshape(rows, columns, 3)
        blocks = ((raw >> np.uint64(32)) % np.uint64(levels)).astype(np.uint8)
        image += _enlarged(blocks, side, size)
    return image


def _enlarged(image: NDArray[np.uint8], side: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Make each pixel a block, and cut the image to size."""
    wide = image.repeat(side, axis=1)[:, : size[1]]
    return wide.repeat(side, axis=0)[: size[0]]  # whole rows last: they are copied fast

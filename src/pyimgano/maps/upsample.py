"""From the grid of an extractor to the pixels of an image, in two small matrix products."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["upsample"]


def upsample(
    grid: NDArray[np.float32],
    size: tuple[int, int],
    *,
    extent: tuple[float, float, float, float] | None = None,
    sigma: float | tuple[float, float] = 0.0,
) -> NDArray[np.float32]:
    """Resize a map bilinearly and smooth it, exactly and at once.

    Both steps are linear and separable, so a map is ``A_h @ grid @ A_w.T`` with one operator an
    axis: bilinear between the cell centres (half-pixel convention, flat beyond the outermost
    centres), then a Gaussian (borders reflected, cut at four sigma). Operators are computed once
    and kept. An image has the same bits alone and in a batch.

    Parameters
    ----------
    grid : ndarray of float32, shape (h, w) or (n, h, w)
        Finite patch scores; another shape is an `InputError`.
    size : (int, int)
        H, W of the result, float32 of shape (H, W) or (n, H, W).
    extent : (float, float, float, float), optional
        Top, left, bottom, right of the rectangle that the grid tiles evenly, in pixels of the
        result; may reach over its borders or leave a margin. The whole result by default.
    sigma : float or (float, float)
        Standard deviation of the Gaussian in pixels of the result, or one for each axis
        (vertical, horizontal). 0 leaves the bilinear map as it is.

    Examples
    --------
    >>> import numpy as np
    >>> upsample(np.array([[0, 4]], np.float32), (1, 4)).tolist()
    [[0.0, 1.0, 3.0, 4.0]]
    """
    if grid.ndim not in {2, 3} or 0 in grid.shape[-2:]:
        raise InputError(f"a grid must have the shape (h, w) or (n, h, w), got {grid.shape}")
    top, left, bottom, right = extent or (0.0, 0.0, float(size[0]), float(size[1]))
    vertical, horizontal = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    rows = _operator(grid.shape[-2], size[0], top, bottom, vertical)
    columns = _operator(grid.shape[-1], size[1], left, right, horizontal).T
    cells = np.ascontiguousarray(grid, dtype=np.float32)
    batch = cells[None] if grid.ndim == 2 else cells
    maps = np.empty((len(batch), *size), np.float32)
    for one, out in zip(batch, maps, strict=True):
        np.matmul(rows @ one, columns, out=out)
    return maps[0] if grid.ndim == 2 else maps


@lru_cache(maxsize=32)
def _operator(
    cells: int, size: int, start: float, stop: float, sigma: float
) -> NDArray[np.float32]:
    """Return the matrix (size, cells) of one axis: bilinear, then Gaussian."""
    if size < 1 or not start < stop or not (np.isfinite([start, stop]).all() and 0 <= sigma < 1e6):
        raise ParameterError(
            "upsample needs a size of at least 1, an extent with top < bottom and left < right and "
            f"a sigma >= 0, got size {size}, extent {start}..{stop}, sigma {sigma}"
        )
    centres = (np.arange(size) + 0.5 - start) * (cells / (stop - start)) - 0.5
    centres = np.clip(centres, 0, cells - 1)
    lower = np.minimum(centres.astype(np.intp), max(cells - 2, 0))
    share = centres - lower
    operator = np.zeros((size, cells))
    pixels = np.arange(size)
    operator[pixels, lower] = 1 - share
    operator[pixels, np.minimum(lower + 1, cells - 1)] += share
    if sigma >= 0.125:  # below, the Gaussian cut at four sigma is a single pixel
        operator = _blurred(operator, sigma)
    result = operator.astype(np.float32)
    result.flags.writeable = False
    return result


def _blurred(operator: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur the first axis, reflected at its ends; scipy.ndimage takes long to import."""
    radius = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    wide = np.pad(operator.T, ((0, 0), (radius, radius)), mode="symmetric")
    return np.stack([np.convolve(row, taps / taps.sum(), "valid") for row in wide], axis=1)

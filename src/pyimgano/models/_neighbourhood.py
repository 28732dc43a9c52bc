"""What a patch knows of its surroundings: the mean over a few cells of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_neighbourhood", "pooled", "smoothed"]


def check_neighbourhood(side: int) -> None:
    """Raise `ParameterError` unless a square of so many cells has a middle."""
    if side < 1 or side % 2 == 0:
        raise ParameterError(f"neighbourhood must be odd, got {side}")


def pooled(
    features: NDArray[np.float32], side: int, layers: tuple[tuple[int, int], ...]
) -> NDArray[np.float32]:
    """Mean over a square of each layer's own cells (n, h, w, d).

    Beyond the border stand zeros, as in the official code: a patch at the border differs from the
    same patch inside, which tells a missing part from the background around the part.
    """
    if side == 1:
        return features
    means = np.empty_like(features)
    first = 0
    for count, step in layers or ((features.shape[3], 1),):
        channels = slice(first, first + count)
        reach = (side - 1) * step + 1
        for image, out in zip(features[..., channels], means[..., channels], strict=True):
            down = _averaged(image, reach)
            out[:] = _averaged(down.swapaxes(0, 1), reach).swapaxes(0, 1)
        first += count
    return means


def _averaged(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Mean over a window along the first axis; scipy.ndimage takes longer to import than to run."""
    total = values.astype(np.float64)
    for step in range(1, min(reach // 2, len(values) - 1) + 1):
        total[step:] += values[:-step]
        total[:-step] += values[step:]
    return (total / reach).astype(np.float32)


def smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average (n, h, w, d) over 3 x 3 cells, the border repeated."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    means: NDArray[np.float32] = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    means /= np.float32(9)
    return means

"""What usual is: median and spread of good images, by which unlike figures are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Levels = tuple[float, float, float, float]

__all__ = ["NO_LEVELS", "Levels", "levels", "spread_above"]

NO_LEVELS = (0.0, 1.0, 0.0, 1.0)
_VALUES = 60_000
_PRIOR_SPREAD, _PRIOR_COUNT = 0.1, 2


def levels(logs: NDArray[np.float64], part: NDArray[Any]) -> Levels:
    """Return median and upper spread of the logarithms, and of the values of a map."""
    values = part.ravel()[:: -(-part.size // _VALUES)].astype(np.float64)
    at = float(np.median(values))
    high = values[values > at] - at
    by = float(np.sqrt(np.mean(high**2))) if high.size else 1.0
    return *spread_above(logs), at, by


def spread_above(logs: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and upper spread.

    A few goods say little of a spread: it is drawn towards one that is usual.
    """
    middle = float(np.median(logs))
    above = np.maximum(logs - middle, 0)
    count = np.count_nonzero(above) + _PRIOR_COUNT
    spread = float(np.sqrt((np.sum(above**2) + _PRIOR_COUNT * _PRIOR_SPREAD**2) / count))
    return middle, spread

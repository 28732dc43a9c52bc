"""From a map to the score of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Maximum", "Mean", "TopMean"]


@VALUES.register("maximum", Metadata(summary="The largest value of the map."))
@dataclass(frozen=True, slots=True)
class Maximum:
    """The largest value of a map: the smallest defect counts in full."""

    def __call__(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score maps (h, w) or (n, h, w); returns float64 of shape () or (n,)."""
        return np.asarray(_flat(maps).max(axis=-1), np.float64)


@VALUES.register("top_mean", Metadata(summary="The mean of the largest share of the map."))
@dataclass(frozen=True, slots=True)
class TopMean:
    """The mean of the largest values, as AnomalyDINO scores (arXiv 2405.14529).

    ``fraction`` is the share of the values that count, in (0, 1]; at least one counts.

    Examples
    --------
    >>> import numpy as np
    >>> float(TopMean(0.5)(np.array([[1, 2], [3, 5]], np.float32)))
    4.0
    """

    fraction: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ParameterError(f"fraction must lie in (0, 1], got {self.fraction}")

    def __call__(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score maps (h, w) or (n, h, w); returns float64 of shape () or (n,)."""
        values = _flat(maps)
        rest = values.shape[-1] - max(1, int(self.fraction * values.shape[-1]))
        return np.asarray(np.partition(values, rest, axis=-1)[..., rest:].mean(-1, np.float64))


@VALUES.register("mean", Metadata(summary="The mean of the map."))
@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a map: for deviations of the whole image."""

    def __call__(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score maps (h, w) or (n, h, w); returns float64 of shape () or (n,)."""
        return np.asarray(_flat(maps).mean(axis=-1, dtype=np.float64))


def _flat(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(maps).reshape(*maps.shape[:-2], -1)

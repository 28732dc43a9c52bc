"""The nearest rows found so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

_NO_ROW = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The k nearest rows so far of each query, by distance, then index; updated in place."""

    squared: NDArray[np.float64]
    indices: Indices

    @classmethod
    def none(cls, n: int, k: int) -> Self:
        """Return n empty lists of k."""
        return cls(np.full((n, k), np.inf), np.full((n, k), _NO_ROW))

    def add(self, which: Indices, indices: Indices, squared: NDArray[np.float64]) -> None:
        """Enter the measured pairs (which, indices), ``which`` ascending."""
        k = self.squared.shape[1]
        starts = np.flatnonzero(np.diff(which, prepend=-1))
        touched = which[starts]
        if k == 1:
            self._add_nearest(touched, starts, indices, squared)
            return
        which = np.concatenate([np.repeat(touched, k), which])
        indices = np.concatenate([self.indices[touched].ravel(), indices])
        squared = np.concatenate([self.squared[touched].ravel(), squared])
        order = np.lexsort((indices, squared, which))
        first = np.searchsorted(which[order], touched)
        kept = order[first[:, None] + np.arange(k)]
        self.squared[touched] = squared[kept]
        self.indices[touched] = indices[kept]

    def _add_nearest(
        self, touched: Indices, starts: Indices, indices: Indices, squared: NDArray[np.float64]
    ) -> None:
        """Enter pairs of the queries ``touched``, of which each has those from its start on."""
        if not len(starts):
            return
        least = np.minimum.reduceat(squared, starts)
        alike = squared == least.repeat(np.diff(starts, append=len(squared)))
        first = np.minimum.reduceat(np.where(alike, indices, _NO_ROW), starts)
        held, row = self.squared[touched, 0], self.indices[touched, 0]
        nearer = (least < held) | ((least == held) & (first < row))
        self.squared[touched[nearer], 0] = least[nearer]
        self.indices[touched[nearer], 0] = first[nearer]

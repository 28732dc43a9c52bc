"""Exact nearest neighbours by another library's search: it proposes, a bound proves, numpy settles.

What is proposed is measured again, so distances are true whatever the library rounds. A query for
which the bound cannot prove that no other row is nearer is searched once more with numpy, so the
neighbours are those of `pyimgano.models.knn_index.NumpyIndex` too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Self, final

import numpy as np

from pyimgano.models._bounds import centred
from pyimgano.models._exact_search import Bank, search
from pyimgano.models._nearest import bank_of, checked, fitted, visible
from pyimgano.models._shortlist import Nearest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pyimgano.models._bounds import Rows
    from pyimgano.models._exact_search import Indices
    from pyimgano.models._nearest import Answer

    Proposed = tuple[NDArray[np.int64], NDArray[np.float64]]


class Asked(NamedTuple):
    """What rows are to be proposed for.

    Parameters
    ----------
    shifted : ndarray of float32, shape (m, d)
        Centred queries.
    norms : ndarray of float64, shape (m,)
        Theirs.
    width : int
        How many rows each.
    seen : ndarray of bool, shape (n,), or None
        The rows that they may see; None: all.
    """

    shifted: NDArray[np.float32]
    norms: NDArray[np.float64]
    width: int
    seen: NDArray[np.bool_] | None


class ProposingIndex(ABC):
    """An index whose rows are proposed by `_propose`."""

    spare = 8

    def __init__(self) -> None:
        self._bank: Bank | None = None

    @abstractmethod
    def _hold(self, bank: Bank) -> None:
        """Take the centred rows."""

    @abstractmethod
    def _propose(self, asked: Asked) -> Proposed:
        """Propose rows.

        Returns
        -------
        indices : ndarray of int64, shape (m, width)
            Rows; -1 where there was none to be found.
        bound : ndarray of float64, shape (m,)
            No other row is nearer than this squared distance.
        """

    @final
    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank; see `NearestNeighborIndex.fit`."""
        self._bank = bank_of(bank, groups)
        self._hold(self._bank)
        return self

    @final
    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows; see `NearestNeighborIndex.kneighbors`."""
        bank = fitted(self._bank)
        rows, excluded = checked(bank, queries, k, exclude)
        nearest = Nearest.none(len(rows), k)
        settled = np.zeros(len(rows), np.bool_)
        for group in np.unique(excluded):
            own = np.flatnonzero(excluded == group)
            settled[own] = self._enter(bank, rows, own, int(group), nearest)
        rest = np.flatnonzero(~settled)
        found = search(bank, rows[rest], k, excluded[rest])
        nearest.squared[rest] = found.squared
        nearest.indices[rest] = found.indices
        return np.sqrt(nearest.squared), nearest.indices

    def _enter(
        self, bank: Bank, queries: Rows, own: Indices, group: int, nearest: Nearest
    ) -> NDArray[np.bool_]:
        """Enter what is proposed for the queries ``own``; tell for which it is proven complete."""
        left = visible(bank, group)
        seen: NDArray[np.bool_] | None = None
        if bank.groups is not None and left < len(bank.rows):
            seen = np.not_equal(bank.groups, group)
        width = min(left, nearest.squared.shape[1] + self.spare)
        indices, bound = self._propose(Asked(*centred(queries[own], bank.shift), width, seen))
        there = indices >= 0
        which, found = np.repeat(own, there.sum(axis=1)), indices[there]
        nearest.add(which, found, bank.measure(queries, which, found))
        proven: NDArray[np.bool_] = nearest.squared[own, -1] < bound
        if width == left:
            proven |= there.all(axis=1)
        return proven

"""Nearest good patch within a few cells of the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LocalSearch"]

_ROWS, _COLUMNS = 4, 8
_FAR = np.float32(1e30)


@dataclass(frozen=True, slots=True, eq=False)
class LocalSearch:
    """The patches of good images by place, so that those near a place lie together in memory.

    Parameters
    ----------
    bank : ndarray of float32, shape (h, w, n, d)
        For each place the vector of each image; best centred, for the expanded square loses the
        digits of what all vectors have in common.
    halves : ndarray of float32, shape (h, w, n)
        Half their squared lengths.
    reach : int
        Cells by which a place may differ, in each direction.
    """

    bank: NDArray[np.float32]
    halves: NDArray[np.float32]
    reach: int

    @classmethod
    def of(cls, features: NDArray[np.float32], reach: int) -> Self:
        """Arrange the features (n, h, w, d) of good images."""
        bank = np.ascontiguousarray(features.transpose(1, 2, 0, 3))
        return cls(bank, np.einsum("hwnd,hwnd->hwn", bank, bank) / 2, reach)

    def distances(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the Euclidean distance of each patch to its nearest one near by.

        Parameters
        ----------
        queries : ndarray of float32, shape (m, h, w, d)

        Returns
        -------
        ndarray of float32, shape (m, h, w)
        """
        nearest = np.stack([self._least(query) for query in queries])  # alone as in a batch
        squares = np.einsum("mhwd,mhwd->mhw", queries, queries)
        found: NDArray[np.float32] = np.sqrt(np.maximum(2 * nearest + squares, 0))
        return found

    def _least(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return half the squared distance of one image's patches (h, w, d), less their own."""
        height, width, _, depth = self.bank.shape
        nearest = np.full((height, width), _FAR, np.float32)
        for top in range(0, height, _ROWS):
            for left in range(0, width, _COLUMNS):
                right = min(left + _COLUMNS, width)
                for row, columns, seen in self._window(top, left, right):
                    rows = slice(max(top, row - self.reach), min(top + _ROWS, row + self.reach + 1))
                    tile, near = query[rows, left:right], self.bank[row, columns]
                    products = tile.reshape(-1, depth) @ near.reshape(-1, depth).T
                    gaps = products.reshape(*tile.shape[:2], *near.shape[:2])
                    np.subtract(self.halves[row, columns], gaps, out=gaps)
                    least = np.where(seen, gaps.min(axis=-1), _FAR).min(axis=-1)
                    part = nearest[rows, left:right]
                    np.minimum(part, least, out=part)
        return nearest

    def _window(
        self, top: int, left: int, right: int
    ) -> Iterator[tuple[int, slice, NDArray[np.bool_]]]:
        """Yield the rows that a tile sees, their columns, and which tile column sees which."""
        height, width = self.bank.shape[:2]
        columns = slice(max(0, left - self.reach), min(width, right + self.reach))
        gaps = np.arange(left, right)[:, None] - np.arange(columns.start, columns.stop)
        seen = np.abs(gaps) <= self.reach
        last = min(top + _ROWS, height) + self.reach
        for row in range(max(0, top - self.reach), min(height, last)):
            yield row, columns, seen

    def nearest(self, query: NDArray[np.float32], place: tuple[int, int]) -> tuple[int, int, int]:
        """Return image, row and column of the nearest patch to one (d,) at a place."""
        rows, columns = (slice(max(0, at - self.reach), at + self.reach + 1) for at in place)
        gaps = self.bank[rows, columns].astype(np.float64) - query
        squares = np.einsum("hwnd,hwnd->hwn", gaps, gaps)
        row, column, image = np.unravel_index(int(squares.argmin()), squares.shape)
        return int(image), int(rows.start + row), int(columns.start + column)

"""Nearest good patch within a few cells of the same place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Self

import numpy as np

from pyimgano.threads import side_by_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LocalSearch"]

_COLUMNS = 4
_PRODUCT = 1 << 18  # multiplications: more leave the cache, and start threads of BLAS if it may
_FAR = np.float32(-1e30)


@dataclass(frozen=True, slots=True, eq=False)
class LocalSearch:
    """The patches of good images by place, so that those near a place lie together in memory.

    Parameters
    ----------
    rows : ndarray of float32, shape (h, w, n, d + 1)
        For each place the vector of each image, best centred, for the expanded square loses the
        digits of what all vectors have in common; last half its squared length, negative.
    reach : int
        Cells by which a place may differ, in each direction.
    """

    rows: NDArray[np.float32]
    reach: int

    @classmethod
    def of(cls, features: NDArray[np.float32], reach: int) -> Self:
        """Arrange the features (n, h, w, d) of good images."""
        n, height, width, depth = features.shape
        rows = np.empty((height, width, n, depth + 1), np.float32)
        rows[..., :-1] = features.transpose(1, 2, 0, 3)
        rows[..., -1] = np.einsum("hwnd,hwnd->hwn", rows[..., :-1], rows[..., :-1]) / -2
        return cls(rows, reach)

    @classmethod
    def again(cls, bank: NDArray[np.float16], reach: int) -> Self:
        """Take a `bank` (h, w, n, d) as the model file holds it."""
        return cls.of(bank.astype(np.float32).transpose(2, 0, 1, 3), reach)

    @property
    def bank(self) -> NDArray[np.float32]:
        """The vectors alone, (h, w, n, d)."""
        return self.rows[..., :-1]

    def distances(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the Euclidean distance of each patch to its nearest one near by.

        Parameters
        ----------
        queries : ndarray of float32, shape (m, h, w, d)

        Returns
        -------
        ndarray of float32, shape (m, h, w)
        """
        squares = np.einsum("mhwd,mhwd->mhw", queries, queries)
        lefts = range(0, queries.shape[2], _COLUMNS)
        nearest = np.full(squares.shape, _FAR, np.float32)
        long = np.concatenate([queries, np.ones_like(queries[..., :1])], axis=-1)
        pairs = list(product(range(len(queries)), lefts))
        side_by_side(lambda pair: self._compare(long[pair[0]], nearest[pair[0]], pair[1]), pairs)
        roots: NDArray[np.float32] = np.sqrt(np.maximum(squares - 2 * nearest, 0))
        return roots

    def _compare(self, query: NDArray[np.float32], found: NDArray[np.float32], left: int) -> None:
        """Raise ``found`` (h, w), in some columns, to product less half the square, the highest."""
        height, width, n, depth = self.rows.shape
        seen = slice(left, min(left + _COLUMNS, width))
        near = slice(max(0, left - self.reach), min(width, seen.stop + self.reach))
        gaps = np.arange(seen.start, seen.stop)[:, None] - np.arange(near.start, near.stop)
        far = np.abs(gaps) > self.reach
        most = max(1, _PRODUCT // (gaps.size * depth))
        for down in range(max(-self.reach, 1 - height), min(self.reach, height - 1) + 1):
            first, last = max(0, -down), min(height, height - down)
            for start in range(0, n, most):
                rows = self.rows[first + down : last + down, near, start : start + most]
                flat = rows.reshape(last - first, -1, depth).transpose(0, 2, 1)
                products = np.matmul(query[first:last, seen], flat)
                best = products.reshape(last - first, *gaps.shape, -1).max(axis=-1)
                best[:, far] = _FAR
                part = found[first:last, seen]
                np.maximum(part, best.max(axis=-1), out=part)

    def nearest(self, query: NDArray[np.float32], place: tuple[int, int]) -> tuple[int, int, int]:
        """Return image, row and column of the nearest patch to one (d,) at a place."""
        rows, columns = (slice(max(0, at - self.reach), at + self.reach + 1) for at in place)
        gaps = self.bank[rows, columns].astype(np.float64) - query
        squares = np.einsum("hwnd,hwnd->hwn", gaps, gaps)
        row, column, image = np.unravel_index(int(squares.argmin()), squares.shape)
        return int(image), int(rows.start + row), int(columns.start + column)

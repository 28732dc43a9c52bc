"""A short form of each row that never overstates a distance, for a first look at all pairs.

Rows are projected on their principal axes, and the length of what is left over is one more column:
by Pythagoras and the triangle inequality two short forms are never farther apart than the rows.
Where few axes carry most of the length, as in features of trained networks, a matrix product a
quarter as deep rules out nearly all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from pyimgano.models._bounds import centred, fold_queries, fold_rows, norms_of, slack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.models._exact_search import Bank

_SHARE = 4  # columns to one of the sketch
_MOST = 96
_LEAST = 64, 2048  # columns and rows from which on a sketch pays
_ENERGY = 0.8
_SAMPLE = 4096
_TILE = 2048
_ROUNDING = 2e-6
"""What a short form is off by, as a share of (|x| + |y|)^2 in a squared distance.

The shift and the rounding to float32 move each of the two by at most 2^-24 of its length; what is
left over is the root of a difference whose float64 error is below 1e-13 of the squared length, so
its error is below 4e-7 of the length. Twice the sum of these, with some to spare.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Short forms of the rows of a bank, in about a quarter of their memory or less.

    Parameters
    ----------
    axes : ndarray of float64, shape (d, p)
        The axes on which rows are projected.
    folded : ndarray of float32, shape (n, p + 3)
        The short forms, folded as `fold_rows` does.
    """

    axes: NDArray[np.float64]
    folded: NDArray[np.float32]

    @classmethod
    def of(cls, bank: Bank) -> Self | None:
        """Sketch the rows; None if a few axes carry too little, or there is too little to save."""
        n, d = bank.rows.shape
        if d < _LEAST[0] or n < _LEAST[1]:
            return None
        sample = centred(bank.rows[:: -(-n // _SAMPLE)], bank.shift)[0].astype(np.float64)
        p = min(_MOST, d // _SHARE)
        energies, axes = np.linalg.eigh(sample.T @ sample)
        if not energies[-p:].sum() > _ENERGY * energies.sum():
            return None
        made = cls(np.ascontiguousarray(axes[:, -p:]), np.empty((n, p + 3), np.float32))
        for start in range(0, n, _TILE):
            part = slice(start, start + _TILE)
            rows, norms = made.shorten(*centred(bank.rows[part], bank.shift))
            made.folded[part, :-2] = rows
            fold_rows(made.folded[part], norms, made.slack)
        return made

    @property
    def slack(self) -> float:
        """As `slack`: how far a product may lie above the squared distance of the rows."""
        return slack(self.axes.shape[1] + 1) + _ROUNDING

    def shorten(
        self, shifted: NDArray[np.float32], norms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the short forms (m, p + 1) of centred rows of known norms, and their norms."""
        axial = shifted @ self.axes
        rest = norms**2 - np.einsum("ij,ij->i", axial, axial)
        short = np.column_stack([axial, np.sqrt(np.maximum(rest, 0))]).astype(np.float32)
        return short, norms_of(short)

    def fold(
        self, shifted: NDArray[np.float32], norms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return centred queries folded as `fold_queries` does, and their offsets."""
        return fold_queries(*self.shorten(shifted, norms), self.slack)

"""A short form of each row that never overstates a distance, for a first look at all pairs.

Rows are projected on their principal axes, and the length of what is left over is one more column:
by Pythagoras and the triangle inequality two short forms are never farther apart than the rows.
Where few axes carry most of the length, as in features of trained networks, a matrix product at
most a quarter as deep rules out nearly all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from pyimgano.models._bounds import centred, fold_queries, fold_rows, norms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.models._exact_search import Bank

_SHARE = 4  # columns to one of the sketch
_MOST = 96
_LEAST = 64, 2048  # columns and rows from which on a sketch pays
_ENERGY = 0.8
_AXIS = 1e-3  # of the energy: an axis with less costs more than it rules out
_SAMPLE = 4096
_TILE = 2048
_LARGEST = 127
_MOVED = 1e-6
"""How far a short form may lie from where exact arithmetic has it, as a share of its length.

The shift and the rounding to float32 move it by at most 2^-24 of its length each; what is left over
is the root of a difference whose float64 error is below 1e-13 of the squared length, so its error
is below 4e-7 of the length.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Short forms of the rows of a bank, in about a sixteenth of its memory or less.

    They are kept in one byte a column. What that moves is measured, so the distance of a query to
    what the bytes stand for, less its ``error``, overstates none either.

    Parameters
    ----------
    axes : ndarray of float64, shape (d, p)
        The axes on which rows are projected.
    codes : ndarray of int8, shape (n, p + 1)
        The short forms, in ``steps``.
    steps : ndarray of float32, shape (p + 1,)
        What 1 stands for in each column.
    error : float
        The longest way from a row's short form in exact arithmetic to what its codes stand for.
    """

    axes: NDArray[np.float64]
    codes: NDArray[np.int8]
    steps: NDArray[np.float32]
    error: float = 0.0

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
        p = min(p, max(1, np.count_nonzero(energies > _AXIS * energies.sum())))
        codes, steps = np.empty((n, p + 1), np.int8), np.zeros(p + 1, np.float32)
        made = cls(np.ascontiguousarray(axes[:, -p:]), codes, steps)
        parts = [slice(start, start + _TILE) for start in range(0, n, _TILE)]
        for part in parts:
            np.maximum(steps, np.abs(made._short(bank, part)).max(axis=0), out=steps)
        steps /= _LARGEST
        steps[steps < np.finfo(np.float32).tiny] = 0
        far = 0.0
        for part in parts:
            short = made._short(bank, part)
            codes[part] = np.rint(np.divide(short, steps, where=steps > 0, out=0 * short))
            far = max(far, norms_of(short.astype(np.float64) - codes[part] * steps).max())
        return replace(made, error=far * (1 + 1e-9) + _MOVED * bank.norms.max())

    def shorten(
        self, shifted: NDArray[np.float32], norms: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return the short forms (m, p + 1) of centred rows of known norms."""
        axial = shifted @ self.axes
        rest = norms**2 - np.einsum("ij,ij->i", axial, axial)
        return np.column_stack([axial, np.sqrt(np.maximum(rest, 0))]).astype(np.float32)

    def _short(self, bank: Bank, part: slice) -> NDArray[np.float32]:
        return self.shorten(*centred(bank.rows[part], bank.shift))

    def fold(
        self, shifted: NDArray[np.float32], norms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Return centred queries folded as `fold_queries` does, their offsets, and their errors."""
        short = self.shorten(shifted, norms)
        return *fold_queries(short, norms_of(short)), self.error + _MOVED * norms

    def tile(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the codes of some rows stand for, folded as `fold_rows` does."""
        folded = np.empty((len(chosen), len(self.steps) + 2), np.float32)
        np.multiply(self.codes[chosen], self.steps, out=folded[:, :-2])
        fold_rows(folded, norms_of(folded[:, :-2]))
        return folded

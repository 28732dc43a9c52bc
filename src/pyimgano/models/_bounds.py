"""Lower bounds of squared distances from one float32 matrix product, which no rounding breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Rows = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.float16]

_BANK_TILE = 2048
_MAX_NORM = 1e15


def as_rows(values: ArrayLike, name: str, least: type[np.floating[Any]] = np.float32) -> Rows:
    """Return a finite matrix (n, d) of ``least`` to float64, copied only to convert it.

    Raises
    ------
    InputError
        If it is empty, not a matrix, or not finite; the message names the first bad row.
    """
    rows = np.asarray(values)
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"{name} must have shape (n, d), both at least 1, got {rows.shape}")
    if rows.dtype.kind not in "fiub" or rows.dtype.itemsize > 8:
        raise InputError(f"{name} must hold real numbers up to 64 bits, got {rows.dtype}")
    rows = np.ascontiguousarray(rows, dtype=np.result_type(rows.dtype, least))
    for start in range(0, len(rows), _BANK_TILE):
        finite = np.isfinite(rows[start : start + _BANK_TILE]).all(axis=1)
        if not finite.all():
            raise InputError(
                f"{name} row {start + int(finite.argmin())} holds NaN or infinity; leave it out"
            )
    return rows


def centred(rows: Rows, shift: Rows) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return ``rows - shift`` as float32, and its norms.

    Raises
    ------
    InputError
        If a norm is beyond what float32 products can hold.
    """
    with np.errstate(over="ignore"):
        shifted = np.subtract(rows, shift).astype(np.float32, copy=False)
    norms = norms_of(shifted)
    if not (norms < _MAX_NORM).all():
        raise InputError(
            f"values lie {norms.max():.1e} from the mean of all rows, the limit is "
            f"{_MAX_NORM:.0e}; rescale the features"
        )
    return shifted, norms


def slack(d: int, dtype: DTypeLike = np.float32) -> float:
    """Return c such that a folded product is within c (|x| + |y|)^2 of the squared distance.

    In any order of summation, a dot product of d + 2 terms is off by at most (d + 2) u times the
    sum of its absolute terms (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). The
    roundings of the shift and of the two extra columns add 6 u; in float64 the norms and the
    direct measurement are of no higher precision and add 2 d u.
    """
    single = np.dtype(dtype) == np.float32
    return 1.01 * ((d + 16) * 2.0**-24 if single else (4 * d + 16) * 2.0**-53)


def fold_queries(
    shifted: NDArray[Any], norms: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the columns [-2 x, 1, -2 c |x|] and what turns a squared limit into one of products.

    A pair can be nearer than r only if its product is at most r^2 + offset.
    """
    n, d = shifted.shape
    c = slack(d, shifted.dtype)
    folded = np.empty((n, d + 2), shifted.dtype)
    np.multiply(shifted, -2, out=folded[:, :d])
    folded[:, d] = 1
    folded[:, d + 1] = -2 * c * norms
    underflow = (d + 16) * float(np.finfo(np.float32).tiny)
    return folded, underflow - (1 - c) * norms**2


def fold_rows(folded: NDArray[Any], norms: NDArray[np.float64]) -> None:
    """Complete the columns [y, (1 - c) |y|^2, |y|] of which the first d are there; c is `slack`."""
    d = folded.shape[1] - 2
    folded[:, d] = (1 - slack(d, folded.dtype)) * norms**2
    folded[:, d + 1] = norms


def norms_of(rows: Rows) -> NDArray[np.float64]:
    """Return the lengths of rows, in float64."""
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return np.sqrt(squared)

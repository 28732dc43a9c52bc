"""The arithmetic of exact nearest neighbours: bounds that hold, and distances that are measured.

One float32 matrix product gives, for every pair of a query and a bank row, a *lower bound* of the
squared distance that no rounding can break: both are centred on the bank's mean first, and the
squared norm of the row and the error bound of the product ride along as two more columns.
Whatever the bounds cannot rule out is measured directly, as a float64 sum of squared differences.
So the answers are those of the direct measurement, ties and duplicates included, and they do not
depend on how the queries were batched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyimgano.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Rows = NDArray[np.float32] | NDArray[np.float64]
    Indices = NDArray[np.int64]

NOBODY = -1
_QUERY_TILE = 1024
_BANK_TILE = 2048
_DIRECT_ELEMENTS = 1 << 17
_MAX_NORM = 1e15
_LARGEST = np.finfo(np.float32).max


def as_rows(values: ArrayLike, name: str) -> Rows:
    """Return a finite matrix (n, d) of float32 or float64, copied only to convert it.

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
    rows = np.ascontiguousarray(rows, dtype=np.result_type(rows.dtype, np.float32))
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
    norms = _norms(shifted)
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
    """Complete the columns [y, (1 - c) |y|^2, |y|] of which the first d are there."""
    d = folded.shape[1] - 2
    folded[:, d] = (1 - slack(d, folded.dtype)) * norms**2
    folded[:, d + 1] = norms


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The rows to search, with what the bounds need.

    Parameters
    ----------
    rows : ndarray, shape (n, d)
        As they were given.
    shift : ndarray, shape (d,)
        Their mean.
    norms : ndarray of float64, shape (n,)
        Of the centred rows.
    groups : ndarray of int64, shape (n,), or None
        Image or fold of each row.
    copies : ndarray of int64, shape (n,)
        How many equal rows of the same group come before: a row with k of them is never among
        the k nearest, which keeps a flat background from costing its square.
    """

    rows: Rows
    shift: Rows
    norms: NDArray[np.float64]
    groups: Indices | None
    copies: Indices

    @classmethod
    def of(cls, rows: Rows, groups: Indices | None) -> Self:
        """Measure the rows."""
        with np.errstate(over="ignore"):
            shift = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        tiles = range(0, len(rows), _BANK_TILE)
        norms = [centred(rows[i : i + _BANK_TILE], shift)[1] for i in tiles]
        joined = np.concatenate(norms)
        return cls(rows, shift, joined, groups, _count_copies(rows, joined, groups))

    def tiles(self, k: int) -> Iterator[tuple[Indices, NDArray[np.float32]]]:
        """Yield the indices and the folded columns of each tile of rows that k can reach."""
        kept = np.flatnonzero(self.copies < k)
        d = self.rows.shape[1]
        buffer = np.empty((min(len(kept), _BANK_TILE), d + 2), np.float32)
        for start in range(0, len(kept), _BANK_TILE):
            chosen = kept[start : start + _BANK_TILE]
            tile = buffer[: len(chosen)]
            run = chosen[-1] - chosen[0] + 1 == len(chosen)
            rows = self.rows[chosen[0] : chosen[-1] + 1] if run else self.rows[chosen]
            np.subtract(rows, self.shift, out=tile[:, :d], casting="same_kind")
            fold_rows(tile, self.norms[chosen])
            yield chosen, tile

    def measure(self, queries: Rows, which: Indices, indices: Indices) -> NDArray[np.float64]:
        """Return the squared distances of the pairs (queries[which], rows[indices])."""
        squared = np.empty(len(which))
        step = max(1, _DIRECT_ELEMENTS // self.rows.shape[1])
        for start in range(0, len(which), step):
            part = slice(start, start + step)
            gap = np.subtract(queries[which[part]], self.rows[indices[part]], dtype=np.float64)
            np.einsum("ij,ij->i", gap, gap, out=squared[part])
        return squared


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The k nearest rows so far of each query, by distance, then index; updated in place."""

    squared: NDArray[np.float64]
    indices: Indices

    @classmethod
    def none(cls, n: int, k: int) -> Self:
        """Return n empty lists of k."""
        return cls(np.full((n, k), np.inf), np.full((n, k), np.iinfo(np.int64).max))

    def add(self, which: Indices, indices: Indices, squared: NDArray[np.float64]) -> None:
        """Enter the measured pairs (which, indices)."""
        k = self.squared.shape[1]
        touched = np.unique(which)
        which = np.concatenate([np.repeat(touched, k), which])
        indices = np.concatenate([self.indices[touched].ravel(), indices])
        squared = np.concatenate([self.squared[touched].ravel(), squared])
        order = np.lexsort((indices, squared, which))
        first = np.searchsorted(which[order], touched)
        kept = order[first[:, None] + np.arange(k)]
        self.squared[touched] = squared[kept]
        self.indices[touched] = indices[kept]


def search(bank: Bank, queries: Rows, k: int, exclude: Indices) -> Nearest:
    """Return the k nearest rows of each query outside the group that it must not see."""
    nearest = Nearest.none(len(queries), k)
    size = min(len(queries), _QUERY_TILE) * min(len(bank.rows), _BANK_TILE)
    buffers = np.empty(size, np.float32), np.empty(size, np.bool_)
    for start in range(0, len(queries), _QUERY_TILE):
        part = slice(start, start + _QUERY_TILE)
        found = Nearest(nearest.squared[part], nearest.indices[part])
        _search_tile(bank, queries[part], exclude[part], found, buffers)
    return nearest


def _search_tile(
    bank: Bank,
    queries: Rows,
    exclude: Indices,
    nearest: Nearest,
    buffers: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    n, k = nearest.squared.shape
    folded, offset = fold_queries(*centred(queries, bank.shift))
    for chosen, tile in bank.tiles(k):
        size = n * len(chosen)
        lower = np.matmul(folded, tile.T, out=buffers[0][:size].reshape(n, -1))
        _hide(lower, bank, exclude, chosen)
        within = buffers[1][:size].reshape(n, -1)
        np.less_equal(lower, _limit(nearest, offset), out=within)
        if np.count_nonzero(within) > 2 * k * n:
            which, columns = _smallest(lower, k)
            nearest.add(which, chosen[columns], bank.measure(queries, which, chosen[columns]))
            lower[which, columns] = np.inf
            np.less_equal(lower, _limit(nearest, offset), out=within)
        if np.count_nonzero(within) > 2 * k * n:
            _sharpen(within, bank, queries, nearest, chosen)
        which, columns = np.divmod(np.flatnonzero(within), len(chosen))
        nearest.add(which, chosen[columns], bank.measure(queries, which, chosen[columns]))


def _sharpen(
    within: NDArray[np.bool_], bank: Bank, queries: Rows, nearest: Nearest, chosen: Indices
) -> None:
    """Enter the nearest and rule out most other pairs by a float64 product about a nearer origin.

    Rows that differ by less than float32 resolves at the distance of the mean (a background with
    a little noise) would otherwise all have to be measured one by one.
    """
    which, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
    rows = bank.rows[chosen[columns]].astype(np.float64)
    origin = rows.mean(axis=0)
    rows -= origin
    near = queries[which] - origin
    folded, offset = fold_queries(near, _norms(near))
    tile = np.empty((len(rows), rows.shape[1] + 2))
    tile[:, :-2] = rows
    fold_rows(tile, _norms(rows))
    block = np.ix_(which, columns)
    lower = np.where(within[block], folded @ tile.T, np.inf)
    first, second = _smallest(lower, nearest.squared.shape[1])
    seeds = which[first], chosen[columns[second]]
    nearest.add(*seeds, bank.measure(queries, *seeds))
    lower[first, second] = np.inf
    limit = np.minimum(nearest.squared[which, -1] + offset, float(_LARGEST))
    within[block] = lower <= limit[:, None]


def _limit(nearest: Nearest, offset: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what a product must not exceed (n, 1), rounded up; hidden pairs always exceed it."""
    limit = np.minimum(nearest.squared[:, -1] + offset, float(_LARGEST) / 2).astype(np.float32)
    return np.nextafter(limit, _LARGEST)[:, None]


def _smallest(lower: NDArray[np.float32], k: int) -> tuple[Indices, Indices]:
    """Return the pairs (row, column) of the k smallest values of each row, hidden ones aside."""
    if k == 1:
        columns = lower.argmin(axis=1)[:, None]
    else:
        k = min(k, lower.shape[1])
        columns = np.argpartition(lower, k - 1, axis=1)[:, :k]
    which, flat = np.repeat(np.arange(len(lower)), columns.shape[1]), columns.ravel()
    seen = np.isfinite(lower[which, flat])
    return which[seen], flat[seen]


def _hide(lower: NDArray[np.float32], bank: Bank, exclude: Indices, chosen: Indices) -> None:
    if bank.groups is None:
        return
    labels = bank.groups[chosen]
    for group in np.unique(exclude[exclude != NOBODY]):
        own = labels == group
        if own.any():
            lower[np.ix_(exclude == group, own)] = np.inf


def _norms(rows: Rows) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return np.sqrt(squared)


def _count_copies(rows: Rows, norms: NDArray[np.float64], groups: Indices | None) -> Indices:
    """Count the equal rows of the same group before each row.

    Equal rows are looked for among neighbours in the order of their norms: a pair that a third
    row of the same norm separates is missed, which costs time only.
    """
    order = np.lexsort((norms,) if groups is None else (groups, norms))
    first, second = order[:-1], order[1:]
    pairs = np.flatnonzero(norms[first] == norms[second])
    if groups is not None:
        pairs = pairs[groups[first[pairs]] == groups[second[pairs]]]
    equal = [
        (rows[first[part]] == rows[second[part]]).all(axis=1)
        for part in np.split(pairs, range(_BANK_TILE, len(pairs), _BANK_TILE))
    ]
    position = np.arange(len(rows))
    starts = position.copy()
    starts[1 + pairs[np.concatenate(equal)]] = 0
    copies = np.empty(len(rows), np.int64)
    copies[order] = position - np.maximum.accumulate(starts)
    return copies

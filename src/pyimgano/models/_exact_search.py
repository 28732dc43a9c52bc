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
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from pyimgano.models._bounds import centred, fold_queries, fold_rows, norms_of
from pyimgano.models._shortlist import Nearest
from pyimgano.threads import budget, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pyimgano.models._bounds import Rows

    Indices = NDArray[np.int64]

NOBODY = -1
_QUERY_TILE = 1024
_LEAST_TILE = 128  # queries below which a thread of their own does not pay
_BANK_TILE = 2048
_DIRECT_ELEMENTS = 1 << 16
_PAIR = 25  # one pair costs as much as so many of a whole product
_LARGEST = np.finfo(np.float32).max


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
            precise = np.result_type(rows.dtype, np.float32)
            shift = rows.mean(axis=0, dtype=np.float64).astype(precise)
        tiles = range(0, len(rows), _BANK_TILE)
        norms = [centred(rows[i : i + _BANK_TILE], shift)[1] for i in tiles]
        joined = np.concatenate(norms)
        return cls(rows, shift, joined, groups, _count_copies(rows, joined, groups))

    def tiles(self, k: int, without: int = NOBODY) -> Iterator[Indices]:
        """Yield the indices of each tile of the rows that k can reach, without those of a group."""
        wanted = self.copies < k
        if self.groups is not None and without != NOBODY:
            wanted &= self.groups != without
        kept = np.flatnonzero(wanted)
        for start in range(0, len(kept), _BANK_TILE):
            yield kept[start : start + _BANK_TILE]

    def fold(self, chosen: Indices) -> NDArray[np.float32]:
        """Return some rows, centred, as `fold_rows` does."""
        run = chosen[-1] - chosen[0] + 1 == len(chosen)
        rows = self.rows[chosen[0] : chosen[-1] + 1] if run else self.rows[chosen]
        tile = np.empty((len(rows), rows.shape[1] + 2), np.float32)
        np.subtract(rows, self.shift, out=tile[:, :-2], casting="same_kind")
        fold_rows(tile, self.norms[chosen])
        return tile

    def measure(self, queries: Rows, which: Indices, indices: Indices) -> NDArray[np.float64]:
        """Return the squared distances of the pairs (queries[which], rows[indices])."""
        squared = np.empty(len(which))
        step = max(1, _DIRECT_ELEMENTS // self.rows.shape[1])
        for start in range(0, len(which), step):
            part = slice(start, start + step)
            pair = queries.take(which[part], axis=0), self.rows.take(indices[part], axis=0)
            gap = np.subtract(*pair, dtype=np.float64)
            np.einsum("ij,ij->i", gap, gap, out=squared[part])
        return squared


class Short(Protocol):
    """A cheaper lower bound of all distances, such as `pyimgano.models._sketch.Sketch`."""

    def tile(self, chosen: Indices) -> NDArray[np.float32]:
        """Return some rows, as `fold_rows` does."""
        ...

    def fold(
        self, shifted: NDArray[np.float32], norms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Return centred queries as `fold_queries` does, and what tiles may overstate of each."""
        ...


def search(
    bank: Bank, queries: Rows, k: int, exclude: Indices, sketch: Short | None = None
) -> Nearest:
    """Return the k nearest rows of each query outside the group that it must not see.

    A sketch of the bank makes it faster where it rules out most pairs, and changes no answer.
    """
    nearest = Nearest.none(len(queries), k)
    share = max(_LEAST_TILE, -(-len(queries) // budget()))
    size = min(share, _QUERY_TILE)

    def look(start: int) -> None:
        part = slice(start, start + size)
        found = Nearest(nearest.squared[part], nearest.indices[part])
        _search_some(bank, queries[part], found, exclude[part], sketch)

    side_by_side(look, range(0, len(queries), size))
    return nearest


def _search_some(
    bank: Bank, queries: Rows, found: Nearest, exclude: Indices, sketch: Short | None
) -> None:
    """Enter what is nearest to a tile of queries."""
    size = len(queries) * min(len(bank.rows), _BANK_TILE)
    buffers = np.empty(size, np.float32), np.empty(size, np.bool_)
    shifted = centred(queries, bank.shift)
    folded, short = fold_queries(*shifted), sketch.fold(*shifted) if sketch else None
    without = int(exclude[0]) if (exclude == exclude[0]).all() else NOBODY
    for chosen in bank.tiles(found.squared.shape[1], without):
        at = _Tile(bank, queries, exclude, found, chosen, buffers)
        if sketch and short and at.settled(sketch, short, folded):
            continue
        short = None  # these queries lie too far off for it: their other tiles go the long way
        at.finish(*folded)


class _Tile:
    """Some queries and some rows: which pairs can still matter."""

    def __init__(
        self,
        bank: Bank,
        queries: Rows,
        exclude: Indices,
        nearest: Nearest,
        chosen: Indices,
        buffers: tuple[NDArray[np.float32], NDArray[np.bool_]],
    ) -> None:
        self.bank, self.queries, self.exclude = bank, queries, exclude
        self.nearest, self.chosen = nearest, chosen
        n, m = len(queries), len(chosen)
        self.lower = buffers[0][: n * m].reshape(n, m)
        self.within = buffers[1][: n * m].reshape(n, m)
        self.most = 2 * nearest.squared.size
        self.known: list[tuple[Indices, Indices]] = []

    def settled(
        self,
        sketch: Short,
        short: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]],
        folded: tuple[NDArray[np.float32], NDArray[np.float64]],
    ) -> bool:
        """Enter the nearest by short forms, unless they rule out too little to be worth it."""
        self._screen(short[0], short[1], sketch.tile(self.chosen), short[2])
        which, columns = self._pairs()
        if len(which) * _PAIR > self.within.size:
            return False
        if len(which) > len(self.chosen):
            limit = _limit(self.nearest, folded[1])[:, 0]
            products = _paired(folded[0], which, self.bank.fold(self.chosen), columns)
            near = products <= limit[which]
            which, columns = which[near], columns[near]
        self._enter(which, columns)
        return True

    def finish(self, folded: NDArray[np.float32], offset: NDArray[np.float64]) -> None:
        """Enter the nearest by the product of all columns."""
        self._screen(folded, offset, self.bank.fold(self.chosen))
        if np.count_nonzero(self.within) > self.most:
            _sharpen(self.within, self.bank, self.queries, self.nearest, self.chosen)
        self._enter(*self._pairs())

    def _screen(
        self,
        folded: NDArray[np.float32],
        offset: NDArray[np.float64],
        rows: NDArray[np.float32],
        error: NDArray[np.float64] | float = 0.0,
    ) -> None:
        """Mark the pairs that a product does not rule out, the nearest by it entered first."""
        np.matmul(folded, rows.T, out=self.lower)
        _hide(self.lower, self.bank, self.exclude, self.chosen)
        for pairs in self.known:
            self.lower[pairs] = np.inf
        known = self.nearest.squared[:, -1].min() < np.inf  # else nothing is ruled out
        if known:
            np.less_equal(self.lower, _limit(self.nearest, offset, error), out=self.within)
        if not known or np.count_nonzero(self.within) > self.most:
            seeds = _smallest(self.lower, self.nearest.squared.shape[1])
            self._enter(*seeds)
            self.lower[seeds] = np.inf
            self.known.append(seeds)
            np.less_equal(self.lower, _limit(self.nearest, offset, error), out=self.within)

    def _pairs(self) -> tuple[Indices, Indices]:
        which, columns = np.divmod(np.flatnonzero(self.within), len(self.chosen))
        return which, columns

    def _enter(self, which: Indices, columns: Indices) -> None:
        rows = self.chosen[columns]
        self.nearest.add(which, rows, self.bank.measure(self.queries, which, rows))


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
    folded, offset = fold_queries(near, norms_of(near))
    tile = np.empty((len(rows), rows.shape[1] + 2))
    tile[:, :-2] = rows
    fold_rows(tile, norms_of(rows))
    block = np.ix_(which, columns)
    lower = np.where(within[block], folded @ tile.T, np.inf)
    first, second = _smallest(lower, nearest.squared.shape[1])
    seeds = which[first], chosen[columns[second]]
    nearest.add(*seeds, bank.measure(queries, *seeds))
    lower[first, second] = np.inf
    limit = np.minimum(nearest.squared[which, -1] + offset, float(_LARGEST))
    within[block] = lower <= limit[:, None]


def _paired(
    folded: NDArray[np.float32], which: Indices, tile: NDArray[np.float32], columns: Indices
) -> NDArray[np.float32]:
    """Return the products of pairs, as the product of all would have them."""
    products = np.empty(len(which), np.float32)
    step = max(1, _DIRECT_ELEMENTS // tile.shape[1])
    for start in range(0, len(which), step):
        part = slice(start, start + step)
        pair = folded.take(which[part], axis=0), tile.take(columns[part], axis=0)
        np.einsum("ij,ij->i", *pair, out=products[part])
    return products


def _limit(
    nearest: Nearest, offset: NDArray[np.float64], error: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float32]:
    """Return what a product must not exceed (n, 1), rounded up; hidden pairs always exceed it."""
    squared = (np.sqrt(nearest.squared[:, -1]) + error) ** 2
    limit = np.minimum(squared + offset, float(_LARGEST) / 2).astype(np.float32)
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

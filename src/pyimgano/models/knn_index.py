"""Exact nearest neighbours under the Euclidean distance: one protocol, two engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, final, runtime_checkable

import numpy as np

from pyimgano.errors import InputError, NotFittedError, ParameterError
from pyimgano.models._bounds import as_rows, centred, slack
from pyimgano.models._exact_search import NOBODY, Bank, Nearest, search
from pyimgano.models._sketch import Sketch
from pyimgano.optional import require
from pyimgano.registry import Metadata, Registry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pyimgano.models._bounds import Rows
    from pyimgano.models._exact_search import Indices

    Answer = tuple[NDArray[np.float64], NDArray[np.int64]]

__all__ = ["INDEXES", "FaissIndex", "NearestNeighborIndex", "NumpyIndex", "create_index"]

_SPARE = 8


@runtime_checkable
class NearestNeighborIndex(Protocol):
    """The protocol by which indexes plug in; `NumpyIndex` is the oracle."""

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank.

        Parameters
        ----------
        bank : array, shape (n_bank, d)
            One row a point; float32 and float64 are kept, other real numbers converted. It is
            not copied if it is C-contiguous already: do not change it afterwards.
        groups : array of int, shape (n_bank,), optional
            Image or fold of each row, for ``exclude``; rows of group -1 are never excluded.

        Returns
        -------
        NearestNeighborIndex
            Itself.

        Raises
        ------
        InputError
            If the bank is empty, not a matrix, not finite, or spreads beyond 1e15, or if the
            groups do not fit it.
        """
        ...

    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows of the bank.

        Parameters
        ----------
        queries : array, shape (n_queries, d)
            The points to look up.
        k : int
            How many neighbours.
        exclude : array of int, shape (n_queries,), optional
            Group whose rows a query must not see; -1 excludes nothing.

        Returns
        -------
        distances : ndarray of float64, shape (n_queries, k)
            Euclidean (not squared), ascending.
        indices : ndarray of int64, shape (n_queries, k)
            Rows of the bank; equal distances are ordered by index.

        Raises
        ------
        NotFittedError
            If there is no bank yet.
        ParameterError
            If k is less than 1.
        InputError
            If the queries do not fit the bank, or fewer than k rows remain for one of them.
        """
        ...


INDEXES: Registry[type[NearestNeighborIndex]] = Registry("index")


def create_index(name: str = "auto") -> NearestNeighborIndex:
    """Return an unfitted index.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"faiss"`` or ``"auto"``, which is numpy: on one thread it took 0.24 to 1.22
        of the time of faiss for 100 and more queries at once, the least when groups are excluded
        (``benchmarks/speed/knn.py``). faiss is twice as fast for a single query.

    Returns
    -------
    NearestNeighborIndex
        All of them give the same answers.

    Raises
    ------
    UnknownNameError
        If no index has this name; the message lists near matches.
    MissingExtra
        If the package behind it is not installed; the message holds the pip line.

    Examples
    --------
    >>> index = create_index().fit([[0.0, 0.0], [3.0, 4.0]])
    >>> distances, indices = index.kneighbors([[3.0, 0.0]], k=2)
    >>> distances.tolist(), indices.tolist()
    ([[3.0, 4.0]], [[0, 1]])
    """
    entry = INDEXES.entry("numpy" if name == "auto" else name)
    for module in entry.metadata.modules:
        require(module, extra=entry.metadata.extra, purpose=f"index {entry.name!r}")
    return entry.value()


@final
@INDEXES.register("numpy", Metadata(summary="Exact, by bounded matrix products in numpy."))
class NumpyIndex:
    """Exact nearest neighbours with numpy alone; the oracle of all other indexes.

    Beyond the bank it takes 24 bytes a row, two tiles of rows and some 30 MB, more where many rows
    tie; and where a few axes carry most of the bank, a short form of each row in at most 97 bytes.
    """

    def __init__(self) -> None:
        self._bank: Bank | None = None
        self._sketch: Sketch | None = None

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank; see `NearestNeighborIndex.fit`."""
        self._bank = _bank_of(bank, groups)
        self._sketch = Sketch.of(self._bank)
        return self

    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows; see `NearestNeighborIndex.kneighbors`."""
        bank = _fitted(self._bank)
        rows, excluded = _checked(bank, queries, k, exclude)
        nearest = search(bank, rows, k, excluded, self._sketch)
        return np.sqrt(nearest.squared), nearest.indices


@final
@INDEXES.register(
    "faiss",
    Metadata(
        summary="Exact: faiss proposes, the error bound decides, numpy settles the rest.",
        paper="Johnson, Douze, Jegou, arXiv 1702.08734",
        licence="MIT",
        extra="faiss",
        modules=("faiss",),
    ),
)
class FaissIndex:
    """Exact nearest neighbours by ``faiss.IndexFlatL2`` on the centred bank.

    The rows that faiss proposes are measured again, and a query for which its float32 distances
    cannot prove that no other row is nearer is searched once more with numpy: the answers equal
    those of `NumpyIndex`. faiss holds a float32 copy of the bank.
    """

    def __init__(self) -> None:
        self._bank: Bank | None = None
        self._flat: Any = None

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank; see `NearestNeighborIndex.fit`."""
        faiss = require("faiss", extra="faiss", purpose="index 'faiss'")
        self._bank = _bank_of(bank, groups)
        self._flat = faiss.IndexFlatL2(self._bank.rows.shape[1])
        self._flat.add(centred(self._bank.rows, self._bank.shift)[0])
        return self

    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows; see `NearestNeighborIndex.kneighbors`."""
        bank = _fitted(self._bank)
        rows, excluded = _checked(bank, queries, k, exclude)
        nearest = Nearest.none(len(rows), k)
        settled = np.zeros(len(rows), np.bool_)
        for group in np.unique(excluded):
            own = np.flatnonzero(excluded == group)
            settled[own] = self._propose(bank, rows, own, int(group), nearest)
        rest = np.flatnonzero(~settled)
        found = search(bank, rows[rest], k, excluded[rest])
        nearest.squared[rest] = found.squared
        nearest.indices[rest] = found.indices
        return np.sqrt(nearest.squared), nearest.indices

    def _propose(
        self, bank: Bank, queries: Rows, own: Indices, group: int, nearest: Nearest
    ) -> NDArray[np.bool_]:
        """Enter what faiss finds for the queries ``own``; tell for which it is proven complete."""
        faiss = require("faiss", extra="faiss", purpose="index 'faiss'")
        options = {}
        left = _visible(bank, group)
        if left < len(bank.rows):
            bits = np.packbits(bank.groups != group, bitorder="little")
            options["params"] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        width = min(left, nearest.squared.shape[1] + _SPARE)
        shifted, norms = centred(queries[own], bank.shift)
        near, found = self._flat.search(shifted, width, **options)
        which, indices = np.repeat(own, width), found.ravel()
        nearest.add(which, indices, bank.measure(queries, which, indices))
        error = slack(shifted.shape[1]) * (norms + bank.norms.max()) ** 2
        proven: NDArray[np.bool_] = nearest.squared[own, -1] < near[:, -1] - error
        return proven if width < left else np.ones(len(own), np.bool_)


def _bank_of(bank: ArrayLike, groups: ArrayLike | None) -> Bank:
    rows = as_rows(bank, "bank")
    return Bank.of(rows, None if groups is None else _labels(groups, len(rows), "groups"))


def _labels(values: ArrayLike, n: int, name: str) -> Indices:
    labels = np.asarray(values)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be whole numbers of shape ({n},), got {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.int64)


def _fitted(bank: Bank | None) -> Bank:
    if bank is None:
        raise NotFittedError("the index holds no bank; call fit first")
    return bank


def _visible(bank: Bank, group: int) -> int:
    """Count the rows that a query with this excluded group sees."""
    if group == NOBODY:
        return len(bank.rows)
    if bank.groups is None:
        raise InputError("exclude needs groups: call fit(bank, groups) with one a bank row")
    return int(np.count_nonzero(bank.groups != group))


def _checked(
    bank: Bank, queries: ArrayLike, k: int, exclude: ArrayLike | None
) -> tuple[Rows, Indices]:
    if k < 1:
        raise ParameterError(f"k must be at least 1, got {k}")
    rows = as_rows(queries, "queries")
    d = bank.rows.shape[1]
    if rows.shape[1] != d:
        raise InputError(f"queries must have {d} columns as the bank has, got {rows.shape[1]}")
    excluded = np.full(len(rows), NOBODY, np.int64)
    if exclude is not None:
        excluded = _labels(exclude, len(rows), "exclude")
    for group in np.unique(excluded):
        left = _visible(bank, int(group))
        if left < k:
            query = int((excluded == group).argmax())
            raise InputError(
                f"k={k} neighbours were asked for, but query {query} may see only {left} of "
                f"{len(bank.rows)} bank rows; lower k or give a larger bank"
            )
    return rows, excluded

"""What an index of nearest neighbours promises, and what all of them check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from pyimgano.errors import InputError, NotFittedError, ParameterError
from pyimgano.models._bounds import as_rows
from pyimgano.models._exact_search import NOBODY, Bank
from pyimgano.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pyimgano.models._bounds import Rows
    from pyimgano.models._exact_search import Indices

    Answer = tuple[NDArray[np.float64], NDArray[np.int64]]

Held = TypeVar("Held")


@runtime_checkable
class NearestNeighborIndex(Protocol):
    """The protocol by which indexes plug in; `NumpyIndex` is the oracle."""

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank.

        Parameters
        ----------
        bank : array, shape (n_bank, d)
            One row a point; floats are kept as they are, float16 too, other real numbers
            converted; distances are those of the rows as they are kept. It is
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


def bank_of(bank: ArrayLike, groups: ArrayLike | None) -> Bank:
    """Check and measure the bank."""
    rows = as_rows(bank, "bank", np.float16)
    return Bank.of(rows, None if groups is None else _labels(groups, len(rows), "groups"))


def _labels(values: ArrayLike, n: int, name: str) -> Indices:
    labels = np.asarray(values)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be whole numbers of shape ({n},), got {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.int64)


def fitted(bank: Held | None) -> Held:
    """Return what was fitted, or raise `NotFittedError`."""
    if bank is None:
        raise NotFittedError("the index holds no bank; call fit first")
    return bank


def visible(bank: Bank, group: int) -> int:
    """Count the rows that a query with this excluded group sees."""
    if group == NOBODY:
        return len(bank.rows)
    if bank.groups is None:
        raise InputError("exclude needs groups: call fit(bank, groups) with one a bank row")
    return int(np.count_nonzero(bank.groups != group))


def checked(
    bank: Bank, queries: ArrayLike, k: int, exclude: ArrayLike | None
) -> tuple[Rows, Indices]:
    """Return the queries and the group that each must not see, where the bank can answer them."""
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
        left = visible(bank, int(group))
        if left < k:
            query = int((excluded == group).argmax())
            raise InputError(
                f"k={k} neighbours were asked for, but query {query} may see only {left} of "
                f"{len(bank.rows)} bank rows; lower k or give a larger bank"
            )
    return rows, excluded

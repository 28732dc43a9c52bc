"""Exact nearest neighbours under the Euclidean distance: one protocol, several engines.

The approximate ones, ``faiss_hnsw`` and ``faiss_ivf``, are taken only when asked for by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

import numpy as np

from pyimgano.models._exact_search import Bank, search
from pyimgano.models._faiss_search import ApproximateIndex, FaissIndex
from pyimgano.models._nearest import INDEXES, NearestNeighborIndex, bank_of, checked, fitted
from pyimgano.models._self_timing import AutoIndex
from pyimgano.models._sketch import Sketch
from pyimgano.models._torch_search import TorchIndex
from pyimgano.optional import require
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyimgano.models._nearest import Answer

__all__ = [
    "INDEXES",
    "ApproximateIndex",
    "FaissIndex",
    "NearestNeighborIndex",
    "NumpyIndex",
    "TorchIndex",
    "create_index",
]


def create_index(name: str = "auto") -> NearestNeighborIndex:
    """Return an unfitted index.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"faiss"``, ``"torch"``, the approximate ``"faiss_hnsw"`` and ``"faiss_ivf"``,
        or ``"auto"``: numpy, unless a timing of a part of a large bank (16 million numbers and
        more) finds faiss, if it is installed, or torch, if it is imported already, in less than
        0.8 of its time on this machine. On one thread numpy took the least, or at most a fifteenth
        more, wherever 100 and more queries came at once (``benchmarks/speed/knn.py``); faiss is
        six times as fast for a single query.

    Returns
    -------
    NearestNeighborIndex
        All give the same answers, the approximate ones aside: they miss neighbours, a share of
        which is measured by ``fit`` as ``recall_``; their distances are true.

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
    if name == "auto":
        return AutoIndex()
    entry = INDEXES.entry(name)
    for module in entry.metadata.modules:
        require(module, extra=entry.metadata.extra, purpose=f"index {entry.name!r}")
    return entry.value()


@final
@INDEXES.register("numpy", Metadata(summary="Exact, by bounded matrix products in numpy."))
class NumpyIndex:
    """Exact nearest neighbours with numpy alone; the oracle of all other indexes.

    Beyond the bank it takes 24 bytes a row; a thread takes two tiles of rows and some 30 MB, more
    where many rows tie; and where a few axes carry most of the bank, there is a short form of each
    row in at most 97 bytes.
    """

    def __init__(self) -> None:
        self._bank: Bank | None = None
        self._sketch: Sketch | None = None

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank; see `NearestNeighborIndex.fit`."""
        self._bank = bank_of(bank, groups)
        self._sketch = Sketch.of(self._bank)
        return self

    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows; see `NearestNeighborIndex.kneighbors`."""
        bank = fitted(self._bank)
        rows, excluded = checked(bank, queries, k, exclude)
        nearest = search(bank, rows, k, excluded, self._sketch)
        return np.sqrt(nearest.squared), nearest.indices

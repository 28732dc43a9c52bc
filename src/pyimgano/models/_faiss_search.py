"""Nearest neighbours with faiss: exact by a flat index; approximate by a graph or by cells."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, final

import numpy as np

from pyimgano.models._bounds import centred, slack
from pyimgano.models._exact_search import NOBODY, search
from pyimgano.models._nearest import INDEXES
from pyimgano.models._proposals import ProposingIndex
from pyimgano.optional import require
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from pyimgano.models._exact_search import Bank
    from pyimgano.models._proposals import Asked, Proposed


_log = logging.getLogger(__name__)
_SAMPLE = 256


def _faiss() -> ModuleType:
    return require("faiss", extra="faiss", purpose="index 'faiss'")


def _about(summary: str, paper: str, *, exact: bool = True) -> Metadata:
    return Metadata(
        summary=summary,
        paper=paper,
        licence="MIT",
        extra="faiss",
        modules=("faiss",),
        exact=exact,
    )


@final
@INDEXES.register(
    "faiss",
    _about(
        "Exact: faiss proposes, the error bound decides, numpy settles the rest.",
        "Johnson, Douze, Jegou, arXiv 1702.08734",
    ),
)
class FaissIndex(ProposingIndex):
    """Exact nearest neighbours by ``faiss.IndexFlatL2`` on the centred bank.

    The answers equal those of `NumpyIndex`. faiss holds a float32 copy of the bank.
    """

    def _hold(self, bank: Bank) -> None:
        self._flat: Any = _faiss().IndexFlatL2(bank.rows.shape[1])
        self._flat.add(centred(bank.rows, bank.shift)[0])
        self._farthest = bank.norms.max()

    def _propose(self, asked: Asked) -> Proposed:
        params = _faiss().SearchParameters(**_selected(asked.seen))
        near, found = self._flat.search(asked.shifted, asked.width, params=params)
        error = slack(asked.shifted.shape[1]) * (asked.norms + self._farthest) ** 2
        return found, near[:, -1] - error


def _selected(seen: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Return what limits a search to some rows."""
    if seen is None:
        return {}
    return {"sel": _faiss().IDSelectorBitmap(np.packbits(seen, bitorder="little"))}


class ApproximateIndex(ProposingIndex):
    """Neighbours that faiss finds without looking at all rows: some are missed, none is made up.

    Distances are measured, so they are those of the rows that are returned, and never less than
    those of the nearest. A query for which too few rows are found is searched exactly.

    Attributes
    ----------
    recall_ : float
        Share of up to 256 rows of the bank whose nearest other row was found.
    """

    recall_: float

    @abstractmethod
    def _built(self, rows: NDArray[np.float32]) -> Any:
        """Return an index of faiss that holds the rows."""

    @abstractmethod
    def _effort(self, width: int, seen: NDArray[np.bool_] | None) -> Any:
        """Return the parameters of a search for so many rows."""

    @final
    def _hold(self, bank: Bank) -> None:
        faiss = _faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # several build another graph each time
        try:
            self._rough: Any = self._built(centred(bank.rows, bank.shift)[0])
        finally:
            faiss.omp_set_num_threads(threads)
        rows = bank.rows[:: -(-len(bank.rows) // _SAMPLE)]
        k = min(2, len(bank.rows))  # the first is the row itself, or its copy
        exact = search(bank, rows, k, np.full(len(rows), NOBODY))
        found, _ = self.kneighbors(rows, k)
        self.recall_ = float((found[:, -1] <= np.sqrt(exact.squared[:, -1])).mean())
        _log.info("%s finds %.1f %% of nearest rows", type(self).__name__, 100 * self.recall_)

    @final
    def _propose(self, asked: Asked) -> Proposed:
        effort = self._effort(asked.width, asked.seen)
        _, found = self._rough.search(asked.shifted, asked.width, params=effort)
        return found, np.where((found >= 0).all(axis=1), np.inf, -np.inf)


@final
@INDEXES.register(
    "faiss_hnsw",
    _about(
        "Approximate: a graph of neighbours in faiss; recall is measured when it is made.",
        "Malkov, Yashunin, arXiv 1603.09320",
        exact=False,
    ),
)
class HnswIndex(ApproximateIndex):
    """A graph of 32 neighbours a row, searched with a list of 64 and more."""

    def _built(self, rows: NDArray[np.float32]) -> Any:
        graph = _faiss().IndexHNSWFlat(rows.shape[1], 32)
        graph.add(rows)
        return graph

    def _effort(self, width: int, seen: NDArray[np.bool_] | None) -> Any:
        return _faiss().SearchParametersHNSW(efSearch=max(64, 2 * width), **_selected(seen))


@final
@INDEXES.register(
    "faiss_ivf",
    _about(
        "Approximate: an eighth of all cells in faiss; recall is measured when it is made.",
        "Jegou, Douze, Schmid, PAMI 2011",
        exact=False,
    ),
)
class IvfIndex(ApproximateIndex):
    """Cells of k-means, four times the root of the rows at most; an eighth, or 8, is looked at."""

    def _built(self, rows: NDArray[np.float32]) -> Any:
        faiss = _faiss()
        n, d = rows.shape
        self._cells = max(1, min(int(4 * n**0.5), n // 39))  # faiss asks for 39 rows a cell
        cells = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, self._cells)
        cells.train(rows)
        cells.add(rows)
        return cells

    def _effort(self, width: int, seen: NDArray[np.bool_] | None) -> Any:  # noqa: ARG002
        probed = min(self._cells, max(8, self._cells // 8))
        return _faiss().SearchParametersIVF(nprobe=probed, **_selected(seen))

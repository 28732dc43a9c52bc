"""Nearest neighbours with faiss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np

from pyimgano.models._bounds import centred, slack
from pyimgano.models._nearest import INDEXES
from pyimgano.models._proposals import ProposingIndex
from pyimgano.optional import require
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from pyimgano.models._exact_search import Bank
    from pyimgano.models._proposals import Proposed


def _faiss() -> ModuleType:
    return require("faiss", extra="faiss", purpose="index 'faiss'")


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
class FaissIndex(ProposingIndex):
    """Exact nearest neighbours by ``faiss.IndexFlatL2`` on the centred bank.

    The answers equal those of `NumpyIndex`. faiss holds a float32 copy of the bank.
    """

    def _hold(self, bank: Bank) -> None:
        self._flat: Any = _faiss().IndexFlatL2(bank.rows.shape[1])
        self._flat.add(centred(bank.rows, bank.shift)[0])
        self._farthest = bank.norms.max()

    def _propose(
        self,
        shifted: NDArray[np.float32],
        norms: NDArray[np.float64],
        width: int,
        seen: NDArray[np.bool_] | None,
    ) -> Proposed:
        options = {}
        if seen is not None:
            bits = np.packbits(seen, bitorder="little")
            faiss = _faiss()
            options["params"] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        near, found = self._flat.search(shifted, width, **options)
        return found, near[:, -1] - slack(shifted.shape[1]) * (norms + self._farthest) ** 2

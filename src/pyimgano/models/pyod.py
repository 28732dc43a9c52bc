"""PyOD's detectors on embeddings: one vector an image, or one a patch."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.models._token_detector import check_choice
from pyimgano.optional import require
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["METHODS", "PyOD"]

METHODS = (
    *("ABOD", "COPOD", "ECOD", "GMM", "HBOS", "INNE", "IForest", "KDE", "KNN", "KPCA", "LOF"),
    *("MCD", "PCA", "Sampling"),
)
"""PyOD's detectors that learn the same from the same rows, and can judge a single row.

Not among them are those that judge the rows of a batch by each other (COF, LMDD, RGraph, ROD, SOD,
SOS), that draw from numpy's global generator (OCSVM; LODA before PyOD 3.5), that demand clusters,
which good images need not have (CBLOF), whose sign turns where there are more columns than rows
(QMCD), that are made of other detectors, and networks.
"""

_NO_BLOCK = -1
_OURS = {"contamination": "contamination", "random_state": "seed"}


class _Learned:
    rows_: NDArray[np.float32]
    blocks_: NDArray[np.int64]
    models_: dict[int, tuple[NDArray[np.int64], Any]]


@DETECTORS.register(
    "vision_pyod",
    Metadata(
        summary="PyOD's detectors by name, on one embedding an image or on those of its patches.",
        paper="Zhao et al., PyOD, JMLR 2019, arXiv 1901.01588; each method has its own",
        licence="BSD-2-Clause (PyOD)",
        extra="pyod",
        modules=("pyod",),
    ),
)
@dataclass(kw_only=True, eq=False)
class PyOD(_Learned, FeatureDetector):
    """A detector of PyOD, with thresholds, bounds, model files and reports as all others have.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    method_params : dict
        Arguments of its constructor, as JSON: ``{"n_neighbors": 3}``.
    on : str
        ``"image"``: mean and deviation of the patch vectors, one row an image, a score and no map.
        ``"patch"``: each patch is a row, the map shows their scores.
    max_rows : int
        Most rows to learn from; of more, as many are drawn evenly.

    Notes
    -----
    An image is judged in a call of its own, because ECOD and COPOD rank new rows among each other
    too. Columns in which all rows agree are left out. A model file keeps the rows, and the method
    learns from them anew when it is loaded: on one thread, so that it learns the same.

    Of whole images there are few rows, and the scores of many methods grow or fall with their
    number: those of ECOD as its logarithm, so that a model of 4 images would reject most good
    parts at the threshold that models of 3 set. Where the threshold comes from left-out images, an
    image's score is therefore the mean of the models that set it, each without one block.
    """

    method: str = "ECOD"
    method_params: dict[str, Any] = field(default_factory=dict)
    on: str = "image"
    max_rows: int = 10_000

    @property
    def draws(self) -> bool:
        """Whether there are maps: of patches, not of whole images."""
        return self.on == "patch"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("on", self.on, ("image", "patch"))
        if self.max_rows < 2:
            raise ParameterError(f"max_rows must be at least 2, got {self.max_rows}")
        self._made()

    def _made(self) -> Any:
        """Return PyOD's detector as it was asked for, with nothing learned."""
        if self.method not in METHODS:
            raise ParameterError(f"vision_pyod: {_unknown('method', self.method, METHODS)}")
        purpose = f"vision_pyod with method={self.method!r}"
        module = require(f"pyod.models.{self.method.lower()}", extra="pyod", purpose=purpose)
        kind = getattr(module, self.method)
        known = inspect.signature(kind).parameters
        for name in self.method_params:
            if name in _OURS:
                raise ParameterError(f"method_params: {name} is {_OURS[name]} of vision_pyod")
            if name not in known:
                what = _unknown("parameter", name, sorted(known.keys() - _OURS.keys()))
                raise ParameterError(f"method_params: {self.method} has an {what}")
        seed = {"random_state": self.seed} if "random_state" in known else {}
        return kind(**self.method_params, **seed)

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        rows = self._rows(features)
        flat, owners = rows.reshape(-1, rows.shape[2]), np.repeat(blocks, rows.shape[1])
        if len(flat) > self.max_rows:  # one at random of each of so many equal runs: of all images
            ends = np.arange(self.max_rows + 1) * len(flat) // self.max_rows
            drawn = np.random.default_rng(self.seed).integers(ends[:-1], ends[1:])
            flat, owners = flat[drawn], owners[drawn]
        self.rows_ = np.ascontiguousarray(flat, np.float32)
        self.blocks_ = np.zeros_like(owners) if self.draws else owners
        self._learn_rows()

    def _learn_rows(self) -> None:
        blocks = np.unique(self.blocks_)
        left_out = blocks.tolist() if len(blocks) > 1 else [_NO_BLOCK]
        self.models_ = {b: self._learned(self.rows_[self.blocks_ != b]) for b in left_out}

    def _learned(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], Any]:
        """Return the columns in which rows differ, and a model of them."""
        kept = np.flatnonzero(np.ptp(rows, axis=0) > 0)
        if not kept.size:
            raise InputError(
                "vision_pyod needs at least two good images that differ, and three to set a "
                "threshold from them"
            )
        model = self._made()
        limits = require("threadpoolctl", extra="pyod", purpose="vision_pyod").threadpool_limits
        try:
            with limits(1):
                model.fit(rows[:, kept].astype(np.float64))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            count, dimension = rows.shape
            text = " ".join(str(error).split())
            raise ParameterError(
                f"PyOD's {self.method} cannot learn from {count} rows of {dimension} numbers with "
                f"method_params={self.method_params}: {text}"
            ) from error
        return kept, model

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        if self.draws:
            return super()._held_out(features, blocks)
        rows = self._rows(features)
        found = [self._judge(row, block) for row, block in zip(rows, blocks.tolist(), strict=True)]
        return _whole(np.array(found))

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        found = [
            np.mean([self._judge(rows, block) for block in self.models_], axis=0)
            for rows in self._rows(features)
        ]
        if self.draws:
            return PatchScores(np.reshape(found, features.shape[:3]).astype(np.float32))
        return _whole(np.array(found))

    def _judge(self, rows: NDArray[np.float32], block: int) -> NDArray[np.float64]:
        """Score the rows of an image by the model without a block."""
        kept, model = self.models_[block]
        scores: NDArray[np.float64] = model.decision_function(rows[:, kept].astype(np.float64))
        return scores

    def _rows(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows (n, m, d) that n images give."""
        count, dimension = len(features), features.shape[3]
        patches = features.reshape(count, -1, dimension)
        if self.draws:
            return patches
        pooled = [
            (p.mean(axis=0, dtype=np.float64), p.std(axis=0, dtype=np.float64)) for p in patches
        ]
        return np.array(pooled, np.float32).reshape(count, 1, 2 * dimension)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["models_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self._learn_rows()


def _whole(scores: NDArray[np.float64]) -> PatchScores:
    """Return the scores (n, 1) of whole images."""
    return PatchScores(np.zeros((len(scores), 1, 1), np.float32), scores[:, 0])


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    said = f"did you mean {', '.join(map(lower.__getitem__, near))}?"
    return f"unknown {kind} {name!r}; {said if near else 'known: ' + ', '.join(lower.values())}"

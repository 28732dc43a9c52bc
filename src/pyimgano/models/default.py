"""The default: near patches by hand and by network, places and the whole image, in one score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.features.handcrafted import CHANNELS
from pyimgano.groups import block_folds
from pyimgano.models._gaussian import fit_places, fit_whole, place_distances, whole_distances
from pyimgano.models._local_search import LocalSearch
from pyimgano.records import Evidence
from pyimgano.registry import Metadata
from pyimgano.threads import side_by_side
from pyimgano.views.align import Align

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.views.base import View

    Grids = dict[str, NDArray[np.float32]]

__all__ = ["Default"]

PLAIN, DEEP, PLACE, WHOLE = "handcrafted", "network", "place", "whole"
_AXES = {PLAIN: 48, DEEP: 64}
_SAMPLE = 60_000
_BATCH = 8
_LEAST = 1e-6
_FLOOR = 0.01
_NO_LEVEL = (0.0, 1.0, 0.0, 1.0)
_PRIOR_SPREAD, _PRIOR_COUNT = 0.1, 2
_USUAL = 0.75
"""Spreads above the median up to which the whole image says nothing."""


class _Model(NamedTuple):
    """What images are compared with."""

    near: dict[str, LocalSearch]
    places: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    whole: tuple[NDArray[np.float64], NDArray[np.float64]]


class _Learned:
    axes_: Grids
    origins_: Grids
    held_: PatchScores | None
    kept_: NDArray[np.int64]
    levels_: dict[str, tuple[float, float, float, float]]
    model_: _Model


@DETECTORS.register(
    "vision_default",
    Metadata(
        summary="Near patches, places and the whole image in one score; decides well untuned.",
        paper="parts: Defard et al., PaDiM, ICPR 2021; Ledoit and Wolf, JMVA 2004",
    ),
)
@dataclass(kw_only=True, eq=False)
class Default(_Learned, FeatureDetector):
    """A fusion of what is good at small defects, at misplaced ones and at large ones.

    Each member measures a distance to the good images: ``handcrafted`` and ``network`` that of a
    patch to the nearest good patch within ``reach`` cells of its place, in principal axes of the
    handcrafted channels and of the network's; ``place`` the Mahalanobis distance to the Gaussian
    at the place (PaDiM); ``whole`` that of the mean of all cells, in all channels (covariance
    shrunk as by Ledoit and Wolf). Of a map, the mean of its highest
    ``top`` share counts. So many spreads as the logarithm lies above the median of the good images
    out of sample, so much does a member say. The score is the mean of what they say of patches,
    plus ``whole`` times what the whole image says beyond 0.75: it adds where it stands out, and
    takes nothing away. The map is that of the network's patches, or of the handcrafted ones.

    Axes, and median and spread of each member, are all that out-of-sample scores share with the
    images they are scored without.

    Parameters
    ----------
    reach : int
        Cells by which a patch may be displaced.
    top : float
        Share of the cells that makes a member's score.
    whole : float
        Weight of the whole image, where it stands out.
    max_images : int
        Good images whose patches are kept, evenly chosen; all of them take part in the threshold.
    view : View
        By default parts that lie at any angle are turned to one, if that makes the good images
        alike; see `Align`.
    """

    best_first: ClassVar[tuple[str, ...]] = ("fused_lite0", "handcrafted")

    reach: int = 2
    top: float = 0.01
    whole: float = 0.35
    max_images: int = 128
    view: View = field(default_factory=Align)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.reach < 0 or self.max_images < 2:
            raise ParameterError(
                "reach must not be negative and max_images at least 2: "
                f"reach={self.reach}, max_images={self.max_images}"
            )
        if not 0 < self.top <= 1 or not 0 <= self.whole < math.inf:
            raise ParameterError(
                f"top is a share in (0, 1], whole a weight of 0 or more: top={self.top}, "
                f"whole={self.whole}"
            )

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        n = len(features)
        if len(np.unique(blocks)) == 1:  # the levels want scores out of sample all the same
            blocks = block_folds([None] * n, self.folds)
        kept = np.unique(np.linspace(0, n - 1, min(n, self.max_images)).round().astype(np.int64))
        self.kept_ = kept
        self._learn_axes(features[kept])
        seen, vectors = self._seen(features[kept]), _vectors(features)
        self.levels_ = {}
        found: dict[str, NDArray[Any]] = {}
        for block in np.unique(blocks) if n > 1 else ():
            held = blocks == block
            model = self._compare({k: v[~held[kept]] for k, v in seen.items()}, vectors[~held])
            for name, part in self._measure(features[held], model).items():
                found.setdefault(name, np.empty((n, *part.shape[1:]), part.dtype))[held] = part
        self.levels_ = {name: _levels(self._top(part), part) for name, part in found.items()}
        self.held_ = self._fuse(found) if found else None
        self.model_ = self._compare(seen, vectors)

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:  # noqa: ARG002
        held: PatchScores = vars(self).pop("held_")
        return held

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        return self._fuse(self._measure(features, self.model_))

    # What the members see -------------------------------------------------------------------

    def _learn_axes(self, features: NDArray[np.float32]) -> None:
        self.origins_, self.axes_ = {}, {}
        for name, values in self._families(features).items():
            rows = values.reshape(-1, values.shape[-1])
            rows = rows[:: -(-len(rows) // _SAMPLE)].astype(np.float64)
            origin = rows.mean(axis=0)
            _, axes = np.linalg.eigh((rows - origin).T @ (rows - origin))
            self.origins_[name] = origin.astype(np.float32)
            self.axes_[name] = np.ascontiguousarray(axes[:, -_AXES[name] :]).astype(np.float32)

    def _families(self, features: NDArray[np.float32]) -> Grids:
        """Split standardised features (..., d) into what each kind of member sees."""
        named = self.extractor_.fingerprint.startswith(("handcrafted", "fused_lite0"))
        cut = len(CHANNELS) if named else 0
        families = {PLAIN: features[..., :cut], DEEP: features[..., cut:]}
        return {name: values for name, values in families.items() if values.shape[-1]}

    def _seen(self, features: NDArray[np.float32]) -> Grids:
        families = self._families(features).items()
        seen: Grids = {
            name: np.matmul(values - self.origins_[name], self.axes_[name], dtype=np.float32)
            for name, values in families
        }
        if DEEP in seen:
            seen[PLACE] = _smoothed(seen[DEEP])
        return seen

    def _compare(self, seen: Grids, vectors: NDArray[np.float64]) -> _Model:
        """Learn from what is seen of some images; rounded as the model file will hold it."""
        near = {
            name: LocalSearch.of(values.astype(np.float16).astype(np.float32), self.reach)
            for name, values in seen.items()
            if name != PLACE
        }
        places = fit_places(seen[PLACE], _FLOOR) if PLACE in seen else None
        return _Model(near, places, fit_whole(vectors))

    def _measure(self, features: NDArray[np.float32], model: _Model) -> dict[str, NDArray[Any]]:
        """Return the map (n, h, w) of each member, and (n,) of the whole image."""
        parts = []
        for start in range(0, len(features), _BATCH):
            seen = self._seen(features[start : start + _BATCH])
            part = {name: one.distances(seen[name]) for name, one in model.near.items()}
            if model.places is not None:
                part[PLACE] = place_distances(seen[PLACE], model.places, _FLOOR)
            parts.append(part)
        found: dict[str, NDArray[Any]] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        found[WHOLE] = whole_distances(_vectors(features), model.whole)
        return found

    # How they agree -------------------------------------------------------------------------

    def _top(self, part: NDArray[Any]) -> NDArray[np.float64]:
        """Return the logarithm of what counts of a member: (n, h, w) or (n,) to (n,)."""
        if part.ndim > 1:
            count = max(1, round(self.top * part[0].size))
            flat = np.stack([self._smooth(one) for one in part]).reshape(len(part), -1)
            part = np.partition(flat, -count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64)
        return np.asarray(np.log(np.maximum(part, _LEAST)), np.float64)

    def _smooth(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        import cv2

        if not self.sigma:
            return part
        y, x = (self.sigma * n / side for n, side in zip(part.shape, self.input_size_, strict=True))
        blurred: NDArray[np.float32] = cv2.GaussianBlur(
            part, (0, 0), x, sigmaY=y, borderType=cv2.BORDER_REFLECT_101
        )
        return blurred

    def _says(self, name: str, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return by how many spreads a member lies above the median of the goods, (n,)."""
        middle, spread, _, _ = self.levels_.get(name, _NO_LEVEL)
        return (self._top(values) - middle) / spread

    def _stands(self, name: str, part: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a member's map in spreads above the median of the good patches."""
        _, _, at, by = self.levels_.get(name, _NO_LEVEL)
        return (part - np.float32(at)) / np.float32(by)

    def _fuse(self, found: Mapping[str, NDArray[Any]]) -> PatchScores:
        says = {name: self._says(name, part) for name, part in found.items()}
        whole = np.maximum(says.pop(WHOLE) - _USUAL, 0)
        scores = np.mean(list(says.values()), axis=0) + self.whole * whole
        drawn = DEEP if DEEP in found else PLAIN
        return PatchScores(self._stands(drawn, found[drawn]), np.asarray(scores))

    def _explain(
        self, image: NDArray[np.uint8], places: Sequence[tuple[float, float]]
    ) -> list[Evidence]:
        features = self._standardise(self._embed([image]))
        grid = features.shape[1], features.shape[2]
        found, seen = self._measure(features, self.model_), self._seen(features)
        whole = self._says(WHOLE, found[WHOLE])
        name = DEEP if DEEP in seen else PLAIN
        near = self.model_.near[name]
        result = []
        for cell in (self._cell_at(place, grid) for place in places):
            image_of, row, column = near.nearest(seen[name][0][cell], cell)
            parts = {
                member: float(self._stands(member, part)[0][cell])
                for member, part in found.items()
                if member != WHOLE
            }
            result.append(
                Evidence(
                    box=self._box_of(cell, grid, 0),
                    distance=float(found[name][0][cell]),
                    good=int(self.kept_[image_of]),
                    good_box=self._box_of((row, column), grid, 0),
                    parts={**parts, "whole image": float(whole[0])},
                )
            )
        return result

    # The file -------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        state.pop("held_", None)
        model: _Model = state.pop("model_")
        for name in self.axes_:
            state[f"near_{name}_"] = model.near[name].bank.astype(np.float16)
            state[f"axes_{name}_"] = self.axes_[name]
            state[f"origin_{name}_"] = self.origins_[name]
        del state["axes_"], state["origins_"]
        if model.places is not None:
            state["place_mean_"], state["place_whitener_"] = model.places
        state["whole_mean_"], state["whole_whitener_"] = model.whole
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        names = [name for name in _AXES if f"axes_{name}_" in state]
        self.axes_ = {name: state.pop(f"axes_{name}_") for name in names}
        self.origins_ = {name: state.pop(f"origin_{name}_") for name in names}
        banks = [state.pop(f"near_{name}_") for name in names]
        found = side_by_side(partial(_search, reach=self.reach), banks)
        near = dict(zip(names, found, strict=True))
        places = None
        if "place_mean_" in state:
            places = state.pop("place_mean_"), state.pop("place_whitener_")
        self.model_ = _Model(near, places, (state.pop("whole_mean_"), state.pop("whole_whitener_")))
        super()._restore(state)


def _search(bank: NDArray[np.float16], reach: int) -> LocalSearch:
    return LocalSearch.of(bank.astype(np.float32).transpose(2, 0, 1, 3), reach)


def _vectors(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of all cells, (n, d)."""
    return np.asarray(features.mean(axis=(1, 2), dtype=np.float64))


def _smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average (n, h, w, d) over 3 x 3 cells, the border repeated."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    means: NDArray[np.float32] = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    means /= np.float32(9)
    return means


def _levels(logs: NDArray[np.float64], part: NDArray[Any]) -> tuple[float, float, float, float]:
    """Return median and upper spread of the logarithms, and of the values of a map.

    A few goods say little of a spread: it is drawn towards one that is usual.
    """
    middle = float(np.median(logs))
    above = np.maximum(logs - middle, 0)
    count = np.count_nonzero(above) + _PRIOR_COUNT
    spread = float(np.sqrt((np.sum(above**2) + _PRIOR_COUNT * _PRIOR_SPREAD**2) / count))
    values = part.ravel()[:: -(-part.size // _SAMPLE)].astype(np.float64)
    at = float(np.median(values))
    high = values[values > at] - at
    by = float(np.sqrt(np.mean(high**2))) if high.size else 1.0
    return middle, spread, at, by

"""The default: near patches by hand and by network, places and the whole image, in one score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.groups import block_folds
from pyimgano.models._anywhere import Anywhere
from pyimgano.models._gaussian import fit_places, fit_whole, place_distances, whole_distances
from pyimgano.models._local_search import LocalSearch
from pyimgano.models._seeing import AROUND, AXES, DEEP, PLACE, PLAIN, mean_cells
from pyimgano.models._voting import ANYWHERE, WHOLE, Voting
from pyimgano.records import Evidence
from pyimgano.registry import Metadata
from pyimgano.threads import side_by_side
from pyimgano.views.align import Align

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.feature_detector import PatchScores
    from pyimgano.models._seeing import Grids
    from pyimgano.views.base import View

__all__ = ["Default"]

_MOST, _ASKED = 0.5, 32
_BATCH = 8
_FLOOR = 0.01


class _Model(NamedTuple):
    """What images are compared with."""

    near: dict[str, LocalSearch]
    places: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    whole: tuple[NDArray[np.float64], NDArray[np.float64]]


class _Learned:
    held_: PatchScores | None
    kept_: NDArray[np.int64]
    model_: _Model
    loose_: dict[str, Anywhere]
    loose_share_: float | None


@DETECTORS.register(
    "vision_default",
    Metadata(
        summary="Near patches, places and the whole image in one score; decides well untuned.",
        paper="parts: Defard et al., PaDiM, ICPR 2021; Ledoit and Wolf, JMVA 2004",
    ),
)
@dataclass(kw_only=True, eq=False)
class Default(_Learned, Voting):
    """A fusion of what is good at small defects, at misplaced ones and at large ones.

    Each member measures a distance to the good images: ``handcrafted`` and ``network`` that of a
    patch to the nearest good patch within ``reach`` cells of its place, in principal axes of the
    handcrafted channels and of the network's; ``place`` the Mahalanobis distance to the Gaussian
    at the place (PaDiM); ``whole`` that of the mean of all cells, in all channels (covariance
    shrunk as by Ledoit and Wolf). Of a map, the mean of its highest ``top`` share counts, less half
    of its median cell, in logarithms: how far the strangest part stands out of the image itself. So
    many spreads as this lies above the median of the good images out of sample, so much does a
    member say. The score is the mean of what they say of patches, the network's twice, plus
    ``whole`` times what the whole image says beyond 0.75, and ``throughout`` times what the median
    cells say beyond it: these add where an image is unusual all over, and take nothing away. The
    map is that of the network's patches, or of the handcrafted ones.

    Where parts lie loose, a place tells nothing: if most good images, out of sample, are nearer to
    a tenth of all patches than to those near by, ``network`` compares with that tenth, too, by
    patches averaged over their surroundings as in PatchCore, ``place`` is left out, and the median
    cell plays no part. The map is drawn from patches anywhere and near by, of which the latter and
    the handcrafted weigh half.

    Axes, and median and spread of each member, are all that out-of-sample scores share with the
    images they are scored without.

    Parameters
    ----------
    reach : int
        Cells by which a patch may be displaced.
    top : float
        Share of the cells that makes a member's score.
    whole, throughout : float
        Weights of the whole image and of the median cells, where they stand out.
    max_images : int
        Good images whose patches are kept, evenly chosen; all of them take part in the threshold.
    view : View
        By default parts that lie at any angle are turned to one, if that makes the good images
        alike; see `Align`.
    """

    best_first: ClassVar[tuple[str, ...]] = ("fused_lite0", "handcrafted")
    block_parts: ClassVar[int | None] = 16

    reach: int = 2
    top: float = 0.01
    whole: float = 0.35
    throughout: float = 1.0
    max_images: int = 128
    view: View = field(default_factory=Align)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.reach < 0 or self.max_images < 2:
            raise ParameterError(
                "reach must not be negative and max_images at least 2: "
                f"reach={self.reach}, max_images={self.max_images}"
            )
        weights = self.whole, self.throughout
        if not 0 < self.top <= 1 or not all(0 <= weight < math.inf for weight in weights):
            raise ParameterError(
                "top is a share in (0, 1], whole and throughout are weights of 0 or more: "
                f"top={self.top}, whole={self.whole}, throughout={self.throughout}"
            )

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        n = len(features)
        if len(np.unique(blocks)) == 1:  # the levels want scores out of sample all the same
            blocks = block_folds([None] * n, self.folds, self.block_parts)
        self.kept_ = kept = _evenly(n, self.max_images)
        self._learn_axes(features[kept])
        seen, vectors = self._seen(features[kept]), mean_cells(features)
        found: dict[str, NDArray[Any]] = {}
        for block in np.unique(blocks) if n > 1 else ():
            held = blocks == block
            model = self._compare({k: v[~held[kept]] for k, v in seen.items()}, vectors[~held])
            for name, part in self._measure(features[held], model).items():
                found.setdefault(name, np.empty((n, *part.shape[1:]), part.dtype))[held] = part
        self.loose_, self.loose_share_ = {}, self._share_loose(found, seen, blocks)
        if (self.loose_share_ or 0) > _MOST:
            around = self._surroundings(features[kept])
            self.loose_ = {k: Anywhere.of(v, blocks[kept], self.seed) for k, v in around.items()}
            found |= self._measure_loose(features, blocks)
            self._forget_places(found, seen)
        self._listen(found)
        self.held_ = self._fuse(found) if found else None
        self.model_ = self._compare(seen, vectors)

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:  # noqa: ARG002
        held: PatchScores = vars(self).pop("held_")
        return held

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        return self._fuse(self._all(features))

    def _all(self, features: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return self._measure(features, self.model_) | self._measure_loose(features)

    def learned(self) -> dict[str, str]:
        """Return in words what was learned, with what the map is drawn from."""
        facts = super().learned()
        share = vars(self).get("loose_share_")
        if share is not None:
            many = f"{100 * (share if self.loose_ else 1 - share):.0f} % of the good images"
            facts["map"] = (
                f"from good patches anywhere and near by; the former are nearer to {many}"
                if self.loose_
                else f"from good patches near by, which are nearer to {many} than any others"
            )
        return facts

    # What is measured -----------------------------------------------------------------------

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
        found[WHOLE] = whole_distances(mean_cells(features), model.whole)
        return found

    # Where a place tells nothing -------------------------------------------------------------

    def _share_loose(
        self, found: Mapping[str, NDArray[Any]], seen: Grids, blocks: NDArray[np.int64]
    ) -> float | None:
        """Return how many of the goods lie nearer to patches anywhere, out of sample."""
        if len(np.unique(blocks[self.kept_])) < 2:
            return None
        name = DEEP if DEEP in seen else PLAIN
        some = _evenly(len(self.kept_), _ASKED)
        asked = self.kept_[some]
        bank = Anywhere.of(seen[name], blocks[self.kept_], self.seed)
        anywhere = bank.distances(seen[name][some], blocks[asked])
        return float(np.mean(self._top(found[name][asked]) > self._top(anywhere)))

    def _measure_loose(
        self, features: NDArray[np.float32], blocks: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return maps (n, h, w) from patches anywhere, but for those of an image's own block."""
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for start in range(0, len(features), _BATCH) if self.loose_ else ():
            some = slice(start, start + _BATCH)
            for name, around in self._surroundings(features[some]).items():
                without = None if blocks is None else blocks[some]
                part = self.loose_[name].distances(around, without)
                parts.setdefault(ANYWHERE[name], []).append(part)
        return {name: np.concatenate(part) for name, part in parts.items()}

    def _forget_places(self, *given: dict[str, NDArray[Any]]) -> None:
        """Leave out the Gaussians of places, and what is seen for them."""
        for each in given:
            each.pop(PLACE, None)

    def _explain(
        self, image: NDArray[np.uint8], places: Sequence[tuple[float, float]]
    ) -> list[Evidence]:
        features = self._standardise(self._embed([image]))
        grid = features.shape[1], features.shape[2]
        found = self._all(features)
        whole = {"whole image": float(self._says(WHOLE, found.pop(WHOLE))[0])}
        if not self.loose_:
            whole["median cell"] = float(self._all_over(found)[0])
        name = DEEP if DEEP in self.axes_ else PLAIN
        loose = self.loose_.get(name)
        seen = (self._surroundings if loose else self._seen)(features)[name][0]
        drawn, reach = (ANYWHERE[name], AROUND[name] // 2) if loose else (name, 0)
        result = []
        for cell in (self._cell_at(place, grid) for place in places):
            if loose:
                image_of, other = loose.nearest(seen[cell])
                row, column = divmod(other, grid[1])
            else:
                image_of, row, column = self.model_.near[name].nearest(seen[cell], cell)
            parts = {m: float(self._stands(m, part)[0][cell]) for m, part in found.items()}
            result.append(
                Evidence(
                    box=self._box_of(cell, grid, reach),
                    distance=float(found[drawn][0][cell]),
                    good=int(self.kept_[image_of]),
                    good_box=self._box_of((row, column), grid, reach),
                    parts={**parts, **whole},
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
        for name, loose in state.pop("loose_").items():
            state[f"loose_{name}_"] = loose.bank.astype(np.float16)
            state[f"loose_{name}_origins_"] = loose.origins
        del state["axes_"], state["origins_"]
        if model.places is not None:
            state["place_mean_"], state["place_whitener_"] = model.places
        state["whole_mean_"], state["whole_whitener_"] = model.whole
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        names = [name for name in AXES if f"axes_{name}_" in state]
        self.axes_ = {name: state.pop(f"axes_{name}_") for name in names}
        self.origins_ = {name: state.pop(f"origin_{name}_") for name in names}
        self.loose_ = {
            name: Anywhere.again(state.pop(f"loose_{name}_"), state.pop(f"loose_{name}_origins_"))
            for name in names
            if f"loose_{name}_" in state
        }
        banks = [state.pop(f"near_{name}_") for name in names]
        again = side_by_side(partial(LocalSearch.again, reach=self.reach), banks)
        near = dict(zip(names, again, strict=True))
        places = None
        if "place_mean_" in state:
            places = state.pop("place_mean_"), state.pop("place_whitener_")
        self.model_ = _Model(near, places, (state.pop("whole_mean_"), state.pop("whole_whitener_")))
        super()._restore(state)


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))

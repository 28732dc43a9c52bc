"""PatchCore: distance to the nearest patch of a small memory of good patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.features.base import NamedChannels
from pyimgano.models._coreset import covering_of_blocks
from pyimgano.models._neighbourhood import check_neighbourhood, pooled
from pyimgano.models.knn_index import ApproximateIndex, NearestNeighborIndex, create_index
from pyimgano.records import Evidence
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

__all__ = ["PatchCore"]

NOBODY = -1
_LIGHT = ((0.85, 1.0), (1.15, 1.0), (1.0, 0.85), (1.0, 1.15))  # gain and gamma
_LEVELS = np.arange(256) / 255
_TABLES = [
    np.rint(255 * np.minimum(gain * _LEVELS, 1) ** gamma).astype(np.uint8) for gain, gamma in _LIGHT
]


class _Learned:
    bank_: NDArray[np.float32] | NDArray[np.float16]
    bank_blocks_: NDArray[np.int64]
    bank_origins_: NDArray[np.int32]
    n_rows_: int
    n_sampled_: int
    cover_radius_: float
    index_: NearestNeighborIndex


@DETECTORS.register(
    "vision_patchcore",
    Metadata(
        summary="Distance to the nearest patch of a memory of good patches; few assumptions.",
        paper="Roth et al., PatchCore, CVPR 2022, arXiv 2106.08265",
    ),
)
@dataclass(kw_only=True, eq=False)
class PatchCore(_Learned, FeatureDetector):
    """Nearest-neighbour distance of each patch to a coreset of the good patches.

    The memory is the union of the greedy k-center coresets of contiguous blocks of images
    (Roth et al., 2106.08265, section 3.2; a union of coresets covers at least as well as its worst
    part). So the out-of-sample score of a good image is its distance to the memory without its own
    block, and the deployed memory is exactly the one that was calibrated.

    Parameters
    ----------
    coreset : float
        Share of the patches that are kept, in (0, 1].
    neighbourhood : int
        Each layer is averaged over so many of its own cells square (odd; 1 leaves them alone;
        section 3.1).
    n_neighbors : int
        Nearest patches whose distances are averaged.
    reweight : int
        Neighbours b of the image score's re-weighting (equation 7); 0 takes the map's maximum.
    max_rows : int
        Patches at most, drawn evenly from all images, before the coreset is chosen.
    index : str
        A name for `create_index`.
    storage : {"float32", "float16"}
        How the memory is kept; float16 takes half the space in the model and beside the search, and
        more time (3 ns a number and batch). All distances, those of the threshold too, are to the
        rows as they are kept.
    light : bool
        Whether each good image is also learned brighter and darker, by gain and by gamma.
    """

    tileable: ClassVar[bool] = True

    coreset: float = 0.1
    neighbourhood: int = 3
    n_neighbors: int = 1
    reweight: int = 0
    max_rows: int = 200_000
    index: str = "auto"
    storage: str = "float32"
    light: bool = False

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not 0 < self.coreset <= 1:
            raise ParameterError(f"coreset is a share in (0, 1], got {self.coreset}")
        if self.storage not in {"float32", "float16"}:
            raise ParameterError(f"storage must be float32 or float16, got {self.storage!r}")
        check_neighbourhood(self.neighbourhood)
        if min(self.n_neighbors, self.max_rows) < 1 or self.reweight < 0 or self.reweight == 1:
            raise ParameterError(
                "n_neighbors and max_rows must be at least 1; reweight 0, or 2 and more (with one "
                f"neighbour equation 7 is always 0): {self}"
            )

    def _variants(self, images: Images) -> Iterable[Iterable[NDArray[np.uint8]]]:
        return [map(table.take, images) for table in _TABLES] if self.light else ()

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        n, height, width, dimension = features.shape
        shape = height * width, dimension
        cells = min(shape[0], max(1, self.max_rows // n))

        def patches_of(image: int) -> NDArray[np.float32]:
            one = features[image : image + 1]
            return pooled(one, self.neighbourhood, self.layers_).reshape(shape)

        chosen = covering_of_blocks(
            patches_of,
            shape,
            blocks,
            cells,
            self.coreset,
            self.seed,
            least=max(self.n_neighbors, self.reweight),
        )
        self.n_rows_, self.n_sampled_ = n * height * width, n * cells
        self.cover_radius_ = chosen.radius
        self.bank_ = self._kept(chosen.rows)
        self.bank_origins_ = chosen.origins.astype(np.int32)  # image, cell of its grid
        self.bank_origins_[:, 0] %= n // (1 + len(_TABLES) * self.light)  # variants are of images
        self.bank_blocks_ = blocks[self.bank_origins_[:, 0]]
        self._index()

    def _kept(self, rows: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.float16]:
        if self.storage == "float32":
            return rows
        with np.errstate(over="ignore"):
            halves = rows.astype(np.float16)
        if not np.isfinite(halves).all():
            raise InputError(
                f"features reach {np.abs(rows).max():.3g}, float16 only 65504: give storage=float32"
            )
        return halves

    def learned(self) -> dict[str, str]:
        """Return in words what was learned, with how well the memory covers the good patches."""
        facts = super().learned()
        known = vars(self)
        if "cover_radius_" in known:
            facts["memory"] = (
                f"{len(self.bank_)} of {self.n_rows_} patches as {self.bank_.dtype}; none of the "
                f"{self.n_sampled_} that were drawn lies farther than {self.cover_radius_:.4g} "
                "from the nearest of its block (cover radius)"
            )
        index = known.get("index_")
        if isinstance(index, ApproximateIndex):
            facts["neighbours"] = (
                f"approximate, by {self.index}: the nearest other is found of {index.recall_:.1%} "
                "of a sample of the memory (recall)"
            )
        return facts

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        return self._search(features, np.full(len(features), NOBODY, np.int64))

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        return PatchScores.joined(
            [self._search(features[i : i + 1], blocks[i : i + 1]) for i in range(len(features))]
        )

    def _search(self, features: NDArray[np.float32], without: NDArray[np.int64]) -> PatchScores:
        """Score images by the memory without the blocks that they may not see."""
        n, height, width, dimension = features.shape
        rows = pooled(features, self.neighbourhood, self.layers_).reshape(-1, dimension)
        exclude = np.repeat(without, height * width)
        distances, nearest = self.index_.kneighbors(rows, self.n_neighbors, exclude)
        maps = distances.mean(axis=1).astype(np.float32).reshape(n, height, width)
        if not self.reweight:
            return PatchScores(maps)
        worst = maps.reshape(n, -1).argmax(axis=1) + np.arange(n) * height * width
        return PatchScores(
            maps,
            self._reweighted(rows[worst], distances[worst, 0], nearest[worst, 0], without),
        )

    def _reweighted(
        self,
        patches: NDArray[np.float32],
        distances: NDArray[np.float64],
        nearest: NDArray[np.int64],
        without: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Equation 7: a patch whose neighbourhood in memory is sparse counts more."""
        _, around = self.index_.kneighbors(self.bank_[nearest], self.reweight, without)
        gaps = np.linalg.norm(patches[:, None].astype(np.float64) - self.bank_[around], axis=2)
        log_share = distances - np.logaddexp.reduce(gaps, axis=1)
        return np.asarray(-np.expm1(np.minimum(log_share, 0)) * distances)

    def _explain(
        self, image: NDArray[np.uint8], places: Sequence[tuple[float, float]]
    ) -> list[Evidence]:
        features = self._standardise(self._embed([image]))
        grid = features.shape[1], features.shape[2]
        rows = pooled(features, self.neighbourhood, self.layers_)[0]
        cells = [self._cell_at(place, grid) for place in places]
        patches = np.stack([rows[cell] for cell in cells])
        distances, nearest = self.index_.kneighbors(patches, 1)
        reach = self.neighbourhood // 2
        found = []
        for patch, cell, far, row in zip(
            patches, cells, distances[:, 0], nearest[:, 0], strict=True
        ):
            good, place = self.bank_origins_[row].tolist()
            found.append(
                Evidence(
                    box=self._box_of(cell, grid, reach),
                    distance=float(far),
                    good=good,
                    good_box=self._box_of(divmod(place, grid[1]), grid, reach),
                    shares=self._shares((patch - self.bank_[row]).astype(np.float64) ** 2),
                )
            )
        return found

    def _shares(self, squares: NDArray[np.float64]) -> dict[str, float]:
        """Return what each family of channels has of a squared distance, the most first."""
        extractor: object = self.extractor_
        if not isinstance(extractor, NamedChannels) or not squares.sum():
            return {}
        shares: dict[str, float] = {}
        for family, square in zip(extractor.families, squares.tolist(), strict=True):
            shares[family] = shares.get(family, 0.0) + square / float(squares.sum())
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _index(self) -> None:
        self.index_ = create_index(self.index).fit(self.bank_, self.bank_blocks_)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["index_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self._index()

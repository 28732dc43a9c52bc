"""SoftPatch: a memory of patches that forgets the outliers among them, for goods with defects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.models._coreset import greedy_k_center
from pyimgano.models._neighbourhood import check_neighbourhood, pooled
from pyimgano.models.knn_index import NearestNeighborIndex, create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SoftPatch", "outlier_factors"]

_FLOOR = 0.01  # of the distance of two patches drawn at random


class _Learned:
    bank_: NDArray[np.float32]
    weights_: NDArray[np.float64]
    index_: NearestNeighborIndex


@DETECTORS.register(
    "vision_softpatch",
    Metadata(
        summary="PatchCore that drops and weighs outlying patches; for goods that hold defects.",
        paper="Jiang et al., SoftPatch, NeurIPS 2022, arXiv 2403.14233",
    ),
)
@dataclass(kw_only=True, eq=False)
class SoftPatch(_Learned, FeatureDetector):
    """Distance to the nearest patch of a memory without its outliers, times that patch's weight.

    Every patch gets its local outlier factor among the patches at its position in all images; the
    largest ``noise`` of them are dropped before the coreset, and the factors of those that are left
    weigh the distances to them (Jiang et al., 2403.14233). The out-of-sample score of a good image
    is that of a memory that was denoised, chosen and weighted without its block of images.

    Parameters
    ----------
    noise : float
        Share of the patches that are dropped, in [0, 1).
    lof_neighbors : int
        Neighbours of the local outlier factor; more than there are defects of one kind at one
        place, or these vouch for each other. With few images all others.
    coreset : float
        Share of the patches that are left which is kept, in (0, 1].
    neighbourhood : int
        Each layer is averaged over so many of its own cells square (odd).
    max_rows : int
        Patches at most, drawn evenly from all images, before the coreset is chosen.
    index : str
        A name for `create_index`.

    Notes
    -----
    The threshold still comes from the good images as they are given. Defects among them raise it;
    beyond the few that count as suspects give ``contamination`` their share on top of the false
    rejects, or clean images as ``calibration``.

    Where images are equal in places, as in clipped light, a factor by definition has no bound; to
    every reach distance one per cent of that of two random patches is added.
    """

    noise: float = 0.15
    lof_neighbors: int = 6
    coreset: float = 0.1
    neighbourhood: int = 3
    max_rows: int = 200_000
    index: str = "auto"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_neighbourhood(self.neighbourhood)
        if not (0 <= self.noise < 1 and 0 < self.coreset <= 1):
            raise ParameterError(
                "noise is a share in [0, 1), coreset one in (0, 1]: "
                f"noise={self.noise}, coreset={self.coreset}"
            )
        if min(self.lof_neighbors, self.max_rows) < 1:
            raise ParameterError(
                "lof_neighbors and max_rows must be at least 1: "
                f"lof_neighbors={self.lof_neighbors}, max_rows={self.max_rows}"
            )

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        self.bank_, self.weights_ = self._remember(self._pooled(features), blocks)
        self._index()

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        patches = self._pooled(features)
        maps = np.empty(patches.shape[:3], np.float32)
        for block in np.unique(blocks):
            held = blocks == block
            bank, weights = self._remember(patches[~held], blocks[~held])
            index = create_index(self.index).fit(bank)
            maps[held] = _weighted(patches[held], index, weights)
        return PatchScores(maps)

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        return PatchScores(_weighted(self._pooled(features), self.index_, self.weights_))

    def _pooled(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return pooled(features, self.neighbourhood, self.layers_)

    def _remember(
        self, patches: NDArray[np.float32], blocks: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the memory of patches (n, h, w, d): rows (m, d), and their weights (m,)."""
        factors = _factors(patches, self.lof_neighbors)
        cells, limit = factors.shape[1], np.quantile(factors, 1 - self.noise)
        generator = np.random.default_rng(self.seed)
        most = max(1, self.max_rows // len(patches))
        rows, weights = patches.reshape(-1, patches.shape[3]), factors.ravel()
        chosen = []
        for block in np.unique(blocks):
            own = np.concatenate(
                [
                    i * cells + _drawn(np.flatnonzero(factors[i] <= limit), most, generator)
                    for i in np.flatnonzero(blocks == block)
                ]
            )
            if len(own):  # not all of them are defects
                count = math.ceil(self.coreset * len(own))
                chosen.append(own[greedy_k_center(rows[own], count, self.seed)])
        picked = np.concatenate(chosen)
        return rows[picked], weights[picked]

    def _index(self) -> None:
        self.index_ = create_index(self.index).fit(self.bank_)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["index_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self._index()


def _weighted(
    patches: NDArray[np.float32], index: NearestNeighborIndex, weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the distances (n, h, w) of patches, each times the weight of what it is nearest to."""
    distances, nearest = index.kneighbors(patches.reshape(-1, patches.shape[3]))
    scores = distances[:, 0] * weights[nearest[:, 0]]
    return scores.astype(np.float32).reshape(patches.shape[:3])


def _drawn(
    places: NDArray[np.int64], most: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    return places if len(places) <= most else np.sort(generator.permutation(places)[:most])


def _factors(patches: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Return the factors (n, h * w) of patches (n, h, w, d) among those at their position."""
    n, height, width, dimension = patches.shape
    k = min(k, n - 1)
    if k < 1:  # one image has no outliers
        return np.ones((n, height * width))
    floor = _FLOOR * math.sqrt(2 * dimension)  # channels have the deviation 1
    rows = [outlier_factors(patches[:, y].swapaxes(0, 1), k, floor).T for y in range(height)]
    return np.concatenate(rows, axis=1)


def outlier_factors(
    points: NDArray[np.floating[Any]], k: int, floor: float = 1e-10
) -> NDArray[np.float64]:
    """Return the local outlier factor of each point; about 1 where it is like its neighbours.

    Parameters
    ----------
    points : ndarray, shape (..., n, d)
        Sets of n points.
    k : int
        Neighbours, at least 1 and below n.
    floor : float
        Added to every mean reach distance, so that equal points are not infinitely dense.

    Returns
    -------
    ndarray of float64, shape (..., n)
        Mean density of a point's neighbours divided by its own (Breunig et al., SIGMOD 2000).

    Examples
    --------
    >>> outlier_factors(np.array([[0.0], [1.0], [2.0], [9.0]]), 2).round(1).tolist()
    [0.9, 1.3, 0.9, 4.4]
    """
    centred = points - points.mean(axis=-2, keepdims=True, dtype=np.float64)
    squared = np.einsum("...ij,...ij->...i", centred, centred)
    gaps = squared[..., None] + squared[..., None, :]
    gaps -= 2 * np.matmul(centred, centred.swapaxes(-1, -2))
    gaps = np.sqrt(np.maximum(gaps, 0))
    np.einsum("...ii->...i", gaps)[...] = np.inf
    nearest = np.argpartition(gaps, k - 1, axis=-1)[..., :k]
    near = np.take_along_axis(gaps, nearest, axis=-1)
    radius = np.broadcast_to(near.max(axis=-1)[..., None, :], gaps.shape)
    reach = np.maximum(near, np.take_along_axis(radius, nearest, axis=-1))
    density = 1 / (reach.mean(axis=-1) + floor)
    around = np.take_along_axis(
        np.broadcast_to(density[..., None, :], gaps.shape), nearest, axis=-1
    )
    return np.asarray(around.mean(axis=-1) / density)

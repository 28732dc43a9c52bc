"""A gallery: the good images most like this one, and the distance to their patches alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.models._neighbourhood import check_neighbourhood, pooled
from pyimgano.models._token_detector import check_choice
from pyimgano.models.knn_index import NearestNeighborIndex, create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KnnGallery"]

NOBODY = -1


class _Learned:
    patches_: NDArray[np.float32]
    embeddings_: NDArray[np.float32]
    blocks_: NDArray[np.int64]
    n_nearest_: int
    n_rows_: int
    n_sampled_: int
    shown_: _Shown


@DETECTORS.register(
    "vision_knn_gallery",
    Metadata(
        summary="Distance to the patches of the most similar good images; for parts of many kinds.",
        paper="Cohen and Hoshen, SPADE, arXiv 2005.02357",
    ),
)
@dataclass(kw_only=True, eq=False)
class KnnGallery(_Learned, FeatureDetector):
    """Nearest patches among those of the most similar good images (2005.02357).

    The images are those whose mean patch features lie nearest. So a patch that is good on one kind
    of part counts as a defect on another kind, where a single memory of all patches would let it
    pass. A good image's out-of-sample score is that of a gallery without its own block of images,
    in the choice of images and among their patches.

    Parameters
    ----------
    n_images : int
        Most similar images to compare with; if fewer are left when the block of an image is taken
        out, so many are compared with for every image.
    neighbourhood : int
        Each layer is averaged over so many of its own cells square (odd; 1 leaves them alone, as
        published).
    n_neighbors : int
        Nearest patches whose distances are averaged.
    score : str
        ``"map"``: the aggregated map; ``"image"``: the mean distance to the images themselves, as
        published. The map is the same. A small defect hardly moves an image's mean features: take
        ``"image"`` for deviations of the whole image alone.
    max_rows : int
        Patches at most, drawn evenly from all images.
    index : str
        A name for `create_index`.
    """

    n_images: int = 50
    neighbourhood: int = 1
    n_neighbors: int = 1
    score: str = "map"
    max_rows: int = 200_000
    index: str = "auto"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("score", self.score, ("map", "image"))
        check_neighbourhood(self.neighbourhood)
        if min(self.n_images, self.n_neighbors, self.max_rows) < 1:
            raise ParameterError(
                "n_images, n_neighbors and max_rows must be at least 1: "
                f"n_images={self.n_images}, n_neighbors={self.n_neighbors}, "
                f"max_rows={self.max_rows}"
            )

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        n, height, width, dimension = features.shape
        _, sizes = np.unique(blocks, return_counts=True)
        left = n - int(sizes.max()) if len(sizes) > 1 else n
        cells = min(height * width, max(1, self.max_rows // n))
        generator = np.random.default_rng(self.seed)
        self.patches_ = np.empty((n, cells, dimension), np.float32)
        self.embeddings_ = np.empty((n, dimension), np.float32)
        for i, image in enumerate(features):
            chosen = np.sort(generator.permutation(height * width)[:cells])
            self.patches_[i] = self._rows(image)[chosen]
            self.embeddings_[i] = _embedding(image)
        self.blocks_, self.n_nearest_ = blocks, min(self.n_images, left)
        self.n_rows_, self.n_sampled_ = n * height * width, n * cells
        self.shown_ = _Shown(self.patches_, self.index)

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        return PatchScores.joined([self._compare(image, NOBODY) for image in features])

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        pairs = zip(features, blocks.tolist(), strict=True)
        return PatchScores.joined([self._compare(image, block) for image, block in pairs])

    def _compare(self, image: NDArray[np.float32], without: int) -> PatchScores:
        """Score one image (h, w, d) by a gallery without a block."""
        seen = np.flatnonzero(self.blocks_ != without)
        gaps = self.embeddings_[seen].astype(np.float64) - _embedding(image)
        distances = np.sqrt(np.einsum("ij,ij->i", gaps, gaps))
        nearest = np.argsort(distances, kind="stable")[: self.n_nearest_]
        index = self.shown_.of(seen[nearest])
        found, _ = index.kneighbors(self._rows(image), self.n_neighbors)
        patches = found.mean(axis=1).astype(np.float32).reshape(1, *image.shape[:2])
        score = np.array([distances[nearest].mean()]) if self.score == "image" else None
        return PatchScores(patches, score)

    def _rows(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the patches (h * w, d) of an image (h, w, d)."""
        return pooled(image[None], self.neighbourhood, self.layers_).reshape(-1, image.shape[2])

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["shown_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.shown_ = _Shown(self.patches_, self.index)


class _Shown:
    """The index of the patches (n, cells, d) of the images that were asked for last.

    Where the gallery is small, or a block is judged, the next image asks for the same ones.
    """

    def __init__(self, patches: NDArray[np.float32], index: str) -> None:
        self._patches, self._name = patches, index
        self._last: tuple[bytes, NearestNeighborIndex] | None = None

    def of(self, images: NDArray[np.int64]) -> NearestNeighborIndex:
        images = np.sort(images)
        last = self._last
        if last is None or last[0] != images.tobytes():
            whole = len(images) == len(self._patches)
            rows = self._patches if whole else self._patches[images]
            index = create_index(self._name).fit(rows.reshape(-1, rows.shape[2]))
            last = self._last = images.tobytes(), index
        return last[1]


def _embedding(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean (d,) of the patches (h, w, d) of an image."""
    mean: NDArray[np.float64] = image.mean(axis=(0, 1), dtype=np.float64)
    return mean.astype(np.float32)

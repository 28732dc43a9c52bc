"""PaDiM: a Gaussian of patch features at every position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.models._gaussian import fit_places, held_out_distances, is_few, place_distances
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PaDiM"]


class _Learned:
    channels_: NDArray[np.int64]
    mean_: NDArray[np.float32]
    whitener_: NDArray[np.float32]


@DETECTORS.register(
    "vision_padim",
    Metadata(
        summary="Gaussian of patch features at every position; for parts that lie in place.",
        paper="Defard et al., PaDiM, ICPR 2021, arXiv 2011.08785",
    ),
)
@dataclass(kw_only=True, eq=False)
class PaDiM(_Learned, FeatureDetector):
    """Mahalanobis distance of each patch to the good patches at its position.

    The mean and the unbiased covariance + ``regularisation`` I of a random choice of channels
    (Defard et al., 2011.08785, sections III-A and III-B); the score is the maximum of the map.

    Parameters
    ----------
    n_channels : int
        Channels chosen at random; all of them if the extractor has no more.
    regularisation : float
        Added to the diagonal of the covariance of the standardised features.
    """

    n_channels: int = 100
    regularisation: float = 0.01

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.n_channels < 1 or not self.regularisation > 0:
            raise ParameterError(
                "n_channels must be at least 1 and regularisation positive: "
                f"n_channels={self.n_channels}, regularisation={self.regularisation}"
            )

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:  # noqa: ARG002
        _check_count(len(features))
        dimension = features.shape[3]
        draw = np.random.default_rng(self.seed).permutation(dimension)
        self.channels_ = np.sort(draw[: self.n_channels]).astype(np.int64)
        chosen = features[..., self.channels_]
        self.mean_, self.whitener_ = fit_places(chosen, self.regularisation)

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        chosen = features[..., self.channels_]
        return PatchScores(
            place_distances(chosen, (self.mean_, self.whitener_), self.regularisation)
        )

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        fewest = len(features) - int(np.unique(blocks, return_counts=True)[1].max())
        _check_count(fewest)
        if is_few(fewest, len(self.channels_)):
            return super()._held_out(features, blocks)
        chosen = features[..., self.channels_]
        return PatchScores(held_out_distances(chosen, blocks, self.regularisation))


def _check_count(images: int) -> None:
    if images < 2:
        raise InputError(
            "vision_padim needs at least two good images to learn a covariance, and three to "
            "set a threshold from them"
        )

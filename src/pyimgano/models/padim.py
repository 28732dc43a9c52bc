"""PaDiM: a Gaussian of patch features at every position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
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
        from scipy.linalg import lapack

        n, height, width, dimension = features.shape
        if n < 2:
            raise InputError(
                "vision_padim needs at least two good images to learn a covariance, and three to "
                "set a threshold from them"
            )
        count = min(self.n_channels, dimension)
        draw = np.random.default_rng(self.seed).permutation(dimension)[:count]
        self.channels_ = np.sort(draw).astype(np.int64)
        chosen = features[..., self.channels_]
        # In C order, as after loading: the order decides how sums are rounded.
        self.mean_ = chosen.mean(axis=0, dtype=np.float64).astype(np.float32, order="C")
        self.whitener_ = np.empty((height, width, count, count), np.float32)
        floor = self.regularisation * np.eye(count)
        for row in range(height):
            centred = (chosen[:, row] - self.mean_[row]).transpose(1, 2, 0)
            covariance = np.matmul(centred, centred.transpose(0, 2, 1)) / np.float64(n - 1)
            for column, lower in enumerate(np.linalg.cholesky(covariance + floor)):
                self.whitener_[row, column] = lapack.dtrtri(lower, lower=1)[0]

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        maps = np.empty(features.shape[:3], np.float32)
        for row, whitener in enumerate(self.whitener_):
            centred = features[:, row][..., self.channels_] - self.mean_[row]
            white = np.matmul(centred.transpose(1, 0, 2), whitener.transpose(0, 2, 1))
            maps[:, row] = np.sqrt(np.einsum("wnd,wnd->nw", white, white))
        return PatchScores(maps)

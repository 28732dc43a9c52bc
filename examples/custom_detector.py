"""A detector in one file: the distance of each patch from the subspace of the good patches."""

from dataclasses import dataclass

import numpy as np

import pyimgano
from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector, PatchScores
from pyimgano.registry import Metadata


@DETECTORS.register("vision_residual", Metadata(summary="Residual of patches after PCA."))
@dataclass(kw_only=True, eq=False)
class Residual(FeatureDetector):
    """Fields are parameters; what ends in an underscore is learned, and saved with the model.

    Parameters
    ----------
    explained : float
        Share of the variance of the good patches that the subspace holds, in (0, 1).
    """

    explained: float = 0.95

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not 0 < self.explained < 1:
            raise ParameterError(f"explained is a share in (0, 1), got {self.explained}")

    def _fit_features(self, features, blocks) -> None:
        """Learn from standardised features, float32 (n, h, w, d); the blocks are not needed."""
        rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
        self.mean_ = rows.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(rows - self.mean_, rowvar=False))
        share = np.cumsum(values[::-1]) / values.sum()
        kept = int(np.searchsorted(share, self.explained)) + 1
        self.basis_ = vectors[:, ::-1][:, :kept]

    def _score_features(self, features) -> PatchScores:
        """Score each image by itself: maps, float32 (n, h, w); the base class does the rest."""
        centred = features - self.mean_
        residual = centred - (centred @ self.basis_) @ self.basis_.T
        return PatchScores(np.linalg.norm(residual, axis=-1).astype(np.float32))


if __name__ == "__main__":
    from pyimgano.synthesis import plant, render_part

    made = [render_part(np.random.default_rng(i), (128, 128)) for i in range(25)]
    detector = pyimgano.fit(
        [part.image for part in made[:24]],
        detector="vision_residual",
        extractor="handcrafted",
        size=128,
    )
    marred, _ = plant(made[24].image, made[24].mask, "fibre", np.random.default_rng(0), severity=2)
    print("good, marred:", detector.decision_function([made[24].image, marred]).round(2))

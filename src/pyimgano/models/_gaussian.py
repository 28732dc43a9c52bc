"""Gaussians of features: one at every place, or one of whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = tuple[NDArray[np.float32], NDArray[np.float32]]
    Whole = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = ["fit_places", "fit_whole", "place_distances", "whole_distances"]


def fit_places(features: NDArray[np.float32], regularisation: float) -> Places:
    """Return means (h, w, d) and whiteners (h, w, d, d) of features (n, h, w, d) at every place.

    A whitener is the inverse of the lower Cholesky factor of the unbiased covariance +
    ``regularisation`` I (Defard et al., 2011.08785, section III-B).
    """
    from scipy.linalg import lapack

    n, height, width, count = features.shape
    # In C order, as after loading: the order decides how sums are rounded.
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32, order="C")
    whitener = np.empty((height, width, count, count), np.float32)
    floor = regularisation * np.eye(count)
    for row in range(height):
        centred = (features[:, row] - mean[row]).transpose(1, 2, 0)
        covariance = np.matmul(centred, centred.transpose(0, 2, 1)) / np.float64(max(n - 1, 1))
        for column, lower in enumerate(np.linalg.cholesky(covariance + floor)):
            whitener[row, column] = lapack.dtrtri(lower, lower=1)[0]
    return mean, whitener


def place_distances(features: NDArray[np.float32], places: Places) -> NDArray[np.float32]:
    """Return the Mahalanobis distances (n, h, w) of features (n, h, w, d)."""
    mean, whitener = places
    maps = np.empty(features.shape[:3], np.float32)
    for row, turned in enumerate(whitener):
        centred = features[:, row] - mean[row]
        white = np.matmul(centred.transpose(1, 0, 2), turned.transpose(0, 2, 1))
        maps[:, row] = np.sqrt(np.einsum("wnd,wnd->nw", white, white))
    return maps


def fit_whole(vectors: NDArray[np.float64]) -> Whole:
    """Return mean (d,) and whitener (d, d) of vectors (n, d), the covariance shrunk.

    It is drawn towards a multiple of the identity by the share that Ledoit and Wolf (Journal of
    Multivariate Analysis 88, 2004) derive; vectors that do not differ are only centred.
    """
    n, d = vectors.shape
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    covariance = centred.T @ centred / n
    level = float(np.trace(covariance)) / d
    if level <= 0:
        return mean, np.eye(d)
    spread = float((covariance**2).sum()) - d * level**2
    squares = centred**2
    noise = (float((squares.T @ squares).sum()) / n - float((covariance**2).sum())) / n
    share = min(max(noise, 0) / spread, 1) if spread > 0 else 1.0
    energies, axes = np.linalg.eigh((1 - share) * covariance + share * level * np.eye(d))
    return mean, axes / np.sqrt(np.maximum(energies, 1e-6 * level))


def whole_distances(vectors: NDArray[np.float64], whole: Whole) -> NDArray[np.float64]:
    """Return the Mahalanobis distances (n,) of vectors (n, d)."""
    return np.asarray(np.linalg.norm((vectors - whole[0]) @ whole[1], axis=1))

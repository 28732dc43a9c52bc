"""Gaussians of features: one at every place, or one of whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.threads import side_by_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = tuple[NDArray[np.float32], NDArray[np.float32]]
    Whole = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = [
    "fit_places",
    "fit_whole",
    "held_out_distances",
    "is_few",
    "place_distances",
    "whole_distances",
]

_AT_ONCE = 1 << 25  # bytes of products of blocks
_TOGETHER = 8  # places whose matrices stay in the cache from one step to the next
_SMALL = 50  # channels up to which LAPACK inverts a triangle at once
_FEW = 4  # channels to one image from which on the directions of the images take less room


def is_few(images: int, channels: int) -> bool:
    """Tell whether a Gaussian of so many images is kept as their directions alone."""
    return _FEW * images <= channels


def fit_places(features: NDArray[np.float32], regularisation: float) -> Places:
    """Return means (h, w, d) and whiteners of features (n, h, w, d) at every place.

    A whitener (h, w, d, d) is the inverse of the lower Cholesky factor of the unbiased covariance +
    ``regularisation`` I (Defard et al., 2011.08785, section III-B). Of at most d / 4 images it is
    (h, w, 2 n, d) and means the same: the whitener of the n directions in which they differ, and
    these directions; across them there is the regularisation alone.
    """
    n, height, width, count = features.shape
    # In C order, as after loading: the order decides how sums are rounded.
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32, order="C")
    few = is_few(n, count)
    whitener = np.empty((height, width, 2 * n if few else count, count), np.float32)
    whitened = _of_few if few else _of_many

    def learn(row: int) -> None:
        centred = (features[:, row] - mean[row]).transpose(1, 2, 0)
        whitened(centred, regularisation, whitener[row])

    side_by_side(learn, range(height))
    return mean, whitener


def _of_many(
    centred: NDArray[np.float32], regularisation: float, whitener: NDArray[np.float32]
) -> None:
    _, count, n = centred.shape
    for start in range(0, len(centred), _TOGETHER):
        some = centred[start : start + _TOGETHER]
        covariance = np.matmul(some, some.transpose(0, 2, 1)) / np.float64(max(n - 1, 1))
        covariance[:, range(count), range(count)] += regularisation
        inverse = np.zeros_like(covariance)
        _invert(np.linalg.cholesky(covariance), inverse)
        whitener[start : start + _TOGETHER] = inverse


def _invert(lower: NDArray[np.float64], inverse: NDArray[np.float64]) -> None:
    """Write the inverses of lower triangles (w, d, d), by halves: LAPACK's is slow beyond them."""
    from scipy.linalg import lapack

    count = lower.shape[1]
    if count <= _SMALL:
        for one, inverted in zip(lower, inverse, strict=True):
            inverted[:] = lapack.dtrtri(one.T)[0].T  # what LAPACK need not copy
        return
    half = count // 2
    first, last = inverse[:, :half, :half], inverse[:, half:, half:]
    _invert(lower[:, :half, :half], first)
    _invert(lower[:, half:, half:], last)
    np.matmul(np.matmul(-last, lower[:, half:, :half]), first, out=inverse[:, half:, :half])


def _of_few(
    centred: NDArray[np.float32], regularisation: float, whitener: NDArray[np.float32]
) -> None:
    n = centred.shape[2]
    axes, inside = np.linalg.qr(centred.astype(np.float64))
    covariance = inside @ inside.transpose(0, 2, 1) / max(n - 1, 1) + regularisation * np.eye(n)
    axes = axes.transpose(0, 2, 1)
    whitener[:, :n] = np.linalg.solve(np.linalg.cholesky(covariance), axes)
    whitener[:, n:] = axes


def place_distances(
    features: NDArray[np.float32], places: Places, regularisation: float
) -> NDArray[np.float32]:
    """Return the Mahalanobis distances (n, h, w) of features (n, h, w, d).

    ``regularisation`` is that of `fit_places`.
    """
    mean, whitener = places
    few = whitener.shape[2] // 2 if whitener.shape[2] < whitener.shape[3] else 0
    maps = np.empty(features.shape[:3], np.float32)

    def measure(row: int) -> None:
        turned = whitener[row]
        centred = (features[:, row] - mean[row]).transpose(1, 0, 2)
        white = np.matmul(centred, turned.transpose(0, 2, 1))
        if few:
            across = centred - np.matmul(white[..., few:], turned[:, few:])
            white = white[..., :few]
            rest = np.einsum("wnd,wnd->nw", across, across) / np.float32(regularisation)
        squared = np.einsum("wnd,wnd->nw", white, white)
        maps[:, row] = np.sqrt(squared + rest if few else squared)

    side_by_side(measure, range(len(whitener)))
    return maps


def held_out_distances(
    features: NDArray[np.float32], blocks: NDArray[np.int64], regularisation: float
) -> NDArray[np.float32]:
    """Return the distances (n, h, w) of each image to the Gaussians of the other blocks' images.

    They are those of `place_distances` after a `fit_places` without the block, but for rounding;
    what the images of a block add to the sums is taken off them instead of summing up the others.
    """
    _, height, width, count = features.shape
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    maps = np.empty(features.shape[:3], np.float32)
    step = max(1, _AT_ONCE // (8 * count**2 * len(members)))

    def measure(at: tuple[int, int]) -> None:
        row, columns = at[0], slice(at[1], at[1] + step)
        centred = (features[:, row, columns] - mean[row, columns]).transpose(1, 0, 2)
        parts = [centred[:, each] for each in members]
        sums = np.stack([part.sum(axis=1, dtype=np.float64) for part in parts])
        products = np.stack([np.matmul(part.transpose(0, 2, 1), part) for part in parts])
        total = products.sum(axis=0, dtype=np.float64)
        for each, part, own, product in zip(members, parts, sums, products, strict=True):
            rest = len(features) - len(each)
            middle = (sums.sum(axis=0) - own) / rest
            covariance = (total - product - rest * middle[:, :, None] * middle[:, None]) / (
                max(rest - 1, 1)
            )
            covariance[:, range(count), range(count)] += regularisation
            maps[each, row, columns] = _lengths(covariance, part - middle[:, None])

    starts = range(0, width, step)
    side_by_side(measure, [(row, start) for row in range(height) for start in starts])
    return maps


def _lengths(covariance: NDArray[np.float64], centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Mahalanobis distances (m, w) of vectors (w, m, d) by covariances (w, d, d)."""
    from scipy.linalg import lapack

    found = np.empty((centred.shape[1], len(centred)))
    for column, lower in enumerate(np.linalg.cholesky(covariance)):
        white = lapack.dtrtrs(lower.T, centred[column].T, trans=1)[0]
        found[:, column] = np.sqrt((white**2).sum(axis=0))
    return found


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

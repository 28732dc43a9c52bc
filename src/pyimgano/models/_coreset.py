"""Greedy k-center: the rows that cover all others within the smallest radius that greed finds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.models._bounds import as_rows, centred
from pyimgano.models._exact_search import NOBODY, Bank, search
from pyimgano.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from pyimgano.models._bounds import Rows
    from pyimgano.models._exact_search import Indices

__all__ = [
    "Covering",
    "cover_radius",
    "covering",
    "covering_of_blocks",
    "greedy_k_center",
    "random_projection",
]

_CANDIDATES = 512
_TILE = 2048
_FARTHEST = 64
_PRODUCT_ELEMENTS = 1 << 20
# Below this share of the mean squared norm a float32 product no longer ranks squared distances;
# below this share of its own, a row is a copy of a centre as far as a float64 product can tell.
_FLOAT32_REACH = 1e-3
_FLOAT64_NOISE = 1e-13


def greedy_k_center(features: ArrayLike, k: int, seed: int) -> NDArray[np.int64]:
    """Choose k rows, each the farthest from those chosen before.

    The distances to the centres are kept stale: among the candidates that look farthest, a pick
    is the true greedy pick as long as it is no nearer than every other row looked before, so one
    matrix product serves a whole batch of picks instead of one.

    Parameters
    ----------
    features : array, shape (n, d)
        The rows to choose from. Memory: one float32 copy (float64 where the chosen rows come so
        close together that float32 cannot rank them) and small buffers.
    k : int
        How many to choose; at n and above all rows are returned.
    seed : int
        Draws the first row.

    Returns
    -------
    ndarray of int64, shape (min(k, n),)
        Distinct row indices in the order of choice. Rows at equal distance (to the rounding of
        the product) are chosen in no stated order.

    Raises
    ------
    InputError
        If the features are empty, not a matrix or not finite.
    ParameterError
        If k is less than 1.

    Notes
    -----
    Gonzalez, Clustering to minimize the maximum intercluster distance, 1985: the radius is at
    most twice the smallest possible. PatchCore (arXiv 2106.08265, section 3.2) selects on a
    `random_projection` to 128 columns.

    Examples
    --------
    >>> sorted(greedy_k_center([[0.0], [0.1], [5.0], [9.0]], 3, seed=0).tolist())[1:]
    [2, 3]
    """
    return _greedy(as_rows(features, "features"), k, seed)[0]


def covering(features: ArrayLike, k: int, seed: int) -> tuple[NDArray[np.int64], float]:
    """Choose k rows as `greedy_k_center` does, and tell how far the farthest row is from them.

    Parameters
    ----------
    features : array, shape (n, d)
        The rows to choose from.
    k : int
        How many to choose.
    seed : int
        Draws the first row.

    Returns
    -------
    chosen : ndarray of int64, shape (min(k, n),)
        As `greedy_k_center`.
    radius : float
        As `cover_radius`, which takes as long as choosing. Here only the 64 rows are measured that
        look farthest by the distances that the choice was made with; where more look alike, the
        true figure can be larger by what a product of floats rounds off.

    Examples
    --------
    >>> chosen, radius = covering([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], 2, seed=0)
    >>> radius
    1.0
    """
    rows = as_rows(features, "features")
    chosen, stale = _greedy(rows, k, seed)
    far = np.argsort(-stale, kind="stable")[:_FARTHEST]
    bank = Bank.of(rows[chosen], None)
    nearest = search(bank, rows[far], 1, np.full(len(far), NOBODY, np.int64))
    return chosen, float(np.sqrt(nearest.squared.max()))


class Covering(NamedTuple):
    """Rows (m, d) that cover others, image and cell (m, 2) of each, and the largest radius."""

    rows: NDArray[np.float32]
    origins: NDArray[np.int64]
    radius: float


def covering_of_blocks(  # noqa: PLR0913 - what is chosen from, and how many
    patches_of: Callable[[int], NDArray[np.float32]],
    shape: tuple[int, int],
    blocks: NDArray[np.int64],
    cells: int,
    share: float,
    seed: int,
    *,
    least: int = 1,
) -> Covering:
    """Choose a share of the patches of each block of images, so that a block can be left out.

    Parameters
    ----------
    patches_of : callable
        The patches of an image; one copy is held of those that are drawn of a block.
    shape : (int, int)
        Of the patches of an image: how many, of how many channels.
    blocks : ndarray of int64, shape (n,)
        The block of each image.
    cells : int
        Patches at most that are drawn of an image.
    share : float
        Of the drawn patches, in (0, 1].
    seed : int
        Draws patches, and the first row of each block.
    least : int
        Patches that a block keeps at least, if it has them.
    """
    generator = np.random.default_rng(seed)
    cells = min(cells, shape[0])
    parts, origins, radii = [], [], []
    for block in np.unique(blocks):
        members = np.flatnonzero(blocks == block)
        drawn = np.empty((len(members), cells, shape[1]), np.float32)
        places = np.tile(np.arange(cells), (len(members), 1))
        for i, member in enumerate(members.tolist()):
            if cells < shape[0]:
                places[i] = np.sort(generator.permutation(shape[0])[:cells])
            drawn[i] = patches_of(member)[places[i]]
        rows = drawn.reshape(-1, shape[1])
        count = max(math.ceil(share * len(rows)), min(len(rows), least))
        kept, radius = covering(rows, count, seed)
        parts.append(rows[kept])
        origins.append(np.stack([members[kept // cells], places.ravel()[kept]], axis=1))
        radii.append(radius)
    return Covering(np.concatenate(parts), np.concatenate(origins), max(radii))


def _greedy(rows: Rows, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the chosen rows, and the squared distance of each row to them as products tell it."""
    n = len(rows)
    if k < 1:
        raise ParameterError(f"k must be at least 1, got {k}")
    if k >= n:
        return np.arange(n, dtype=np.int64), np.zeros(n)
    first = int(np.random.default_rng(seed).integers(n))
    chosen = np.full(k, first, np.int64)
    cover = _Cover.of(rows, np.float32)
    cover.add(chosen[:1])
    done = 1
    while done < k:
        if cover.stale.max() > cover.floor:
            batch = np.fromiter(cover.picks(k - done), np.int64)
            chosen[done : done + len(batch)] = batch
            done += len(batch)
            cover.add(batch)
        elif cover.floor > 0:
            cover = _Cover.of(rows, np.float64)
            cover.add(chosen[:done])
        else:
            chosen[done:] = np.flatnonzero(cover.stale > -np.inf)[: k - done]
            done = k
    return chosen, cover.stale


def cover_radius(features: ArrayLike, centres: NDArray[np.int64]) -> float:
    """Return the largest distance of any row from its nearest centre.

    Parameters
    ----------
    features : array, shape (n, d)
        All rows.
    centres : ndarray of int64, shape (k,)
        Indices of the chosen rows.

    Returns
    -------
    float
        Euclidean distance, exact as those of `pyimgano.models.knn_index.NumpyIndex`.

    Raises
    ------
    InputError
        If the features are empty, not a matrix or not finite.

    Examples
    --------
    >>> cover_radius([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], np.array([0]))
    5.0
    """
    rows = as_rows(features, "features")
    nearest = search(Bank.of(rows[centres], None), rows, 1, np.full(len(rows), NOBODY, np.int64))
    return float(np.sqrt(nearest.squared.max()))


def random_projection(features: ArrayLike, dims: int, seed: int) -> Rows:
    """Project rows to fewer columns by a Gaussian matrix that keeps distances on average.

    Parameters
    ----------
    features : array, shape (n, d)
        The rows.
    dims : int
        Columns of the result; at d and above the rows are returned as they are.
    seed : int
        Draws the matrix.

    Returns
    -------
    ndarray, shape (n, min(dims, d))
        The projection of the centred rows, float32; squared distances are off by a factor of
        about 1 +- sqrt(2 / dims) (Johnson and Lindenstrauss, 1984).

    Raises
    ------
    InputError
        If the features are empty, not a matrix or not finite.
    ParameterError
        If dims is less than 1.
    """
    rows = as_rows(features, "features")
    d = rows.shape[1]
    if dims < 1:
        raise ParameterError(f"dims must be at least 1, got {dims}")
    if dims >= d:
        return rows
    matrix = np.random.default_rng(seed).standard_normal((d, dims), dtype=np.float32)
    matrix /= np.float32(dims**0.5)
    shift = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    projected = np.empty((len(rows), dims), np.float32)
    for start in range(0, len(rows), _TILE):
        part = slice(start, start + _TILE)
        np.matmul(centred(rows[part], shift)[0], matrix, out=projected[part])
    return projected


@dataclass(frozen=True, slots=True, eq=False)
class _Cover:
    """Centred rows [x, 1], |x|^2, and squared distances to the centres, -inf for a centre.

    ``stale`` is right when a batch begins and is updated in place when it ends; at or below
    ``floor`` it ranks nothing.
    """

    work: NDArray[Any]
    squared: NDArray[Any]
    stale: NDArray[Any]
    floor: float

    @classmethod
    def of(cls, rows: Rows, dtype: DTypeLike) -> Self:
        n, d = rows.shape
        shift = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        work = np.empty((n, d + 1), dtype)
        precise = np.result_type(rows, dtype)
        np.subtract(rows, shift, out=work[:, :d], dtype=precise, casting="same_kind")
        work[:, d] = 1
        squared = np.einsum("ij,ij->i", work[:, :d], work[:, :d])
        share = _FLOAT32_REACH if work.dtype == np.float32 else 0.0
        floor = share * float(squared.mean(dtype=np.float64))
        return cls(work, squared, np.full(n, np.inf, dtype), floor)

    def add(self, centres: Indices) -> None:
        """Bring the distances up to date with new centres."""
        factors = self.work[centres] * self.work.dtype.type(-2)
        factors[:, -1] = self.squared[centres]
        step = max(1, _PRODUCT_ELEMENTS // len(centres))

        def update(start: int) -> None:
            part = slice(start, start + step)
            nearest = (self.work[part] @ factors.T).min(axis=1) + self.squared[part]
            nearest[nearest <= _FLOAT64_NOISE * self.squared[part]] = 0
            np.minimum(self.stale[part], nearest, out=self.stale[part])

        side_by_side(update, range(0, len(self.work), step))
        self.stale[centres] = -np.inf

    def picks(self, most: int) -> Iterator[int]:
        """Yield the next greedy picks for as long as the candidates are sure to hold them."""
        m = min(_CANDIDATES, len(self.stale) - 1)
        order = np.argpartition(self.stale, -m - 1)
        bound = self.stale[order[-m - 1]]
        top = np.sort(order[-m:])
        rows, squared, local = self.work[top, :-1], self.squared[top], self.stale[top]
        pairs = rows @ rows.T
        pairs *= -2
        pairs += squared
        pairs += squared[:, None]
        pairs[pairs <= _FLOAT64_NOISE * squared] = 0
        for _ in range(most):
            best = int(local.argmax())
            if local[best] < bound or local[best] <= self.floor:
                return
            yield int(top[best])
            np.minimum(local, pairs[best], out=local)
            local[best] = -np.inf

"""SubspaceAD: what of a patch the principal components of good patches cannot express."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, final

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import resolve_extractor
from pyimgano.models._token_detector import Patches, Readings, Seen, TokenDetector, turned
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pyimgano.judging import Reading
    from pyimgano.views.intake import Images

__all__ = ["Subspace"]

_VIEWS = 8


class _Learned:
    mean_: NDArray[np.float32]
    components_: NDArray[np.float32]
    n_tokens_: int


@DETECTORS.register(
    "vision_subspace",
    Metadata(
        summary="Residual off the principal components of good patches; a very small model.",
        paper="Lendering et al., SubspaceAD, CVPR 2026, arXiv 2602.23013",
    ),
)
@dataclass(kw_only=True, eq=False)
class Subspace(_Learned, TokenDetector):
    """Squared residual of each patch off the principal subspace of good patches (2602.23013).

    The subspace is learned from every patch of every reference, turned in evenly spaced steps.
    Learning only adds up moments, one set a block of images, so that memory does not grow with the
    number of images, and the model by which a good image is scored out of sample is exactly the one
    learned without its block.

    Parameters
    ----------
    explained : float
        Share of the variance that the components explain, in (0, 1]. At least one direction is
        always left out, or nothing would remain to be measured.
    rotations : int
        In how many orientations a reference is learned from; 1: only as it lies.

    Notes
    -----
    The paper's tokens are the mean of the blocks -12 to -18 of DINOv2 ViT-g; which blocks are
    averaged is the extractor's parameter ``layers``.

    **One reference.** Its turned views are not further parts, and no threshold is set from them;
    give `fit` good images of their own as ``calibration`` (the option ``--hold-out``).
    """

    tileable: ClassVar[bool] = True

    size: int = 672
    explained: float = 0.99
    rotations: int = 30

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not 0 < self.explained <= 1:
            raise ParameterError(f"explained is a share in (0, 1], got {self.explained}")
        if self.rotations < 1:
            raise ParameterError(f"rotations must be at least 1, got {self.rotations}")

    @final
    def _fit(self, images: Images) -> None:
        self._keep(self._add_up(images, np.zeros(len(images), np.int64)).values())

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        moments = self._add_up(images, blocks)
        self._keep(moments.values())
        held_out = {
            block: _Basis.of([one for key, one in moments.items() if key != block], self.explained)
            for block in moments
        }
        found = []
        for image, block in zip(images, blocks.tolist(), strict=True):
            seen = self._embed([image])[0]  # again: kept, they would grow with the images
            residuals = held_out[block].residuals(seen.tokens)
            found.append(Patches(residuals, seen.extent, seen.size))
        return Readings(self, found)

    def _add_up(self, images: Images, blocks: NDArray[np.int64]) -> dict[int, _Moments]:
        """Return the moments of the tokens of each block, about one origin."""
        self.extractor_ = resolve_extractor(self.extractor)
        angles = [360 * step / self.rotations for step in range(self.rotations)]
        moments: dict[int, _Moments] = {}
        origin: NDArray[np.float64] | None = None
        for image, block in zip(images, blocks.tolist(), strict=True):
            for first in range(0, len(angles), _VIEWS):
                views = [turned(image, angle) for angle in angles[first : first + _VIEWS]]
                for seen in self._embed(views):
                    rows = seen.tokens.reshape(-1, seen.tokens.shape[2]).astype(np.float64)
                    origin = rows.mean(axis=0) if origin is None else origin
                    moments.setdefault(block, _Moments.about(origin)).add(rows)
        return moments

    def _keep(self, moments: Iterable[_Moments]) -> None:
        parts = list(moments)
        self.mean_, self.components_ = _Basis.of(parts, self.explained)
        self.n_tokens_ = sum(part.count for part in parts)

    def _distances(self, seen: Seen) -> NDArray[np.float32]:
        return _Basis(self.mean_, self.components_).residuals(seen.tokens)


@dataclass(slots=True, eq=False)
class _Moments:
    """Count, sum (d,) and second moment (d, d) of rows about an origin (d,).

    An origin amid the rows keeps the covariance from drowning in the square of the mean.
    """

    origin: NDArray[np.float64]
    total: NDArray[np.float64]
    second: NDArray[np.float64]
    count: int = 0

    @classmethod
    def about(cls, origin: NDArray[np.float64]) -> Self:
        return cls(origin, np.zeros(len(origin)), np.zeros((len(origin), len(origin))))

    def add(self, rows: NDArray[np.float64]) -> None:
        off = rows - self.origin
        self.total += off.sum(axis=0)
        self.second += off.T @ off
        self.count += len(rows)


class _Basis(NamedTuple):
    """Mean (d,) and orthonormal principal directions (k, d) of good tokens."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def of(cls, parts: Sequence[_Moments], explained: float) -> Self:
        """Return the fewest directions that explain a share of the variance of several parts.

        The parts are added up, never subtracted from a whole: nothing cancels.
        """
        count = sum(part.count for part in parts)
        off = np.sum([part.total for part in parts], axis=0) / count
        covariance = np.sum([part.second for part in parts], axis=0) / count - np.outer(off, off)
        values, vectors = np.linalg.eigh(covariance)
        values, dimension = np.maximum(values[::-1], 0), len(values)
        cumulative = values.cumsum()
        enough = int(np.searchsorted(cumulative, explained * cumulative[-1])) + 1
        noise = dimension * np.finfo(np.float64).eps * values[0]
        kept = min(enough, int((values > noise).sum()), dimension - 1)
        components = vectors.T[::-1][:kept].astype(np.float32, order="C")
        return cls((parts[0].origin + off).astype(np.float32), components)

    def residuals(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared length (h, w) of what is left of tokens (h, w, d).

        It is that of the vector that remains, not a difference of two squares: never negative, and
        exact where next to nothing remains.
        """
        rows = tokens.reshape(-1, tokens.shape[2]) - self.mean
        rows -= (rows @ self.components.T) @ self.components
        return np.asarray(np.einsum("ij,ij->i", rows, rows).reshape(tokens.shape[:2]))

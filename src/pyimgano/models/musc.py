"""MuSc: the images of an unlabelled batch score each other, patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import resolve_extractor
from pyimgano.models._neighbourhood import check_neighbourhood, pooled
from pyimgano.models._token_detector import Patches, Seen, TokenDetector, unit
from pyimgano.models.knn_index import create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

__all__ = ["MuSc"]


@DETECTORS.register(
    "vision_musc",
    Metadata(
        summary="Judges an unlabelled batch by itself: what few of its images have is a defect.",
        paper="Li et al., MuSc, ICLR 2024, arXiv 2401.16753",
        transductive=True,
    ),
)
@dataclass(kw_only=True, eq=False)
class MuSc(TokenDetector):
    """Distance of each patch to the batch's other images, the nearest of which count (2401.16753).

    Per layer of the extractor and side of neighbourhood, a patch is as far from another image as
    from the nearest of its patches; it scores the mean over the ``share`` of the other images that
    are nearest. An image scores its largest patch, averaged with those of the images most like it.

    Nothing is learned: `fit` takes sizes and the extractor from good images, and a threshold from
    what they say of each other. Time grows with the square of the number of images.

    Parameters
    ----------
    neighbourhoods : tuple of int
        Each layer is averaged over so many of its own cells square (odd), once for each.
    share : float
        Of the other images, in (0, 1]; one at least.
    similar : tuple of int
        An image's score is averaged over this many images most like it, itself included; with
        several numbers the mean of that. ``(1,)`` leaves scores as they are.
    index : str
        A name for `create_index`.

    Notes
    -----
    The paper compares images by the class token of CLIP, at 518 pixels. Extractors here give no
    class token; the mean of the patch tokens stands for it. Negative similarities count as none.
    Scores are not brought to [0, 1] by the batch's extremes, which would change no rank within the
    batch and bar any threshold. For VisA the authors take ``similar=(1, 8, 9)``.
    """

    size: int = 518
    aggregation: str = "max"
    neighbourhoods: tuple[int, ...] = (1, 3, 5)
    share: float = 0.3
    similar: tuple[int, ...] = (1, 2, 3)
    index: str = "auto"

    @property
    def is_transductive(self) -> bool:
        """Always."""
        return True

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for side in self.neighbourhoods:
            check_neighbourhood(side)
        if not self.neighbourhoods or not 0 < self.share <= 1:
            raise ParameterError(
                "neighbourhoods must name one at least, share must lie in (0, 1]: "
                f"neighbourhoods={self.neighbourhoods}, share={self.share}"
            )
        if min(self.similar, default=0) < 1:
            raise ParameterError(f"similar must hold numbers of at least 1, got {self.similar}")

    @final
    def _fit(self, images: Images) -> None:  # noqa: ARG002
        self.extractor_ = resolve_extractor(self.extractor)

    @final
    def _mutual(self, batch: Sequence[Seen]) -> list[Patches]:
        ends = np.cumsum([seen.tokens.shape[0] * seen.tokens.shape[1] for seen in batch])
        total, times = np.zeros(ends[-1]), 0
        for side in self.neighbourhoods:
            for rows in _layers(batch, side):
                total += self._scores(rows, ends)
                times += 1
        grids = [
            part.reshape(seen.tokens.shape[:2]).astype(np.float32)
            for part, seen in zip(np.split(total / times, ends[:-1]), batch, strict=True)
        ]
        found = [
            Patches(grid, seen.extent, seen.size) for grid, seen in zip(grids, batch, strict=True)
        ]
        scores = np.array([self._reading(patches).score for patches in found])
        shared = _shared(scores, _likeness(batch), self.similar)
        return [one._replace(score=float(s)) for one, s in zip(found, shared, strict=True)]

    def _scores(self, rows: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score each row by the other images; ``ends`` says where the rows of each end."""
        starts = np.array([0, *ends[:-1]])
        gaps = np.full((len(rows), len(ends)), np.inf)
        for image, (first, last) in enumerate(zip(starts, ends, strict=True)):
            index = create_index(self.index).fit(rows[first:last])
            for part in (slice(0, first), slice(last, None)):
                if len(rows[part]):
                    gaps[part, image] = index.kneighbors(rows[part])[0][:, 0]
        count = max(1, int(self.share * (len(ends) - 1)))
        # The sum in order of size does not depend on the order of the images.
        return np.asarray(np.sort(gaps, axis=1)[:, :count].mean(axis=1))


def _layers(batch: Sequence[Seen], side: int) -> Iterator[NDArray[np.float32]]:
    """Yield, layer by layer, the patches of all images as rows of length 1.

    The layer normalisation of a whole grid shifts and divides it by one number each; the latter is
    gone with the length.
    """
    layers = batch[0].layers or ((batch[0].tokens.shape[2], 1),)
    first = 0
    for count, step in layers:
        channels = slice(first, first + count)
        grids = (seen.tokens[..., channels] for seen in batch)
        level = (grid - grid.mean(dtype=np.float64).astype(np.float32) for grid in grids)
        yield np.concatenate(
            [unit(pooled(grid[None], side, ((count, step),))[0]) for grid in level]
        )
        first += count


def _likeness(batch: Sequence[Seen]) -> NDArray[np.float64]:
    """Return the cosine (n, n) of the mean tokens of images, 0 where negative, 1 of itself."""
    means = np.stack([seen.tokens.mean(axis=(0, 1), dtype=np.float64) for seen in batch])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    found = np.maximum(means @ means.T, 0)
    np.fill_diagonal(found, 1)
    return np.asarray(found)


def _shared(
    scores: NDArray[np.float64], likeness: NDArray[np.float64], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Average each score with those of the images most like it, weighted by likeness."""
    first = likeness.copy()
    np.fill_diagonal(first, np.inf)
    order = np.argsort(-first, axis=1, kind="stable")
    weights = np.take_along_axis(likeness, order, axis=1)
    totals, masses = np.cumsum(weights * scores[order], axis=1), np.cumsum(weights, axis=1)
    last = np.minimum(counts, len(scores)) - 1
    return np.asarray((totals[:, last] / masses[:, last]).mean(axis=1))

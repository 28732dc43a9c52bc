"""Per-image overlap (PIMO) and its area AUPIMO: recall where good images show almost nothing.

No curve is drawn. The x axis F is the mean over the good images of their false-positive rates, on
a logarithmic scale between two bounds; the y axis is the recall of one image. A defect pixel is
found from its own F on, so it adds log(upper / max(lower, F)) / log(upper / lower), or nothing if
F is beyond the upper bound, and the area of an image is the mean over its defect pixels. Source:
Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance", BMVC 2024, whose program bins the thresholds and differs by up to 4e-3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import METRICS, Evidence, figure
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from pyimgano.metrics.ranks import Maps, Masks, Ranks

__all__ = ["aupimo"]

BOUNDS = (1e-5, 1e-4)


def aupimo(masks: Masks, maps: Maps, bounds: tuple[float, float] = BOUNDS) -> NDArray[np.float64]:
    """Return the area under the per-image overlap curve of each image, shape (n,), in [0, 1].

    The area is taken between two ``bounds``, false-positive rates 0 < lower < upper <= 1 of good
    images. ``numpy.nanmean`` of it is the figure of a data set; the paper asks to look at the
    images too. NaN for a good image; all NaN, with a `PyimganoWarning`, if no image is defective or
    none is good. Masks and maps are as of `evaluate_maps`.

    Examples
    --------
    >>> maps = np.array([[[0.9, 0.2], [0.1, 0.3]], [[0.0, 0.4], [0.1, 0.2]]])
    >>> aupimo([np.array([[1, 0], [0, 1]]), None], maps)
    array([0.5, nan])
    """
    lower, upper = bounds
    if not 0 < lower < upper <= 1:
        raise ParameterError(f"bounds are rates 0 < lower < upper <= 1, got {bounds!r}")
    # Normal pixels of defective images take no part: called defective as a whole, they are not
    # counted, while the units are still those of the mask.
    whole = [_whole(mask) for mask in masks]
    ranks = rank_maps(whole, maps, lambda index, _, scores: _units(masks[index], scores))
    areas = np.full(len(maps), math.nan)
    if lack := _lack(ranks):
        figure("aupimo", lack)
        return areas
    areas[np.unique(ranks.images)] = _areas(ranks, bounds)
    return areas


def _whole(given: ArrayLike | None) -> NDArray[Any] | None:
    mask = np.asarray(given)
    return (
        np.broadcast_to(mask.dtype.type(1), mask.shape)
        if given is not None and mask.any()
        else None
    )


def _units(mask: ArrayLike | None, scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    values = scores[np.asarray(mask) != 0]
    return values, np.zeros(values.size, np.int32)


def _lack(ranks: Ranks) -> str:
    if not ranks.n_defective:
        return ranks.lack
    return "there is no good image" if np.isnan(ranks.good_rates[0]) else ""


def _areas(ranks: Ranks, bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Return the area of each defective image, in order."""
    lower, upper = bounds
    # Divided like the span, so that a pixel found at the lower bound adds exactly one.
    terms = np.log(upper / np.clip(ranks.good_rates, lower, upper)) / np.log(upper / lower)
    _, place = np.unique(ranks.images, return_inverse=True)
    image = place[ranks.regions]
    return np.bincount(image, np.repeat(terms, ranks.counts)) / np.bincount(image)


@METRICS.register(
    "aupimo",
    Metadata(
        summary="Mean over the defective images of the area under the per-image overlap curve.",
        paper="Bertoldo et al., AUPIMO, BMVC 2024, arXiv 2401.01984",
    ),
)
def _aupimo(evidence: Evidence) -> Mapping[str, float | str]:
    if lack := _lack(evidence.ranks):
        return {"aupimo": lack}
    areas = _areas(evidence.ranks, BOUNDS)
    return {"aupimo": math.fsum(areas) / areas.size}

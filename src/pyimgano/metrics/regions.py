"""Metrics of regions: the per-region overlap (PRO) and its area AUPRO.

No curve is drawn. Let L be the limit times the number of normal pixels, and let a and b be the
numbers of normal pixels above, and at or above, the score of a defect pixel. With ties moving
together and straight lines between distinct thresholds, this pixel adds to the area, in normal
pixels,

- L - (a + b) / 2 if b <= L,
- (L - a)^2 / (2 (b - a)) if a < L < b, which at most one distinct score satisfies,
- 0 if a >= L.

AUPRO is the mean over the regions of the mean over a region's pixels, divided by L. Source:
Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5 (the curve and its
limit).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import METRICS, Evidence, figure
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pyimgano.metrics.ranks import Maps, Masks, Ranks

__all__ = ["aupro", "mean_pro", "region_areas", "region_pro"]

_ROW = np.dtype([("image", np.int64), ("area", np.int64), ("value", np.float64)])


def aupro(masks: Masks, maps: Maps, limit: float = 0.3) -> float:
    """Return the area under the per-region overlap curve up to a false-positive rate, in [0, 1].

    Every defect region weighs the same, whatever its area. Regions are the 8-connected components
    of each mask; the rate is taken over all normal pixels of all images. The curve is cut at
    ``limit``, by which the area is divided. Masks and maps, and errors, are as of `evaluate_maps`.
    NaN, with a `PyimganoWarning`, if one kind of pixel is missing.
    """
    evidence = Evidence(rank_maps(masks, maps), limits=(limit,))
    return figure("aupro", mean_pro(evidence.ranks, limit))


def region_pro(masks: Masks, maps: Maps, limit: float = 0.3) -> NDArray[np.void]:
    """Return what each region adds to `aupro`, whose parameters it has, to see which are missed.

    One row (image, area, value) a region, in order of the images: index of its image, pixels, and
    area under its own curve in [0, 1], whose mean over the rows is AUPRO. Values are NaN if there
    is no normal pixel.
    """
    ranks = Evidence(rank_maps(masks, maps), limits=(limit,)).ranks
    rows = np.empty(ranks.images.size, _ROW)
    rows["image"], rows["area"] = ranks.images, ranks.areas
    rows["value"] = math.nan if ranks.lack else region_areas(ranks, limit)
    return rows


def region_areas(ranks: Ranks, limit: float) -> NDArray[np.float64]:
    """Return the area under the curve of each region, divided by the limit."""
    room = limit * ranks.n_normal
    # Scores ascend and counts descend: the full terms are the tail, the cut term precedes it.
    first = int(np.count_nonzero(ranks.at_or_above > room))
    start = int(ranks.counts[:first].sum())
    n_regions = ranks.images.size
    tail = ranks.regions[start:]
    doubled = np.repeat((ranks.above + ranks.at_or_above)[first:], ranks.counts[first:])
    lost = np.bincount(tail, doubled, n_regions) / 2
    area = np.bincount(tail, minlength=n_regions) * room - lost
    if first and ranks.above[first - 1] < room:
        a, b = int(ranks.above[first - 1]), int(ranks.at_or_above[first - 1])
        cut = ranks.regions[start - int(ranks.counts[first - 1]) : start]
        area += np.bincount(cut, minlength=n_regions) * ((room - a) ** 2 / (2 * (b - a)))
    return area / (ranks.areas * room)


def mean_pro(ranks: Ranks, limit: float) -> float | str:
    """Return the mean of `region_areas`, or why it is undefined."""
    # fsum rounds once, so the order of the images cannot change a bit.
    return ranks.lack or math.fsum(region_areas(ranks, limit)) / ranks.images.size


@METRICS.register(
    "aupro",
    Metadata(
        summary="Area under the per-region overlap curve, for each limit; number of regions.",
        paper="Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021",
    ),
)
def _aupro(evidence: Evidence) -> Mapping[str, Any]:
    figures = {f"aupro_{limit}": mean_pro(evidence.ranks, limit) for limit in evidence.limits}
    return {**figures, "n_regions": evidence.ranks.images.size}

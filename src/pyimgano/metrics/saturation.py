"""Saturated per-region overlap (sPRO) and its area, for defects that have no exact outline.

Where a part is missing, any of several places may be called defective; a ground-truth channel
marks them all and says how many pixels are enough. sPRO is the share found of that saturation
area, at most 1: so only the ``saturation`` highest pixels of a channel count. Channels may
overlap; a pixel is normal if no channel of its image holds it. Source: Bergmann et al., "Beyond
Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 2022, section 4 (MVTec LOCO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import MetricError, ParameterError
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.regions import mean_pro
from pyimgano.metrics.scorecard import Evidence, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pyimgano.metrics.ranks import Maps


__all__ = ["Channel", "aspro", "saturated_pro", "saturation_area"]

Channel = tuple["ArrayLike", int]
"""A mask (H, W), non-zero where defective, and its saturation area in pixels."""


def saturation_area(area: int, threshold: float, *, relative: bool) -> int:
    """Return how many pixels of a defect of ``area`` pixels are enough: at most all.

    ``threshold`` is a number of pixels or, if ``relative``, a share of the area, rounded down as
    MVTec's own program does: ``saturation_threshold`` and ``relative_saturation`` of
    ``defects_config.json``. It is a `ParameterError` if not above 0, or a share above 1.

    Examples
    --------
    >>> saturation_area(75, 0.5, relative=True), saturation_area(75, 200, relative=False)
    (37, 75)
    """
    if not threshold > 0 or (relative and threshold > 1):
        kind = "a share above 0 and at most 1" if relative else "a number of pixels above 0"
        raise ParameterError(f"a saturation threshold is {kind}, got {threshold!r}")
    return min(area, int(threshold * area if relative else threshold))


def aspro(channels: Sequence[Sequence[Channel] | None], maps: Maps, limit: float = 0.05) -> float:
    """Return the area under the saturated per-region overlap curve up to a false-positive rate.

    Every channel weighs the same. With channels that saturate at their area, which are the
    8-connected components of a mask, it is `aupro`. MVTec give the structural and the logical
    defects each among all good images, and the mean of the two. Maps, limit, result and errors are
    those of `aupro`; a channel that is empty or has no saturation area is a `MetricError` as well.

    Parameters
    ----------
    channels : sequence of (sequence of (mask, int), or None)
        For each image its ground-truth channels, each a mask (H, W) that is non-zero where
        defective and its saturation area in pixels; None (or none) for a good image. A saturation
        area beyond the mask's area is the whole mask.

    Examples
    --------
    >>> mask, scores = np.array([[1, 1, 1, 0, 0]]), np.array([[5.0, 4.0, 0.0, 2.0, 1.0]])
    >>> aspro([[(mask, 2)]], [scores]), round(aspro([[(mask, 3)]], [scores]), 3)
    (1.0, 0.667)
    """
    return figure("aspro", saturated_pro(channels, maps, limit))


def saturated_pro(
    channels: Sequence[Sequence[Channel] | None], maps: Maps, limit: float
) -> float | str:
    """Return `aspro`, or why it is undefined."""

    def highest(index: int, _: Any, scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        given = channels[index] or ()
        values = [_highest(np.asarray(m) != 0, s, scores, index) for m, s in given]
        sizes = [each.size for each in values]
        return np.concatenate(values), np.repeat(np.arange(len(given), dtype=np.int32), sizes)

    masks = [_union(given, index) for index, given in enumerate(channels)]
    ranks = Evidence(rank_maps(masks, maps, highest), limits=(limit,)).ranks
    return mean_pro(ranks, limit)


def _union(given: Sequence[Channel] | None, index: int) -> NDArray[np.bool_] | None:
    masks = [np.asarray(mask) for mask, _ in given or ()]
    if len({mask.shape for mask in masks}) > 1 or not all(mask.any() for mask in masks):
        raise MetricError(
            f"channels must be of one shape and hold a defective pixel each; image {index} has "
            f"shapes {[mask.shape for mask in masks]}, areas {[int((m != 0).sum()) for m in masks]}"
        )
    return np.any(masks, axis=0) if masks else None


def _highest(
    mask: NDArray[np.bool_], saturation: int, scores: NDArray[Any], index: int
) -> NDArray[Any]:
    """Return the scores that count; of equal ones it is all the same which are taken."""
    if int(saturation) != saturation or saturation < 1:
        raise MetricError(
            f"a saturation area is a number of pixels from 1, image {index} has {saturation!r}"
        )
    values = scores[mask]
    spare = values.size - int(saturation)
    return np.partition(values, spare)[spare:] if spare > 0 else values

"""What a pixel threshold finds: overlap of pixels, and regions found by kind and by size.

The threshold was set beforehand, so that none of these is an oracle figure. A pixel is flagged if
its score exceeds the threshold; a region is found if one of its pixels is flagged, for then the
report draws something on it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.metrics.ranks import rank_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.metrics.ranks import Maps, Masks, Ranks

__all__ = ["evaluate_segmentation", "segmentation_of"]

_DECADES = 10 ** np.arange(1, 19)


def evaluate_segmentation(
    masks: Masks, maps: Maps, threshold: float, kinds: Sequence[str] | None = None
) -> dict[str, Any]:
    """Evaluate maps, with masks as of `evaluate_maps`, at the threshold of flagged pixels.

    ``kinds`` are the kinds of defects, one an image. The card holds ``threshold``; of the pixels of
    all images together ``precision``, ``recall``, ``f1`` (the SegF1, which is the Dice
    coefficient), ``iou`` and ``fpr``, the share of flagged normal pixels; ``regions``,
    ``by_defect`` (by kind, if given) and ``by_area`` (by decade of the area in pixels: ``"1-9"``,
    ``"10-99"``, ...) with ``count`` found, ``of`` and ``rate``; and ``undefined``: the reason for
    each figure that is NaN. Regions of one image are not independent, so that their rates have no
    binomial interval.

    Examples
    --------
    >>> mask = np.array([[1, 1, 0, 0, 1]])
    >>> card = evaluate_segmentation([mask], [np.array([[3.0, 1.0, 3.0, 0.0, 1.0]])], 2.0)
    >>> card["f1"], card["iou"], card["regions"]
    (0.4, 0.25, {'count': 1, 'of': 2, 'rate': 0.5})
    """
    return segmentation_of(rank_maps(masks, maps), maps, threshold, kinds)


def segmentation_of(
    ranks: Ranks, maps: Maps, threshold: float, kinds: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what `evaluate_segmentation` does, from ranks that were counted before."""
    if math.isnan(threshold) or (kinds is not None and len(kinds) != len(maps)):
        raise ParameterError(
            f"expected a threshold and one kind an image, got {threshold!r} and "
            f"{len(maps if kinds is None else kinds)} kinds for {len(maps)} images"
        )
    limit = np.float64(threshold)  # a Python float would be rounded to the dtype of the maps
    flagged = sum(int(np.count_nonzero(np.asarray(scores) > limit)) for scores in maps)
    hits = int(ranks.counts[ranks.scores > limit].sum())
    found = np.zeros(ranks.images.size, np.bool_)
    found[ranks.regions[ranks.n_defective - hits :]] = True
    decades = np.searchsorted(_DECADES, ranks.areas, "right")
    card = {
        "threshold": float(threshold),
        **_overlap(hits, flagged - hits, ranks),
        "regions": _share(found),
        "by_area": {
            f"{10**decade}-{10 ** (decade + 1) - 1}": _share(found[decades == decade])
            for decade in np.unique(decades).tolist()
        },
    }
    if kinds is not None:
        kind = np.array(kinds, dtype=object)[ranks.images]
        card["by_defect"] = {name: _share(found[kind == name]) for name in sorted(set(kind))}
    undefined = {name: value for name, value in card.items() if isinstance(value, str)}
    return {**card, **dict.fromkeys(undefined, math.nan), "undefined": undefined}


def _overlap(hits: int, false: int, ranks: Ranks) -> dict[str, float | str]:
    defective, normal = ranks.n_defective, ranks.n_normal
    lack = "" if defective else ranks.lack
    return {
        "precision": hits / (hits + false) if hits + false else "no pixel is above the threshold",
        "recall": lack or hits / defective,
        "f1": lack or 2 * hits / (hits + false + defective),
        "iou": lack or hits / (false + defective),
        "fpr": false / normal if normal else "there is no normal pixel",
    }


def _share(found: NDArray[np.bool_]) -> dict[str, float | int | None]:
    count = int(np.count_nonzero(found))
    return {"count": count, "of": found.size, "rate": count / found.size if found.size else None}

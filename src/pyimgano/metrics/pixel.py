"""Metrics of the pixels of all maps together: AUROC, average precision and F1-max."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyimgano.metrics.image import auroc_of, average_precision_of, f1_max_of
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import METRICS, figure
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from pyimgano.metrics.ranks import Maps, Masks


__all__ = ["pixel_auroc", "pixel_average_precision", "pixel_f1_max"]


def pixel_auroc(masks: Masks, maps: Maps) -> float:
    """Return the area under the ROC curve of all pixels; masks and maps are as of `evaluate_maps`.

    In [0, 1]; NaN, with a `PyimganoWarning`, if one kind of pixel is missing.
    """
    return figure("pixel_auroc", auroc_of(rank_maps(masks, maps)))


def pixel_average_precision(masks: Masks, maps: Maps) -> float:
    """Return the average precision of all pixels; masks and maps are as of `evaluate_maps`.

    In (0, 1]; NaN, with a `PyimganoWarning`, if no pixel is defective.
    """
    return figure("pixel_ap", average_precision_of(rank_maps(masks, maps)))


def pixel_f1_max(masks: Masks, maps: Maps) -> float:
    """Return the largest pixel F1 of any threshold: an oracle figure, tuned on these very masks.

    Masks and maps are as of `evaluate_maps`. In (0, 1]; NaN, with a `PyimganoWarning`, if no pixel
    is defective.
    """
    return figure("pixel_f1max", f1_max_of(rank_maps(masks, maps))[0])


METRICS.register("pixel_auroc", Metadata(summary="Area under the ROC curve of all pixels."))(
    lambda evidence: {"pixel_auroc": auroc_of(evidence.ranks)}
)
METRICS.register("pixel_ap", Metadata(summary="Average precision of all pixels."))(
    lambda evidence: {"pixel_ap": average_precision_of(evidence.ranks)}
)
METRICS.register("pixel_f1max", Metadata(summary="Oracle: largest pixel F1 of any threshold."))(
    lambda evidence: dict(
        zip(("pixel_f1max", "pixel_f1max_threshold"), f1_max_of(evidence.ranks), strict=True)
    )
)

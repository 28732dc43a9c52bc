"""Metrics: pure functions on labels, scores, masks and maps; exact, and undefined where they are.

Higher scores are more anomalous, everywhere. ``f1_max`` and its kin are oracle figures: they are
tuned on the labels they are measured on.
"""

from pyimgano.metrics.image import auroc, average_precision, f1_max
from pyimgano.metrics.pixel import pixel_auroc, pixel_average_precision, pixel_f1_max
from pyimgano.metrics.regions import aupro, region_pro
from pyimgano.metrics.scorecard import METRICS, evaluate_maps, evaluate_scores

__all__ = [
    "METRICS",
    "aupro",
    "auroc",
    "average_precision",
    "evaluate_maps",
    "evaluate_scores",
    "f1_max",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_f1_max",
    "region_pro",
]

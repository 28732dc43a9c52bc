"""Metrics: pure functions on labels, scores, masks and maps; exact, and undefined where they are.

Higher scores are more anomalous, everywhere. ``f1_max`` and its kin are oracle figures: they are
tuned on the labels they are measured on.
"""

from pyimgano.metrics.bootstrap import bootstrap_maps, bootstrap_scores
from pyimgano.metrics.delong import delong
from pyimgano.metrics.image import auroc, average_precision, f1_max
from pyimgano.metrics.pimo import aupimo
from pyimgano.metrics.pixel import pixel_auroc, pixel_average_precision, pixel_f1_max
from pyimgano.metrics.rates import clopper_pearson
from pyimgano.metrics.regions import aupro, region_pro
from pyimgano.metrics.saturation import aspro
from pyimgano.metrics.scorecard import METRICS, evaluate_maps, evaluate_scores
from pyimgano.metrics.segmentation import evaluate_segmentation

__all__ = ["METRICS", "aspro", "aupimo", "aupro", "auroc", "average_precision", "bootstrap_maps"]
__all__ += ["bootstrap_scores", "clopper_pearson", "delong", "evaluate_maps", "evaluate_scores"]
__all__ += ["evaluate_segmentation", "f1_max", "pixel_auroc", "pixel_average_precision"]
__all__ += ["pixel_f1_max", "region_pro"]

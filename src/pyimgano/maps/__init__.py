"""Anomaly maps: float32 (H, W), higher is more anomalous; pure functions on arrays."""

from __future__ import annotations

from pyimgano.maps.aggregate import Maximum, Mean, TopMean
from pyimgano.maps.postprocess import (
    GaussianSmoothing,
    LearnedStep,
    MinMaxNormalisation,
    MorphologicalClosing,
    MorphologicalOpening,
    Pipeline,
    RobustNormalisation,
    SmallComponentRemoval,
    Step,
)
from pyimgano.maps.regions import find_regions
from pyimgano.maps.upsample import upsample

__all__ = ["GaussianSmoothing", "LearnedStep", "Maximum", "Mean", "MinMaxNormalisation"]
__all__ += ["MorphologicalClosing", "MorphologicalOpening", "Pipeline", "RobustNormalisation"]
__all__ += ["SmallComponentRemoval", "Step", "TopMean", "find_regions", "upsample"]

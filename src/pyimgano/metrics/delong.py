"""DeLong's test: whether two detectors differ in AUROC beyond what the images leave open.

The AUROC is a mean of placements: the share of the good images that a defective one beats, and the
share of the defective ones that beat a good one. Their variance and covariance, in both detectors
on the same images, give the variance of the difference. Placements come from mid-ranks, by sorting
instead of comparing all pairs. Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Sun
and Xu, IEEE Signal Processing Letters 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.metrics.ranks import rank_scores
from pyimgano.metrics.scorecard import figure

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Comparison", "delong"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two AUROCs on the same images.

    ``difference`` is a less b, from ``low`` to ``high`` its confidence interval, ``p`` the
    two-sided probability of a difference as large if there is none.
    """

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p: float


def delong(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    confidence: float = 0.95,
    *,
    groups: ArrayLike | None = None,
) -> Comparison:
    """Compare the AUROC of two detectors on the same images, labels and scores as of `auroc`.

    Images of one kind that share one of the ``groups`` say one thing together: views of one part,
    or defects planted in one image (Obuchowski, Biometrics 1997, without what good and defective
    images of one group share).

    The normal approximation holds for some tens of images of each kind and AUROCs away from 1. Two
    detectors that order the images alike have the difference 0 and p = 1; where each image tells
    the same difference there is no variance, and p = 0 says no more than that. NaN, with a
    `PyimganoWarning`, without two images (groups) of each kind; a `ParameterError` if the
    confidence of the interval is no share.

    Examples
    --------
    >>> found = delong([0, 0, 0, 1, 1, 1], [1, 2, 5, 4, 6, 7], [1, 5, 6, 2, 4, 7])
    >>> round(found.difference, 3), round(found.p, 3)
    (0.333, 0.221)
    """
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence is a share above 0 and below 1, got {confidence}")
    for scores in (scores_a, scores_b):
        rank_scores(labels, scores)  # for its checks
    bad = np.asarray(labels) != 0
    parts = np.arange(bad.size) if groups is None else np.asarray(groups)
    if min(np.unique(parts[bad]).size, np.unique(parts[~bad]).size) < 2:
        undefined = figure("delong", "it needs two good and two defective images")
        return Comparison(*[undefined] * 6)
    found_a, passed_a = _placements(bad, np.asarray(scores_a))
    found_b, passed_b = _placements(bad, np.asarray(scores_b))
    auroc_a, auroc_b = math.fsum(found_a) / found_a.size, math.fsum(found_b) / found_b.size
    difference = auroc_a - auroc_b
    deviation = math.sqrt(
        _variance(found_a - found_b, parts[bad]) + _variance(passed_a - passed_b, parts[~bad])
    )
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * deviation
    if deviation:
        p = math.erfc(abs(difference) / deviation / math.sqrt(2))
    else:
        p = 0.0 if difference else 1.0
    return Comparison(auroc_a, auroc_b, difference, difference - reach, difference + reach, p)


def _variance(values: NDArray[np.float64], parts: NDArray[np.generic]) -> float:
    """Return the variance of the mean, where values of one part are no independent ones."""
    _, places = np.unique(parts, return_inverse=True)
    sums = np.bincount(places, values - values.mean())
    return float(sums.size / (sums.size - 1) * (sums**2).sum() / values.size**2)


def _placements(
    bad: NDArray[np.bool_], scores: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of good images below each defective one, and of defective above each good.

    A mid-rank among all images, less that within the own kind, counts the other kind below.
    """
    from scipy.stats import rankdata

    together = rankdata(scores)
    below = together[bad] - rankdata(scores[bad])
    above = bad.sum() - (together[~bad] - rankdata(scores[~bad]))
    return below / (~bad).sum(), above / bad.sum()

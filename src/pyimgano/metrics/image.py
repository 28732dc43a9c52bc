"""Metrics of scores: AUROC, average precision and F1-max, for images or, from ranks, for pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.metrics.ranks import rank_scores
from pyimgano.metrics.scorecard import METRICS, figure
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyimgano.metrics.ranks import Ranks

__all__ = ["auroc", "auroc_of", "average_precision", "average_precision_of", "f1_max", "f1_max_of"]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve, from labels and scores as `evaluate_scores` takes them.

    It is the probability that a defective image scores above a good one, ties counted half. NaN,
    with a `PyimganoWarning`, if one kind of image is missing.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return figure("auroc", auroc_of(rank_scores(labels, scores)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision: the mean of the precision over the recall, in steps.

    The trapezoidal area under the precision-recall curve is another and a wrong number: it gives
    less than 1 to a perfect detector. Labels and scores are as of `evaluate_scores`. In (0, 1];
    NaN, with a `PyimganoWarning`, if no image is defective.
    """
    return figure("ap", average_precision_of(rank_scores(labels, scores)))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the largest F1 of any threshold: an oracle figure, tuned on these very labels.

    No threshold that was set beforehand can be better. `evaluate_scores` also gives the threshold,
    and says what labels and scores are. In (0, 1]; NaN, with a `PyimganoWarning`, if no image is
    defective.
    """
    return figure("f1max", f1_max_of(rank_scores(labels, scores))[0])


def auroc_of(ranks: Ranks) -> float | str:
    """Return the area under the ROC curve, or why it is undefined.

    The sum is kept in whole numbers until the one division.
    """
    if ranks.lack:
        return ranks.lack
    beaten = ranks.counts * (2 * ranks.n_normal - ranks.above - ranks.at_or_above)
    return int(beaten.sum()) / (2 * ranks.n_defective * ranks.n_normal)


def average_precision_of(ranks: Ranks) -> float | str:
    """Return the average precision, or why it is undefined."""
    if not ranks.n_defective:
        return ranks.lack
    found = _found(ranks)
    precision = found / (found + ranks.at_or_above)
    return float((ranks.counts * precision).sum()) / ranks.n_defective


def f1_max_of(ranks: Ranks) -> tuple[float, float] | tuple[str, str]:
    """Return the oracle F1 and its threshold, or twice why they are undefined.

    The threshold is the lowest of the best ones; what scores at or above it is called defective.
    """
    if not ranks.n_defective:
        return ranks.lack, ranks.lack
    found = _found(ranks)
    f1 = 2 * found / (found + ranks.at_or_above + ranks.n_defective)
    best = int(np.argmax(f1))
    return float(f1[best]), float(ranks.scores[best])


def _found(ranks: Ranks) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of defective units at or above each of the distinct scores."""
    return np.cumsum(ranks.counts[::-1])[::-1]


METRICS.register(
    "auroc", Metadata(summary="Area under the ROC curve of the image scores.", maps=False)
)(lambda evidence: {"auroc": auroc_of(evidence.ranks)})
METRICS.register("ap", Metadata(summary="Average precision of the image scores.", maps=False))(
    lambda evidence: {"ap": average_precision_of(evidence.ranks)}
)
METRICS.register(
    "f1max", Metadata(summary="Oracle: largest F1 of any threshold on image scores.", maps=False)
)(lambda evidence: dict(zip(("f1max", "f1max_threshold"), f1_max_of(evidence.ranks), strict=True)))

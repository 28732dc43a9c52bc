"""All metrics at once: the table of metrics, and the two functions that fill in a scorecard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyimgano.errors import ParameterError, PyimganoWarning
from pyimgano.metrics.ranks import Ranks, rank_maps, rank_scores
from pyimgano.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from pyimgano.metrics.ranks import Maps, Masks


__all__ = ["METRICS", "Evidence", "Metric", "evaluate_maps", "evaluate_scores", "figure", "fill_in"]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a metric may look at: the counts that all share, and what was ranked.

    Masks and maps are empty when only scores are evaluated. ``limits`` are false-positive rates, up
    to which areas are taken.
    """

    ranks: Ranks
    masks: Masks = ()
    maps: Maps = ()
    limits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for limit in self.limits:
            if not 0 < limit <= 1:
                raise ParameterError(
                    f"limit is a false-positive rate above 0 and at most 1, got {limit!r}"
                )


Metric = Callable[[Evidence], Mapping[str, float | str]]
"""Figures by name; an undefined figure is the reason, in words."""

METRICS: Registry[Metric] = Registry("metric", package="pyimgano.metrics", group="pyimgano.metrics")
"""``Metadata.maps`` tells the metrics of maps (`evaluate_maps`) from those of scores."""


def evaluate_scores(labels: ArrayLike, scores: ArrayLike) -> dict[str, Any]:
    """Evaluate image scores with every metric of scores.

    Parameters
    ----------
    labels : array-like of int or bool, shape (n,)
        0 good, 1 defective.
    scores : array-like of real numbers, shape (n,)
        Higher is more anomalous; infinities are legal.

    Returns
    -------
    dict
        ``auroc``, ``ap``, ``f1max`` and ``f1max_threshold`` (both oracle figures: tuned on these
        very labels), and ``undefined``: the reason for each figure that is NaN.

    Raises
    ------
    MetricError
        If shapes or types do not fit, a label is neither 0 nor 1, or a score is NaN.

    Examples
    --------
    >>> card = evaluate_scores([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> card["auroc"], card["f1max_threshold"], card["undefined"]
    (0.75, 0.35, {})
    """
    return fill_in(Evidence(rank_scores(labels, scores)), maps=False)


def evaluate_maps(
    masks: Masks, maps: Maps, limits: Sequence[float] = (0.3, 0.05)
) -> dict[str, Any]:
    """Evaluate anomaly maps with every metric of maps.

    Parameters
    ----------
    masks : sequence of ((H, W) array of bool or int, or None)
        Non-zero where defective; None is a good image.
    maps : sequence of (H, W) arrays of real numbers
        Higher is more anomalous; infinities are legal. All of one dtype; sizes may differ. An (n,
        H, W) array works too.
    limits : sequence of float
        False-positive rates at which AUPRO is cut.

    Returns
    -------
    dict
        ``pixel_auroc``, ``pixel_ap``, ``pixel_f1max`` and ``pixel_f1max_threshold`` (both oracle
        figures: tuned on these very masks), ``aupro_<limit>`` for each limit, ``n_regions``,
        ``aupimo``, and ``undefined``: the reason for each figure that is NaN.

    Raises
    ------
    MetricError
        If numbers of images, shapes or dtypes do not fit, or a map holds NaN.
    ParameterError
        If a limit is not above 0 and at most 1.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.array([[[0.9, 0.2], [0.1, 0.3]], [[0.0, 0.4], [0.1, 0.2]]])
    >>> card = evaluate_maps([np.array([[1, 0], [0, 0]]), None], maps)
    >>> card["pixel_auroc"], card["aupro_0.3"], card["n_regions"]
    (1.0, 1.0, 1)
    """
    checked = tuple(float(limit) for limit in limits)
    return fill_in(Evidence(rank_maps(masks, maps), masks, maps, checked), maps=True)


def figure(name: str, value: float | str) -> float:
    """Return a figure, or NaN with a `PyimganoWarning` that states why it is undefined."""
    if isinstance(value, str):
        warnings.warn(f"{name} is undefined: {value}", PyimganoWarning, stacklevel=3)
        return math.nan
    return value


def fill_in(evidence: Evidence, *, maps: bool) -> dict[str, Any]:
    """Fill in the card of scores or of maps from ranks that were counted before."""
    card: dict[str, Any] = {}
    for entry in METRICS.entries():
        if entry.metadata.maps is maps:
            card.update(entry.value(evidence))
    undefined = {name: value for name, value in card.items() if isinstance(value, str)}
    return {**card, **dict.fromkeys(undefined, math.nan), "undefined": undefined}

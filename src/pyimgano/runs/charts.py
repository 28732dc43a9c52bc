"""The curves of a report as SVG paths, and where the threshold stands on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.metrics.curves import Curve, roc_curve
from pyimgano.metrics.ranks import rank_scores
from pyimgano.records import DEFECT, GOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Chart", "pro_chart", "roc_chart"]

SIDE = 200  # of the plot, in units of its SVG
_DRAWN = 1000


@dataclass(frozen=True, slots=True)
class Chart:
    """A curve in a square of `SIDE` units.

    Parameters
    ----------
    title, x_name, y_name : str
        What is drawn, over what.
    path : str
        The curve, y downwards.
    x_end : float
        The rate at the right edge.
    at : (float, float) or None
        Where the threshold stands, in units of the plot.
    """

    title: str
    x_name: str
    y_name: str
    path: str
    x_end: float
    at: tuple[float, float] | None


def roc_chart(rows: Iterable[Mapping[str, Any]], threshold: float | None) -> Chart | None:
    """Draw the ROC curve of the labelled rows; None if one kind of image is missing."""
    pairs = ((row["label"], row["score"]) for row in rows)
    known = np.array([pair for pair in pairs if None not in pair], np.float64).reshape(-1, 2)
    labels, scores = known[:, 0].astype(np.int64), known[:, 1]
    curve = roc_curve(rank_scores(labels, scores))
    if curve is None:
        return None
    at = None
    if threshold is not None:
        rates = [float((scores[labels == kind] > threshold).mean()) for kind in (GOOD, DEFECT)]
        at = (SIDE * rates[0], SIDE * (1 - rates[1]))
    names = ("ROC, images", "good parts rejected", "defects caught")
    return Chart(*names, _path(curve.thin(_DRAWN), 1.0), 1.0, at)


def pro_chart(facts: Mapping[str, Any]) -> Chart | None:
    """Draw the PRO curve that the run noted; None if it noted none."""
    noted = (facts.get("curves") or {}).get("pro")
    if not noted:
        return None
    curve = Curve(np.array(noted["x"], np.float64), np.array(noted["y"], np.float64))
    end = float(curve.x[-1])
    names = ("PRO, pixels", "normal pixels above", "overlap with each defect")
    return Chart(*names, _path(curve, end), end, None)


def _path(curve: Curve, end: float) -> str:
    points = zip(SIDE * curve.x / end, SIDE * (1 - curve.y), strict=True)
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)

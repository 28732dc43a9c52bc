"""The drawings of a comparison: ROC curves on one another, and the scores of two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.runs.charts import SIDE, roc_chart
from pyimgano.runs.comparison_pairs import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.runs.charts import Chart
    from pyimgano.runs.report_tables import Row

__all__ = ["Scores", "roc_lines", "score_map"]

_DRAWN = 3000


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of two runs, each over its threshold, on logarithmic axes of one scale."""

    dots: list[tuple[str, float, float]]  # kind of image, and place
    at: float  # where the threshold stands, from the left and from below
    low: float  # ends of both axes, in thresholds
    high: float


def roc_lines(tables: Sequence[Sequence[Row]], labels: Sequence[int | None]) -> list[Chart]:
    """Draw the ROC curve of each run, with its threshold; none if one kind of image is missing."""
    charts = []
    for rows in tables:
        truth = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
        threshold = next((row["threshold"] for row in rows if row["threshold"] is not None), None)
        charts.append(roc_chart(truth, threshold))
    return [chart for chart in charts if chart] if all(charts) else []


def score_map(tables: Sequence[Sequence[Row]], labels: Sequence[int | None]) -> Scores | None:
    """Draw two runs; None where one has no threshold above zero or nothing was scored by both."""
    found: list[tuple[str, float, float]] = []
    for label, *rows in zip(labels, *tables, strict=True):
        a, b = (_ratio(row) for row in rows)
        if a and b:
            found.append((KINDS[label], math.log10(a), math.log10(b)))
    if not found:
        return None
    values = [value for _, *pair in found for value in pair]
    low, high = min(*values, -0.1), max(*values, 0.1)
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)

    def place(value: float) -> float:
        return SIDE * (value - low) / (high - low)

    drawn = found[:: -(-len(found) // _DRAWN)]
    dots = [(kind, place(a), SIDE - place(b)) for kind, a, b in drawn]
    return Scores(dots, place(0.0), 10**low, 10**high)


def _ratio(row: Row) -> float | None:
    """Return a score in thresholds; None of what has no logarithm."""
    if row["score"] is None or not row["threshold"] or row["threshold"] <= 0 or row["score"] <= 0:
        return None
    return float(row["score"] / row["threshold"])

"""The histogram of a report: where the scores of each kind of image lie, and the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.records import DEFECT, GOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["Histogram", "Lane", "histogram"]

BINS = 60


@dataclass(frozen=True, slots=True)
class Lane:
    """A histogram of one kind of images: bars as (left, width, height, text) in percent.

    Even one image is high enough to be seen.
    """

    name: str
    count: int
    bars: tuple[tuple[float, float, float, str], ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Lanes over one axis from ``low`` to ``high``; places on it are percent of its width.

    If ``logarithmic``, both ends are exponents of ten.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, float], ...]
    threshold: float | None
    low: float
    high: float
    logarithmic: bool


def histogram(rows: Iterable[Mapping[str, Any]], threshold: float | None) -> Histogram | None:
    """Bin the scores of the rows of a run; None if none was judged.

    The axis is logarithmic where positive scores span more than a factor of 20.
    """
    judged = [(row["score"], row["label"]) for row in rows if row["score"] is not None]
    if not judged:
        return None
    scores = np.array([score for score, _ in judged])
    everything = scores if threshold is None else np.append(scores, threshold)
    low, high = float(everything.min()), float(everything.max())
    logarithmic = low > 0 and high > 20 * low
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return 100 * ((math.log10(value) if logarithmic else value) - low) / (high - low)

    places = np.array([place(score) for score in scores.tolist()])
    kinds = (("good", GOOD), ("defective", DEFECT), ("unlabelled", None))
    at = None if threshold is None else place(threshold)
    lanes = tuple(
        _lane(name, places[mask], at or 0.0)
        for name, label in kinds
        if (mask := np.array([found == label for _, found in judged])).any()
    )
    ticks = tuple((place(tick), tick) for tick in _ticks(low, high, logarithmic))
    return Histogram(lanes, ticks, at, low, high, logarithmic)


def _lane(name: str, places: NDArray[np.float64], at: float) -> Lane:
    """Count in bins of which none lies on both sides of the threshold."""
    start = at % (100 / BINS) + 1e-9  # a score equal to the threshold is still OK
    edges = start + 100 / BINS * np.arange(-1, BINS + 1)
    counts = np.histogram(places, bins=edges)[0]
    bars = tuple(
        (float(edge), 100 / BINS, max(3.0, 100 * int(count) / int(counts.max())), f"{count} {name}")
        for count, edge in zip(counts, edges, strict=False)
        if count
    )
    return Lane(name, places.size, bars)


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return round numbers inside the range (exponents of ten if logarithmic)."""
    if logarithmic and high - low > 1.2:
        decades = range(math.floor(low), math.ceil(high) + 1)
        leads = (1, 3) if high - low < 3 else (1,)
        marks = [lead * 10.0**decade for decade in decades for lead in leads]
        return [mark for mark in marks if low <= math.log10(mark) <= high]
    start, end = (10**low, 10**high) if logarithmic else (low, high)
    rough = (end - start) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(lead for lead in (1, 2, 5, 10) if lead * unit >= rough)
    return [step * i for i in range(math.ceil(start / step), math.floor(end / step) + 1)]

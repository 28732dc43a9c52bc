"""The drawings of a leaderboard: critical differences, and accuracy over cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyimgano.runs.leaderboard_methods import Method
    from pyimgano.runs.leaderboard_ranks import Ranking

__all__ = ["Differences", "Scatter", "differences", "scatter"]

WIDTH, HEIGHT = 880, 340  # of the scatter's plot
_LETTER = 6.9  # width of a letter of a name, about
_MARGIN = (170.0, 400.0)  # least and most room of the names on a side
_ABOVE, _BAR, _LINE = 66, 10, 26  # heights: of all above the axis, of a bar, of a name
_FULL = 1080
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Differences:
    """Critical differences (Demsar 2006): names at their ranks, equals tied by bars."""

    height: float  # of the drawing, which is 1080 wide
    axis: tuple[float, float, float]  # where it begins, ends, and how high it lies
    ticks: list[tuple[float, int]]  # place and rank
    names: list[tuple[str, float, float, float, bool]]  # with rank, place, height, if on the left
    bars: list[tuple[float, float, float]]  # left, right, height
    ruler: tuple[float, float]  # ends of a line as long as the critical difference


@dataclass(frozen=True, slots=True)
class Scatter:
    """Accuracy over milliseconds an image, and a line through those that none beats in both."""

    x_ticks: list[tuple[float, float]]  # place and value
    y_ticks: list[tuple[float, float]]  # place and value
    # Number, method, x, y, ends of its interval, and whether it stands on that line.
    points: list[tuple[int, Method, float, float, float, float, bool]]
    front: str  # the line, as a path


def differences(names: list[str], ranking: Ranking) -> Differences | None:
    """Draw average ranks with their critical difference; None without a test."""
    if ranking.lack:
        return None
    k = len(names)
    left = min(max(_MARGIN[0], 85 + _LETTER * max(map(len, names))), _MARGIN[1])
    right = _FULL - left

    def place(rank: float) -> float:
        return left + (right - left) * (rank - 1) / (k - 1)

    groups = ranking.groups
    below = _ABOVE + 14 + _BAR * len(groups) + 14
    ordered = sorted(zip(ranking.ranks, names, strict=True))
    half = math.ceil(k / 2)
    drawn: list[tuple[str, float, float, float, bool]] = []
    for i, (rank, name) in enumerate(ordered):
        row = i if i < half else k - 1 - i
        drawn.append((name, rank, place(rank), below + _LINE * row, i < half))
    return Differences(
        height=below + _LINE * (half - 1) + 14,
        axis=(left, right, _ABOVE),
        ticks=[(place(rank), rank) for rank in range(1, k + 1)],
        names=drawn,
        bars=[
            (place(low) - 5, place(high) + 5, _ABOVE + 14 + _BAR * i)
            for i, (low, high) in enumerate(groups)
        ],
        ruler=(left, left + (right - left) * ranking.distance / (k - 1)),
    )


def scatter(methods: list[Method], column: str) -> Scatter | None:
    """Draw the methods whose figure and time are both known; None of fewer than two."""
    known: list[tuple[int, Method, float, float, float, float]] = []
    for number, method in enumerate(methods, 1):
        figure, cost = method.figure(column), method.mean("ms_per_image")
        if figure is not None and cost:
            low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
            known.append((number, method, cost, figure.value, low, high))
    if len(known) < 2:
        return None
    ticks = _ticks([cost for _, _, cost, *_ in known])
    first, last = ticks[0], ticks[-1]
    bottom, step = _floor(min(low for *_, low, _ in known))

    def x(cost: float) -> float:
        return WIDTH * math.log10(cost / first) / math.log10(last / first)

    def y(value: float) -> float:
        return HEIGHT * (1 - value) / (1 - bottom)

    best = [  # faster or better than each of the others, or their equal in both
        all((c, v) == (cost, value) or c > cost or v < value for _, _, c, v, *_ in known)
        for _, _, cost, value, *_ in known
    ]
    front = sorted((x(p[2]), y(p[3])) for p, good in zip(known, best, strict=True) if good)
    return Scatter(
        x_ticks=[(x(tick), tick) for tick in ticks],
        y_ticks=[
            (y(bottom + i * step), bottom + i * step) for i in range(round((1 - bottom) / step) + 1)
        ],
        points=[
            (number, method, x(cost), y(value), y(low), y(high), good)
            for (number, method, cost, value, low, high), good in zip(known, best, strict=True)
        ],
        front="M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in front),
    )


def _ticks(costs: list[float]) -> list[float]:
    """Return 1, 2 and 5 of each decade, from below all costs to above."""
    low, high = min(costs) / 1.3, max(costs) * 1.3
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
    first = max(step for step in steps if step <= low)
    last = min(step for step in steps if step >= high)
    return [step for step in steps if first <= step <= last]


def _floor(lowest: float) -> tuple[float, float]:
    """Return the value at the bottom and the step between lines, about five of them."""
    room = max(1 - lowest, 0.005) * 1.05
    step = next((step for step in _STEPS if room / step <= 6), _STEPS[-1])
    return 1 - step * math.ceil(room / step), step

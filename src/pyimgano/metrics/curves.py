"""Curves to look at: ROC of units and PRO of regions, ties merged, thin enough to be drawn.

A vertex lies before and behind each distinct score of the defects: between two of them only
normals are passed, which is a horizontal line, and a tie of both kinds is a straight slope. So the
lines between these vertices are the curve, and the area below is the figure of its metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.metrics.ranks import Ranks

__all__ = ["Curve", "pro_curve", "roc_curve"]

POINTS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A rising line: false-positive rate and share of the defects that is found, shape (m,)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def until(self, limit: float) -> Curve:
        """Cut at a false-positive rate, on the line between two vertices if it lies there."""
        inside = int(np.searchsorted(self.x, limit, "right"))
        end = np.interp(limit, self.x, self.y) if inside < self.x.size else self.y[-1]
        return Curve(np.append(self.x[:inside], limit), np.append(self.y[:inside], end))

    def thin(self, points: int = POINTS) -> Curve:
        """Keep at most so many vertices, 4 or more, at equal steps along the curve.

        Where x and y are divided by their ranges, no vertex that was dropped is farther than
        4 / (points - 3) from the new line, in x or in y, and the area changes by at most
        1 / (points - 3).
        """
        if points < 4:
            raise ParameterError(f"a curve needs at least 4 points, got {points}")
        if self.x.size <= points:
            return self
        spans = [max(float(axis[-1] - axis[0]), 1e-300) for axis in (self.x, self.y)]
        walked = (self.x - self.x[0]) / spans[0] + (self.y - self.y[0]) / spans[1]
        # Both ends of a step, so that a jump stays a jump.
        step = np.floor(walked / walked[-1] * (points // 2 - 1)).astype(np.int64)
        first = np.flatnonzero(np.diff(step, prepend=-1))
        keep = np.union1d(first, np.append(first[1:] - 1, self.x.size - 1))
        return Curve(self.x[keep], self.y[keep])


def roc_curve(ranks: Ranks) -> Curve | None:
    """Return the ROC curve, exact; None where one kind of unit is missing.

    Examples
    --------
    >>> from pyimgano.metrics.ranks import rank_scores
    >>> curve = roc_curve(rank_scores([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    >>> curve.x.tolist(), curve.y.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    return None if ranks.lack else _climb(ranks, ranks.counts / ranks.n_defective)


def pro_curve(ranks: Ranks, limit: float = 0.3) -> Curve | None:
    """Return the per-region overlap up to a false-positive rate, exact; None where undefined.

    Every region weighs the same. Source: Bergmann et al., IJCV 2021, section 5.
    """
    if not 0 < limit <= 1:
        raise ParameterError(f"limit is a false-positive rate above 0 and at most 1, got {limit!r}")
    if ranks.lack:
        return None
    weights = (1 / (ranks.areas * ranks.images.size))[ranks.regions]
    steps = np.add.reduceat(weights, np.cumsum(ranks.counts) - ranks.counts)
    return _climb(ranks, steps).until(limit)


def _climb(ranks: Ranks, steps: NDArray[np.float64]) -> Curve:
    """Take the scores from the top; each adds its step over the normals that are tied with it."""
    behind = np.minimum(np.cumsum(steps[::-1]), 1.0)
    behind[-1] = 1.0
    x = np.column_stack([ranks.above[::-1], ranks.at_or_above[::-1]]).ravel() / ranks.n_normal
    y = np.column_stack([np.append(0.0, behind[:-1]), behind]).ravel()
    x, y = np.concatenate(([0.0], x, [1.0])), np.concatenate(([0.0], y, [1.0]))
    bends = np.append((np.diff(x) > 0) | (np.diff(y) > 0), True)
    return Curve(x[bends], y[bends])

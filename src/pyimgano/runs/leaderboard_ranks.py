"""Whether methods differ over several categories: average ranks, Friedman, Nemenyi.

Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ALPHA", "Ranking", "rank_methods"]

ALPHA = 0.05
ENOUGH = 6  # categories; below, no order of a few methods is rare enough under chance
_DIGITS = 9  # beyond them, figures that are equal differ by rounding


@dataclass(frozen=True, slots=True)
class Ranking:
    """How methods stand to each other over ``n`` categories.

    Average ``ranks``: 1 is the best, ties share theirs. ``lack`` tells why there is no test, whose
    numbers are NaN then: Friedman's ``chi2``, corrected for ties; that of Iman and Davenport,
    ``f``, which is less conservative, and the probability ``p`` of one as large if the methods do
    not differ. Average ranks that are farther apart than ``distance`` differ (Nemenyi, at `ALPHA`).
    """

    ranks: tuple[float, ...]
    n: int
    lack: str = ""
    chi2: float = math.nan
    f: float = math.nan
    p: float = math.nan
    distance: float = math.nan

    @property
    def groups(self) -> list[tuple[float, float]]:
        """Largest runs of two or more ranks, best to worst, that no distance separates."""
        ordered = sorted(self.ranks)
        found: list[tuple[float, float]] = []
        for i, first in enumerate(ordered):
            last = max(rank for rank in ordered if rank <= first + self.distance)
            if ordered.index(last) + ordered.count(last) - i > 1 and (
                not found or last > found[-1][1]
            ):
                found.append((first, last))
        return found


def rank_methods(figures: ArrayLike) -> Ranking:
    """Rank methods in each category, and test whether the ranks differ beyond chance.

    ``figures``, of shape (categories, methods), are better if higher; none is missing. There is no
    test for fewer than three methods or six categories, where it has no power.

    Examples
    --------
    >>> ranking = rank_methods([[0.9, 0.8, 0.7]] * 5 + [[0.9, 0.7, 0.8]])
    >>> [round(rank, 2) for rank in ranking.ranks], round(ranking.distance, 2)
    ([1.0, 2.17, 2.83], 1.35)
    """
    from scipy.stats import f as fisher
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    values = np.round(np.asarray(figures, np.float64), _DIGITS)
    n, k = values.shape
    places = rankdata(-values, axis=1)
    ranks = tuple(places.mean(axis=0).tolist())
    if k < 3:
        named = "one method" if k == 1 else "two methods"
        return Ranking(ranks, n, f"{named} cannot be ranked by Friedman's test: it takes three")
    if n < ENOUGH:
        named = "one category" if n == 1 else f"{n} categories"
        return Ranking(ranks, n, f"{named} give the test no power: it takes {ENOUGH}")
    distance = float(studentized_range.isf(ALPHA, k, np.inf)) * math.sqrt(k * (k + 1) / (12 * n))
    if (values == values[:, :1]).all():
        return Ranking(ranks, n, chi2=0.0, f=0.0, p=1.0, distance=distance)
    chi2 = float(friedmanchisquare(*values.T).statistic)
    left = n * (k - 1) - chi2  # nothing, if all categories agree on the order
    f = (n - 1) * chi2 / left if left > 1e-9 * chi2 else math.inf
    p = float(fisher.sf(f, k - 1, (k - 1) * (n - 1)))
    return Ranking(ranks, n, chi2=chi2, f=f, p=p, distance=distance)

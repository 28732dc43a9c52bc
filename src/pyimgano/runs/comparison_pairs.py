"""Two runs on the same images: what one alone catches, and whether that is chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.inspection import Verdict
from pyimgano.metrics.delong import delong
from pyimgano.records import DEFECT, GOOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.metrics.delong import Comparison
    from pyimgano.runs.report_tables import Row

__all__ = ["KINDS", "Discordance", "Pair", "compare", "holm", "mcnemar"]

KINDS = {DEFECT: "defective", GOOD: "good", None: "unlabelled"}


@dataclass(frozen=True, slots=True)
class Discordance:
    """Images of one kind that exactly one of two runs judged NG."""

    kind: str
    n: int  # images that both judged
    only_a: int  # NG in one run alone
    only_b: int

    @property
    def p(self) -> float:
        """Two-sided probability of so uneven a split, if the runs judge alike."""
        return mcnemar(self.only_a, self.only_b)


@dataclass(frozen=True, slots=True)
class Pair:
    """How two runs compare."""

    a: int
    b: int
    auroc: Comparison | None  # where both kinds of image were scored at least twice
    discordances: list[Discordance]
    verdicts: Counter[tuple[str, str]]

    @property
    def equal(self) -> int:
        """How many images have the same verdict in both."""
        return sum(n for (a, b), n in self.verdicts.items() if a == b)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p of McNemar's exact test (Psychometrika 1947).

    Of images that the two judge differently, each side is as likely if neither is better: the
    smaller count is binomial. Images that both judge alike say nothing of a difference.

    Examples
    --------
    >>> round(mcnemar(1, 9), 4)
    0.0215
    """
    from scipy.stats import binom

    differing = only_a + only_b
    return min(1.0, 2 * float(binom.cdf(min(only_a, only_b), differing, 0.5)))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values of several tests, each as large as if it were the only one (Holm, 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    found, least = dict[int, float](), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = least
    return [found[i] for i in range(len(ps))]


def compare(common: Sequence[Sequence[Row]], labels: Sequence[int | None], a: int, b: int) -> Pair:
    """Compare runs ``a`` and ``b`` on images in common: a row of each run for each image."""
    pairs = [(label, rows[a], rows[b]) for label, rows in zip(labels, common, strict=True)]
    found = []
    for label, kind in KINDS.items():
        verdicts = [
            (x["verdict"], y["verdict"])
            for known, x, y in pairs
            if known == label and {x["verdict"], y["verdict"]} <= {Verdict.OK, Verdict.NG}
        ]
        if verdicts:
            only_a, only_b = (Verdict.NG, Verdict.OK), (Verdict.OK, Verdict.NG)
            counts = (verdicts.count(only_a), verdicts.count(only_b))
            found.append(Discordance(kind, len(verdicts), *counts))
    return Pair(
        a, b, _auroc(pairs), found, Counter((x["verdict"], y["verdict"]) for _, x, y in pairs)
    )


def _auroc(pairs: list[tuple[int | None, Row, Row]]) -> Comparison | None:
    scored = [
        (label, x["score"], y["score"])
        for label, x, y in pairs
        if label is not None and x["score"] is not None and y["score"] is not None
    ]
    counts = Counter(label for label, _, _ in scored)
    if min(counts[GOOD], counts[DEFECT]) < 2:
        return None
    return delong(*np.array(scored, np.float64).T)

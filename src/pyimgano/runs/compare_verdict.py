"""Which configuration is best, whether that is chance, and which one is taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.inspection import Verdict
from pyimgano.metrics.delong import delong
from pyimgano.metrics.rates import Rate
from pyimgano.models import DEFAULT
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.comparison_pairs import holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.metrics.delong import Comparison
    from pyimgano.runs.compare_case import Case
    from pyimgano.runs.compare_trial import Trial

__all__ = ["Outcome", "Standing", "judge"]

LEAST = 10  # parts of each kind from which on a difference can be told from chance
_LEVEL = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How one configuration does on some of the images.

    ``auroc`` with ends of its 95 % interval (None where there is no variance to tell it from),
    ``caught`` of the defects at the calibrated threshold, and ``errors``: images, good ones too,
    that it could not judge.
    """

    trial: Trial
    auroc: float | None
    low: float | None
    high: float | None
    caught: Rate
    errors: int


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """All configurations, the best first, and what follows.

    Attributes
    ----------
    standings : list of Standing
        On the images that choose.
    taken : Trial
        The one to keep.
    reported : Standing or None
        Of the one that is taken, on the images that did not choose; None where all did.
    p : float or None
        Whether first and second differ, after Holm's correction for all pairs.
    difference, choice : str
        In words: whether first and second differ, and what is taken for what reason.
    """

    standings: list[Standing]
    taken: Trial
    reported: Standing | None
    p: float | None
    difference: str
    choice: str


def judge(trials: Sequence[Trial], case: Case) -> Outcome:
    """Rank configurations by AUROC on the images that choose, and take one.

    The best is taken if it is better than each other one beyond chance. Of those that chance may
    have ordered, the default is taken if it is among them, else the cheapest. An image that none
    could judge counts for nothing; one that only some could judge counts against the others, as if
    a defect had the lowest score, or a good part the highest.

    Parameters
    ----------
    trials : sequence of Trial
        At least one, the cheapest first.
    case : Case
        What they were tried on.
    """
    usable = np.isfinite([trial.inspections.scores for trial in trials]).any(axis=0)
    chosen = case.choosing & usable
    standings = sorted((_stand(t, case, chosen) for t in trials), key=lambda s: -(s.auroc or 0))
    ranked = [standing.trial for standing in standings]
    ps, found = _differences(ranked, case, chosen)
    tied = [t for i, t in enumerate(ranked) if not i or ps.get((0, i), 1.0) >= _LEVEL]
    ordered = [trial for trial in trials if trial in tied]
    usual = [t for t in trials if t.choice.detector == DEFAULT][-1:]
    taken = tied[0] if len(tied) == 1 else next((t for t in usual if t in tied), ordered[0])
    reported = _stand(taken, case, ~case.choosing & usable) if case.halved else None
    counts = [np.unique(case.groups[chosen & (case.labels == k)]).size for k in (GOOD, DEFECT)]
    return Outcome(
        standings,
        taken,
        reported,
        ps.get((0, 1)),
        _difference(found, ps, counts),
        _told(len(ranked), len(tied), "the default" if taken in usual else "the cheapest"),
    )


def _differences(
    ranked: Sequence[Trial], case: Case, chosen: NDArray[np.bool_]
) -> tuple[dict[tuple[int, int], float], Comparison | None]:
    """Compare all pairs; return the p of each, and how the first two compare."""
    labels, groups = case.labels[chosen], case.groups[chosen]
    if min(np.unique(groups[labels == kind]).size for kind in (GOOD, DEFECT)) < LEAST:
        return {}, None
    scores = [_scores(trial, case)[chosen] for trial in ranked]
    pairs = list(combinations(range(len(ranked)), 2))
    found = [delong(labels, scores[a], scores[b], groups=groups) for a, b in pairs]
    ps = holm([each.p for each in found])
    return dict(zip(pairs, ps, strict=True)), found[0] if found else None


def _scores(trial: Trial, case: Case) -> NDArray[np.float64]:
    """Return the scores; what could not be judged counts against the one that could not."""
    scores = trial.inspections.scores
    worst = np.where(case.labels == DEFECT, -np.inf, np.inf)
    return np.where(np.isnan(scores), worst, scores)


def _stand(trial: Trial, case: Case, chosen: NDArray[np.bool_]) -> Standing:
    labels, scores = case.labels[chosen], _scores(trial, case)[chosen]
    judged = [one for one, mine in zip(trial.inspections, chosen, strict=True) if mine]
    defects = [one for one, label in zip(judged, labels, strict=True) if label == DEFECT]
    caught = Rate(sum(one.verdict is Verdict.NG for one in defects), len(defects))
    # All images count here: what nobody could judge is an error of each.
    errors = Counter(one.verdict for one in trial.inspections)[Verdict.ERROR]
    kinds = [np.unique(case.groups[chosen][labels == kind]).size for kind in (GOOD, DEFECT)]
    if min(kinds) < 2:
        return Standing(trial, None, None, None, caught, errors)
    flat = np.zeros(len(scores))  # against chance, whose AUROC is 0.5 without variance
    found = delong(labels, scores, flat, groups=case.groups[chosen])
    if found.low == found.high:
        return Standing(trial, found.auroc_a, None, None, caught, errors)
    ends = (max(0.0, 0.5 + found.low), min(1.0, 0.5 + found.high))
    return Standing(trial, found.auroc_a, *ends, caught, errors)


def _difference(
    found: Comparison | None, ps: dict[tuple[int, int], float], counts: Sequence[int]
) -> str:
    if found is None:
        if min(counts) >= LEAST:
            return "only one configuration was tried, so nothing was compared"
        return (
            f"{counts[0]} different good and {counts[1]} defective images are too few to tell a "
            f"difference from chance: {LEAST} of each are needed"
        )
    p = ps[0, 1]
    shown = "p < 0.0001" if p < 0.0001 else f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.4f}"
    test = "paired DeLong test" + (f", Holm over {len(ps)} pairs" if len(ps) > 1 else "")
    if not found.difference:
        return f"first and second have the same AUROC: no difference is real ({shown}, {test})"
    size = f"{found.difference:.3f} ({found.low:+.3f} to {found.high:+.3f})"
    if p < _LEVEL:
        return f"the first beats the second by {size}; that is real ({shown}, {test})"
    return f"first and second differ by {size}; that may be chance ({shown}, {test})"


def _told(tried: int, tied: int, kind: str) -> str:
    if tried == 1:
        return "the only one that was tried"
    if tied == 1:
        return "it is better than each of the others beyond chance"
    which = "all" if tied == tried else f"{tied} of {tried}"
    return f"{kind} of those that chance may have put in this order ({which})"

"""Choosing settings and an operating point with a few labelled defects, and what is certain of it.

Two choices, made on calibration images alone:

1. a *setting* of the post-processing, by AUROC, or with masks by the mean of AUROC and AUPRO 0.3,
   so that verdict and map both count. Defaults give way only to a setting whose paired gain is
   above chance: Student's t of the gain over its standard error (DeLong's components of each
   image, Biometrics 1988), at 5 % over all settings tried (Bonferroni). Where a detector does not
   take its score from the map, the settings are of the map alone, and without masks there are none;
2. an *operating point*, if the cost of an escape is given: the false-reject target with the least
   ``miss_cost * escape rate + false-reject rate``, where that is less than the default's by more
   than 1.645 standard errors of the paired difference, which count at least one image of each
   kind as if it had fallen otherwise.

What is stated of both is out of fold: five times both are chosen and the threshold set without a
fifth of the images, contiguous and by parts, which then are judged.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyimgano import calibration
from pyimgano.tuned import Tuned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.calibration import ThresholdRule
    from pyimgano.tuned import Setting

    Rows = NDArray[np.int64]

__all__ = ["Look", "Plan", "choose", "overlaps", "search"]

FOLDS = 5
LIMIT = 0.3
LEVEL = 0.05
CLEARLY = 1.645  # standard errors; one-sided 5 % of a normal deviate
TARGETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Look(NamedTuple):
    """What one setting makes of some images.

    ``normals`` (n, p): values on an even lattice of each map, NaN on defects. ``regions``: for
    each image the values inside each of its defects. Both are empty without masks.
    """

    scores: NDArray[np.float64]
    normals: NDArray[np.float32] | None = None
    regions: Sequence[Sequence[NDArray[np.float32]]] = ()

    def at(self, rows: Rows) -> Look:
        """Return what it makes of some of them."""
        if self.normals is None:
            return Look(self.scores[rows])
        regions = [self.regions[i] for i in rows.tolist()] if self.regions else ()
        return Look(self.scores[rows], self.normals[rows], regions)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is asked for: the rule of the threshold, its target, and what an escape costs."""

    rule: ThresholdRule
    contamination: float
    keep_suspects: bool = False
    miss_cost: float | None = None

    @property
    def targets(self) -> tuple[float, ...]:
        """False-reject targets to choose from; the first is the default."""
        if self.miss_cost is None:
            return (self.contamination,)
        return tuple(dict.fromkeys((self.contamination, *TARGETS)))

    def threshold(self, scores: NDArray[np.float64], target: float) -> float:
        """Return the threshold that scores of good images set."""
        return calibration.calibrate(
            scores,
            rule=self.rule,
            contamination=target,
            method="",
            keep_suspects=self.keep_suspects,
        ).threshold


class _Figures(NamedTuple):
    """A figure as the mean of one value a defect; and what each good image adds to its variance."""

    defects: NDArray[np.float64]
    goods: NDArray[np.float64]

    def gain(self, before: _Figures, least: tuple[float, float] = (0, 0)) -> tuple[float, float]:
        """Return the paired gain and its standard error, of which each kind has a least part."""
        pairs = self.defects - before.defects, self.goods - before.goods
        parts = [math.sqrt(pair.var(ddof=1) / pair.size) for pair in pairs]
        return float(pairs[0].mean()), math.hypot(*map(max, parts, least))


def overlaps(
    normals: NDArray[np.float32], regions: Sequence[Sequence[NDArray[np.float32]]]
) -> NDArray[np.float64]:
    """Return what each image adds to AUPRO 0.3, shape (m,), so that their mean is the AUPRO.

    Each pixel of a defect counts ``max(0, 1 - rate / 0.3)``, where ``rate`` is the share of the
    normal values above it: the area under its curve (see `pyimgano.metrics.regions`).

    Parameters
    ----------
    normals : ndarray of float32
        Values of normal pixels, of any shape; NaN is left out.
    regions : sequence of sequence of ndarray of float32
        Values inside each defect of each of m images.
    """
    values = np.sort(normals[~np.isnan(normals)])

    def area(pixels: NDArray[np.float32]) -> float:
        rate = 1 - _below(values, pixels) / max(1, values.size)
        return float(np.maximum(0, 1 - rate / LIMIT).mean())

    sums = np.array([sum(map(area, found)) for found in regions], np.float64)
    return sums * len(regions) / max(1, sum(map(len, regions)))


def _below(values: NDArray[Any], pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many of ascending values lie below each pixel; half of those that are equal."""
    left, right = np.searchsorted(values, pixels), np.searchsorted(values, pixels, "right")
    return np.asarray((left + right) / 2)


def _figures(good: Look, bad: Look) -> _Figures:
    n, m = good.scores.size, bad.scores.size
    defects = _below(np.sort(good.scores), bad.scores) / n
    goods = 1 - _below(np.sort(bad.scores), good.scores) / m
    if good.normals is None or bad.normals is None:
        return _Figures(defects, goods)
    pro = overlaps(np.concatenate([good.normals, bad.normals]), bad.regions)
    return _Figures((defects + pro) / 2, goods / 2)


def choose(goods: Sequence[Look], bads: Sequence[Look]) -> int:
    """Return the index of the setting to use: 0, the defaults, unless another is surely better.

    Parameters
    ----------
    goods, bads : sequence of Look
        What each setting makes of the good and of the defective images, at least two of each.
    """
    from scipy.stats import t

    figures = [_figures(good, bad) for good, bad in zip(goods, bads, strict=True)]
    if len(figures) == 1:
        return 0
    freedom = min(goods[0].scores.size, bads[0].scores.size) - 1
    needed = float(t.isf(LEVEL / (len(figures) - 1), freedom))
    gains = [figure.gain(figures[0]) for figure in figures]
    return max(
        (i for i, (gain, error) in enumerate(gains) if gain > needed * error and gain > 0),
        key=lambda i: gains[i][0],
        default=0,
    )


def _operate(good: NDArray[np.float64], bad: NDArray[np.float64], plan: Plan) -> float:
    """Return the target that costs least, the default unless another clearly costs less."""
    if plan.miss_cost is None:
        return plan.contamination
    costs = []
    for target in plan.targets:
        limit = plan.threshold(good, target)
        escapes, rejects = plan.miss_cost * (bad <= limit), good > limit
        costs.append(_Figures(-escapes - rejects.mean(), -rejects.astype(np.float64)))
    # Where no image falls otherwise, one of each kind might have: nothing seen is not certain.
    least = plan.miss_cost / bad.size, 1 / good.size
    gains = [cost.gain(costs[0], least) for cost in costs]
    best = max(range(len(gains)), key=lambda i: gains[i][0])
    gain, error = gains[best]
    return plan.targets[best if gain > CLEARLY * error else 0]


def search(
    settings: Sequence[Setting],
    looks: Sequence[tuple[Look, Look]],
    folds: tuple[Rows, Rows],
    plan: Plan,
) -> Tuned:
    """Choose a setting and an operating point, and say how that does out of fold.

    Parameters
    ----------
    settings : sequence of Setting
        The first are the defaults.
    looks : sequence of (Look, Look)
        What each makes of the good images and of the defects, out of sample.
    folds : (ndarray of int64 (n,), ndarray of int64 (m,))
        Fold of each good image and of each defect, 0 to 4; of no matter if nothing is chosen.
    plan : Plan
        Rule, target and cost.
    """
    goods, bads = [good for good, _ in looks], [bad for _, bad in looks]
    chosen, target = 0, plan.contamination
    if len(settings) * len(plan.targets) > 1:
        chosen = choose(goods, bads)
        target = _operate(goods[chosen].scores, bads[chosen].scores, plan)
        outcome = _out_of_fold(goods, bads, folds, plan)
    else:
        limit = plan.threshold(goods[0].scores, target)
        outcome = {
            **_counted(goods[0].scores, bads[0].scores, limit),
            **_counted(goods[0].scores, bads[0].scores, limit, "_before"),
        }
    return Tuned(
        setting=settings[chosen] if chosen else None,
        target=target,
        is_default_target=target == plan.contamination,
        miss_cost=plan.miss_cost,
        n_settings=len(settings),
        n_targets=len(plan.targets),
        objective="AUROC" if goods[0].normals is None else "mean of AUROC and AUPRO 0.3",
        map_alone=settings[0].sigma is not None and settings[0].aggregation is None,
        n_good=goods[0].scores.size,
        n_defect=bads[0].scores.size,
        **outcome,
    )


def _counted(
    good: NDArray[np.float64], bad: NDArray[np.float64], limit: float, ending: str = ""
) -> dict[str, Any]:
    return {
        f"caught{ending}": int((bad > limit).sum()),
        f"rejected{ending}": int((good > limit).sum()),
    }


def _out_of_fold(
    goods: Sequence[Look], bads: Sequence[Look], folds: tuple[Rows, Rows], plan: Plan
) -> dict[str, Any]:
    """Choose without each fold, then count and measure on it what was and was not chosen."""
    counts: Counter[str] = Counter()
    figures: dict[str, list[NDArray[np.float64]]] = {"before": [], "after": []}
    for fold in range(FOLDS):
        g, b = (np.flatnonzero(each != fold) for each in folds)
        held = [np.flatnonzero(each == fold) for each in folds]
        best = choose([look.at(g) for look in goods], [look.at(b) for look in bads])
        target = _operate(goods[best].scores[g], bads[best].scores[b], plan)
        for name, i, goal in (("before", 0, plan.contamination), ("after", best, target)):
            good, bad = goods[i].at(held[0]), bads[i].at(held[1])
            limit = plan.threshold(goods[i].scores[g], goal)
            ending = "_before" if name == "before" else ""
            counts.update(_counted(good.scores, bad.scores, limit, ending))
            figures[name].append(_figures(good, bad).defects)
    means = {name: float(np.concatenate(parts).mean()) for name, parts in figures.items()}
    return {**counts, **means}

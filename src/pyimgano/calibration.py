"""From out-of-sample scores of good images to a threshold, with what is certain about it.

Everything here assumes exchangeable images: same camera, light and process as in production.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from pyimgano.errors import CalibrationError, ParameterError
from pyimgano.records import Certainty
from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Calibration",
    "Choice",
    "Conformal",
    "Fixed",
    "Oracle",
    "Quantile",
    "Tail",
    "ThresholdRule",
    "calibrate",
    "counted",
    "false_reject_bound",
    "find_suspects",
    "robust_z",
    "suspicion",
]

CONFIDENCE = 0.95
SUSPECT_Z = 4.0
SUSPECT_SHARE = 0.1
_FEW = 0.05  # of the images; more than these are suspects only if they do not lie together
_TOGETHER = 0.75
SUSPECT_MINIMUM = 10
_MAD_TO_SIGMA = 1.482602218505602


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and the rank (from the top) of the score that bounds its false rejects."""

    value: float
    rank: int
    rule: str
    certified: bool


@runtime_checkable
class ThresholdRule(Protocol):
    """How a threshold is chosen from out-of-sample scores of good images."""

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:
        """Choose from finite scores, shape (n,), n >= 1."""
        ...


@VALUES.register("conformal", Metadata(summary="Order statistic with a finite-sample guarantee."))
@dataclass(frozen=True, slots=True)
class Conformal:
    """The ceil((n + 1)(1 - contamination))-th smallest score (split conformal prediction).

    A further good image exceeds it with probability of at most ``contamination``. If the rank
    exceeds n, it is the maximum and the target is not certified (Vovk et al., 2005, ch. 2).
    """

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:
        """See `ThresholdRule`."""
        n = scores.size
        position = max(1, math.ceil((n + 1) * (1 - contamination) - 1e-9))
        certified = position <= n
        rank = n + 1 - min(position, n)
        value = float(np.partition(scores, n - rank)[n - rank])
        return Choice(value, rank, f"{_ordinal(rank)} of {n} good images", certified)


@VALUES.register("quantile", Metadata(summary="Plain quantile of the out-of-sample scores."))
@dataclass(frozen=True, slots=True)
class Quantile:
    """``quantile(scores, 1 - contamination)``, linearly interpolated: PyOD's rule."""

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:
        """See `ThresholdRule`."""
        n = scores.size
        rank = n - math.floor((n - 1) * (1 - contamination) + 1e-9)
        value = float(np.quantile(scores, 1 - contamination))
        text = f"the {1 - contamination:.4g} quantile of {n} good images"
        return Choice(value, rank, text, n + 1 >= 1 / contamination)


@VALUES.register("tail", Metadata(summary="Generalised Pareto tail, beyond the number of images."))
@dataclass(frozen=True, slots=True)
class Tail:
    """Generalised Pareto fit of the scores above their ``start`` quantile. Model-based.

    z_q = t + (sigma / gamma) [(q n / N_t)^(-gamma) - 1] (Siffer et al., KDD 2017, eq. 1). Use it
    for rates below what n images can resolve; the certified bound stays that of the ranks.
    """

    start: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.start < 1:
            raise ParameterError(f"start is a quantile above 0 and below 1, got {self.start}")

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:
        """See `ThresholdRule`."""
        from scipy.stats import genpareto

        n = scores.size
        base = float(np.quantile(scores, self.start))
        excess = scores[scores > base] - base
        if excess.size < 5:
            raise CalibrationError(
                f"a tail fit needs at least 5 scores above the {self.start} quantile, got "
                f"{excess.size} of {n}: use more good images or the rule Conformal()"
            )
        share = contamination * n / excess.size
        if share > 1:
            raise CalibrationError(
                f"a tail above the {self.start} quantile says nothing of a share of "
                f"{contamination}: use the rule Conformal() or a lower start"
            )
        gamma, _, sigma = genpareto.fit(excess, floc=0)
        step = -math.log(share) if abs(gamma) < 1e-9 else (share**-gamma - 1) / gamma
        value = base + float(sigma * step)
        rank = int(np.count_nonzero(scores > value)) + 1
        return Choice(value, rank, f"Pareto tail of {n} good images (model-based)", certified=False)


@VALUES.register("fixed", Metadata(summary="A threshold given by the user."))
@dataclass(frozen=True, slots=True)
class Fixed:
    """The given value; the good images only say what it costs."""

    value: float

    def __post_init__(self) -> None:
        _check_finite(self.value)

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:
        """See `ThresholdRule`."""
        rank = int(np.count_nonzero(scores > self.value)) + 1
        fine = rank <= contamination * (scores.size + 1)
        return Choice(self.value, rank, f"fixed at {self.value:.6g} by the user", fine)


@VALUES.register("oracle", Metadata(summary="A threshold tuned on test labels: never certified."))
@dataclass(frozen=True, slots=True)
class Oracle:
    """A value that was tuned on test labels, kept for comparisons and labelled as such."""

    value: float

    def __post_init__(self) -> None:
        _check_finite(self.value)

    def choose(self, scores: NDArray[np.float64], contamination: float) -> Choice:  # noqa: ARG002
        """See `ThresholdRule`."""
        return Choice(self.value, scores.size + 1, "oracle: tuned on test labels", certified=False)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A threshold, its certainty, and the indices of the suspects among the good images."""

    threshold: float
    certainty: Certainty
    suspects: tuple[int, ...]
    warning: str = ""


def calibrate(
    scores: NDArray[np.float64],
    *,
    rule: ThresholdRule,
    contamination: float,
    method: str,
    keep_suspects: bool = False,
    choices: int = 1,
) -> Calibration:
    """Choose a threshold from out-of-sample scores of good images.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        One finite out-of-sample score an image.
    rule : ThresholdRule
        How to choose.
    contamination : float
        Share of good images allowed above the threshold.
    method : str
        Where the scores come from, for the record.
    keep_suspects : bool
        Whether images that stand out take part in the threshold.
    choices : int
        By what the error probability of the bounds is divided, if the scores are those of a choice
        among others that these images could have led to (Bonferroni).

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        If there are no scores or one is not finite.
    """
    if scores.size == 0 or not np.isfinite(scores).all():
        raise CalibrationError("a threshold needs at least one score, and all of them finite")
    suspects, warning = ((), "") if keep_suspects else find_suspects(scores)
    choice = rule.choose(np.delete(scores, suspects), contamination)
    n, dropped = scores.size, len(suspects)
    sure = 1 - (1 - CONFIDENCE) / choices
    bound = false_reject_bound(n, dropped + choice.rank, sure)
    certainty = Certainty(
        rule=choice.rule,
        method=method,
        n=n,
        dropped=dropped,
        rank=choice.rank,
        target=contamination,
        confidence=CONFIDENCE,
        bound=bound,
        bound_without_suspects=false_reject_bound(n - dropped, choice.rank, sure),
        certified=choice.certified and (choices == 1 or (bound or 1) <= contamination),
        choices=choices,
    )
    return Calibration(choice.value, certainty, suspects, warning)


def false_reject_bound(n: int, rank: int, confidence: float = CONFIDENCE) -> float | None:
    """Upper bound on the false-reject rate at the ``rank``-th largest of n good scores.

    The rate given the calibration images follows Beta(rank, n + 1 - rank); the bound is its
    ``confidence`` quantile (Wilks, 1941). None if the rank exceeds n: nothing can be said.
    """
    from scipy.special import betaincinv

    if not 1 <= rank <= n:
        return None
    return float(betaincinv(rank, n + 1 - rank, confidence))


def find_suspects(scores: NDArray[np.float64]) -> tuple[tuple[int, ...], str]:
    """Find good images that stand out from the others out of sample.

    Robust z of the log scores (of the scores, if one is not positive) above 4, with the median
    absolute deviation as the unit. Below ten images the deviation says too little, and nothing is
    flagged. More than max(1, 10 %) of them are not outliers but a second population; more than
    max(1, 5 %), three quarters of which lie within a tenth of the images, are a session of their
    own: defects come one by one. Then all are kept and the warning says so.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        Out of sample, in the order in which the images were taken.

    Returns
    -------
    suspects : tuple of int
        Indices, ascending.
    warning : str
        Empty, or why nothing was flagged.
    """
    found = np.flatnonzero(suspicion(scores) > SUSPECT_Z)
    few, most = (max(1, math.floor(share * scores.size)) for share in (_FEW, SUSPECT_SHARE))
    if found.size <= few or (found.size <= most and not _together(found, scores.size)):
        return tuple(int(i) for i in found), ""
    together = " and lie together" if _together(found, scores.size) else ""
    return (), (
        f"{found.size} of {scores.size} good images stand out from the others{together}: that is "
        "not an outlier but two populations. All are kept; look at them, and fit each kind by "
        "itself"
    )


def _together(found: NDArray[np.intp], n: int) -> bool:
    """Tell whether most of these of n images lie in one stretch, as those of a session do."""
    most = math.ceil(_TOGETHER * found.size)
    stretches = found[most - 1 :] - found[: found.size - most + 1] + 1
    return bool(stretches.min() <= max(found.size, n // 10))


def suspicion(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the robust z by which `find_suspects` decides, shape (n,); zeros if it cannot."""
    found = robust_z(scores, scores)
    return np.zeros(scores.size) if found is None else found


def robust_z(scores: NDArray[np.float64], goods: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return how many robust sigmas (MAD of the log goods) above their middle scores lie."""
    if goods.size < SUSPECT_MINIMUM:
        return None
    both = np.concatenate([scores, goods])
    values = np.log(both) if both.min() > 0 else both
    away = values - np.median(values[scores.size :])
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(away[scores.size :])))
    return away[: scores.size] / spread if spread > 0 else None


def counted(found: Certainty, *, removed: int, grouped: int) -> Certainty:
    """Return the certainty with good images that were removed counted as rejected.

    Parameters
    ----------
    found : Certainty
        Of a calibration without them.
    removed : int
        Good images that were taken out because they stood out.
    grouped : int
        Images beyond the first of each group.
    """
    n, dropped = found.n + removed, found.dropped + removed
    sure = 1 - (1 - found.confidence) / found.choices
    bound = false_reject_bound(n, dropped + found.rank, sure)
    return replace(found, n=n, dropped=dropped, bound=bound, grouped=grouped)


def _ordinal(rank: int) -> str:
    if rank == 1:
        return "the largest"
    suffix = "th" if 10 <= rank % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"the {rank}{suffix} largest"


def _check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ParameterError(f"a threshold must be a finite number, got {value!r}")


def check_contamination(contamination: float) -> None:
    """Raise `ParameterError` unless it is a share above 0 and below 1."""
    if not 0 < contamination < 1:
        raise ParameterError(
            f"contamination is the share of good images allowed above the threshold: a number "
            f"above 0 and below 1, got {contamination!r}"
        )

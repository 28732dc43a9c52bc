"""Whether images differ from the good images that set a threshold: light, sharpness, scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Drift", "compare", "sessions"]

LEVEL = 0.01  # of each of the four comparisons: at most 4 % false alarms together
LEAST_GOOD, LEAST_NEW = 10, 8
LIGHT = 1.5  # robust deviations by which medians must differ to be worth a word
SCORES = 1.0  # the same for the scores
UNSEEN = 0.5  # share of the images judged OK that may be defects nobody saw
PARTS = 5  # of good images, one after another
_SPREADS = np.array([0.02, 0.02, 0.05])  # a fixed camera repeats itself too well
_WORDS = (("darker", "brighter"), ("less contrast", "more contrast"), ("less sharp", "sharper"))
_MAD_TO_SIGMA = 1.4826


@VALUES.register("drift", Metadata(summary="How images differ from the good ones."))
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drift:
    """What a comparison of two sessions found.

    Parameters
    ----------
    n, against : int
        Images that were compared, and good images that they were compared with.
    brightness, contrast, sharpness : float or None
        Their medians as shares of those of the good images; contrast at equal brightness,
        sharpness at equal contrast.
    scores : float or None
        By how many robust deviations the lower half of their scores (its median) lies above that
        of the good images; of images without a label those judged OK.
    found : tuple of str
        In words what differs by more than chance and enough to matter; empty if nothing does.
    """

    n: int
    against: int
    brightness: float | None
    contrast: float | None
    sharpness: float | None
    scores: float | None
    found: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether there were enough images to compare at all."""
        return self.brightness is not None

    def describe(self, images: str = "these images") -> str:
        """Say it in one sentence, with what to do about it; empty if nothing differs."""
        if not self.found:
            return ""
        sure = "does" if any("scores" in text for text in self.found) else "may"
        return (
            f"{images} differ from the goods: {', '.join(self.found)}; the stated bound {sure} "
            "not hold for them; calibrate with good images of their session: pyimgano fit ... "
            "--hold-out DIR"
        )


def compare(
    scores: NDArray[np.float64],
    looks: NDArray[np.float64],
    goods: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    limit: float | None = None,
    level: float = LEVEL,
) -> Drift:
    """Compare images with good images, all scored by models that did not learn from them.

    The share of images that lie on one side of the median of the good images has, without a
    difference, a beta-binomial distribution whatever that of the values; where its tail is below
    1 % and the medians differ by 1.5 robust deviations of the good ones (scores: 1), the images
    differ. Scores are compared upward only.

    Parameters
    ----------
    scores : ndarray of float64, shape (m,)
        Of images known to be good; of unknown ones with ``limit``.
    looks : ndarray of float64, shape (m, 3)
        Brightness, contrast, sharpness, positive.
    goods : (ndarray, ndarray)
        The same of the good images, out of sample.
    limit : float, optional
        The threshold. Given one, scores above it are left out on either side, for they may be
        defects, and of those below it half may be defects that were missed.
    level : float
        Of each of the four comparisons.
    """
    good_scores, good_looks = goods
    n, against = len(looks), len(good_looks)
    if n < LEAST_NEW or against < LEAST_GOOD:
        nothing = dict.fromkeys(("brightness", "contrast", "sharpness", "scores"))
        return Drift(n=n, against=against, found=(), **nothing)
    new, old = _light(looks), _light(good_looks)
    shift = np.median(new, axis=0) - np.median(old, axis=0)
    far = np.abs(shift) / np.maximum(_spread(old), _SPREADS) >= LIGHT
    side = np.sign(shift)
    found = [
        f"{100 * abs(math.expm1(shift[i])):.0f} % {words[int(shift[i] > 0)]}"
        for i, words in enumerate(_WORDS)
        if far[i] and _tail(side[i] * new[:, i], side[i] * old[:, i]) < level / 2
    ]
    higher = _higher(scores, good_scores, limit)
    if higher is not None and higher[0] >= SCORES and higher[1] < level:
        found.append(f"scores of the lower half {higher[0]:.1f} deviations higher")
    light = np.exp(shift).round(4).tolist()
    return Drift(
        n=n,
        against=against,
        brightness=light[0],
        contrast=light[1],
        sharpness=light[2],
        scores=None if higher is None else round(higher[0], 2),
        found=tuple(found),
    )


def sessions(scores: NDArray[np.float64], looks: NDArray[np.float64]) -> str:
    """Say which fifths of the images that set a threshold, in their order, differ from the rest.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        Out of sample.
    looks : ndarray of float64, shape (n, 3)
        See `compare`.

    Returns
    -------
    str
        Empty if none does by more than chance and enough to matter, or fewer than 40 were given.
    """
    told = []
    for part in np.array_split(np.arange(len(scores)), PARTS):
        rest = np.delete(scores, part), np.delete(looks, part, axis=0)
        found = compare(scores[part], looks[part], rest, level=LEVEL / PARTS).found
        if found:
            told.append(f"{part[0] + 1} to {part[-1] + 1} ({', '.join(found)})")
    if not told:
        return ""
    return (
        f"of the {len(scores)} good images that set the threshold, {'; '.join(told)} differ from "
        "the others, as those of another session do; it allows for one more that far off, and lets "
        "weaker defects pass for it"
    )


def _light(looks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms: less light alone is no loss of contrast, less contrast none of focus."""
    logs = np.log(np.maximum(looks, 1e-6))
    return np.asarray(np.diff(logs, axis=1, prepend=0.0))


def _higher(
    scores: NDArray[np.float64], goods: NDArray[np.float64], limit: float | None
) -> tuple[float, float] | None:
    """Return by how many deviations the lower halves differ, and the probability by chance."""
    unseen = 0.0
    if limit is not None:
        scores, goods, unseen = scores[scores <= limit], goods[goods <= limit], UNSEEN
    if scores.size < LEAST_NEW or goods.size < LEAST_GOOD:
        return None
    if min(scores.min(), goods.min()) > 0:
        scores, goods = np.log(scores), np.log(goods)
    spread = float(_spread(goods))
    if spread <= 0:
        return None
    apart = float(np.quantile(scores, 0.25) - np.quantile(goods, 0.25)) / spread
    return apart, _tail(scores, goods, unseen)


def _tail(new: NDArray[np.float64], old: NDArray[np.float64], unseen: float = 0.0) -> float:
    """Return how probable it is that so few new values lie at or below the middle of the old.

    Exact for exchangeable values (Gastwirth, 1968), of which ``unseen`` are higher in any case.
    """
    n, k = old.size, (old.size + 1) // 2
    below = int(np.count_nonzero(new <= np.partition(old, k - 1)[k - 1]))
    return beta_binomial_cdf(below, round((1 - unseen) * new.size), k, n + 1 - k)


def beta_binomial_cdf(most: int, n: int, a: float, b: float) -> float:
    """Return the probability of at most so many hits of ``n``, their chance being Beta(a, b)."""
    logs = (
        _log_beta(hits + a, n - hits + b) - _log_beta(hits + 1, n - hits + 1)
        for hits in range(min(most, n) + 1)
    )
    shift = math.log(n + 1) + _log_beta(a, b)
    return min(math.fsum(math.exp(log - shift) for log in logs), 1.0)


def _log_beta(a: float, b: float) -> float:
    """Return log B(a, b); scipy has all this, and takes a second to load."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    away = np.abs(values - np.median(values, axis=0))
    return np.asarray(_MAD_TO_SIGMA * np.median(away, axis=0))

"""Probability of detection over the size of a defect, from hits and misses (MIL-HDBK-1823A).

The model is a logit of log size above a floor: the false rejects, for a good image that is rejected
anyway is a hit whatever was planted in it. ``a90`` is the size that is found nine times out of ten;
``a90_95`` its upper bound with 95 % confidence, by the likelihood ratio (MIL-HDBK-1823A, app. G;
Cheng and Iles 1983), divided by the design effect where hits in one image go together (Rao and
Scott 1984). The likelihood is tabulated: it also has an answer where hits and misses are separated,
and no fit exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DetectionCurve", "detection_curve"]

GOAL = 0.9
_ONE_SIDED = 2.705543454095404  # 0.90 quantile of chi squared with 1 degree: 95 % on one side
_BEYOND = 50.0  # sizes up to so many times the largest are tried
_FINEST = 1e-9


@dataclass(frozen=True, slots=True)
class DetectionCurve:
    """A fitted curve.

    Attributes
    ----------
    a90 : float or None
        Size that is found 90 % of the time; None if beyond the sizes that were tried. Never below
        the smallest of them: of what was not tried nothing is said.
    a90_95 : float or None
        Not exceeded by it with 95 % confidence; None if that is beyond the sizes, too.
    slope : float
        Of the logit, for a size e times larger.
    middle : float
        The size at which the fit says 90 %, wherever it lies.
    floor : float
        Share that is found without a defect.
    design : float
        Design effect by which the bound was widened, at least 1.
    """

    a90: float | None
    a90_95: float | None
    slope: float
    middle: float
    floor: float
    design: float

    def at(self, sizes: ArrayLike) -> NDArray[np.float64]:
        """Return the fitted probability of detection of sizes."""
        return _model(
            np.log(np.asarray(sizes, np.float64)), np.log(self.middle), self.slope, self.floor
        )


def detection_curve(sizes: ArrayLike, hits: ArrayLike, floor: float = 0.0) -> DetectionCurve | None:
    """Fit a curve to hits.

    Parameters
    ----------
    sizes : array of shape (k,)
        Ascending, above 0.
    hits : array of shape (n, k)
        1 where the defect of a size was found in an image, 0 where not, NaN where nothing is known.
    floor : float
        Share of the same images that are rejected without a defect.

    Returns
    -------
    DetectionCurve or None
        None if the floor leaves nothing to find, or nothing is known.

    Raises
    ------
    InputError
        If the shapes do not match, or sizes are not ascending and positive.
    """
    size, hit = np.asarray(sizes, np.float64), np.asarray(hits, np.float64)
    if hit.ndim != 2 or size.shape != hit.shape[1:] or not size.size:
        raise InputError(f"hits are (n, k) for k sizes, got {hit.shape} and {size.shape}")
    if not size[0] > 0 or not (np.diff(size) > 0).all():
        raise InputError(f"sizes must be positive and ascending, got {size.tolist()}")
    known = ~np.isnan(hit)
    if floor >= GOAL or not known.any():
        return None
    found, missed = np.nansum(hit, axis=0), np.nansum(1 - hit, axis=0)
    logs = np.log(size)
    middles = np.linspace(logs[0] - 3, logs[-1] + np.log(_BEYOND), 900)
    slopes = np.geomspace(0.1, 60, 240)
    p = _model(logs, middles[:, None, None], slopes[:, None], floor)
    likelihood = (found * np.log(p) + missed * np.log1p(-p)).sum(axis=2)
    row, column = divmod(int(likelihood.argmax()), slopes.size)
    middle, slope = float(np.exp(middles[row])), float(slopes[column])
    fitted = np.broadcast_to(p[row, column], hit.shape)
    design = _design(np.where(known, hit - fitted, 0.0), fitted)
    profile = likelihood.max(axis=1)
    within = middles[2 * (profile.max() - profile) <= _ONE_SIDED * design]
    last = float(size[-1]) * (1 + _FINEST)
    a90, bound = (max(value, float(size[0])) for value in (middle, float(np.exp(within[-1]))))
    return DetectionCurve(
        a90=a90 if a90 <= last else None,
        a90_95=bound if bound <= last else None,
        slope=slope,
        middle=middle,
        floor=floor,
        design=design,
    )


def _model(
    logs: NDArray[np.float64], middle: ArrayLike, slope: ArrayLike, floor: float
) -> NDArray[np.float64]:
    """Return the probability, which is 0.9 at the middle."""
    share = (GOAL - floor) / (1 - floor)
    exponent = np.log(share / (1 - share)) + np.asarray(slope) * (logs - np.asarray(middle))
    p = floor + (1 - floor) / (1 + np.exp(-np.clip(exponent, -700, 700)))
    return np.asarray(np.clip(p, _FINEST, 1 - _FINEST))


def _design(rest: NDArray[np.float64], fitted: NDArray[np.float64]) -> float:
    """Return by how much hits of one image go together; 1 where there is too little to tell."""
    if float((rest**2).sum()) < 1:
        return 1.0
    scaled = rest / np.sqrt(fitted * (1 - fitted))
    return max(1.0, float((scaled.sum(axis=1) ** 2).sum() / (scaled**2).sum()))

"""Steps between the raw map and the map that is judged and shown.

A step is a frozen value with a name, so a model file can hold it. What a normalisation needs to
know is learned once from calibration maps and never from the map it is applied to: a map that is
normalised by its own extremes has a red spot on every good part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from pyimgano.errors import CalibrationError, InputError, NotFittedError, ParameterError
from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Map = NDArray[np.float32]

__all__ = ["GaussianSmoothing", "LearnedStep", "MinMaxNormalisation", "MorphologicalClosing"]
__all__ += [
    "MorphologicalOpening",
    "Pipeline",
    "RobustNormalisation",
    "SmallComponentRemoval",
    "Step",
]

_PER_MAP = 2**14
_IN_ALL = 2**22
_MAD_TO_SIGMA = 1.482602218505602  # 1 / the upper quartile of the standard normal distribution


class Step(ABC):
    """One step: a map in, a new map of the same shape out."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, anomaly_map: Map) -> Map:
        """Apply the step to a float32 map (H, W), which is left as it was."""


class LearnedStep(Step):
    """A step with statistics that are learned from calibration maps."""

    __slots__ = ()

    @abstractmethod
    def fit(self, maps: Iterable[Map]) -> LearnedStep:
        """Return the step with its statistics learned from maps (H, W) of any sizes, in a stream.

        None, non-finite, or maps too uniform to learn from are a `CalibrationError`.
        """


@VALUES.register("min_max_normalisation", Metadata(summary="Calibration extremes to 0 and 1."))
@dataclass(frozen=True, slots=True)
class MinMaxNormalisation(LearnedStep):
    """Map the smallest calibration value to 0 and the largest to 1, linearly and unclipped.

    ``low`` and ``high`` are the learned extremes; None before `fit`.
    """

    low: float | None = None
    high: float | None = None

    def fit(self, maps: Iterable[Map]) -> MinMaxNormalisation:
        """Learn the exact extremes of all maps."""
        low, high = np.inf, -np.inf
        for one in _finite(maps):
            low, high = min(low, float(one.min())), max(high, float(one.max()))
        _require_spread(high - low, "all values of the calibration maps are equal")
        return replace(self, low=low, high=high)

    def __call__(self, anomaly_map: Map) -> Map:
        """Return ``(map - low) / (high - low)``."""
        low, high = _learned(self.low, self), _learned(self.high, self)
        return _affine(anomaly_map, low, high - low)


@VALUES.register("robust_normalisation", Metadata(summary="Calibration median to 0, MAD to 1."))
@dataclass(frozen=True, slots=True)
class RobustNormalisation(LearnedStep):
    """Express values in robust standard deviations of the calibration maps above their median.

    ``centre`` and ``spread`` are the learned median and scaled median absolute deviation; None
    before `fit`.
    """

    centre: float | None = None
    spread: float | None = None

    def fit(self, maps: Iterable[Map]) -> RobustNormalisation:
        """Learn from an even sample of the pixels."""
        values = _sampled(maps)
        centre = float(np.median(values))
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))
        _require_spread(spread, "half of the calibration pixels are equal; use MinMaxNormalisation")
        return replace(self, centre=centre, spread=spread)

    def __call__(self, anomaly_map: Map) -> Map:
        """Return ``(map - centre) / spread``."""
        return _affine(anomaly_map, _learned(self.centre, self), _learned(self.spread, self))


@VALUES.register("gaussian_smoothing", Metadata(summary="Gaussian blur, borders reflected."))
@dataclass(frozen=True, slots=True)
class GaussianSmoothing(Step):
    """Smooth a map with a Gaussian of ``sigma`` pixels, cut at four of them, borders reflected."""

    sigma: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < np.inf:
            raise ParameterError(f"sigma must be positive, got {self.sigma}")

    def __call__(self, anomaly_map: Map) -> Map:
        """Return the smoothed map."""
        import cv2

        width = 2 * int(4 * self.sigma + 0.5) + 1
        border = cv2.BORDER_REFLECT
        return np.asarray(
            cv2.GaussianBlur(anomaly_map, (width,) * 2, self.sigma, borderType=border)
        )


@dataclass(frozen=True, slots=True)
class _Morphology(Step):
    """A grey-value operation with a disc of an odd diameter."""

    _operation: ClassVar[str]

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ParameterError(f"size must be odd and positive, got {self.size}")

    @final
    def __call__(self, anomaly_map: Map) -> Map:
        """Return the changed map."""
        import cv2

        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (self.size, self.size))
        changed = cv2.morphologyEx(anomaly_map, getattr(cv2, self._operation), disc)
        return np.asarray(changed, np.float32)


@VALUES.register("morphological_opening", Metadata(summary="Removes bright specks."))
@dataclass(frozen=True, slots=True)
class MorphologicalOpening(_Morphology):
    """Lower every bright spot into which a disc of ``size`` pixels, odd, does not fit."""

    _operation = "MORPH_OPEN"


@VALUES.register("morphological_closing", Metadata(summary="Fills dark gaps."))
@dataclass(frozen=True, slots=True)
class MorphologicalClosing(_Morphology):
    """Raise every dark gap into which a disc of ``size`` pixels, odd, does not fit."""

    _operation = "MORPH_CLOSE"


@VALUES.register("small_component_removal", Metadata(summary="Lowers small isolated regions."))
@dataclass(frozen=True, slots=True)
class SmallComponentRemoval(LearnedStep):
    """Lower 8-connected components above a level to that level if they are small.

    Small is below ``min_area`` pixels; the level is the ``quantile``, in (0, 1), of the calibration
    maps, and None before `fit`.
    """

    min_area: int = 9
    quantile: float = 0.99
    level: float | None = None

    def __post_init__(self) -> None:
        if self.min_area < 1 or not 0 < self.quantile < 1:
            raise ParameterError(f"expected min_area >= 1 and quantile in (0, 1), got {self}")

    def fit(self, maps: Iterable[Map]) -> SmallComponentRemoval:
        """Learn the level from an even sample of the pixels."""
        return replace(self, level=float(np.quantile(_sampled(maps), self.quantile)))

    def __call__(self, anomaly_map: Map) -> Map:
        """Return the map with small components at the level and all else unchanged."""
        import cv2

        level = np.float32(_learned(self.level, self))
        above = (anomaly_map > level).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] < self.min_area
        small[0] = False
        return np.where(small[labels], level, anomaly_map)


@VALUES.register("pipeline", Metadata(summary="Post-processing steps in order."))
@dataclass(frozen=True, slots=True)
class Pipeline:
    """Post-processing steps, applied first to last; without steps, the identity.

    Examples
    --------
    >>> import numpy as np
    >>> calibration = [np.array([[0, 2], [1, 4]], np.float32)]
    >>> pipeline = Pipeline((MinMaxNormalisation(),)).fit(calibration)
    >>> pipeline(np.array([[2, 8]], np.float32)).tolist()
    [[0.5, 2.0]]
    """

    steps: tuple[Step, ...] = ()

    def fit(self, maps: Iterable[Map]) -> Pipeline:
        """Return the pipeline with all statistics learned.

        Maps (H, W) of good calibration images, of any sizes, are streamed once for each step that
        learns, since it learns from what the steps before it make of them. If several learn, an
        iterator is an `InputError`; what cannot be learned from is a `CalibrationError`.
        """
        learners = sum(isinstance(step, LearnedStep) for step in self.steps)
        if learners > 1 and isinstance(maps, Iterator):
            raise InputError(
                f"{learners} steps learn from the maps in turn, but the iterator given ends after "
                "one pass; give a list"
            )
        done = Pipeline()
        for step in self.steps:
            ready = step.fit(map(done, maps)) if isinstance(step, LearnedStep) else step
            done = Pipeline((*done.steps, ready))
        return done

    def __call__(self, anomaly_map: Map) -> Map:
        """Apply all steps to a float32 map (H, W), which is left as it was.

        A step that has not learned its statistics raises `NotFittedError`.
        """
        for step in self.steps:
            anomaly_map = step(anomaly_map)
        return anomaly_map


def _learned(value: float | None, step: LearnedStep) -> float:
    if value is None:
        raise NotFittedError(f"{type(step).__name__} has learned nothing yet; call fit(maps) first")
    return value


def _require_spread(spread: float, fault: str) -> None:
    if not spread > 0:
        raise CalibrationError(f"a map cannot be normalised: {fault}")


def _affine(anomaly_map: Map, centre: float, spread: float) -> Map:
    return (anomaly_map - np.float32(centre)) / np.float32(spread)


def _finite(maps: Iterable[Map]) -> Iterator[Map]:
    number = -1
    for number, one in enumerate(maps):
        if one.size == 0 or not np.isfinite(one).all():
            raise CalibrationError(f"calibration map {number} is empty or holds NaN or infinity")
        yield one
    if number < 0:
        raise CalibrationError("no calibration maps were given")


def _sampled(maps: Iterable[Map]) -> Map:
    """Return values on an even lattice of each map; ever fewer a map, so that memory is bounded."""
    kept: list[Map] = []
    thinning, total = 1, 0
    for one in _finite(maps):
        step = max(1, round((one.size / _PER_MAP) ** 0.5))
        lattice = one[step // 2 :: step, step // 2 :: step]
        kept.append(lattice.flatten()[::thinning].copy())
        total += len(kept[-1])
        if total > _IN_ALL:
            kept = [values[::2].copy() for values in kept]
            thinning, total = 2 * thinning, sum(map(len, kept))
    return np.concatenate(kept)

"""Which sizes of a defect a model finds: planted in good images that it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.datasets._sources import as_sources
from pyimgano.errors import CalibrationError, InputError
from pyimgano.images import describe
from pyimgano.inspection import Verdict
from pyimgano.metrics.detection import DetectionCurve, detection_curve
from pyimgano.metrics.rates import Rate
from pyimgano.synthesis.graded import GRADED, Plan, find_part, line_width, plant_graded
from pyimgano.views.intake import learn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pyimgano.detector import Detector
    from pyimgano.inspection import Inspection

__all__ = ["Curve", "Detection", "Planted", "detection", "without_last_block"]

_STEPS = 6
_SHARES = (0.01, 0.2)  # of the shorter side, smallest and largest size by default
_BLOCKS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One kind of defect at one contrast.

    Attributes
    ----------
    kind, contrast
        What was planted.
    sizes : tuple of int
        In pixels.
    found : tuple of Rate
        At each size, images judged NG.
    marked : tuple of int
        Of those, how many have a region on the defect; the others are NG for something else.
    fit : DetectionCurve or None
        None where good images are rejected too often to say anything.
    """

    kind: str
    contrast: int
    sizes: tuple[int, ...]
    found: tuple[Rate, ...]
    marked: tuple[int, ...]
    fit: DetectionCurve | None

    @property
    def sentence(self) -> str:
        """The smallest size that is found nine times out of ten."""
        what = f"smallest {self.kind} found 90 % of the time at contrast {self.contrast}: "
        last = self.sizes[-1]
        if self.fit is None:
            return f"{what}unknown, for too many good images are rejected without any defect"
        if self.fit.a90 is None:
            return f"{what}none up to {last} px"
        least = f"{self.least.removeprefix('<= ')} px"
        least += " or less" if self.least.startswith("<") else ""
        if self.fit.a90_95 is None:
            return f"{what}{least}, but no size up to {last} px with 95 % confidence"
        return f"{what}{least}; with 95 % confidence {self.sure} px"

    @property
    def least(self) -> str:
        """a90 in whole pixels, or what is known instead."""
        if self.fit is None or self.fit.a90 is None:
            return "?" if self.fit is None else f"> {self.sizes[-1]}"
        return f"{'<= ' if self.fit.middle <= self.sizes[0] else ''}{_up(self.fit.a90)}"

    @property
    def sure(self) -> str:
        """a90/95 in whole pixels; a dash where no size that was tried is sure."""
        return f"{_up(self.fit.a90_95)}" if self.fit and self.fit.a90_95 else "—"

    def facts(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "kind": self.kind,
            "contrast": self.contrast,
            "sizes": self.sizes,
            "found": [rate.describe() for rate in self.found],
            "marked": self.marked,
            "a90": self.fit and self.fit.a90,
            "a90_95": self.fit and self.fit.a90_95,
            "fit": self.fit,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What was found.

    Attributes
    ----------
    plan : ~pyimgano.synthesis.graded.Plan
        With its sizes filled in, and without kinds that these images cannot carry.
    curves : tuple of Curve
        Kind by kind, contrast by contrast.
    sources : tuple
        Images in which the defects were planted.
    false_rejects : Rate
        Of the same images as they are.
    skipped : tuple of (str, str)
        Images that could not be judged, with the reason.
    notes : tuple of str
        What must be known to read it.
    """

    plan: Plan
    curves: tuple[Curve, ...]
    sources: tuple[Any, ...]
    false_rejects: Rate
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> list[str]:
        """Their names."""
        return [describe(source) for source in self.sources]

    @property
    def sentences(self) -> list[str]:
        """One sentence a kind of defect: at the middle contrast, or at the next that is found."""
        contrasts = self.plan.contrasts
        middle = contrasts[(len(contrasts) - 1) // 2]
        told: dict[str, Curve] = {}
        for curve in self.curves:
            before = told.get(curve.kind)
            lacks = before is None or before.fit is None or before.fit.a90 is None
            if curve.contrast >= middle and lacks:
                told[curve.kind] = curve
        return [curve.sentence for curve in told.values()]


class Planted(Sequence["NDArray[np.uint8]"]):
    """An image with each defect in turn, planted when it is asked for; keeps where they are."""

    def __init__(
        self, image: NDArray[np.uint8], part: NDArray[np.bool_], plan: Plan, n: int
    ) -> None:
        self._image, self._part, self._plan, self._number = image, part, plan, n
        self.jobs = plan.jobs()
        self.masks: dict[int, NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: Any) -> Any:
        kind, contrast, size = self.jobs[index]
        number = list(GRADED).index(kind)
        rng = np.random.default_rng((self._plan.seed, self._number, number, size))
        planted, self.masks[index] = plant_graded(
            self._image, self._part, kind, size, contrast, rng
        )
        return planted


def detection(
    detector: Detector,
    goods: Any,
    plan: Plan | None = None,
    *,
    notes: tuple[str, ...] = (),
    progress: Callable[[Inspection], None] | None = None,
) -> Detection:
    """Plant defects in good images and count those that are judged NG.

    Parameters
    ----------
    detector : Detector
        Fitted and calibrated.
    goods : sequence of path, array, PIL image or Sample; or a folder
        Good images that it has not learned from.
    plan, notes
        What to plant; what must be known to read the result, kept with it.
    progress : callable, optional
        Called with every judgement.

    Returns
    -------
    Detection

    Raises
    ------
    NotFittedError
        If there is no threshold.
    CalibrationError
        If an image was learned from: defects on it are found too easily.
    InputError
        If no image can be judged, or the detector judges images by each other.
    """
    detector._require_threshold()
    if detector.is_transductive:
        raise InputError(
            "this detector judges a batch by itself: a defect has no chance of its own"
        )
    found = learn(as_sources(goods), any_size=True, bit_depth=None)
    learned = set(detector.hashes_).intersection(found.hashes)
    if learned:
        raise CalibrationError(
            f"{len(learned)} of {len(found.hashes)} images were learned from: a defect planted on "
            "what is known by heart is found too easily; give good images of their own"
        )
    kept, skipped, rejected = [], [], 0
    sources = found.images.sources
    for source, one in zip(sources, detector.inspect(sources), strict=True):
        if one.error is not None:
            skipped.append((one.path, one.error))
        else:
            kept.append(source)
            rejected += one.label
        if progress is not None:
            progress(one)
    if not kept:
        raise InputError(f"none of the images could be judged; the first: {skipped[0][1]}")
    rejects = Rate(rejected, len(kept))
    images = _Seen(detector, kept)
    plan, told = _settled(plan or Plan(), images)
    hits, marks = _plant_all(detector, images, plan, progress)
    return Detection(
        plan=plan,
        curves=_curves(plan, hits, marks, rejects),
        sources=tuple(kept),
        false_rejects=rejects,
        skipped=(*found.skipped, *skipped),
        notes=(*notes, *told),
    )


class _Seen:
    """Good images as the detector sees them, and where their part is, decoded when asked for."""

    def __init__(self, detector: Detector, sources: Sequence[Any]) -> None:
        self._detector, self.sources = detector, sources
        self.wholes = 0
        self.shape = (0, 0)
        for image, part in self:
            self.wholes += bool(part.all())
            self.shape = self.shape if min(self.shape) else image.shape[:2]

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        for source in self.sources:
            image = self._detector.intake_.see(source)
            yield image, find_part(image)


def _settled(plan: Plan, images: _Seen) -> tuple[Plan, list[str]]:
    """Return the plan with its sizes, without kinds that cannot be planted, and what to know."""
    side = min(images.shape)
    low, high = (share * side for share in _SHARES)
    drawn = np.geomspace(max(low, 2), max(high, 12), _STEPS)
    sizes = plan.sizes or tuple(sorted({round(size) for size in drawn.tolist()}))
    if sizes[-1] > side:
        raise InputError(f"a defect of {sizes[-1]} px does not fit: the shorter side is {side} px")
    width = line_width(images.shape)
    notes = [f"scratches are {width} px wide"] if "scratch" in plan.kinds else []
    kinds = plan.kinds
    if images.wholes:
        n = len(images.sources)
        notes.append(
            f"on {images.wholes} of {n} images no part stands out from a plain background: defects "
            "lie anywhere there"
        )
        kinds = tuple(kind for kind in kinds if kind != "chip")
        if kinds != plan.kinds:
            notes.append("no chips were planted, for they need the edge of a part")
    if not kinds:
        raise InputError("chips need the edge of a part, and in these images none can be seen")
    return Plan(kinds, sizes, plan.contrasts, plan.seed), notes


def _plant_all(
    detector: Detector,
    images: _Seen,
    plan: Plan,
    progress: Callable[[Inspection], None] | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return of each image and defect whether it is NG (NaN: not judged), and marked there."""
    hits = np.full((len(images.sources), len(plan.jobs())), np.nan)
    marks = np.zeros(hits.shape, bool)
    for row, (image, part) in enumerate(images):
        planted = Planted(image, part, plan, row)
        for column, one in enumerate(detector.inspect(planted)):
            mask = planted.masks.pop(column)
            if one.verdict is not Verdict.ERROR:
                hits[row, column] = one.label
                marks[row, column] = _is_marked(one, mask)
            if progress is not None:
                progress(one)
    return hits, marks


def _is_marked(one: Inspection, mask: NDArray[np.bool_]) -> bool:
    if one.map is None or one.pixel_threshold is None:
        return False
    return bool((one.map[mask] > one.pixel_threshold).any())


def _up(size: float) -> int:
    return math.ceil(size - 1e-6)


def _curves(
    plan: Plan, hits: NDArray[np.float64], marks: NDArray[np.bool_], rejects: Rate
) -> tuple[Curve, ...]:
    k = len(plan.sizes)
    curves = []
    for i, (kind, contrast, _) in enumerate(plan.jobs()[::k]):
        part, marked = hits[:, i * k : i * k + k], marks[:, i * k : i * k + k]
        n = (~np.isnan(part)).sum(axis=0)
        rates = [Rate(int(a), int(b)) for a, b in zip(np.nansum(part, axis=0), n, strict=True)]
        fit = detection_curve(plan.sizes, part, rejects.value or 0.0)
        both = ((part == 1) & marked).sum(axis=0).tolist()
        curves.append(Curve(kind, contrast, plan.sizes, tuple(rates), tuple(both), fit))
    return tuple(curves)


def without_last_block(sources: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Split good images in file order: all but the last fifth, and that; groups stay together.

    Raises
    ------
    InputError
        If there are fewer than five.
    """
    goods = learn(as_sources(sources), any_size=True, bit_depth=None)
    parts = list(dict.fromkeys(goods.groups))
    if len(parts) < _BLOCKS:
        raise InputError(
            f"{len(parts)} good images are too few to set a fifth of them aside: give others with "
            "--hold-out"
        )
    last = set(parts[len(parts) - len(parts) // _BLOCKS :])
    pairs = list(zip(goods.images.sources, goods.groups, strict=True))
    return [s for s, g in pairs if g not in last], [s for s, g in pairs if g in last]

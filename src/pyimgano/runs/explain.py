"""Why a verdict: the score among the good ones, the regions, and the nearest good patch of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.calibration import robust_z
from pyimgano.inspection import Inspection, Verdict
from pyimgano.map_detector import MapDetector
from pyimgano.views.tile import tiles_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.detector import Detector
    from pyimgano.records import Evidence, Region
    from pyimgano.views.base import Seen

__all__ = ["Explanation", "Place", "explain", "pixels", "ranked"]

EXPLAINED = 3  # regions, the strongest first
_THIRDS = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The most unusual point of a region, or of an image without one.

    Attributes
    ----------
    region : Region or None
        None: nothing is above the pixel threshold.
    x, y : int
        Where the map peaks, in pixels of the image.
    peak : float
        The map there.
    ratio : float or None
        The peak in pixel thresholds, where one was calibrated above 0.
    evidence : pyimgano.records.Evidence or None
        What the detector itself says of it.
    """

    region: Region | None
    x: int
    y: int
    peak: float
    ratio: float | None
    evidence: Evidence | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a verdict rests on.

    Attributes
    ----------
    inspection : Inspection
        The judgement itself; if it is an ERROR, all else is empty.
    n_goods : int
        Good images with an out-of-sample score: those of the threshold.
    n_below : int
        How many of them score below the image.
    sigmas : float or None
        How many robust sigmas above their middle it lies; None below ten good images.
    size : (int, int)
        Height and width of the image.
    seen : (int, int)
        Those of what the detector sees of it, where the patches of the evidence lie.
    places : tuple of Place
        The strongest regions, or else the most unusual point.
    """

    inspection: Inspection
    n_goods: int = 0
    n_below: int = 0
    sigmas: float | None = None
    size: tuple[int, int] = (0, 0)
    seen: tuple[int, int] = (0, 0)
    places: tuple[Place, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict, and what was compared."""
        one = self.inspection
        if one.verdict is None:
            return f"no verdict: the score is {one.score:.4g}, and no threshold was calibrated"
        if one.error is not None:
            return f"{one.verdict}: {one.error}"
        threshold, side = one.threshold or 0.0, "above" if one.label else "not above"
        share = f"{one.score / threshold:.2f} times the threshold of {threshold:.4g}"
        if threshold <= 0:
            share = f"{side} the threshold of {threshold:.4g}"
        return f"{one.verdict}: the score {one.score:.4g} is {share}"

    @property
    def standing(self) -> str:
        """Where the score lies among those of the good images; empty if there are none."""
        if not self.n_goods:
            return ""
        n, below = self.n_goods, self.n_below
        many = {0: f"none of {n}", n: f"all {n}"}.get(
            below, f"{below} of {n} ({100 * below / n:.0f} %)"
        )
        text = f"above {many} good images, each scored by a model that had not learned from it"
        if self.sigmas is None:
            return text
        side = "above" if self.sigmas >= 0 else "below"
        return f"{text}; {abs(self.sigmas):.1f} robust sigmas {side} their middle"

    @property
    def extent(self) -> str:
        """How many regions there are, and how large."""
        one = self.inspection
        if one.map is None:
            return "none: this detector draws no map"
        if one.pixel_threshold is None:
            return "none: there is no threshold to draw them with"
        if not one.regions:
            whole = ": it is the image as a whole that deviates" if one.label else ""
            return f"none above the pixel threshold{whole}"
        share = sum(region.area_fraction for region in one.regions)
        noun = "region" if len(one.regions) == 1 else "regions"
        return f"{len(one.regions)} {noun}, {100 * share:.2g} % of the image"

    def facts(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        one = self.inspection
        return {
            **one.row(),
            "pixel_threshold": one.pixel_threshold,
            "n_goods": self.n_goods,
            "goods_below": self.n_below,
            "robust_sigmas": self.sigmas,
            "seen_size": self.seen,
            "in_words": [text for text in (self.verdict, self.standing) if text],
            "places": [_place_facts(place, self.seen) for place in self.places],
        }

    def where(self, place: Place) -> str:
        """Say in words where a place is and how large its region."""
        height, width = self.size
        third = _THIRDS[min(2, 3 * place.y // height)][min(2, 3 * place.x // width)]
        text = f"{third}, row {place.y}, column {place.x}"
        if place.region is not None:
            left, top, right, bottom = place.region.bbox
            share = place.region.area_fraction
            text += f"; {right - left} x {bottom - top} px, {100 * share:.2g} % of the image"
        if place.ratio is not None:
            text += f"; peak {place.ratio:.2f} times the pixel threshold"
        return text


def explain(detector: Detector, source: Any) -> Explanation:
    """Explain the verdict on one image.

    Parameters
    ----------
    detector : Detector
        Fitted.
    source : path, array, PIL image or Sample
        The image. One that cannot be judged is explained by its reason alone.

    Returns
    -------
    Explanation
    """
    inspection = next(iter(detector.inspect([source])))
    if inspection.verdict is Verdict.ERROR:
        return Explanation(inspection)
    known = vars(detector).get("decision_scores_")
    goods: NDArray[np.float64] = np.empty(0) if known is None else known
    sigmas = robust_z(np.array([inspection.score]), goods)
    image = detector.intake_.see(source)
    seen = detector.view_.see(image)
    return Explanation(
        inspection,
        n_goods=goods.size,
        n_below=int(np.count_nonzero(goods < inspection.score)),
        sigmas=None if sigmas is None else float(sigmas[0]),
        size=(image.shape[0], image.shape[1]),
        seen=(seen.image.shape[0], seen.image.shape[1]),
        places=_places(detector, seen, inspection),
    )


def ranked(named: Mapping[str, float], most: int = 4) -> list[tuple[str, float]]:
    """Return the families or parts that weigh most; none that weighs next to nothing."""
    return [
        item for item in sorted(named.items(), key=lambda item: -item[1])[:most] if item[1] > 0.01
    ]


def pixels(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels of an image of this size."""
    height, width = size
    left, top, right, bottom = box
    first = math.floor(left * width), math.floor(top * height)
    return (
        *first,
        max(first[0] + 1, round(right * width)),
        max(first[1] + 1, round(bottom * height)),
    )


def _places(detector: Detector, seen: Seen, one: Inspection) -> tuple[Place, ...]:
    drawn = one.map
    if drawn is None or not isinstance(detector, MapDetector):
        return ()
    regions = one.regions[:EXPLAINED] or (None,)
    peaks = [_peak(drawn, None if region is None else region.bbox) for region in regions]
    shares = [_seen_at(seen, drawn.shape, peak) for peak in peaks]
    evidence: Sequence[Evidence | None] = [None] * len(peaks)
    if all(shares) and tiles_of(detector.view_) is None:  # of tiles each is a picture of its own
        evidence = detector._explain(seen.image, [one for one in shares if one]) or evidence
    limit = one.pixel_threshold
    found = []
    for region, (x, y), said in zip(regions, peaks, evidence, strict=True):
        high = float(drawn[y, x])
        found.append(Place(region, x, y, high, high / limit if limit and limit > 0 else None, said))
    return tuple(found)


def _seen_at(
    seen: Seen, size: tuple[int, ...], peak: tuple[int, int]
) -> tuple[float, float] | None:
    """Return where a pixel lies in what was seen, x and y in shares; None if it was not seen."""
    height, width = seen.image.shape[:2]
    for reach in (0, 2):  # one pixel can fall between those that are seen
        mask = np.zeros(size[:2], np.bool_)
        x, y = peak
        mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
        rows, columns = np.nonzero(seen.back.carry(mask))
        if rows.size:
            return float(columns.mean() + 0.5) / width, float(rows.mean() + 0.5) / height
    return None


def _peak(drawn: NDArray[np.float32], bbox: tuple[int, int, int, int] | None) -> tuple[int, int]:
    left, top, right, bottom = bbox or (0, 0, drawn.shape[1], drawn.shape[0])
    inside = drawn[top:bottom, left:right]
    y, x = divmod(int(inside.argmax()), inside.shape[1])
    return left + x, top + y


def _place_facts(place: Place, size: tuple[int, int]) -> dict[str, Any]:
    said = place.evidence
    facts: dict[str, Any] = {
        "x": place.x,
        "y": place.y,
        "peak": place.peak,
        "pixel_thresholds": place.ratio,
        "region": place.region,
    }
    if said is not None:
        facts |= {
            "patch": pixels(said.box, size),
            "distance": said.distance,
            "nearest_good": said.good,
            "nearest_good_box": said.good_box,
            "shares": said.shares,
            "parts": said.parts,
        }
    return facts

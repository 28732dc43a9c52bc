"""The page of an explanation: picture, score among the good ones, each place beside its nearest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyimgano.atomic import output_errors, write_atomic
from pyimgano.images import describe
from pyimgano.maps.overlay import encode_png, heatmap, legend, overlay
from pyimgano.runs.explain import Explanation, Place, pixels, ranked
from pyimgano.runs.facts import to_json
from pyimgano.runs.gallery import data_uri
from pyimgano.runs.histogram import histogram
from pyimgano.runs.page import write_page
from pyimgano.views.intake import find_learned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.detector import Detector
    from pyimgano.runs.histogram import Histogram

    Box = tuple[int, int, int, int]

__all__ = ["GoodPatch", "crop", "good_patches", "write_explanation"]

_CROP = 300  # pixels of a patch on the page
_PANEL = 760
_AROUND = 5  # a crop shows so many patches side by side


@dataclass(frozen=True, slots=True, eq=False)
class GoodPatch:
    """The nearest good patch of a place: where it lies, and its image if that was found.

    Attributes
    ----------
    name : str
        The file, or which good image it was.
    image : ndarray of uint8, shape (H, W, 3), or None
        As the detector sees it, through its view.
    box : (int, int, int, int) or None
        The patch in it; None where the size of the image is not known.
    """

    name: str
    image: NDArray[np.uint8] | None
    box: Box | None

    @property
    def words(self) -> str:
        """Name, row and column."""
        if self.box is None:
            return self.name
        left, top, right, bottom = self.box
        return f"{self.name}, row {(top + bottom) // 2}, column {(left + right) // 2}"


def good_patches(
    detector: Detector, places: Sequence[Place], goods: Sequence[Any] = ()
) -> dict[int, GoodPatch]:
    """Return the nearest good patch of each place that has one, by the number of the place.

    ``goods`` are the images that the detector learned from, or a folder's worth among which they
    are: no model holds one. They are told by their pixels, whatever their names are now.
    """
    named = {
        i: place.evidence
        for i, place in enumerate(places)
        if place.evidence is not None and place.evidence.good is not None
    }
    found = find_learned(goods, {detector.hashes_[cast(int, one.good)] for one in named.values()})
    sizes = detector.intake_.sizes
    patches = {}
    for i, one in named.items():
        number = cast(int, one.good)
        source = found.get(detector.hashes_[number])
        image = None if source is None else _seen(detector, source)
        size = detector.view_.size(sizes[0]) if image is None else image.shape[:2]
        known = image is not None or len(sizes) == 1
        patches[i] = GoodPatch(
            f"good image {number + 1} of {len(detector.hashes_)}"
            if source is None
            else describe(source),
            image,
            pixels(cast(Any, one.good_box), size) if known else None,
        )
    return patches


def write_explanation(
    out: str | Path,
    detector: Detector,
    source: Any,
    explained: Explanation,
    patches: Mapping[int, GoodPatch],
) -> Path:
    """Write ``explanation.html`` and ``explanation.json`` into a folder; return the page.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    folder = Path(out)
    one = explained.inspection
    pictures: list[str] = []
    shown: list[dict[str, Any]] = []
    if one.error is None:
        image, seen = detector.intake_.see(source), _seen(detector, source)
        if one.map is not None:
            limit = one.pixel_threshold
            marked = overlay(image, one.map, limit, one.regions, max_side=_PANEL, seen=one.seen)
            pictures = [_png(_fit(image, _PANEL)), _png(marked)]
        shown = [
            _shown(i, place, (image, seen), explained, patches.get(i))
            for i, place in enumerate(explained.places)
        ]
    facts = explained.facts()
    for i, patch in patches.items():
        facts["places"][i] |= {"nearest_good_name": patch.name, "nearest_good_box": patch.box}
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "explanation.json", to_json(facts, indent=1) + b"\n")
        write_page(
            folder / "explanation.html",
            "explain.html.j2",
            explained=explained,
            one=one,
            pictures=pictures,
            places=shown,
            learned=detector.learned(),
            histogram=_histogram(detector, explained),
            legend=data_uri("png", encode_png(legend(240, 12))),
        )
    return folder / "explanation.html"


def _seen(detector: Detector, source: Any) -> NDArray[np.uint8]:
    return detector.view_.see(detector.intake_.see(source)).image


def _histogram(detector: Detector, explained: Explanation) -> Histogram | None:
    """Return the scores of the good images, and this one as a row of its own."""
    if not explained.n_goods:
        return None
    rows = [{"score": score, "label": 0} for score in detector.decision_scores_.tolist()]
    rows.append({"score": explained.inspection.score, "label": None})
    return histogram(rows, explained.inspection.threshold)


def _shown(
    number: int,
    place: Place,
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    explained: Explanation,
    patch: GoodPatch | None,
) -> dict[str, Any]:
    """Return what the page shows of a place: words, the crop, its map, the good crop, shares."""
    (image, seen), said, size = images, place.evidence, explained.size
    moved = not np.array_equal(seen, image)
    spot = (place.x, place.y, place.x + 1, place.y + 1)
    patch_box = spot if said is None else pixels(said.box, explained.seen)
    box = spot if moved else patch_box
    extent = max(patch_box[2] - patch_box[0], patch_box[3] - patch_box[1], 1)
    if place.region is not None:
        left, top, right, bottom = place.region.bbox
        extent = max(extent, min(right - left, bottom - top) // 2)
    side = min(max(_AROUND * extent, min(size) // 8, 48), *size)
    drawn = cast("NDArray[np.float32]", explained.inspection.map)
    return {
        "words": explained.where(place),
        "region": place.region is not None,
        "number": number + 1,
        "crop": _png(crop(image, box, side)),
        "map": _png(crop(heatmap(drawn, explained.inspection.pixel_threshold), box, side)),
        "seen": _png(crop(seen, patch_box, min(side, *explained.seen)))
        if moved and said is not None
        else None,
        "good": None
        if patch is None or patch.image is None or patch.box is None
        else _png(crop(patch.image, patch.box, min(side, *patch.image.shape[:2]))),
        "good_words": None if patch is None else patch.words,
        "distance": None if said is None else said.distance,
        "shares": [] if said is None else ranked(said.shares),
        "parts": [] if said is None else ranked(said.parts),
        "side": side,
    }


def crop(
    image: NDArray[np.uint8], box: Box, side: int, *, marked: bool = True
) -> NDArray[np.uint8]:
    """Return a square around a box, enlarged, with the box drawn."""
    import cv2

    height, width = image.shape[:2]
    left = min(max((box[0] + box[2] - side) // 2, 0), width - side)
    top = min(max((box[1] + box[3] - side) // 2, 0), height - side)
    cut = image[top : top + side, left : left + side]
    factor = _CROP / side
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    picture = cast("NDArray[np.uint8]", cv2.resize(cut, (_CROP, _CROP), interpolation=how))
    if marked and box[2] - box[0] > 1:
        first = (round((box[0] - left) * factor), round((box[1] - top) * factor))
        last = (round((box[2] - left) * factor), round((box[3] - top) * factor))
        cv2.rectangle(picture, first, last, (0, 0, 0), 3)
        cv2.rectangle(picture, first, last, (255, 255, 255), 1)
    return picture


def _fit(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    flat = np.zeros(image.shape[:2], np.float32)
    return overlay(image, flat, 1.0, max_side=side)


def _png(image: NDArray[np.uint8]) -> str:
    return data_uri("png", encode_png(image))

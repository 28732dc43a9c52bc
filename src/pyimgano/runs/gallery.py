"""The pictures of a report: which images are worth a look, and how they fit into one file."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import numpy as np

from pyimgano.ahead import prefetch
from pyimgano.errors import ImageError
from pyimgano.images import read_image
from pyimgano.inspection import Verdict
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.report_facts import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from pyimgano.runs.report_tables import Row

__all__ = [
    "Section",
    "choose",
    "data_uri",
    "jpeg",
    "link",
    "partly",
    "pictures",
    "split",
    "thumbnails",
]

PICTURE_BYTES = 7_000_000  # of all galleries, before base64 makes them a third larger
THUMBNAIL_BYTES = 2_200_000
THUMBNAIL = 72
SHOWN = 6
_SIDES = (640, 480, 360, 280, 200)
_GAP = 4  # between the panels of a picture of a run
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Section:
    """A handful of images under one heading."""

    title: str
    text: str
    rows: list[Row]


def choose(rows: Iterable[Row], threshold: float | None) -> list[Section]:
    """Choose what to show; no image twice, and no section empty. Rows are read a few times."""
    decided = threshold is not None

    def passed(row: Row) -> bool:
        return bool(row["verdict"] != Verdict.NG and row["label"] != DEFECT)

    def away(centre: float) -> Callable[[Row], float]:
        return lambda row: abs(row["score"] - centre)

    typical = [row["score"] for row in rows if row["score"] is not None and passed(row)]
    plans: tuple[tuple[str, str, Callable[[Row], bool], Callable[[Row], float]], ...] = (
        (
            "Worst misses",
            "Known defects judged OK, the lowest scores first.",
            lambda row: row["label"] == DEFECT and row["verdict"] == Verdict.OK,
            lambda row: row["score"],
        ),
        (
            "False alarms",
            "Good parts judged NG, the highest scores first.",
            lambda row: row["label"] == GOOD and row["verdict"] == Verdict.NG,
            lambda row: -row["score"],
        ),
        (
            "Strongest NG" if decided else "Highest scores",
            "Highest first.",
            lambda row: row["verdict"] == Verdict.NG or not decided,
            lambda row: -row["score"],
        ),
        (
            "Borderline",
            "The scores nearest to the threshold: a small change would turn them.",
            lambda _: decided,
            away(threshold or 0.0),
        ),
        (
            "Typical OK" if decided else "Typical",
            "The scores nearest to their middle.",
            passed,
            away(float(np.median(typical)) if typical else 0.0),
        ),
    )
    seen: set[int] = set()
    sections = []
    for title, text, fits, key in plans:
        found = nsmallest(
            SHOWN,
            (
                (key(row), place, row)
                for place, row in enumerate(rows)
                if row["score"] is not None and place not in seen and fits(row)
            ),
        )
        seen.update(place for _, place, _ in found)
        if found:
            sections.append(Section(title, text, [row for *_, row in found]))
    return sections


def pictures(folder: Path, rows: list[Row], galleries: int = 1) -> dict[str, list[str]]:
    """Return the panels of each picture that is there as data URIs, all of them in one budget.

    Where a page has several galleries, each takes its share of the budget.
    """
    kept = [row for row in rows if row["overlay"]]

    def encode(row: Row) -> list[str]:
        panels = _panels(folder, row)
        found: list[bytes] = []
        for side in _SIDES:
            found = [jpeg(panel, side) for panel in panels]
            if sum(map(len, found)) <= PICTURE_BYTES // (galleries * len(kept)):
                break
        return [data_uri("jpeg", data) for data in found]

    encoded = zip(kept, prefetch(encode, kept), strict=True)
    return {row["overlay"]: found for row, found in encoded if found}


def partly(rows: Iterable[Row]) -> bool:
    """Tell whether a picture shows a limit of what was judged."""
    return any(row["overlay"] and row.get("seen", 1) < 1 for row in rows)


def thumbnails(folder: Path, rows: Iterable[Row]) -> Iterator[tuple[Row, str | None]]:
    """Yield each row with a small image of its picture, as many as their budget holds."""
    room = THUMBNAIL_BYTES

    def encode(row: Row) -> tuple[Row, list[bytes]]:
        panels = _panels(folder, row)[:1] if row["overlay"] and room >= 0 else []
        return row, [jpeg(panel, THUMBNAIL) for panel in panels]

    for row, encoded in prefetch(encode, rows):
        shown = encoded if room >= 0 else []
        room -= sum(map(len, shown))
        yield row, data_uri("jpeg", shown[0]) if shown else None


def link(folder: Path, path: str) -> str | None:
    """Return the reference from a run directory to an original that is there, or None."""
    if not is_there(path):
        return None
    try:
        relative = os.path.relpath(Path(path).resolve(), folder.resolve())
    except ValueError:  # pragma: no cover - on another drive, which only Windows has
        return None
    # Quoted whole: a name such as "javascript:x" or "a?b#c" is a name.
    return quote(os.fsencode(Path(relative).as_posix()), safe="/")


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as the source of an image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _panels(folder: Path, row: Row) -> list[NDArray[np.uint8]]:
    """Return image, map and regions; nothing if the picture was removed or damaged since."""
    try:
        picture = read_image(folder / row["overlay"])
    except ImageError:
        return []
    count = row.get("panels", 1)
    if picture.dtype != np.uint8 or picture.shape[1] < count + _GAP * (count - 1):
        return []
    return split(cast("NDArray[np.uint8]", picture), count)


def split(picture: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """Return the panels of a picture, which stand side by side."""
    width = (picture.shape[1] - _GAP * (count - 1)) // count
    return [picture[:, i * (width + _GAP) : i * (width + _GAP) + width] for i in range(count)]


def jpeg(image: NDArray[np.uint8], side: int) -> bytes:
    """Return an image as JPEG, its longer side at most ``side``."""
    import cv2
    import simplejpeg

    factor = min(1.0, side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    pixels = np.ascontiguousarray(small)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=_QUALITY, colorspace="RGB"))

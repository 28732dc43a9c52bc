"""The report of a check: what was found among good images, with pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyimgano.ahead import prefetch
from pyimgano.atomic import claimed, output_errors, write_atomic
from pyimgano.calibration import SUSPECT_MINIMUM, SUSPECT_Z, find_suspects, robust_z
from pyimgano.errors import ImageError, InputError
from pyimgano.estimator import DETECTORS
from pyimgano.groups import one_a_group
from pyimgano.images import read_image, to_uint8
from pyimgano.runs.facts import to_json
from pyimgano.runs.gallery import data_uri, jpeg, link, split
from pyimgano.runs.page import write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyimgano.detector import Detector
    from pyimgano.inspection import Inspection
    from pyimgano.runs.hygiene import Hygiene

__all__ = ["Doubts", "find_doubts", "write_check"]

PANEL = 480
THUMBNAIL = 160
SHOWN = 24  # of each kind, and of the members of each group
_FORMAT = "check"


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """Good images that stand out by their score: probable defects.

    Attributes
    ----------
    n : int
        Images that were scored.
    suspects : tuple of (str, float)
        Name and robust z of each, the highest first.
    judged : tuple of Inspection
        The first of them, judged by a model that learned without all: its maps show where.
    refused : tuple of (str, str)
        Name and reason of each that cannot be learned from, as one that does not align.
    text : str
        What was done and found, in a sentence.
    """

    n: int
    suspects: tuple[tuple[str, float], ...]
    judged: tuple[Inspection, ...]
    refused: tuple[tuple[str, str], ...]
    text: str


def find_doubts(detector: Detector, images: Sequence[Path], groups: Sequence[str]) -> Doubts:
    """Score good images by models that did not learn from them, and name what stands out.

    Parameters
    ----------
    detector : Detector
        Unfitted.
    images : sequence of Path
        Good images, in the order in which they were taken.
    groups : sequence of str
        Images that look the same share a name: together they are one, as for the threshold.

    Raises
    ------
    InputError
        If they cannot be learned from.
    """
    if len(images) < SUSPECT_MINIMUM:
        few = f"{len(images)} images are too few to tell which of them stand out by their scores"
        return Doubts(0, (), (), (), few)
    fitted = detector.clone().fit(images)
    refused = dict(fitted.skipped_)
    pairs = [(str(path), group) for path, group in zip(images, groups, strict=True)]
    names, known = zip(*(pair for pair in pairs if pair[0] not in refused), strict=True)
    scores = fitted.decision_scores_
    each = scores[one_a_group(scores, known)]
    away = robust_z(scores, each)
    far = [] if away is None else zip(names, away.round(2).tolist(), strict=True)
    ranked = tuple(sorted((p for p in far if p[1] > SUSPECT_Z), key=lambda pair: -pair[1]))
    out = {name for name, _ in ranked}
    judged: tuple[Inspection, ...] = ()
    if ranked:
        rest = [path for path in images if str(path) not in out | refused.keys()]
        judged = tuple(detector.clone().fit(rest).inspect([name for name, _ in ranked[:SHOWN]]))
    text = f"{len(names)} images by {DETECTORS.name_of(type(fitted))}, out of sample: "
    if ranked and not fitted.suspects_:
        text += find_suspects(each)[1]
    else:
        text += f"{len(ranked) or 'none'} {'stand' if len(ranked) > 1 else 'stands'} out"
    return Doubts(len(names), ranked, judged, fitted.skipped_, text)


def write_check(found: Hygiene, doubts: Doubts, folder: Path, out: Path) -> Path:
    """Write ``report.html`` and ``check.json`` into a directory.

    Parameters
    ----------
    found, doubts : Hygiene, Doubts
        What was found.
    folder : Path
        Where the images lie.
    out : Path
        New, empty, or that of an older check.

    Raises
    ------
    OutputError
        If it holds something else, or cannot be written.
    """
    facts = {name: getattr(found, name) for name in found.__slots__}
    facts |= {"format": _FORMAT, "folder": folder}
    facts |= {"suspects": doubts.suspects, "refused": doubts.refused}
    groups = (*found.duplicates, *found.near_duplicates)
    odd = (doubts.refused, found.blurred, found.exposure, found.odd_sizes)
    names = [name for findings in odd for name, _ in findings[:SHOWN]]
    names += [name for group in groups[:SHOWN] for name in group[:SHOWN]]
    view = {
        "found": found,
        "doubts": doubts,
        "folder": str(folder),
        "thumbnails": dict(zip(names, prefetch(_thumbnail, names), strict=True)),
        "pictures": list(prefetch(_panels, doubts.judged)),
        "links": {
            name: link(out, name) for name in [*names, *(name for name, _ in doubts.suspects)]
        },
        "shown": SHOWN,
    }
    with claimed(out, "a check", _require_check), output_errors(out):
        write_atomic(out / "check.json", to_json(facts, indent=1) + b"\n")
        write_page(out / "report.html", "check.html.j2", **view)
    return out / "report.html"


def _require_check(out: Path) -> None:
    try:
        facts: Any = json.loads((out / "check.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"check.json cannot be read: {error}") from error
    if facts.get("format") != _FORMAT:
        raise InputError("its check.json is none of a check")


def _thumbnail(name: str) -> str:
    try:
        image = read_image(name)
    except ImageError:  # it was removed since
        return ""
    return data_uri("jpeg", jpeg(to_uint8(image, max(1, int(image.max())))[0], THUMBNAIL))


def _panels(one: Inspection) -> list[str]:
    if one.map is None:
        return [_thumbnail(one.path)]
    picture = one.picture(read_image(one.path), PANEL)
    return [data_uri("jpeg", jpeg(panel, PANEL)) for panel in split(picture, 3)]

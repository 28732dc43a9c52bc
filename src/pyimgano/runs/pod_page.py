"""The page of a detection study: curves with intervals, a table, and what was planted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.atomic import output_errors, write_atomic
from pyimgano.runs.explain_page import crop
from pyimgano.runs.facts import surroundings, to_json
from pyimgano.runs.gallery import data_uri, jpeg
from pyimgano.runs.page import write_page
from pyimgano.runs.pod import Planted
from pyimgano.synthesis.graded import GRADED, find_part

if TYPE_CHECKING:
    from pyimgano.detector import Detector
    from pyimgano.runs.pod import Curve, Detection

__all__ = ["METHOD", "write_detection"]

WIDTH, HEIGHT = 330, 200  # of a plot, in units of its SVG
_EXAMPLE = 150
METHOD = (
    "Hit or miss (MIL-HDBK-1823A): a hit is a verdict NG. The intervals of the points are those "
    "of Clopper and Pearson, 95 %. The curve is a logit of log size above the false-reject rate of "
    "the same images, fitted by maximum likelihood. a90 is the size that it finds 90 % of the "
    "time; a90/95 is the upper end of its one-sided 95 % likelihood-ratio interval, widened by the "
    "design effect where hits in one image go together. Sizes that were not tried are not reported."
)


@dataclass(frozen=True, slots=True)
class _Plot:
    """The curves of one kind of defect.

    Attributes
    ----------
    lines : list of (int, str, list)
        Contrast, path, and points: x, y, upper and lower end of the interval, text.
    ticks : list of (float, int)
        Place and size.
    """

    kind: str
    about: str
    lines: list[tuple[int, str, list[tuple[float, float, float, float, str]]]]
    ticks: list[tuple[float, int]]


def write_detection(out: str | Path, detector: Detector, found: Detection) -> Path:
    """Write ``pod.json`` and ``pod.html`` into a folder, and return the page.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    folder = Path(out)
    kinds = found.plan.kinds
    facts = {
        "method": METHOD,
        "false_rejects": found.false_rejects.describe(),
        "images": found.images,
        "skipped": found.skipped,
        "notes": found.notes,
        "plan": found.plan,
        "sentences": found.sentences,
        "curves": [curve.facts() for curve in found.curves],
        "model": detector.learned(),
        **surroundings(),
    }
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "pod.json", to_json(facts, indent=1) + b"\n")
        write_page(
            folder / "pod.html",
            "pod.html.j2",
            found=found,
            method=METHOD,
            plots=[_plot(kind, found) for kind in kinds],
            level=HEIGHT * (1 - (found.false_rejects.value or 0.0)),
            size=(WIDTH, HEIGHT),
            examples=_examples(detector, found),
            learned=detector.learned(),
        )
    return folder / "pod.html"


def _plot(kind: str, found: Detection) -> _Plot:
    sizes = found.plan.sizes
    low, high = math.log(sizes[0] / 1.2), math.log(sizes[-1] * 1.2)

    def x(size: float) -> float:
        return WIDTH * (math.log(size) - low) / (high - low)

    lines = []
    curves = [curve for curve in found.curves if curve.kind == kind]
    for i, curve in enumerate(curves):
        aside = 3.0 * (i - (len(curves) - 1) / 2)  # bars of several contrasts side by side
        lines.append((curve.contrast, _path(curve, x), _points(curve, x, aside)))
    return _Plot(kind, GRADED[kind], lines, [(x(size), size) for size in sizes])


def _path(curve: Curve, x: Any) -> str:
    if curve.fit is None:
        return ""
    sizes = np.geomspace(curve.sizes[0], curve.sizes[-1], 60)
    heights = HEIGHT * (1 - curve.fit.at(sizes))
    pairs = zip(sizes.tolist(), heights.tolist(), strict=True)
    return "M" + "L".join(f"{x(size):.1f} {height:.1f}" for size, height in pairs)


def _points(curve: Curve, x: Any, aside: float) -> list[tuple[float, float, float, float, str]]:
    points = []
    for size, rate in zip(curve.sizes, curve.found, strict=True):
        if rate.value is not None:
            low, high = rate.interval
            text = f"{size} px: {rate.k} of {rate.n}, 95 % interval {low:.0%} to {high:.0%}"
            at = [HEIGHT * (1 - value) for value in (rate.value, high, low)]
            points.append((x(size) + aside, at[0], at[1], at[2], text))
    return points


def _examples(detector: Detector, found: Detection) -> list[tuple[str, int, list[Any]]]:
    """Return by kind the first image with the defect of each size at the middle contrast."""
    image = detector.intake_.see(found.sources[0])
    planted = Planted(image, find_part(image), found.plan, 0)
    contrast = found.plan.contrasts[(len(found.plan.contrasts) - 1) // 2]
    rows: dict[str, list[Any]] = {kind: [] for kind in found.plan.kinds}
    for i, job in enumerate(planted.jobs):
        if job.contrast == contrast:
            drawn = planted[i]
            ys, xs = np.nonzero(planted.masks.pop(i))
            box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
            side = min(max(2 * job.size, 64), *image.shape[:2])
            shown = crop(drawn, box, side, marked=False)
            rows[job.kind].append((job.size, side, data_uri("jpeg", jpeg(shown, _EXAMPLE))))
    return [(kind, contrast, shown) for kind, shown in rows.items()]

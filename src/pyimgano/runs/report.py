"""One HTML file that says what a run found, how sure that is, and what it does not prove.

Everything is inside the file: style, charts and pictures; it runs no script and asks no server.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pyimgano.atomic import write_atomic
from pyimgano.calibration import false_reject_bound
from pyimgano.errors import ImageError
from pyimgano.images import read_image
from pyimgano.inspection import Verdict
from pyimgano.maps.overlay import encode_png, legend
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.facts import read_run
from pyimgano.runs.histogram import histogram

__all__ = ["write_report"]

PICTURE_BYTES = 9_000_000  # of pictures in one report, before base64 makes them a third larger
GALLERY = 6
_SIDES = (1100, 800, 560, 400, 280)
_METRICS = {
    "auroc": ("AUROC", "a random defect scores above a random good part; 0.5 is chance"),
    "ap": ("Average precision", "area under precision over recall"),
    "f1max": ("F1 max", "best F1 of any threshold"),
    "f1max_threshold": ("F1 max threshold", "where that F1 is reached"),
    "pixel_auroc": ("Pixel AUROC", "a random defective pixel is above a random good one"),
    "pixel_ap": ("Pixel average precision", "area under precision over recall of pixels"),
    "pixel_f1max": ("Pixel F1 max", "best pixel F1 of any threshold"),
    "pixel_f1max_threshold": ("Pixel F1 max threshold", "where that F1 is reached"),
    "aupro_0.3": ("AUPRO 0.3", "overlap with each defect, up to 30 % false-positive pixels"),
    "aupro_0.05": ("AUPRO 0.05", "overlap with each defect, up to 5 % false-positive pixels"),
    "n_regions": ("Defect regions", "connected regions in the ground truth"),
}
_COUNTED = {"undefined", "at_threshold", "errors"}  # told elsewhere, from the rows themselves
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """k of n, with its Clopper-Pearson interval (1934) of 95 % confidence."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest rate that agree with what was seen."""
        low = false_reject_bound(self.n, self.k, 0.025)
        high = false_reject_bound(self.n, self.k + 1, 0.975)
        return 0.0 if low is None else low, 1.0 if high is None else high


@dataclass(frozen=True, slots=True)
class Tally:
    """How images of one kind were judged."""

    name: str
    ok: int
    ng: int
    error: int
    undecided: int

    @property
    def total(self) -> int:
        """All images of the kind."""
        return self.ok + self.ng + self.error + self.undecided

    @property
    def flagged(self) -> Rate:
        """NG among those that could be judged."""
        return Rate(self.ng, self.ok + self.ng)


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` into a run directory, from what stands there.

    Parameters
    ----------
    run_dir : str or Path
        A directory that `RunWriter` wrote.

    Returns
    -------
    Path
        The report: one file below 15 MB without scripts or outside references.

    Raises
    ------
    InputError
        If the directory holds no run.
    OutputError
        If the report cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    folder = Path(run_dir)
    facts, rows = read_run(folder)
    source = resources.files("pyimgano.runs").joinpath("report.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=_number, percent=_percent, flat=_flat)
    target = folder / "report.html"
    write_atomic(target, environment.from_string(source).render(_view(folder, facts, rows)))
    return target


def _view(folder: Path, facts: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """Return what the template shows."""
    labelled = [row for row in rows if row["label"] is not None]
    limits = {  # the rows know them too, where a run ended before it could note them
        name: next((row[name] for row in [facts, *rows] if row.get(name) is not None), None)
        for name in ("threshold", "pixel_threshold")
    }
    threshold = limits["threshold"]
    kinds = sorted({row["defect"] for row in labelled if row["label"] == DEFECT})
    sections = _galleries(rows, threshold)
    return {
        **limits,
        "run": facts,
        "detector": facts.get("detector") or {},
        "data": facts.get("data") or {},
        "all": _tally("all", rows),
        "good": _tally("good", [row for row in labelled if row["label"] == GOOD]),
        "defect": _tally("defective", [row for row in labelled if row["label"] == DEFECT]),
        "kinds": [
            _tally(kind, [r for r in labelled if r["label"] == DEFECT and r["defect"] == kind])
            for kind in kinds
        ],
        "unlabelled": _tally("unlabelled", [row for row in rows if row["label"] is None]),
        "metrics": _metrics(facts.get("metrics") or {}),
        "histogram": histogram(rows, threshold),
        "galleries": sections,
        "pictures": _pictures(folder, [row for _, _, shown in sections for row in shown]),
        "legend": _data_uri("png", encode_png(legend(240, 12))),
        "folder": _shared_folder([row["path"] for row in rows]),
        "errors": [row for row in rows if row["verdict"] == Verdict.ERROR],
    }


def _shared_folder(paths: list[str]) -> str:
    """Return the start of all paths, up to a separator; empty if they share none."""
    start = os.path.commonprefix(paths)  # noqa: RUF071 - cut at a separator on the next line
    return start[: max(start.rfind("/"), start.rfind("\\")) + 1]


def _tally(name: str, rows: list[Row]) -> Tally:
    verdicts = [row["verdict"] for row in rows]
    return Tally(name, *(verdicts.count(verdict) for verdict in (*Verdict, "")))


def _metrics(metrics: Mapping[str, Any]) -> list[tuple[str, object, str, bool]]:
    """Return (name, value, meaning, oracle) of each metric; an undefined one says why."""
    reasons = metrics.get("undefined") or {}
    table = []
    for key, value in _flat({k: v for k, v in metrics.items() if k not in _COUNTED}):
        name, meaning = _METRICS.get(key, (key, ""))
        oracle = "f1max" in key or "oracle" in key
        table.append((name, value, reasons.get(key, meaning), oracle))
    known = {key for key, _ in _flat(metrics)}
    table += [
        (_METRICS.get(key, (key,))[0], None, why, False)
        for key, why in reasons.items()
        if key not in known
    ]
    return table


def _galleries(rows: list[Row], threshold: float | None) -> list[tuple[str, str, list[Row]]]:
    """Choose what to show: (title, explanation, rows) of each section; no image twice."""
    judged = [row for row in rows if row["score"] is not None]
    if not judged:
        return []
    passed = [row for row in judged if row["verdict"] != Verdict.NG and row["label"] != DEFECT]
    middle = float(np.median([row["score"] for row in passed])) if passed else 0.0
    border = judged if threshold is not None else []

    def rising(row: Row) -> float:
        return float(row["score"])

    def falling(row: Row) -> float:
        return -rising(row)

    misses = [r for r in judged if r["label"] == DEFECT and r["verdict"] == Verdict.OK]
    alarms = [r for r in judged if r["label"] == GOOD and r["verdict"] == Verdict.NG]
    high = [r for r in judged if r["verdict"] == Verdict.NG] if border else judged
    plans = (
        ("Worst misses", "Known defects judged OK, the lowest scores first.", misses, rising),
        ("False alarms", "Good parts judged NG, the highest scores first.", alarms, falling),
        ("Strongest NG" if border else "Highest scores", "Highest first.", high, falling),
        (
            "Borderline",
            "The scores nearest to the threshold: a small change would turn them.",
            border,
            lambda row: abs(rising(row) - (threshold or 0.0)),
        ),
        (
            "Typical OK" if border else "Typical",
            "The scores nearest to their middle.",
            passed,
            lambda row: abs(rising(row) - middle),
        ),
    )
    seen: set[int] = set()
    sections = []
    for title, text, candidates, key in plans:
        shown = sorted((row for row in candidates if id(row) not in seen), key=key)[:GALLERY]
        seen.update(id(row) for row in shown)
        if shown:
            sections.append((title, text, shown))
    return sections


def _pictures(folder: Path, rows: list[Row]) -> dict[str, str]:
    """Return a data URI for each overlay that is there, all of them within `PICTURE_BYTES`."""
    paths = [row["overlay"] for row in rows if row["overlay"]]
    pictures = {}
    for path in paths:
        try:
            pictures[path] = _thumbnail(folder / path, PICTURE_BYTES // len(paths))
        except ImageError:  # removed or damaged since: the card says so
            continue
    return pictures


def _thumbnail(path: Path, limit: int) -> str:
    """Encode the largest JPEG that fits."""
    import cv2
    import simplejpeg

    image = read_image(path)
    data = b""
    for side in _SIDES:
        factor = min(1.0, side / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=82, colorspace="RGB")
        if len(data) <= limit:
            break
    return _data_uri("jpeg", data)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested mappings as one list of dotted names."""
    table: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            table += _flat(value, f"{prefix}{name}.")
        else:
            table.append((f"{prefix}{name}", value))
    return table


def _number(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_number(item) for item in value)
    if value is None or value == "":
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    if value is None:
        return "—"
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.{0 if value in {0.0, 1.0} else 1}f} %"

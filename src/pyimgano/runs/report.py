"""One HTML file that says what a run found, how sure that is, and what it does not prove.

Everything is inside the file: style, script, charts and pictures; it asks no server. The script
only adds to what is there: a threshold that can be moved, sorting, a filter, larger pictures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, final

import numpy as np

from pyimgano.inspection import Verdict
from pyimgano.maps.overlay import encode_png, legend
from pyimgano.runs.charts import SIDE, pro_chart, roc_chart
from pyimgano.runs.facts import open_run
from pyimgano.runs.gallery import choose, data_uri, link, partly, pictures, thumbnails
from pyimgano.runs.histogram import Histogram, histogram
from pyimgano.runs.page import write_page
from pyimgano.runs.report_facts import image_facts, model_facts
from pyimgano.runs.report_tables import Row, metrics_table, tallies

__all__ = ["write_report"]

LISTED = 4000  # rows of the table of all images
NAMED = 200  # images that could not be judged, with their reason
_LETTERS = {0: "g", 1: "d", None: "u"}


def write_report(run_dir: str | Path, *, home: str | Path | None = None) -> Path:
    """Write ``report.html`` into a run directory, from what stands there.

    Parameters
    ----------
    run_dir : str or Path
        A directory that `RunWriter` wrote.
    home : str or Path, optional
        Where the directory will stand, from which originals are linked; by default where it is.

    Returns
    -------
    Path
        The report: one file below 15 MB that loads nothing. Its originals are linked where they
        are still found.

    Raises
    ------
    InputError
        If the directory holds no run.
    OutputError
        If the report cannot be written.
    """
    folder = Path(run_dir)
    facts, rows = open_run(folder)
    target = folder / "report.html"
    original = partial(link, Path(home or folder))
    write_page(target, "report.html.j2", original=original, **_view(folder, facts, rows))
    return target


@final
class _Table(Sized, Iterable[tuple[Row, str | None]]):
    """Rows with their thumbnails: what could not be judged, then the highest scores."""

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        self._folder, self._rows = folder, rows
        keys = [-math.inf if row["score"] is None else -row["score"] for row in rows]
        self._order = np.argsort(keys, kind="stable")[:LISTED].tolist()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[Row, str | None]]:
        return thumbnails(self._folder, (self._rows[place] for place in self._order))


def _view(folder: Path, facts: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the template shows; each part reads the rows anew and keeps but numbers."""
    limits = {  # the rows know them too, where a run ended before it could note them
        name: next((row[name] for row in chain([facts], rows) if row.get(name) is not None), None)
        for name in ("threshold", "pixel_threshold")
    }
    threshold = limits["threshold"]
    chart = histogram(rows, threshold)
    sections = choose(rows, threshold)
    return {
        **limits,
        **tallies(rows),
        "run": facts,
        "detector": facts.get("detector") or {},
        "data": {k: v for k, v in (facts.get("data") or {}).items() if k != "layout"},
        "model": model_facts(facts),
        "images": image_facts(rows),
        "metrics": metrics_table(facts.get("metrics") or {}),
        "histogram": chart,
        "charts": [found for found in (roc_chart(rows, threshold), pro_chart(facts)) if found],
        "side": SIDE,
        "scores": "" if chart is None else _scores(rows, threshold, chart),
        "sections": sections,
        "partly": partly(rows),
        "pictures": pictures(folder, [row for section in sections for row in section.rows]),
        "pictured": any(row["overlay"] for row in rows),
        "legend": data_uri("png", encode_png(legend(240, 12))),
        "folder": _shared_folder(row["path"] for row in rows),
        "listed": _Table(folder, rows),
        "errors": list(islice((r for r in rows if r["verdict"] == Verdict.ERROR), NAMED)),
        "suspects": _suspects(facts),
    }


def _scores(rows: Iterable[Row], threshold: float | None, chart: Histogram) -> str:
    """Return scores and axis as JSON of numbers and letters, which no markup can hide in."""
    judged = [(row["score"], _LETTERS[row["label"]]) for row in rows if row["score"] is not None]
    return json.dumps(
        {
            "scores": [score for score, _ in judged],
            "labels": "".join(letter for _, letter in judged),
            "threshold": threshold,
            "low": chart.low,
            "high": chart.high,
            "log": chart.logarithmic,
        },
        separators=(",", ":"),
    )


def _suspects(facts: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return the suspects, and how far each stands out where the run noted it."""
    names = facts.get("suspects") or []
    far = facts.get("suspects_z") or []
    return list(zip(names, far if len(far) == len(names) else [None] * len(names), strict=True))


def _shared_folder(paths: Iterable[str]) -> str:
    """Return the start of all paths, up to a separator; empty if they share none."""
    start = ""
    for place, path in enumerate(paths):
        start = os.path.commonprefix([start, path]) if place else path  # noqa: RUF071 - cut below
    return start[: max(start.rfind("/"), start.rfind("\\")) + 1]

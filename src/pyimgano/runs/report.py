"""One HTML file that says what a run found, how sure that is, and what it does not prove.

Everything is inside the file: style, script, charts and pictures; it asks no server. The script
only adds to what is there: a threshold that can be moved, sorting, a filter, larger pictures.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyimgano.inspection import Verdict
from pyimgano.maps.overlay import encode_png, legend
from pyimgano.runs.charts import SIDE, pro_chart, roc_chart
from pyimgano.runs.facts import read_run
from pyimgano.runs.gallery import choose, data_uri, link, partly, pictures, thumbnails
from pyimgano.runs.histogram import Histogram, histogram
from pyimgano.runs.page import write_page
from pyimgano.runs.report_facts import image_facts, model_facts
from pyimgano.runs.report_tables import Row, metrics_table, tallies

__all__ = ["write_report"]

LISTED = 4000  # rows of the table of all images
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
    facts, rows = read_run(folder, leave_out={"regions"})
    listed = sorted(rows, key=_first_to_last)[:LISTED]
    links = {row["path"]: link(Path(home or folder), row["path"]) for row in listed}
    target = folder / "report.html"
    write_page(target, "report.html.j2", links=links, **_view(folder, facts, rows, listed))
    return target


def _view(
    folder: Path, facts: dict[str, Any], rows: list[Row], listed: list[Row]
) -> dict[str, Any]:
    """Return what the template shows."""
    limits = {  # the rows know them too, where a run ended before it could note them
        name: next((row[name] for row in [facts, *rows] if row.get(name) is not None), None)
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
        "thumbnails": thumbnails(folder, listed),
        "legend": data_uri("png", encode_png(legend(240, 12))),
        "folder": _shared_folder([row["path"] for row in rows]),
        "listed": listed,
        "errors": [row for row in rows if row["verdict"] == Verdict.ERROR],
        "suspects": _suspects(facts),
    }


def _scores(rows: list[Row], threshold: float | None, chart: Histogram) -> str:
    """Return scores and axis as JSON of numbers and letters, which no markup can hide in."""
    judged = [row for row in rows if row["score"] is not None]
    return json.dumps(
        {
            "scores": [row["score"] for row in judged],
            "labels": "".join(_LETTERS[row["label"]] for row in judged),
            "threshold": threshold,
            "low": chart.low,
            "high": chart.high,
            "log": chart.logarithmic,
        },
        separators=(",", ":"),
    )


def _first_to_last(row: Row) -> tuple[bool, float]:
    """Order what could not be judged before the highest scores."""
    return row["score"] is not None, -(row["score"] or 0.0)


def _suspects(facts: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return the suspects, and how far each stands out where the run noted it."""
    names = facts.get("suspects") or []
    far = facts.get("suspects_z") or []
    return list(zip(names, far if len(far) == len(names) else [None] * len(names), strict=True))


def _shared_folder(paths: list[str]) -> str:
    """Return the start of all paths, up to a separator; empty if they share none."""
    start = os.path.commonprefix(paths)  # noqa: RUF071 - cut at a separator on the next line
    return start[: max(start.rfind("/"), start.rfind("\\")) + 1]

"""Runs side by side on the images that they share, in one HTML file like that of a single run."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.atomic import output_errors
from pyimgano.errors import ParameterError
from pyimgano.metrics import bootstrap_scores, evaluate_scores
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.comparison_charts import roc_lines, score_map
from pyimgano.runs.comparison_gallery import disagreements, shots
from pyimgano.runs.comparison_pairs import compare
from pyimgano.runs.facts import read_run
from pyimgano.runs.gallery import link, partly
from pyimgano.runs.page import write_page
from pyimgano.runs.report_facts import is_there
from pyimgano.runs.report_tables import Row, flat, tallies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Run", "match", "write_comparison"]

LISTED = 1000  # images on which verdicts differ
_WHOLE = {
    "pixel_auroc": "Pixel AUROC",
    "aupro_0.3": "AUPRO 0.3",
    "aupro_0.05": "AUPRO 0.05",
    "aupimo": "AUPIMO",
    "aspro_0.05_mean_of_kinds": "AU-sPRO 0.05, mean of kinds",
}
_TOLD: tuple[str, ...] = ("data", "detector", "threshold", "pixel_threshold", "certainty")
_TOLD += ("timing", "versions", "machine")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One side of a comparison: its name, what ``run.json`` says, and its images in common.

    ``total`` is how many images it has, ``counts`` are `tallies` of those in common. ``metrics``
    are of the images in common that every run scored: ``auroc``, ``ap``, ``f1max``, and
    ``intervals``; of the whole run, if all its images are in common, those of pixels.
    """

    letter: str
    name: str
    folder: Path
    facts: dict[str, Any]
    rows: list[Row]
    total: int
    counts: dict[str, Any]
    metrics: dict[str, Any]


def write_comparison(
    runs: Sequence[str | Path], out: str | Path, notes: Sequence[str] = ()
) -> Path:
    """Write ``comparison.html``: two to 26 runs side by side on the images that all of them have.

    Images are the same if their paths are, or the bytes of their files. Images whose labels
    contradict each other are left out, and counted. Returns the page, one file that loads nothing,
    in the directory ``out``, which is made if need be; ``notes``, what must be known to read it,
    stand at its top. A directory without a run is an `InputError`.
    """
    if not 2 <= len(runs) <= 26:
        raise ParameterError(f"a comparison takes 2 to 26 runs, got {len(runs)}")
    folders, target = [Path(run) for run in runs], Path(out) / "comparison.html"
    view = _view(folders, target.parent)
    with output_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_page(target, "comparison.html.j2", notes=notes, **view)
    return target


def match(tables: Sequence[Sequence[Row]]) -> list[tuple[Row, ...]]:
    """Return the images that all tables have, a row of each: by path, else by the file's bytes.

    An image that stands in a table twice counts once, with its first row.
    """
    by_path = [{row["path"]: row for row in reversed(table)} for table in tables]
    shared = set(by_path[0]).intersection(*by_path[1:])
    common = [tuple(rows[path] for rows in by_path) for path in _once(tables[0]) if path in shared]
    left = [[path for path in _once(table) if path not in shared] for table in tables]
    if not all(left):
        return common
    by_bytes = [
        {_digest(path): rows[path] for path in reversed(paths) if is_there(path)}
        for rows, paths in zip(by_path, left, strict=True)
    ]
    alike = set(by_bytes[0]).intersection(*by_bytes[1:])
    order = sorted(alike, key=lambda digest: str(by_bytes[0][digest]["path"]))
    return common + [tuple(rows[digest] for rows in by_bytes) for digest in order]


def _once(table: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["path"] for row in table))


def _digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def _view(folders: list[Path], home: Path) -> dict[str, Any]:
    """Return what the template shows."""
    read = [read_run(folder, leave_out={"regions"}) for folder in folders]
    matched = match([rows for _, rows in read])
    known = [{row["label"] for row in rows} - {None} for rows in matched]
    common = [rows for rows, labels in zip(matched, known, strict=True) if len(labels) < 2]
    labels = [next(iter(found), None) for found in known if len(found) < 2]
    runs = _runs(folders, read, common, labels)
    differing = [
        (label, rows)
        for label, rows in zip(labels, common, strict=True)
        if len({row["verdict"] for row in rows}) > 1
    ]
    two = len(runs) == 2
    sections = disagreements(runs, differing) if two else []
    return {
        "runs": runs,
        "n": len(common),
        "contradicting": len(matched) - len(common),
        "pixels": {k: v for k, v in _WHOLE.items() if any(run.metrics.get(k) for run in runs)},
        "labelled": any(label is not None for label in labels),
        "pairs": [compare(common, labels, a, b) for a, b in combinations(range(len(runs)), 2)],
        "roc": roc_lines([run.rows for run in runs], labels),
        "map": score_map([run.rows for run in runs], labels) if two else None,
        "sections": sections,
        "partly": any(partly(list(rows)) for _, rows in differing),
        "shots": shots(runs, sections),
        "differing": len(differing),
        "listed": differing[:LISTED],
        "links": {rows[0]["path"]: link(home, rows[0]["path"]) for _, rows in differing[:LISTED]},
        "differences": _differences([facts for facts, _ in read]),
    }


def _runs(
    folders: list[Path],
    read: list[tuple[dict[str, Any], list[Row]]],
    common: list[tuple[Row, ...]],
    labels: list[int | None],
) -> list[Run]:
    scored = [
        i
        for i, rows in enumerate(common)
        if labels[i] is not None and all(row["score"] is not None for row in rows)
    ]
    truth = [labels[i] for i in scored]
    runs = []
    for place, (folder, (facts, table)) in enumerate(zip(folders, read, strict=True)):
        rows = [  # a run without labels borrows those of the others
            {**found[place], "label": label} for found, label in zip(common, labels, strict=True)
        ]
        metrics = _metrics(truth, [rows[i]["score"] for i in scored])
        if rows and len(rows) == len(table):
            noted = facts.get("metrics") or {}
            metrics |= {name: noted[name] for name in _WHOLE if noted.get(name) is not None}
        told = (chr(ord("A") + place), _name(facts), folder, facts)
        runs.append(Run(*told, rows, len(table), tallies(rows), metrics))
    return runs


def _metrics(labels: list[int | None], scores: list[float]) -> dict[str, Any]:
    """Return the figures of scores; nothing where one kind of image is missing."""
    if {GOOD, DEFECT} - set(labels):
        return {}
    truth, values = np.array(labels, np.int64), np.array(scores, np.float64)
    return {**evaluate_scores(truth, values), "intervals": bootstrap_scores(truth, values)}


def _name(facts: dict[str, Any]) -> str:
    if "configuration" in facts:
        return str(facts["configuration"])
    detector = facts.get("detector") or {}
    extractor = str(detector.get("extractor") or "").partition(" ")[0]
    return " · ".join(filter(None, (str(detector.get("name") or facts["command"]), extractor)))


def _differences(facts: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Return what the runs note of themselves and do not share."""
    noted = [dict(flat({name: one.get(name) for name in _TOLD if one.get(name)})) for one in facts]
    names = dict.fromkeys(name for one in noted for name in one)
    rows = [(name, [one.get(name) for one in noted]) for name in names]
    return [(name, row) for name, row in rows if len(Counter(map(repr, row))) > 1]

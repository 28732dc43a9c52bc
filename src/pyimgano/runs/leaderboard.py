"""The leaderboard of a benchmark: which method, how sure, at what cost, and how to repeat it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from pyimgano.atomic import write_atomic
from pyimgano.errors import InputError
from pyimgano.runs.leaderboard_charts import Differences, differences, scatter
from pyimgano.runs.leaderboard_markdown import markdown
from pyimgano.runs.leaderboard_methods import (
    Method,
    Row,
    category_of,
    has_failed,
    methods_of,
    read_rows,
)
from pyimgano.runs.leaderboard_ranks import ALPHA, Ranking, rank_methods
from pyimgano.runs.page import write_page

__all__ = ["Matrix", "read_facts_of_board", "write_leaderboard"]

FIGURES = {
    "auroc": "AUROC",
    "ap": "AP",
    "f1max_oracle": "F1 max (oracle)",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "aupro_0.3": "AUPRO 0.3",
    "aupro_0.05": "AUPRO 0.05",
    "aupimo": "AUPIMO",
    "auroc_mean_of_kinds": "AUROC, mean of kinds",
    "aspro_0.05_mean_of_kinds": "AU-sPRO 0.05, mean of kinds",
}
_COMPARED = ("auroc", "aupro_0.3")  # by category


@dataclass(frozen=True, slots=True)
class Matrix:
    """One figure by method and category, and whether the methods differ in it.

    ``best`` holds the largest of each category, as it is shown; ``ranked`` the methods that have
    every category with their average ranks, the best first; ``drawing`` is there where there is a
    test.
    """

    column: str
    title: str
    best: dict[str, float]
    ranked: list[tuple[Method, float]]
    ranking: Ranking | None
    drawing: Differences | None


def write_leaderboard(out: str | Path) -> None:
    """Write ``leaderboard.md`` and ``leaderboard.html`` of a benchmark.

    ``out`` is a directory with ``leaderboard.csv``, a row for each result, and ``benchmark.json``;
    if one of the two is missing or damaged, it is an `InputError`.
    """
    folder = Path(out)
    view = _view(
        read_rows(folder / "leaderboard.csv"), read_facts_of_board(folder / "benchmark.json")
    )
    write_atomic(folder / "leaderboard.md", markdown(view))
    write_page(folder / "leaderboard.html", "leaderboard.html.j2", **view)


def read_facts_of_board(path: Path) -> dict[str, Any]:
    """Read ``benchmark.json``."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); give a directory that benchmark wrote"
        ) from error
    if not isinstance(facts, dict):
        raise InputError(f"{path} is not that of a benchmark; run it again")
    return facts


def _view(rows: list[Row], facts: dict[str, Any]) -> dict[str, Any]:
    """Return what both pages show."""
    methods = methods_of(rows, "auroc")
    figures = {
        column: title
        for column, title in FIGURES.items()
        if any(method.figure(column) for method in methods)
    }
    categories = sorted({category_of(row) for row in rows})
    return {
        "methods": methods,
        "shown": dict(zip(categories, _short(categories), strict=True)),
        "number_of": {method.name: number for number, method in enumerate(methods, 1)},
        "figures": figures,
        "categories": categories,
        "matrices": [_matrix(methods, categories, c) for c in _COMPARED if c in figures],
        "chart": scatter(methods, "auroc"),
        "failed": [(one, row) for one in methods for row in one.rows if has_failed(row)],
        "rows": rows,
        "seeds": sorted({row["seed"] for row in rows} - {""}),
        "datasets": sorted({row["dataset"] for row in rows}),
        "settings": _shared(methods),
        "command": facts.get("command"),
        "facts": {name: fact for name, fact in facts.items() if name != "command"},
        "alpha": ALPHA,
    }


def _short(categories: list[str]) -> list[str]:
    """Leave the data set out where there is only one."""
    several = len({name.partition("/")[0] for name in categories}) > 1
    return [name if several else name.partition("/")[2] or name for name in categories]


def _shared(methods: list[Method]) -> list[str]:
    """Return what is the same in all methods, and therefore not in their names."""
    shared = []
    for name, label in (("protocol", ""), ("shots", "shots: "), ("settings", "")):
        found = {getattr(method, name) for method in methods}
        shared += [f"{label}{one}" for one in found if one and len(found) == 1]
    return shared


def _matrix(methods: list[Method], categories: list[str], column: str) -> Matrix:
    """Rank the methods that have every category; one that lacks some has no place among them."""
    table: dict[str, dict[str, float]] = {method.name: {} for method in methods}
    best: dict[str, float] = {}
    for category in categories:
        for method in methods:
            if (cell := method.cell(column, category)) is not None:
                table[method.name][category] = cell.value
                best[category] = max(best.get(category, -math.inf), round(cell.value, 3))
    whole = [method for method in methods if len(table[method.name]) == len(categories)]
    if not whole:
        return Matrix(column, FIGURES[column], best, [], None, None)
    ranking = rank_methods([[table[m.name][name] for m in whole] for name in categories])
    ranked = sorted(zip(whole, ranking.ranks, strict=True), key=itemgetter(1))
    drawing = differences([method.name for method in whole], ranking)
    return Matrix(column, FIGURES[column], best, ranked, ranking, drawing)

"""The leaderboard as Markdown: the same figures, for a repository's own pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyimgano.runs.leaderboard_methods import category_of
from pyimgano.runs.report_tables import flat, number, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyimgano.runs.leaderboard_methods import Figure, Method

__all__ = ["markdown"]


def markdown(view: dict[str, Any]) -> str:
    """Return the page; names are text, whatever they hold."""
    methods: list[Method] = view["methods"]
    categories, figures = view["categories"], view["figures"]

    def table(titles: Iterable[str], cells: Callable[[Method], Iterable[str]]) -> str:
        rows = [(f"{i}", text(one.name), *cells(one)) for i, one in enumerate(methods, 1)]
        return _table(("#", "Method", *titles), rows)

    parts = [
        f"# Leaderboard: {text(', '.join(view['datasets']))}",
        (
            f"{len(methods)} methods, {len(categories)} categories, {len(view['rows'])} results, "
            f"of which {len(view['failed'])} failed. Means over categories and seeds; after ±, the "
            "standard deviation over seeds; in brackets the 95 % interval over other test images "
            "of these categories. Figures named oracle are tuned on the test labels."
        ),
        table(
            ("Categories", *figures.values()),
            lambda method: (
                f"{method.covered('auroc')} of {len(categories)}",
                *(_long(method.figure(column)) for column in figures),
            ),
        ),
        "## At the calibrated threshold",
        table(("False rejects", "Escapes", "Certified bound"), _at_threshold),
        "## Cost",
        table(("Fit, s", "ms/image", "Peak, MB", "Model, MB", "Licence"), _costs),
    ]
    for matrix in view["matrices"]:

        def cells(method: Method, column: str = matrix.column) -> list[str]:
            return [_short(method.cell(column, category)) for category in categories]

        parts += [f"## {matrix.title} by category", table(map(text, view["shown"].values()), cells)]
        parts += _differences(matrix)
    return "\n\n".join([*parts, *_failures(view), *_commands(view)]) + "\n"


def text(given: object) -> str:
    """Return words as Markdown that shows them and does nothing else."""
    one_line = " ".join(str(given).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|~!#>])", r"\\\1", one_line)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * 2 + ["---:"] * (len(titles) - 2), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _short(figure: Figure | None) -> str:
    if figure is None:
        return "—"
    spread = "" if figure.deviation is None else f" ± {figure.deviation:.3f}"
    return f"{figure.value:.3f}{spread}"


def _long(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return _short(figure)
    return f"{_short(figure)} ({figure.low:.3f} to {figure.high:.3f})"


def _at_threshold(method: Method) -> list[str]:
    rates = [method.rate("false_rejects", "n_good"), method.rate("escapes", "n_defect")]
    told = [f"{percent(one.value)} ({one.k} of {one.n})" if one.n else "—" for one in rates]
    return [*told, percent(method.worst("certified_bound"))]


def _costs(method: Method) -> list[str]:
    times = [method.mean("fit_seconds"), method.mean("ms_per_image")]
    sizes = [method.worst("peak_mb"), method.mean("model_mb")]
    return [*map(number, times + sizes), text(method.licences)]


def _differences(matrix: Any) -> list[str]:
    ranking = matrix.ranking
    if ranking is None:
        return ["No method has every category: they are not ranked."]
    ranks = ", ".join(f"{text(method.name)} {rank:.2f}" for method, rank in matrix.ranked)
    if ranking.lack:
        return [f"Average ranks: {ranks}. No test: {ranking.lack}."]
    return [
        (
            f"Average ranks: {ranks}. Friedman χ² = {ranking.chi2:.3g}, Iman-Davenport "
            f"F = {ranking.f:.3g}, p = {ranking.p:.2g} over {ranking.n} categories; critical "
            f"difference of Nemenyi {ranking.distance:.2f}: average ranks that are closer are not "
            "told apart."
        )
    ]


def _failures(view: dict[str, Any]) -> list[str]:
    if not view["failed"]:
        return []
    rows = [
        (text(method.name), text(category_of(row)), row["seed"], text(row["error"]))
        for method, row in view["failed"]
    ]
    head = ("Method", "Category", "Seed", "Error")
    return ["## What failed", _table(head, rows)]


def _commands(view: dict[str, Any]) -> list[str]:
    lines = [f"    {line}" for line in str(view["command"] or "").splitlines()]
    for number_, method in enumerate(view["methods"], 1):
        lines += [f"    # {number_}: {' '.join(method.name.split())}"]
        lines += [f"    {' '.join(command.split())}" for command in method.commands]
    facts = [f"- {text(name)}: {text(number(fact))}" for name, fact in flat(view["facts"])]
    return ["## To repeat it", "\n".join(lines), "## Versions and surroundings", "\n".join(facts)]

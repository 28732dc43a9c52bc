"""``pyimgano list``: what there is, and what runs here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show, new_table

if TYPE_CHECKING:
    from pyimgano.registry import Entry, Registry

__all__ = ["Kind", "list_"]


class Kind(StrEnum):
    """What can be listed."""

    DETECTORS = "detectors"
    EXTRACTORS = "extractors"
    DATASETS = "datasets"
    METRICS = "metrics"


def list_(
    ctx: typer.Context,
    kind: Annotated[Kind | None, typer.Argument(help="One table only.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List what there is, and what runs here."""
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    tables = {
        str(name): registry.entries()
        for name, registry in _registries().items()
        if kind in {None, name}
    }
    show.result({name: [_facts(one) for one in entries] for name, entries in tables.items()})
    for name, entries in tables.items():
        _print(show, name, entries)


def _registries() -> dict[Kind, Registry[Any]]:
    from pyimgano.datasets.base import DATASETS
    from pyimgano.estimator import DETECTORS
    from pyimgano.features.base import EXTRACTORS
    from pyimgano.metrics.scorecard import METRICS

    return dict(zip(Kind, (DETECTORS, EXTRACTORS, DATASETS, METRICS), strict=True))


def _facts(entry: Entry[Any]) -> dict[str, Any]:
    facts = entry.metadata
    return {
        "name": entry.name,
        "summary": facts.summary,
        "paper": facts.paper,
        "licence": facts.licence,
        "runs_here": not facts.missing,
        "missing": facts.missing,
        "install": facts.pip_line if facts.missing else "",
    }


def _print(show: Show, title: str, entries: tuple[Entry[Any], ...]) -> None:
    table = new_table(title, "what it is", "here")
    for entry in entries:
        missing = entry.metadata.missing
        here = f"needs {', '.join(missing)}" if missing else "runs"
        table.add_row(entry.name, entry.metadata.summary, here)
    show.table(table)
    for entry in entries:
        if entry.metadata.missing:
            show.line(f"to run {entry.name} here: {entry.metadata.pip_line}")

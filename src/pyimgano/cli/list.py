"""``pyimgano list``: what there is, and what is installed here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._parameters import Json, registries
from pyimgano.cli._show import Show, new_table, to_run

if TYPE_CHECKING:
    from pyimgano.registry import Entry

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
    """List what there is, and what is installed here.

    Nothing is loaded for it: whether what is installed also runs, pyimgano doctor tries.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    tables = {
        name: registry.entries() for name, registry in registries().items() if kind in {None, name}
    }
    show.result({name: [_facts(one) for one in entries] for name, entries in tables.items()})
    for name, entries in tables.items():
        _print(show, name, entries)
    if kind is not None:
        _print_details(show, tables[kind])


def _facts(entry: Entry[Any]) -> dict[str, Any]:
    facts = entry.metadata
    return {
        "name": entry.name,
        "summary": facts.summary,
        "paper": facts.paper,
        "licence": facts.licence,
        "installed": not facts.missing,
        "missing": facts.missing,
        "install": facts.pip_line if facts.missing else "",
        **dict(facts.details),
    }


def _print(show: Show, title: str, entries: tuple[Entry[Any], ...]) -> None:
    table = new_table(title, "what it is", "here")
    for entry in entries:
        missing = entry.metadata.missing
        here = f"needs {', '.join(missing)}" if missing else "installed"
        table.add_row(entry.name, entry.metadata.summary, here)
        show.answer(entry.name)
    show.table(table)
    absent = (one for one in entries if one.metadata.missing)
    for line in to_run((one.name, one.metadata.pip_line) for one in absent):
        show.line(line)


def _print_details(show: Show, entries: tuple[Entry[Any], ...]) -> None:
    """Print what one kind of object has to tell beyond the table: the layout of a data set."""
    for entry in entries:
        told = entry.metadata.details
        if told:
            show.line(f"\n{entry.name}")
        for name, text in (("licence", entry.metadata.licence), *told) if told else ():
            if "\n" in text:
                show.line(f"  {name}\n{text}")
            else:
                show.fact(f"  {name}", text)

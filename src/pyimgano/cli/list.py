"""``pyimgano list``: what there is, and what is installed here."""

from __future__ import annotations

import inspect
import json
import re
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
        "without": facts.without,
        "install": facts.pip_line if facts.missing or facts.without else "",
        **dict(_details(entry)),
    }


def _details(entry: Entry[Any]) -> list[tuple[str, Any]]:
    """Return what there is to tell beyond the table; of the reader of a data set its options."""
    from pyimgano.datasets.base import DATASETS, reader_options

    told = list[tuple[str, Any]](entry.metadata.details)
    if entry.name in DATASETS and entry.value is DATASETS[entry.name]:
        text = inspect.getdoc(entry.value) or ""
        options = {
            name: f"{json.dumps(option.default)}; {_parameter(text, name)}".rstrip("; ")
            for name, option in reader_options(entry.name).items()
        }
        told += [("options", options)] if options else []
    return told


def _parameter(text: str, name: str) -> str:
    """Return what the docstring of a class says of a parameter, in one line."""
    found = re.search(rf"^{name} : .*\n((?:    .*\n?)*)", text, re.MULTILINE)
    return " ".join(found[1].replace("``", "").split()) if found else ""


def _print(show: Show, title: str, entries: tuple[Entry[Any], ...]) -> None:
    table = new_table(title, "what it is", "here")
    aliases: dict[str, list[str]] = {}
    for entry in entries:
        facts = entry.metadata
        show.answer(entry.name)
        if facts.family:
            aliases.setdefault(facts.family, []).append(entry.name)
            continue
        here = f"without {', '.join(facts.without)}" if facts.without else "installed"
        here = f"needs {', '.join(facts.missing)}" if facts.missing else here
        table.add_row(entry.name, facts.summary, here)
    show.table(table)
    for family, names in aliases.items():
        show.line(f"\naliases of {family}, one a model")
        show.fact("", ", ".join(names))
    absent = (one for one in entries if one.metadata.missing)
    for line in to_run((one.name, one.metadata.pip_line) for one in absent):
        show.line(line)


def _print_details(show: Show, entries: tuple[Entry[Any], ...]) -> None:
    """Print what one kind of object has to tell beyond the table: the layout of a data set."""
    for entry in entries:
        told = [] if entry.metadata.family else _details(entry)
        if told:
            show.line(f"\n{entry.name}")
        for name, text in (("licence", entry.metadata.licence), *told) if told else ():
            if isinstance(text, dict):
                show.facts(f"  {name}", [f"{key}={default}" for key, default in text.items()])
            elif "\n" in text:
                show.line(f"  {name}\n{text}")
            else:
                show.fact(f"  {name}", text)

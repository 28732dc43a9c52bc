"""``pyimgano fetch``: weight files by name, from a server, a folder or a bundle."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show, new_table
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from pyimgano.weights import Fetched, Weights

__all__ = ["Names", "fetch"]

_NOTHING = "no SHA-256: what comes is taken, and written down for the next time"
_TAKEN = (
    "compared with nothing; it is written down beside the file, which is held to it from now on. "
    "Compare it with that of somebody who fetched it elsewhere"
)


def _complete(incomplete: str) -> list[str]:
    from pyimgano.features._catalogue import WEIGHTS

    return [name for name in WEIGHTS if name.startswith(incomplete)]


Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="See: pyimgano fetch --list.", autocompletion=_complete),
]


def fetch(
    ctx: typer.Context,
    names: Names = None,
    *,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL|DIR|ZIP",
            help="A mirror, a folder, or a bundle of pyimgano bundle-weights; by default where "
            "they are published.",
        ),
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="By default where the extractors look for them."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a download.")] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Say what there is, and what is here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch weight files, once, when you say so.

    A download that breaks off goes on when it is asked for again. The SHA-256 is compared with what
    is recorded; where nothing is, it is recorded: whoever fetches first takes what comes. DIR is
    the one that PYIMGANO_WEIGHTS names, or ~/.cache/pyimgano/weights.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    if list_:
        _list(show, to)
        return
    if not names:
        raise ParameterError("give the name of the weights; to see them: pyimgano fetch --list")
    found = [_fetch(show, name, source, to, yes=yes) for name in dict.fromkeys(names)]
    show.result({"weights": [asdict(one) for one in found]})
    for one in found:
        show.answer(str(one.path))
    show.line(f"\nnext: pyimgano fit good/ -o model.pyimg --extractor {found[-1].name}")


def _fetch(show: Show, name: str, source: str, to: Path | None, *, yes: bool) -> Fetched:
    from pyimgano import weights

    facts = weights.WEIGHTS[name]
    place = weights.place_of(to)
    recorded = weights.recorded(name, to)
    show.fact("weights", f"{name}, {facts.licence}, about {facts.megabytes} MB")
    show.fact("from", source or facts.url)
    show.fact("to", str(place / facts.file))
    show.facts("recorded", [f"SHA-256 {s} by {who}" for who, s in recorded.items()] or [_NOTHING])
    remote = "://" in (source or facts.url)
    if remote and not yes and weights.find(name, to) is None:
        _ask(name, facts)
    megabytes = 0
    with show.progress(f"fetching {name}", to_judge=facts.megabytes, did="{} of {} MB") as step:

        def told(size: int) -> None:
            nonlocal megabytes
            while megabytes < size // 1_000_000:
                megabytes += 1
                step(None)

        try:
            found = weights.fetch(name, source, to, told=told)
        except KeyboardInterrupt:
            kept = "what was fetched is kept; the same command goes on from there"
            raise KeyboardInterrupt(*[kept] * remote) from None
    state = "fetched" if found.is_new else "there"
    held = f"as recorded by {found.checked}" if found.checked else _TAKEN
    show.fact(state, f"SHA-256 {found.sha256}, {held}")
    return found


def _ask(name: str, facts: Weights) -> None:
    """Nothing is downloaded unless somebody says so."""
    if not sys.stdin.isatty():
        raise ParameterError(f"fetch downloads {name} if you say so: give --yes")
    typer.echo(f"download about {facts.megabytes} MB under {facts.licence}? [y/N] ", nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ParameterError(f"{name} was not fetched")


def _list(show: Show, to: Path | None) -> None:
    from pyimgano.weights import WEIGHTS, place_of

    place = place_of(to)
    facts = {entry.name: entry.value for entry in WEIGHTS.entries()}
    here = {name: (place / one.file).is_file() for name, one in facts.items()}
    rows = [{"name": n, **asdict(one), "here": here[n]} for n, one in facts.items()]
    show.result({"folder": place, "weights": rows})
    table = new_table("weights", "MB", "licence", "here", numbers=("MB",))
    for name, one in facts.items():
        table.add_row(name, str(one.megabytes), one.licence, "yes" if here[name] else "-")
        show.answer(name)
    show.table(table)
    show.fact("folder", str(place))

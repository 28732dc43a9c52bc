"""What a verb says: results on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from pyimgano.records import Certainty

__all__ = [
    "Show",
    "count",
    "gathered",
    "in_lines",
    "judging_table",
    "named",
    "new_table",
    "rate",
    "to_run",
]

LABEL = 12
WIDEST = 100
PLAIN_LINES = 10


@dataclass(frozen=True, slots=True)
class Show:
    """The voice of one call.

    Parameters
    ----------
    quiet : bool
        Print nothing but the answer, warnings and errors.
    as_json : bool
        Print one JSON object instead of text.
    """

    quiet: bool = False
    as_json: bool = False

    @property
    def silent(self) -> bool:
        """Whether no text for people is printed on standard output."""
        return self.quiet or self.as_json

    def line(self, text: str = "") -> None:
        """Print a line as it is: commands and paths can be copied."""
        if not self.silent:
            typer.echo(text)

    def answer(self, text: str) -> None:
        """Print what alone is printed with ``--quiet``, as it is."""
        if self.quiet and not self.as_json:
            typer.echo(text)

    def fact(self, label: str, text: str) -> None:
        """Print a label and a text, wrapped beside it; long words are left whole."""
        if not self.silent:
            typer.echo(
                textwrap.fill(
                    text,
                    _width(),
                    initial_indent=label.ljust(LABEL),
                    subsequent_indent=" " * LABEL,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )

    def facts(self, label: str, texts: Sequence[str], *, most: int = 10) -> None:
        """Print a label and several texts, one a line; beyond ``most`` only their number."""
        more = [f"... and {len(texts) - most} more"] if len(texts) > most else []
        for i, text in enumerate([*texts[:most], *more]):
            self.fact("" if i else label, text)

    def table(self, table: Table) -> None:
        """Print a table after an empty line."""
        if not self.silent:
            from rich.console import Console

            Console(width=_width(), highlight=False, markup=False).print("", table)

    def result(self, facts: Mapping[str, object]) -> None:
        """Print the result as one JSON object, if that was asked for."""
        if self.as_json:
            from pyimgano.runs.facts import plain

            typer.echo(json.dumps(plain(facts), indent=1))

    @contextmanager
    def progress(
        self, doing: str, *, to_judge: int = 0, did: str = "judged {} of {}"
    ) -> Iterator[Callable[[object], None]]:
        """Show that work goes on, on standard error: a bar in a terminal, else a few plain lines.

        Parameters
        ----------
        doing : str
            What is done until the first image is judged: ``"learning from 60 images"``.
        to_judge : int
            Number of images to judge.
        did : str
            What is said of how many were judged, of how many.

        Yields
        ------
        callable
            To be called with each judgement.
        """
        if self.quiet:
            yield lambda _: None
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with _bar(doing, to_judge, did) as step:
                yield step
        else:
            typer.echo(f"{doing} ...", err=True)
            yield _plain_lines(to_judge, did)


@contextmanager
def _bar(doing: str, to_judge: int, did: str) -> Iterator[Callable[[object], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        done = 0

        def step(_: object) -> None:
            nonlocal done
            done += 1
            text = did.format(done, to_judge)
            progress.update(task, description=text, completed=done, total=to_judge)

        yield step


def _plain_lines(to_judge: int, did: str) -> Callable[[object], None]:
    every = max(1, math.ceil(to_judge / PLAIN_LINES))
    started = time.perf_counter()
    done = 0

    def step(_: object) -> None:
        nonlocal done
        done += 1
        if done % every == 0 or done == to_judge:
            seconds = time.perf_counter() - started
            typer.echo(f"{did.format(done, to_judge)} ({seconds:.0f} s)", err=True)

    return step


def new_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Make an empty table; columns named in ``numbers`` are flush right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        flush: Literal["left", "right"] = "right" if name in numbers else "left"
        table.add_column(name, justify=flush, overflow="fold")  # nothing is cut off
    return table


def rate(share: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a share as three cells: count of n, per cent, 95 % interval."""
    if not share["of"]:
        return "0 of 0", "-", "-"
    return (
        f"{share['count']} of {share['of']}",
        _percent(share["rate"]),
        f"{_percent(share['low'])} to {_percent(share['high'])}",
    )


def judging_table(measured: Mapping[str, Any], certainty: Certainty) -> Table:
    """Show what the calibrated threshold caught and rejected on images with known labels."""
    found = measured["at_threshold"]
    table = new_table(
        "at the calibrated threshold", "images", "rate", "95 % interval", numbers=("images", "rate")
    )
    table.add_row("defective parts caught", *rate(found["catches"]))
    for kind, share in found["catches_by_defect"].items():
        table.add_row(f"  {kind}", *rate(share))
    table.add_row("good parts rejected", *rate(found["false_rejects"]))
    bound = certainty.bound
    promise = "nothing certified" if bound is None else f"at most {_percent(bound)}"
    table.add_row("  promised by the calibration", "", "", promise)
    return table


def in_lines(text: str) -> str:
    """Return a paragraph, wrapped."""
    return textwrap.fill(text, _width(), break_long_words=False, break_on_hyphens=False)


def named(path: str, reason: str) -> str:
    """Return why a file was not used, with its name in front, once."""
    return reason if reason.startswith(path) else f"{path}: {reason}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return each thing that is needed with the names of all that need it; blank ones left out."""
    found: dict[str, list[str]] = {}
    for name, what in pairs:
        if what:
            found.setdefault(what, []).append(name)
    return found


def to_run(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each command that installs something, from (name, command)."""
    lines = []
    for command, (first, *others) in gathered(pairs).items():
        names = f"{first} and {len(others)} more" if others else first
        lines.append(f"to run {names} here: {command}")
    return lines


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size((80, 24)).columns)

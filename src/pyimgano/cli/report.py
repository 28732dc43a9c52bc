"""``pyimgano report``: write the report of a run again."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pyimgano.cli._show import Show

__all__ = ["report"]


def report(
    ctx: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Run directories.")],
) -> None:
    """Write the HTML report of runs again."""
    show = Show(quiet=ctx.obj.quiet)
    from pyimgano.runs.report import write_report

    for run in runs:
        show.fact("report", str(write_report(run)))

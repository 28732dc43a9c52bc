"""``pyimgano report``: write the report of a run again."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show

__all__ = ["report"]


def report(
    ctx: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Run directories.")],
    *,
    as_json: Json = False,
) -> None:
    """Write the HTML report of runs again."""
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    from pyimgano.runs.report import write_report

    reports = []
    for run in runs:
        reports.append(write_report(run))
        show.fact("report", str(reports[-1]))
        show.answer(str(reports[-1]))
    show.result({"reports": reports})

"""``pyimgano report``: write the report of runs again, and set them side by side."""

from __future__ import annotations

import shlex
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show
from pyimgano.errors import ParameterError

__all__ = ["report"]


def report(
    ctx: typer.Context,
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Run or benchmark directories.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Folder for what several runs or benchmarks give."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the HTML report of runs again, and compare runs.

    With --out, several runs are set side by side on the images that they share: intervals, paired
    tests, and the images on which they disagree. Of a benchmark, the leaderboard is written again;
    of several with --out, one leaderboard of all their rows.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    boards = [run for run in runs if (run / "leaderboard.csv").is_file()]
    if out is not None and (len(runs) < 2 or 0 < len(boards) < len(runs)):
        raise ParameterError(
            f"--out joins two or more runs, or benchmarks, got "
            f"{f'runs and the benchmark {boards[0]}' if len(runs) > 1 else 1}; name them, or leave "
            "--out away"
        )
    if out is not None and boards:
        from pyimgano.runs.benchmark import join_boards

        join_boards(
            runs, out, shlex.join(["pyimgano", "report", *map(str, runs), "--out", str(out)])
        )
        runs, out = [out], None
    reports = [_write(run, board=(run / "leaderboard.csv").is_file()) for run in runs]
    for written in reports:
        show.fact("report", str(written))
        show.answer(str(written))
    result: dict[str, object] = {"reports": reports}
    if out is not None:
        from pyimgano.runs.comparison import write_comparison

        result["comparison"] = write_comparison(runs, out)
        show.fact("comparison", str(result["comparison"]))
        show.answer(str(result["comparison"]))
    elif len(runs) > 1 and not boards:
        named = shlex.join(map(str, runs))
        show.line(f"\nside by side: pyimgano report {named} --out comparison")
    show.result(result)


def _write(run: Path, *, board: bool) -> Path:
    from pyimgano.runs.leaderboard import write_leaderboard
    from pyimgano.runs.report import write_report

    if not board:
        return write_report(run)
    write_leaderboard(run)
    return run / "leaderboard.html"

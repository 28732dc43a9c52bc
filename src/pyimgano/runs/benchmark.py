"""From a plan to a leaderboard: jobs done, resumed, and listed after each."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pyimgano.atomic import claimed, write_atomic
from pyimgano.errors import InputError
from pyimgano.inspection import csv_cells
from pyimgano.runs.artifacts import csv_line
from pyimgano.runs.executors import Outcome, SerialExecutor
from pyimgano.runs.facts import plain, surroundings, to_json
from pyimgano.runs.jobs import Job, facts_of
from pyimgano.runs.rows import COLUMNS, is_row, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyimgano.runs.executors import Executor
    from pyimgano.runs.jobs import Work

__all__ = ["benchmark", "join_boards"]

FACTS, TABLE = "benchmark.json", "leaderboard.csv"
PLACE = ("dataset", "category", "detector", "extractor", "settings", "protocol", "shots", "seed")
HOW = {
    "fit_seconds, ms_per_image": "as if no feature had been cached; other work on the machine, "
    "and workers side by side, slow them down",
    "peak_mb": "most resident memory of the process during the job, libraries and what "
    "earlier jobs left included (MB = 2^20)",
    "model_mb": "the arrays of a model file, which are nearly all of it",
    "auroc_low, auroc_high": "95 % bootstrap interval over the test images",
    "false_rejects, escapes": "images at the calibrated threshold",
}


def benchmark(
    jobs: Sequence[Job],
    work: Work,
    *,
    executor: Executor | None = None,
    command: str = "",
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Do the jobs that are not complete yet, and keep the leaderboard up to date after each.

    Whatever ends it, the same call goes on from there: a job counts as done when its run directory
    is complete. Rows of earlier calls into the same directory stay.

    Parameters
    ----------
    jobs : sequence of Job
        See `plan`.
    work : Work
        Where and how.
    executor : Executor, optional
        `SerialExecutor` if none is given.
    command : str
        The line that was typed, for ``benchmark.json``.
    progress : callable, optional
        Called with each row, first with those of jobs that were complete before.

    Returns
    -------
    list of dict
        The rows of these jobs, by the columns of ``leaderboard.csv``: one a job, of a `union` one a
        category. That of a job that failed has its ``status`` and ``error``.

    Raises
    ------
    OutputError
        If the directory holds something else, serves another benchmark, or cannot be written.
    """
    with claimed(work.out, "a benchmark", _refuse_others):
        found = _ended(work.out, jobs)
        board = _Board(work.out, command, found)
        told = progress or (lambda _: None)

        def tell(job: Job) -> None:
            for row in rows_of(found[job.id]):
                told(row)

        waiting = [job for job in jobs if found.get(job.id, {}).get("status") != "complete"]
        for job in jobs:
            if job not in waiting:
                tell(job)
        try:
            with closing((executor or SerialExecutor()).map(work, waiting)) as outcomes:
                for outcome in outcomes:
                    board.add(outcome)
                    tell(outcome.job)
        except KeyboardInterrupt:
            count = sum(found.get(job.id, {}).get("status") == "complete" for job in jobs)
            raise KeyboardInterrupt(
                f"{count} of {len(jobs)} jobs are complete; the same command goes on from here"
            ) from None
        from pyimgano.runs.leaderboard import write_leaderboard

        write_leaderboard(work.out)
        if work.cache.parent == work.out:
            shutil.rmtree(work.cache, ignore_errors=True)
    return [row for job in jobs for row in rows_of(found[job.id])]


def join_boards(boards: Sequence[Path], out: Path, command: str = "") -> None:
    """Write one table, for `write_leaderboard`, of the rows of several.

    Of rows in one place (`PLACE`) that of the board named last counts. Where the boards were
    measured in different surroundings, all of these are listed.

    Raises
    ------
    InputError
        If a board cannot be read, or the directory is that of a benchmark with jobs of its own.
    OutputError
        If the directory holds something else, or cannot be written.
    """
    from pyimgano.runs.leaderboard import read_facts_of_board
    from pyimgano.runs.leaderboard_methods import read_rows

    if (out / "jobs").exists():
        raise InputError(f"a benchmark writes its own table into {out}: give another folder")
    rows = {tuple(row[n] for n in PLACE): row for home in boards for row in read_rows(home / TABLE)}
    found = [read_facts_of_board(home / FACTS) for home in boards]
    around: list[Any] = []
    for facts in found:
        own = [{name: facts.get(name) for name in ("versions", "machine")}]
        around += [
            one for one in facts.get("surroundings", {}).values() or own if one not in around
        ]
    told = around[0] if len(around) == 1 else {"surroundings": dict(enumerate(around, 1))}
    facts = {"format": 1, "command": command, **told, "measured": HOW}
    lines = [csv_line([rows[place].get(c, "") for c in COLUMNS]) for place in sorted(rows)]
    with claimed(out, "a benchmark", _refuse_others):
        write_atomic(out / FACTS, to_json(facts, indent=1) + b"\n")
        write_atomic(out / TABLE, b"".join([csv_line(COLUMNS), *lines]))


def _refuse_others(out: Path) -> None:
    if not (out / FACTS).exists():
        raise InputError(f"there is no {FACTS}")


class _Board:
    """The two files that a leaderboard is written from, whole after every job."""

    def __init__(self, out: Path, command: str, found: dict[str, dict[str, Any]]) -> None:
        self.out, self.command, self.found = out, command, found
        self._write()

    def add(self, outcome: Outcome[Job, dict[str, Any]]) -> None:
        job, facts = outcome.job, outcome.result
        if facts is None:
            facts = {"status": "failed", "reason": outcome.error, "job": plain(job)}
        self.found[job.id] = facts
        self._write()

    def _write(self) -> None:
        known = [(Job(**facts["job"]).place, facts) for facts in self.found.values()]
        ordered = [facts for _, facts in sorted(known, key=lambda pair: pair[0])]
        rows = [row for facts in ordered for row in rows_of(facts)]
        lines = [csv_line(csv_cells(row, COLUMNS)) for row in rows]
        around = surroundings()
        for facts in ordered:
            around["versions"].update(facts.get("versions") or {})
        facts = {"format": 1, "command": self.command, **around, "measured": HOW}
        write_atomic(self.out / FACTS, to_json(facts, indent=1) + b"\n")
        write_atomic(self.out / TABLE, b"".join([csv_line(COLUMNS), *lines]))


def _ended(out: Path, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Return the facts of jobs that came to an end, of these or in other places, by their id."""
    wanted, places = {job.id: job for job in jobs}, {job.place for job in jobs}
    newest: dict[object, tuple[str, dict[str, Any]]] = {}
    for run in sorted(out.glob("jobs/*")):
        try:
            facts = facts_of(run)
        except InputError:  # killed before its first file
            continue
        if not is_row(facts):
            continue
        job = Job(**facts["job"])
        if job.id in wanted:
            facts["job"] = plain(wanted[job.id])  # with the root of today
            newest[job.id] = job.id, facts
        elif job.place not in places:
            before = newest.setdefault(job.place, (job.id, facts))
            if before[1]["started"] < facts["started"]:
                newest[job.place] = job.id, facts
    return dict(newest.values())

"""Detectors by categories by shots by seeds, resumable: from a plan to a leaderboard."""

from __future__ import annotations

import hashlib
import math
import shutil
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyimgano.archive import encode
from pyimgano.atomic import locked, output_errors, sweep, write_atomic
from pyimgano.datasets._files import is_folder, list_images
from pyimgano.datasets.base import list_categories, load_dataset
from pyimgano.errors import DatasetError, InputError, OutputError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS, resolve_extractor
from pyimgano.inspection import csv_cells
from pyimgano.runs.artifacts import _csv_line
from pyimgano.runs.executors import Outcome, SerialExecutor
from pyimgano.runs.facts import plain, surroundings, to_json
from pyimgano.runs.jobs import COLUMNS, Job, facts_of, is_row, rows_of
from pyimgano.views.intake import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.records import Sample
    from pyimgano.runs.executors import Executor
    from pyimgano.runs.jobs import Work

__all__ = ["Part", "benchmark", "find_parts", "fingerprint", "plan", "union"]

FACTS, TABLE = "benchmark.json", "leaderboard.csv"
HOW = {
    "fit_seconds, ms_per_image": "as if no feature had been cached; other work on the machine, "
    "and workers side by side, slow them down",
    "peak_mb": "most resident memory of the process during the job, libraries and what "
    "earlier jobs left included (MB = 2^20)",
    "model_mb": "the arrays of a model file, which are nearly all of it",
    "auroc_low, auroc_high": "95 % bootstrap interval over the test images",
    "false_rejects, escapes": "images at the calibrated threshold",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One category of a data set on disk, or the `union` of several.

    ``data`` is its `fingerprint`, empty if it is broken.
    """

    dataset: str
    root: str
    category: str | None
    data: str
    categories: tuple[str, ...] = ()


def find_parts(name: str, root: str | Path, categories: Sequence[str] = ()) -> list[Part]:
    """Find categories and take their fingerprints.

    Parameters
    ----------
    name : str
        A reader, as for `load_dataset`.
    root : str or Path
        Folder of the data set, or of one category.
    categories : sequence of str
        Which; empty for all. Of all, one that cannot be read is left to fail as a job.

    Raises
    ------
    UnknownNameError, DatasetNotFoundError, DatasetError, MaskError
        If there is no such reader, or a category that was asked for is missing or broken.
    """
    found = []
    for category in categories or list_categories(name, root) or (None,):
        try:
            data = fingerprint(load_dataset(name, root, category=category))
        except DatasetError:
            if categories or category is None:
                raise
            data = ""
        found.append(Part(name, str(root), category, data))
    return found


def union(parts: Sequence[Part]) -> Part:
    """Return the part that one model for all the categories learns from.

    Raises
    ------
    ParameterError
        If there are fewer than two.
    """
    found = {part.category: part for part in parts if part.category is not None}
    if len(found) < 2:
        raise ParameterError(
            f"one model for several categories needs two or more, got {', '.join(found) or 'one'}; "
            "give the folder of the whole data set"
        )
    whole = "".join(part.data for part in found.values())
    data = hashlib.sha256(whole.encode()).hexdigest()[:32]
    return replace(parts[0], category=None, data=data, categories=tuple(found))


def fingerprint(dataset: Dataset) -> str:
    """Return a hash of all images, masks and labels, in order; it does not know where they lie."""
    digest = hashlib.sha256()
    for facts in prefetch(_facts_of, (*dataset.train, *dataset.train_defects, *dataset.test)):
        digest.update(facts.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def _facts_of(sample: Sample) -> str:
    files = [sample.path]
    if sample.mask_path is not None:
        files += (
            list_images(sample.mask_path) if is_folder(sample.mask_path) else [sample.mask_path]
        )
    named = (sample.split, sample.label, sample.defect, sample.group)
    return repr((*named, *map(_hash, files)))


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # the job will say so
        return "unreadable"


def plan(
    detectors: Sequence[Detector],
    parts: Sequence[Part],
    *,
    shots: Sequence[int | None] = (None,),
    shares: Sequence[float] = (0.0,),
    seeds: Sequence[int] = (0,),
    map_intervals: bool = False,
) -> list[Job]:
    """Return one job for each detector, part, number of shots, share of defects and seed.

    Parameters
    ----------
    detectors : sequence of Detector
        Unfitted; their extractors are names. The seed of a job replaces their own.
    parts : sequence of Part
        See `find_parts`.
    shots : sequence of int or None
        None for all good images.
    shares : sequence of float
        Of defective images in what is learned from; 0 for none.
    seeds : sequence of int
        See `Job`.
    map_intervals : bool
        Whether AUPRO gets an interval, which takes as long again on large images.

    Returns
    -------
    list of Job
        In an order in which those that share features follow each other, the largest first.

    Raises
    ------
    ParameterError
        If a detector is not registered, has an extractor that is no name, or a value that cannot be
        written down.
    UnknownNameError, MissingExtra
        If there is no such extractor, or it needs a package that is not installed.
    """
    described = [_describe(detector) for detector in detectors]
    jobs = [
        Job(
            **{**facts, **plain(part), "shots": count, "contaminated": share, "seed": seed},
            map_intervals=map_intervals,
        )
        for part in parts
        for count in sorted(shots, key=lambda count: -(count or math.inf))
        for share in shares
        for facts in described
        for seed in seeds
    ]
    order = [(part.data, part.category) for part in parts]
    jobs.sort(key=lambda job: (order.index((job.data, job.category)), job.features))
    return list({job.id: job for job in jobs}.values())


def _describe(detector: Detector) -> dict[str, Any]:
    name = DETECTORS.name_of(type(detector))
    if name is None:
        raise ParameterError(f"{type(detector).__name__} is not registered, a job cannot name it")
    parameters = detector.parameters()
    del parameters["seed"]
    asked = parameters.pop("extractor", "")
    if not isinstance(asked, str):
        raise ParameterError(f"a job names its extractor; register {asked!r} and give its name")
    facts = {"detector": name, "extractor": "", "features": ""}
    if asked:
        extractor = resolve_extractor(asked)
        facts["extractor"] = asked
        if asked == "auto":  # on another machine it could be another one
            facts["extractor"] = EXTRACTORS.name_of(type(extractor)) or asked
        facts["features"] = extractor.fingerprint
    return {**facts, "parameters": {key: encode(value) for key, value in parameters.items()}}


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
    with _claimed(work.out):
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
        lines = [_csv_line(csv_cells(row, COLUMNS)) for row in rows]
        around = surroundings()
        for facts in ordered:
            around["versions"].update(facts.get("versions") or {})
        facts = {"format": 1, "command": self.command, **around, "measured": HOW}
        write_atomic(self.out / FACTS, to_json(facts, indent=1) + b"\n")
        write_atomic(self.out / TABLE, b"".join([_csv_line(COLUMNS), *lines]))


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


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Make sure that ``out`` may be written, by no other benchmark as long as the block lasts."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a directory for the results")
    with ExitStack() as stack:
        with output_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(out))
            except BlockingIOError as error:
                raise OutputError(
                    f"another process is writing a benchmark into {out}; wait for its end, or give "
                    "another directory"
                ) from error
            sweep(out)
            if not (out / FACTS).exists() and any(out.iterdir()):
                raise OutputError(
                    f"{out} holds something else than a benchmark; give a new or empty directory"
                )
        yield

"""Who does the jobs: this process one after the other, or several processes side by side."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pyimgano.errors import ParameterError, was_interrupted
from pyimgano.threads import budget, set_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

__all__ = ["Executor", "Outcome", "ProcessExecutor", "SerialExecutor"]

J = TypeVar("J")
R = TypeVar("R")

_PATIENCE = 10.0  # seconds that a stopped process has to close its files


@dataclass(frozen=True, slots=True)
class Outcome(Generic[J, R]):
    """What became of a job: a result, or the error in one line."""

    job: J
    result: R | None = None
    error: str | None = None


class Executor(Protocol):
    """The protocol by which executors plug in.

    The results of the jobs do not depend on the executor.
    """

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[Outcome[J, R], None, None]:
        """Yield one outcome a job, as they end, in any order; no job's error ends the others.

        Closing the generator stops the jobs that are under way.
        """
        ...


@dataclass(frozen=True, slots=True)
class SerialExecutor:
    """One job after the other, in this process, with all threads of the budget."""

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[Outcome[J, R], None, None]:
        """Yield the outcomes in the order of the jobs."""
        for job in jobs:
            yield _attempt(function, job)


@dataclass(frozen=True, slots=True)
class ProcessExecutor:
    """Jobs side by side in processes of their own, which share the thread budget evenly.

    A process that dies (out of memory, a crash in a library) costs its job alone. The function and
    the jobs must be picklable; on every system the processes start from scratch ("spawn").

    Parameters
    ----------
    workers : int
        Processes; at least one, at most as many as there are threads.
    group : callable, optional
        Jobs of one group share work: until the first of a group has ended, no other one begins.
    """

    workers: int
    group: Callable[[Any], Hashable] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= budget():
            raise ParameterError(
                f"workers must lie between 1 and the number of threads, {budget()}; "
                f"got {self.workers}"
            )

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[Outcome[J, R], None, None]:
        """Yield the outcomes as they come."""
        waiting = list(jobs)
        ended: set[Hashable] = set()
        busy: dict[object, tuple[_Worker, J]] = {}  # by their lines
        with ExitStack() as stack:
            idle = [_Worker(function, self._share, stack) for _ in waiting[: self.workers]]
            while waiting or busy:
                while idle and (place := self._next(waiting, busy.values(), ended)) is not None:
                    worker, job = idle.pop(), waiting.pop(place)
                    worker.give(job)
                    busy[worker.line] = worker, job
                for line in wait([worker.line for worker, _ in busy.values()]):
                    worker, job = busy.pop(line)
                    outcome = worker.take(job)
                    if self.group is not None:
                        ended.add(self.group(job))
                    dead = worker.line.closed
                    idle.append(_Worker(function, self._share, stack) if dead else worker)
                    yield outcome

    @property
    def _share(self) -> int:
        return budget() // self.workers

    def _next(
        self, waiting: Sequence[Any], busy: Iterable[tuple[_Worker, Any]], ended: set[Hashable]
    ) -> int | None:
        """Return where the first job stands that waits for no other one of its group."""
        if self.group is None:
            return 0 if waiting else None
        begun = {self.group(job) for _, job in busy} - ended
        places = (i for i, job in enumerate(waiting) if self.group(job) not in begun)
        return next(places, None)


class _Worker:
    """A process and the line to it; the stack stops it."""

    def __init__(self, function: Callable[[Any], Any], threads: int, stack: ExitStack) -> None:
        context = get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        stack.callback(self.stop)
        with _threads(threads):
            self.process.start()
        theirs.close()

    def give(self, job: object) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # dead: `take` says so
            self.line.send(job)

    def take(self, job: J) -> Outcome[J, Any]:
        """Return what came of the job; a worker that died has closed its line."""
        try:
            result, error = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.stop()
            return Outcome(
                job,
                error=f"its process ended with exit code {self.process.exitcode}; if memory ran "
                "out, use fewer workers",
            )
        return Outcome(job, result, error)

    def stop(self) -> None:
        if self.process.pid is None or self.line.closed:
            return
        self.process.terminate()
        self.line.close()
        self.process.join(_PATIENCE)
        self.process.kill()
        self.process.join()


def _serve(line: Connection, function: Callable[[Any], Any]) -> None:
    """Do jobs until the line is closed, or the process at its other end is gone."""
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that files are closed
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent says what happens
        logging.basicConfig(format="warning: %(message)s")
        threading.Thread(target=_end_with_parent, daemon=True).start()
        while True:
            outcome = _attempt(function, line.recv())
            line.send((outcome.result, outcome.error))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # nobody waits for the job, and its directory must become free


def _attempt(function: Callable[[J], R], job: J) -> Outcome[J, R]:
    try:
        return Outcome(job, function(job))
    except Exception as error:  # whatever it is, the job's row says it
        if was_interrupted(error):
            raise
        return Outcome(job, error=" ".join(f"{type(error).__name__}: {error}".split()))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the budget of processes that are started in the block; libraries read it when loaded."""
    before = dict(os.environ)
    set_budget(count)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

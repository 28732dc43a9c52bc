"""Jobs in this process and in others: equal outcomes, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyimgano.errors import ParameterError
from pyimgano.runs.executors import Outcome, ProcessExecutor, SerialExecutor
from pyimgano.testing import check_executor
from pyimgano.threads import VARIABLE, budget

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture(autouse=True)
def _four_threads(monkeypatch):
    monkeypatch.setenv(VARIABLE, "4")


# What the processes do: they import this module. -------------------------------------------------


def root_of(job: int) -> float:
    if job < 0:
        raise ParameterError(f"{job} has no root:\nit is negative")
    return job**0.5


def dies(job: int) -> int:
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def surroundings(_: int) -> tuple[int, str | None, int]:
    import cv2

    return budget(), os.environ.get("OPENBLAS_NUM_THREADS"), cv2.getNumThreads()


def meeting(job: tuple[str, str, int]) -> tuple[float, float]:
    """Say when a job began and ended; the first of each group waits for that of the other."""
    began, folder, name = time.monotonic(), Path(job[0]), job[1]
    if job[2] == 0:
        (folder / name).touch()
        other = folder / ("b" if name == "a" else "a")
        while not other.exists() and time.monotonic() < began + 60:
            time.sleep(0.01)
        assert other.exists(), "the groups must run side by side"
    return began, time.monotonic()


def interrupted(_: int) -> None:
    """End as Python does when Ctrl-C hits it while it waits for a lock."""
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("release unlocked lock")


def waits(job: str) -> None:
    path = Path(job)
    path.write_text(str(os.getpid()))
    try:
        time.sleep(60)
    finally:
        path.with_suffix(".closed").touch()


def parity(job: tuple[str, int]) -> str:
    return job[0]


# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(1), ProcessExecutor(2)])
def test_the_contract(executor):
    check_executor(executor)


def test_processes_and_this_process_agree():
    jobs = [4, -1, 9, 2]
    serial = list(SerialExecutor().map(root_of, jobs))
    assert serial[1] == Outcome(-1, error="ParameterError: -1 has no root: it is negative")
    found = sorted(ProcessExecutor(2).map(root_of, jobs), key=lambda one: jobs.index(one.job))
    assert found == serial


def test_a_process_that_dies_costs_its_job_alone():
    found = {one.job: one for one in ProcessExecutor(2).map(dies, range(4))}
    assert [found[job].result for job in range(4)] == [0, None, 2, 3]
    assert found[1].error == (
        "its process ended with exit code -9; if memory ran out, use fewer workers"
    )


def test_the_threads_are_shared(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = [one.result for one in ProcessExecutor(2).map(surroundings, [0, 1])]
    assert found == [(2, "2", 2)] * 2
    assert budget() == 4
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("workers", [0, 5])
def test_there_are_never_more_workers_than_threads(workers):
    with pytest.raises(
        ParameterError, match=f"between 1 and the number of threads, 4; got {workers}"
    ):
        ProcessExecutor(workers)


def test_the_first_of_a_group_runs_alone_in_it(tmp_path):
    jobs = [(str(tmp_path), name, number) for name in "ab" for number in range(3)]
    outcomes = list(ProcessExecutor(2, lambda job: job[1]).map(meeting, jobs))
    assert not any(one.error for one in outcomes)
    found = {one.job[1:]: one.result for one in outcomes}
    for name in "ab":
        times = sorted(found[name, number] for number in range(3))
        assert times[0] == found[name, 0]
        assert times[0][1] <= times[1][0]


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().split(")")[-1].split()[0] == "Z"


def until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_closing_stops_what_is_under_way_and_lets_it_close_its_files(tmp_path):
    outcomes = ProcessExecutor(2).map(waits, [str(tmp_path / "long.txt"), "/nowhere/x"])
    assert next(outcomes).job == "/nowhere/x"
    until(lambda: (tmp_path / "long.txt").exists() and (tmp_path / "long.txt").read_text())
    outcomes.close()
    assert (tmp_path / "long.closed").exists()
    assert gone(int((tmp_path / "long.txt").read_text()))


def test_nothing_outlives_a_killed_parent(tmp_path):
    code = (
        "from test_executors import *\n"
        "if __name__ == '__main__':\n"
        f" list(ProcessExecutor(1).map(waits, [{str(tmp_path / 'long.txt')!r}]))"
    )
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    ) as process:
        until(lambda: (tmp_path / "long.txt").exists() and (tmp_path / "long.txt").read_text())
        process.kill()
    until(lambda: gone(int((tmp_path / "long.txt").read_text())))


def test_an_interrupt_is_no_outcome_however_it_surfaces() -> None:
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        list(SerialExecutor().map(interrupted, [1]))

"""Processes that are stopped: politely, at a stated moment, or killed at any."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import pyimgano
from cli_calls import COMMAND, SMALL, call
from pyimgano.cli._app import Settings, _termination_as_interrupt
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.facts import read_run
from test_faults_locks import hidden, writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture
def goods(shared_parts: Path) -> Path:
    return shared_parts / "train" / "good"


@pytest.fixture
def many(goods: Path, tmp_path: Path) -> Path:
    """Sixty images, so that there is time to stop."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        os.link(goods / f"{number % 20:03d}.png", folder / f"{number}.png")
    return folder


def stopped(arguments: Sequence[object], at: str, number: int, code: str = "") -> tuple[int, str]:
    """Run the command line and send a signal when a line begins with ``at``."""
    start = (*COMMAND[:-1], f"{code}\n{COMMAND[-1]}") if code else COMMAND
    said = ""
    with subprocess.Popen(
        [*start, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if line.startswith(at):
                process.send_signal(number)
    return process.returncode, said


# --- polite -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_fit_that_is_stopped_leaves_the_old_model(goods, shared_model, tmp_path, number, code):
    model = tmp_path / "model.pyimg"
    shutil.copy(shared_model, model)
    ended, said = stopped(("fit", goods, "-o", model, *SMALL), "learning", number)
    assert (ended, said) == (code, "learning from 20 good images ...\ninterrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pyimg"]
    assert model.read_bytes() == shared_model.read_bytes()


SLOW_START = """
import os, threading, time
bootstrap = threading.Thread._bootstrap
def late(self):
    os.write(2, b"a thread begins\\n")
    time.sleep(0.5)
    bootstrap(self)
    os.write(2, b"a thread ends\\n")
threading.Thread._bootstrap = late
"""


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_thread_that_was_just_being_started_is_waited_for(goods, tmp_path, number, code):
    """Inside OpenCV it would abort the process, when it came back after the interpreter's end."""
    asked = ("--threads", "2", "fit", goods, "-o", tmp_path / "model.pyimg", *SMALL)
    ended, said = stopped(asked, "a thread begins", number, SLOW_START)
    assert ended == code
    first, *told = said.splitlines()
    assert first == "learning from 20 good images ..."
    assert told == ["a thread begins", "interrupted", "a thread ends"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_fit_that_is_stopped_while_it_writes_leaves_the_old_model(
    goods, shared_model, tmp_path, number, code
):
    """The writing is slowed down by a file system that takes its time: fsync waits."""
    slow = (
        "import os, sys, time\nsync = os.fsync\n"
        "def fsync(file):\n sys.stderr.write('writing\\n'); time.sleep(20); sync(file)\n"
        "os.fsync = fsync"
    )
    model = tmp_path / "model.pyimg"
    shutil.copy(shared_model, model)
    ended, said = stopped(("fit", goods, "-o", model, *SMALL), "writing", number, slow)
    assert ended == code
    assert said.endswith("interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pyimg"]
    assert model.read_bytes() == shared_model.read_bytes()


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_predict_that_is_stopped_keeps_what_was_judged_and_says_so(
    many, shared_model, tmp_path, number, code
):
    out = tmp_path / "run"
    given = ("predict", shared_model, many, "--out", out)
    ended, said = stopped(given, "judged 18", number)
    assert ended == code
    facts, rows = read_run(out)
    assert facts["status"] == "interrupted"
    assert 18 <= len(rows) == facts["counts"]["images"] < 60
    assert said.splitlines()[-1].startswith(f"interrupted: {len(rows)} of 60 images were judged")
    with (out / "results.csv").open(encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]
    assert not hidden(out)
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(
    ("number", "code", "at"),
    [(signal.SIGINT, 130, "judged 1 of"), (signal.SIGTERM, 143, "learning")],
)
def test_an_evaluate_that_is_stopped_says_so(shared_parts, tmp_path, number, code, at):
    out = tmp_path / "run"
    given = ("evaluate", "--root", shared_parts, "--out", out, *SMALL)
    ended, said = stopped(given, at, number)
    assert ended == code
    assert said.splitlines()[-1] == "interrupted"
    assert not hidden(tmp_path)
    if (out / "run.json").exists() or at != "learning":  # the line stands before the run begins
        facts, rows = read_run(out)
        assert facts["status"] == "interrupted"
        assert facts["counts"]["images"] == len(rows) < 9
        assert bool(rows) == (at != "learning")


def test_pools_of_what_was_stopped_are_closed_before_anything_is_waited_for(
    many, shared_model, tmp_path
):
    """An idle thread of a pool that nobody closes would be waited for as long as may be."""
    told = (
        "import sys, threading\nimport pyimgano.cli._app as app\nwait = app.outwait\n"
        "def counted():\n"
        " sys.stderr.write(f'waits for {threading.active_count() - 1}\\n'); wait()\n"
        "app.outwait = counted"
    )
    given = ("--threads", "2", "predict", shared_model, many, "--out", tmp_path / "run")
    ended, said = stopped(given, "judged 18", signal.SIGINT, told)
    assert ended == 130
    assert said.splitlines()[-1] == "waits for 0"


def test_only_the_main_thread_listens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with _termination_as_interrupt(Settings()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    work()
    assert seen[1] is not before
    assert signal.getsignal(signal.SIGTERM) is before


# --- killed -------------------------------------------------------------------------------------


def killed(arguments: Sequence[object], seconds: float) -> int:
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.kill()
    return process.wait()


@pytest.mark.parametrize("seconds", [0.6, 1.2])
def test_a_killed_fit_leaves_the_old_model_or_the_new_one(goods, shared_model, tmp_path, seconds):
    model = tmp_path / "model.pyimg"
    shutil.copy(shared_model, model)
    killed(("fit", goods, "-o", model, *SMALL), seconds)
    assert pyimgano.load(model).any_size or model.read_bytes() != shared_model.read_bytes()


@pytest.mark.parametrize("moment", ["started", "9 judged", "report", "placed"])
def test_a_predict_that_is_killed_never_says_complete_without_its_report(
    goods, shared_model, tmp_path, moment
):
    """A process that ends itself, as SIGKILL would, at each step of putting results in place."""
    die = "import os, signal\ndef die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
    code = {
        "started": "from pyimgano.runs import artifacts as a\na.RunWriter._append = die",
        "9 judged": "from pyimgano.runs import artifacts as a\nadd = a.RunWriter.add\n"
        "def to_nine(run, *given):\n"
        " add(run, *given)\n if run._counts['images'] == 9: die()\n"
        "a.RunWriter.add = to_nine",
        "report": "from pyimgano.runs import evaluate\nevaluate.write_report = die",
        "placed": "import shutil\nremove = shutil.rmtree\n"
        "def rmtree(path):\n remove(path); die()\nshutil.rmtree = rmtree",
    }[moment]
    out = tmp_path / "run"
    given = ("predict", shared_model, goods, "--out", out, "--overlays", "none")
    command = [*COMMAND[:-1], f"{die}{code}\n{COMMAND[-1]}", *map(str, given)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    facts, rows = read_run(out)
    assert (facts["status"], rows) == ("running", [])
    assert call(*given, "-q").code == 0
    facts, rows = read_run(out)
    assert (facts["status"], len(rows)) == ("complete", 20)
    assert (out / "report.html").exists()
    assert not hidden(out)


def test_a_run_that_is_killed_with_its_first_file_leaves_a_folder_that_can_be_used(
    goods, shared_model, tmp_path
):
    out = tmp_path / "run"
    out.mkdir()
    with writer(out / "run.json"):
        refused = call("predict", shared_model, goods, "--out", out)
        assert refused.code == 2, "the writer lives"
    assert call("predict", shared_model, goods, "--out", out, "-q").code == 0
    assert not hidden(out)


def test_an_interrupt_that_surfaces_in_a_lock_is_one_too(tmp_path):
    def lock_hit_by_ctrl_c() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    with (
        pytest.raises(RuntimeError, match="unlocked"),
        RunWriter(tmp_path / "run", command="predict"),
    ):
        lock_hit_by_ctrl_c()
    assert read_run(tmp_path / "run")[0]["status"] == "interrupted"
    with pytest.raises(RuntimeError), RunWriter(tmp_path / "other", command="predict"):
        raise RuntimeError("a bug")
    assert read_run(tmp_path / "other")[0]["status"] == "failed"

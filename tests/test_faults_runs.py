"""A run directory serves one run at a time, and is complete when everything stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyimgano.errors import OutputError
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.facts import read_run
from test_runs_artifacts import files, judged, write

KILLED = """
import os, sys
from test_runs_artifacts import IMAGE, judged
from pyimgano.runs.artifacts import RunWriter
with RunWriter(sys.argv[1], command="predict") as run:
    run.add(judged("lost"), IMAGE)
    os._exit(9)
"""


def test_a_killed_run_leaves_a_directory_that_can_be_used_again(tmp_path: Path) -> None:
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, env=place, check=False).returncode == 9
    facts, rows = read_run(tmp_path)
    assert facts["status"] == "running"
    assert rows == []
    assert list(tmp_path.glob(".partial-*"))
    write(tmp_path, judged("new"))
    assert [row["path"] for row in read_run(tmp_path)[1]] == ["new"]
    assert not list(tmp_path.glob(".*"))


def test_a_directory_serves_one_run_at_a_time(tmp_path: Path) -> None:
    with RunWriter(tmp_path, command="predict", overlays="none") as run:
        with pytest.raises(OutputError, match="another process is writing a run into"):
            write(tmp_path, judged("second"))
        run.add(judged("first"))
    assert [row["path"] for row in read_run(tmp_path)[1]] == ["first"]


def test_a_run_is_complete_when_its_report_stands(tmp_path: Path) -> None:
    seen = []

    def report(folder: Path) -> None:
        seen.append(read_run(tmp_path)[0]["status"])
        facts, rows = read_run(folder)
        assert (facts["status"], [row["path"] for row in rows]) == ("complete", ["a"])
        assert (folder / rows[0]["overlay"]).is_file()
        (folder / "report.html").write_text("report")

    write(tmp_path, judged("a"), report=report)
    assert seen == ["running"]
    assert (tmp_path / "report.html").read_text() == "report"
    assert read_run(tmp_path)[0]["status"] == "complete"


@pytest.mark.parametrize("error", [OutputError("no room"), KeyboardInterrupt()])
def test_a_report_that_fails_is_a_run_that_is_not_complete(
    tmp_path: Path, error: BaseException
) -> None:
    def report(folder: Path) -> None:
        (folder / "report.html").write_text("half")
        raise error

    with pytest.raises(type(error)):
        write(tmp_path, judged("a"), report=report)
    facts, rows = read_run(tmp_path)
    assert facts["status"] == ("failed" if isinstance(error, Exception) else "interrupted")
    assert [row["path"] for row in rows] == ["a"]
    assert files(tmp_path) == ["overlays/00000-a.png", "results.csv", "results.jsonl", "run.json"]
    assert not list(tmp_path.glob(".*"))

"""``pyimgano report``: the report comes back, and a folder without a run is named."""

from __future__ import annotations

import json

from cli_calls import call
from pyimgano.inspection import Inspection, Verdict
from pyimgano.runs.artifacts import RunWriter


def test_the_report_of_a_run_is_written_again(tmp_path):
    runs = [tmp_path / name for name in ("first", "second")]
    for run in runs:
        with RunWriter(run, command="predict", overlays="none") as writer:
            writer.note(threshold=2.0)
            writer.add(Inspection(source="a.png", score=3.0, label=1, verdict=Verdict.NG))
    ended = call("report", *runs)
    assert ended.code == 0
    for run in runs:
        assert str(run / "report.html") in "".join(ended.out.split())
        assert "a.png" in (run / "report.html").read_text()
    reports = [str(run / "report.html") for run in runs]
    assert call("report", *runs, "-q") == (0, "\n".join(reports) + "\n", "")
    assert json.loads(call("report", *runs, "--json").out) == {"reports": reports}


def test_a_folder_without_a_run_is_named(tmp_path):
    ended = call("report", tmp_path)
    assert ended.code == 2
    assert str(tmp_path) in ended.err

"""A benchmark: the same rows whoever does the jobs, however often it was killed."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest

import fakes
from cli_calls import COMMAND, call, write_parts
from pyimgano.atomic import locked
from pyimgano.datasets.base import load_dataset
from pyimgano.datasets.protocols import few_shot
from pyimgano.errors import DatasetError, OutputError, ParameterError
from pyimgano.features.handcrafted import Handcrafted
from pyimgano.models import create_detector
from pyimgano.runs.benchmark import benchmark
from pyimgano.runs.evaluate import evaluate
from pyimgano.runs.executors import ProcessExecutor
from pyimgano.runs.facts import read_facts
from pyimgano.runs.jobs import Job, Work
from pyimgano.runs.plan import find_parts, fingerprint, plan
from pyimgano.runs.rows import COLUMNS, COSTS, rows_of
from pyimgano.threads import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

LIMIT = 1 << 30
SMALL = {"size": 96, "pad": 32}
DETECTORS = ("vision_padim", "vision_patchcore")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two categories, the second with one image less."""
    root = write_parts(tmp_path_factory.mktemp("benchmark") / "data").parent
    shutil.copytree(root / "flange", root / "ring")
    (root / "ring" / "train" / "good" / "019.png").unlink()
    return root


def detectors(**given):
    return [create_detector(n, extractor="handcrafted", **SMALL, **given) for n in DETECTORS]


def jobs_of(root: Path, **given) -> list[Job]:
    asked = {"shots": (None, 1, 4), "seeds": (0,), **given}
    return plan(detectors(), find_parts("mvtec", root), **asked)


def work(out: Path, **given) -> Work:
    return Work(**{"out": out, "cache": out / "cache", "limit": LIMIT, **given})


def table(out: Path) -> list[dict[str, str]]:
    """What must not depend on circumstances."""
    with (out / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return [{name: cell for name, cell in row.items() if name not in COSTS} for row in rows]


@pytest.fixture(scope="module")
def done(root, tmp_path_factory) -> Path:
    """An uninterrupted benchmark, to be read only."""
    out = tmp_path_factory.mktemp("done") / "out"
    benchmark(jobs_of(root), work(out), command="as typed")
    return out


# --- what stands there ----------------------------------------------------------------------------


def test_the_rows_are_those_of_evaluate(root, done):
    rows = {(r["category"], r["detector"], r["shots"]): r for r in table(done)}
    assert len(rows) == 12
    dataset = load_dataset("mvtec", root, category="flange")
    for name, detector in zip(DETECTORS, detectors(), strict=True):
        for shots, data in (("", dataset), ("4", few_shot(dataset, 4, 0))):
            found, row = evaluate(detector.clone(), data), rows["flange", name, shots]
            assert row["status"] == "complete"
            for figure in ("auroc", "ap", "pixel_auroc", "pixel_ap", "aupro_0.3", "aupro_0.05"):
                assert float(row[figure]) == found.metrics[figure]
            assert float(row["f1max_oracle"]) == found.metrics["f1max"]
            low, high = found.metrics["intervals"]["auroc"]
            assert (float(row["auroc_low"]), float(row["auroc_high"])) == (low, high)
            at = found.metrics["at_threshold"]
            assert int(row["false_rejects"]) == at["false_rejects"]["count"]
            assert int(row["escapes"]) == at["escapes"]["count"]
            assert float(row["certified_bound"]) == found.detector.certainty_.bound
            assert (row["n_good"], row["n_defect"]) == ("3", "6")
            assert row["n_train"] == (shots or "20")
            assert (row["protocol"], row["licence"]) == (
                "few-shot" if shots else "one-class",
                "Apache-2.0",
            )


def test_one_shot_has_figures_but_no_threshold_or_fails_by_itself(done):
    shots = [row for row in table(done) if row["shots"] == "1"]
    padim, patchcore = ([r for r in shots if r["detector"] == name] for name in DETECTORS)
    for row in padim:
        assert row["status"] == "failed"
        assert "needs at least two good images" in row["error"]
        assert row["auroc"] == ""
    for row in patchcore:
        assert (row["status"], row["error"], row["n_good"]) == ("complete", "", "3")
        assert row["auroc"]
        assert row["false_rejects"] == row["escapes"] == row["certified_bound"] == ""
    facts = [read_facts(path) for path in (done / "jobs").iterdir()]
    heard = [facts["warnings"] for facts in facts if facts["status"] == "complete"]
    assert heard.count(["one good image gives no out-of-sample score: there is no threshold"]) == 2


def test_costs_are_told(done):
    with (done / "leaderboard.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "complete"]
    for row in rows:
        assert all(float(row[name]) > 0 for name in COSTS)
        assert 20 < float(row["peak_mb"]) < 10_000
    sizes = {(row["detector"], row["shots"]): float(row["model_mb"]) for row in rows}
    assert sizes["vision_patchcore", "1"] < sizes["vision_patchcore", "4"]


def test_the_directory_is_complete(done):
    assert sorted(path.name for path in done.iterdir()) == [
        *("benchmark.json", "jobs", "leaderboard.csv", "leaderboard.html", "leaderboard.md")
    ]
    facts = json.loads((done / "benchmark.json").read_bytes())
    assert facts["command"] == "as typed"
    assert facts["versions"]["pyimgano"]
    names = {path.name for path in next((done / "jobs").iterdir()).iterdir()}
    assert names == {"run.json", "results.csv", "results.jsonl"}


def test_the_command_of_a_row_measures_it_again(root, done, tmp_path):
    row = next(r for r in table(done) if (r["shots"], r["detector"]) == ("4", "vision_patchcore"))
    words = shlex.split(row["command"])
    assert words[-2:] == ["--out", "again"]
    assert call(*words[1:-1], tmp_path / "again", "-q").code == 0
    (again,) = table(tmp_path / "again")
    assert again == row


def test_parameters_that_differ_stand_in_the_command(root):
    made = [create_detector("vision_patchcore", extractor="auto", contamination=0.1, coreset=0.2)]
    (job,) = plan(made, find_parts("mvtec", root / "ring"), seeds=(3,), map_intervals=True)
    assert job.command == (
        f"pyimgano benchmark --dataset mvtec --root {root}/ring --detector vision_patchcore "
        "--extractor efficientnet_lite0 --shots full --seeds 3 --false-reject 0.1 "
        "--set coreset=0.2 --map-intervals --out again"
    )


# --- whoever does it, however often it is stopped -------------------------------------------------


def test_processes_give_the_same_rows(root, done, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "2")
    executor = ProcessExecutor(2, attrgetter("group"))
    told = []
    jobs = jobs_of(root)
    rows = benchmark(jobs, work(tmp_path / "out"), executor=executor, progress=told.append)
    assert table(tmp_path / "out") == table(done)
    assert len(told) == len(rows) == 12
    by_name = sorted(rows, key=str)
    assert by_name == sorted(told, key=str)


def test_without_a_cache_the_rows_are_the_same(root, done, tmp_path):
    benchmark(jobs_of(root), work(tmp_path / "out", limit=0))
    assert table(tmp_path / "out") == table(done)


def test_a_cache_of_ones_own_stays_and_serves_others(root, done, tmp_path):
    given = work(tmp_path / "out", cache=tmp_path / "cache")
    benchmark(jobs_of(root), given)
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 20 + 9, "the images of both categories are the same"
    benchmark(jobs_of(root), work(tmp_path / "other", cache=tmp_path / "cache"))
    assert {path.name: path.stat().st_ino for path in (tmp_path / "cache").iterdir()} == kept
    assert table(tmp_path / "other") == table(tmp_path / "out") == table(done)


TYPED = (
    *("benchmark", "--detector", "vision_padim", "--detector", "vision_patchcore"),
    *("--extractor", "handcrafted", "--shots", "full,1,4", "--set", "size=96", "--set", "pad=32"),
)
DIE = "import os, signal\ndef die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
MOMENTS = {
    "first file": "from pyimgano.runs import benchmark as b\nb.write_atomic = die",
    "between jobs": "from pyimgano.runs import benchmark as b\nadd = b._Board.add\n"
    "def third(self, outcome):\n add(self, outcome)\n if len(self.found) == 3: die()\n"
    "b._Board.add = third",
    "in a job": "from pyimgano.runs import artifacts as a\nadd = a.RunWriter.add\nn = []\n"
    "def nth(run, *given):\n add(run, *given); n.append(1)\n if len(n) == 25: die()\n"
    "a.RunWriter.add = nth",
    "job done, not listed": "from pyimgano.runs import benchmark as b\nb._Board.add = die",
    "last file": "from pyimgano.runs import leaderboard as b\nb.write_atomic = die",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_equals_uninterrupted(root, done, tmp_path, moment):
    out = tmp_path / "out"
    typed = [*TYPED, "--root", root, "--out", out]
    command = [*COMMAND[:-1], f"{DIE}{MOMENTS[moment]}\n{COMMAND[-1]}", *map(str, typed)]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    complete = {path: path.stat().st_mtime_ns for path in finished(out)}
    again = call(*typed)
    assert again.code == 1, "one shot is too few for one of them"
    assert table(out) == table(done)
    assert {path: path.stat().st_mtime_ns for path in complete} == complete, "none is done twice"
    assert again.err.count(" of 12: ") == 12


def finished(out: Path) -> list[Path]:
    files = out.glob("jobs/*/run.json")
    return [path for path in files if json.loads(path.read_bytes())["status"] == "complete"]


def test_processes_that_are_killed_with_their_parent_leave_what_can_be_resumed(
    root, done, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    typed = [*TYPED, "--root", root, "--out", out]
    environment = {**os.environ, VARIABLE: "2"}
    with subprocess.Popen(
        [*COMMAND, *map(str, typed), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        for line in process.stderr:
            if line.startswith("result 2 "):
                process.kill()
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setenv(VARIABLE, "2")
    assert call(*typed, "--workers", "2", "-q").code == 1
    assert table(out) == table(done)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_stop_keeps_the_jobs_that_are_done(root, done, tmp_path, number, code, workers):
    out = tmp_path / "out"
    typed = [*TYPED, "--root", root, "--out", out]
    with subprocess.Popen(
        [*COMMAND, *map(str, typed), "--workers", workers],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: "2"},
    ) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("result 3 "):
                process.send_signal(number)
    assert process.returncode == code
    count = int(said[-1].removeprefix("interrupted: ").split()[0])
    assert said[-1] == (
        f"interrupted: {count} of 12 jobs are complete; the same command goes on from here\n"
    )
    assert len([row for row in table(out) if row["status"] == "complete"]) == count >= 2
    assert "Traceback" not in "".join(said)
    assert call(*typed, "-q").code == 1
    assert table(out) == table(done)


# --- what goes wrong, and what stood there before -------------------------------------------------


def test_a_broken_category_is_a_row(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    shutil.rmtree(data / "ring" / "ground_truth" / "dent", ignore_errors=True)
    masks = sorted((data / "ring" / "ground_truth").rglob("*.png"))
    masks[0].unlink(missing_ok=True)
    rows = benchmark(jobs_of(data, shots=(None,)), work(tmp_path / "out"))
    assert [(row["category"], row["status"]) for row in rows] == [
        *[("flange", "complete")] * 2,
        *[("ring", "failed")] * 2,
    ]
    assert all("MaskError: " in row["error"] for row in rows[2:])
    with pytest.raises(DatasetError):
        find_parts("mvtec", data, ["ring"])
    (masks[0].parent).mkdir(exist_ok=True)
    shutil.rmtree(data / "ring")
    shutil.copytree(root / "ring", data / "ring")
    again = benchmark(jobs_of(data, shots=(None,)), work(tmp_path / "out"))
    assert {row["status"] for row in again} == {"complete"}
    assert len(table(tmp_path / "out")) == 4, "the mended takes the place of the broken"


def test_an_error_that_is_not_ours_is_a_row_too(root, tmp_path, named_fakes, monkeypatch):
    def fails(self, images):
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(fakes.LevelDetector, "_fit", fails)
    made = [fakes.LevelDetector(), fakes.CellDetector()]
    jobs = plan(made, find_parts("mvtec", root, ["ring"]))
    first, second = benchmark(jobs, work(tmp_path / "out"))
    assert (first["status"], first["error"]) == ("failed", "RuntimeError: no luck")
    assert (first["extractor"], second["extractor"]) == ("", "")
    assert second["status"] == "complete"
    monkeypatch.undo()
    (again, _) = benchmark(jobs, work(tmp_path / "out"))
    assert (again["status"], again["error"]) == ("complete", None)


def test_a_run_directory_that_cannot_be_used_is_a_row(root, tmp_path):
    jobs = jobs_of(root / "ring", shots=(4,))
    given = work(tmp_path / "out")
    benchmark(jobs, given)
    shutil.rmtree(given.run_dir(jobs[0]))
    given.run_dir(jobs[0]).write_text("a file")
    first, second = benchmark(jobs, given)
    assert (first["status"], second["status"]) == ("failed", "complete")
    assert first["error"].endswith("is a file; give a directory for the results")


def test_rows_of_earlier_calls_stay_and_the_newest_counts(root, tmp_path):
    out = tmp_path / "out"
    parts = find_parts("mvtec", root, ["ring"])
    padim, patchcore = detectors()
    benchmark(plan([padim], parts), work(out))
    benchmark(plan([patchcore], parts), work(out))
    assert [row["detector"] for row in table(out)] == list(DETECTORS)
    before = table(out)
    (other,) = plan([padim], parts, map_intervals=True)
    benchmark([other], work(out))
    benchmark(plan([patchcore], parts), work(out))
    after = table(out)
    assert "--map-intervals" in after[0]["command"]
    assert after[1] == before[1]
    foreign = read_facts(out / "jobs" / other.id)
    del foreign["job"]["data"]
    (out / "jobs" / other.id / "run.json").write_text(json.dumps(foreign))
    benchmark(plan([patchcore], parts), work(out))
    assert table(out) == before, "a job of another version is no row"


def test_a_directory_of_something_else_is_refused(root, tmp_path):
    jobs = jobs_of(root / "ring", shots=(4,))
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    (tmp_path / "busy").mkdir()
    for name, words in (("file", "is a file"), ("mine", "something else than a benchmark")):
        with pytest.raises(OutputError, match=words):
            benchmark(jobs, work(tmp_path / name))
    with locked(tmp_path / "busy"), pytest.raises(OutputError, match="another process is writing"):
        benchmark(jobs, work(tmp_path / "busy"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_json_and_known_by_its_content(root, tmp_path):
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    here, there = jobs_of(root), jobs_of(moved)
    assert [job.id for job in here] == [job.id for job in there]
    assert len({job.id for job in here}) == 12
    job = here[0]
    again = Job(**json.loads(json.dumps(dataclasses.asdict(job))))
    assert again.id == job.id
    for field, other in {"seed": 1, "shots": 2, "version": "0", "data": "x"}.items():
        assert dataclasses.replace(job, **{field: other}).id != job.id
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 1


def test_the_fingerprint_sees_every_image_mask_and_label(root, tmp_path):
    before = fingerprint(load_dataset("mvtec", root, category="flange"))
    data = shutil.copytree(root, tmp_path / "data")

    def now() -> str:
        return fingerprint(load_dataset("mvtec", data, category="flange"))

    assert now() == before
    seen = {before}
    for pattern in ("train/good/000.png", "test/good/000.png", "ground_truth/*/000_mask.png"):
        path = min((data / "flange").glob(pattern))
        path.write_bytes(path.read_bytes() + b"x")
        seen.add(now())
    kind = min(path for path in (data / "flange" / "test").iterdir() if path.name != "good")
    kind.rename(kind.with_name("renamed"))
    truth = data / "flange" / "ground_truth" / kind.name
    truth.rename(truth.with_name("renamed"))
    seen.add(now())
    listed = load_dataset("mvtec", data, category="flange")
    (data / "flange" / "train" / "good" / "001.png").unlink()
    seen.add(fingerprint(listed))
    assert len(seen) == 6


def test_what_cannot_be_a_job_is_refused(root):
    parts = find_parts("mvtec", root / "ring")
    with pytest.raises(ParameterError, match="DrawsMirrored is not registered"):
        plan([fakes.DrawsMirrored()], parts)
    with pytest.raises(ParameterError, match="a job names its extractor"):
        plan([create_detector("vision_padim", extractor=Handcrafted())], parts)


def test_map_intervals_and_pictures_on_demand(root, tmp_path):
    jobs = jobs_of(root / "ring", shots=(None,), map_intervals=True)[:1]
    (row,) = benchmark(jobs, work(tmp_path / "out", overlays="ng"))
    assert row["aupro_0.3_low"] <= row["aupro_0.3"] <= row["aupro_0.3_high"]
    assert row["aupro_0.3_low"] < row["aupro_0.3_high"]
    run = tmp_path / "out" / "jobs" / jobs[0].id
    assert (run / "report.html").exists()
    assert list((run / "overlays").iterdir())
    assert rows_of(read_facts(run)) == [row]


def test_where_memory_cannot_be_watched_nothing_is_said(root, tmp_path, monkeypatch):
    monkeypatch.setattr("pyimgano.runs.jobs._CLEAR", tmp_path / "no" / "clear_refs")
    jobs = jobs_of(root / "ring", shots=(4,))[:1]
    (row,) = benchmark(jobs, work(tmp_path / "out"))
    assert (row["status"], row["peak_mb"]) == ("complete", None)

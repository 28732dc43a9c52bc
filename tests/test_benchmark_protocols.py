"""Protocols and settings of a benchmark: each is a row of its own, and says what it is."""

from __future__ import annotations

import csv
import shlex
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from boards import job as row_of_board
from boards import write_board
from cli_calls import call, write_parts
from pyimgano.datasets.base import load_dataset
from pyimgano.datasets.protocols import contaminated, few_shot, multi_class
from pyimgano.errors import ParameterError
from pyimgano.inspection import Inspections
from pyimgano.metrics import bootstrap_maps
from pyimgano.models import create_detector
from pyimgano.runs.benchmark import benchmark
from pyimgano.runs.evaluate import evaluate
from pyimgano.runs.facts import read_facts
from pyimgano.runs.jobs import Work
from pyimgano.runs.leaderboard import write_leaderboard
from pyimgano.runs.leaderboard_methods import methods_of, read_rows
from pyimgano.runs.plan import find_parts, plan, union
from pyimgano.runs.rows import COLUMNS, COSTS
from pyimgano.runs.scorecard import LIMITS, scorecard

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("flange", "ring")
SMALL = {"size": 96, "pad": 32}
TYPED = (
    *("benchmark", "--detector", "vision_padim", "--extractor", "handcrafted"),
    *("--set", "size=96", "--set", "pad=32", "-q"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two categories, the second with fewer images."""
    root = write_parts(tmp_path_factory.mktemp("protocols") / "data").parent
    shutil.copytree(root / "flange", root / "ring")
    for gone in ("train/good/019.png", "test/good/002.png"):
        (root / "ring" / gone).unlink()
    return root


def padim(**given):
    return create_detector("vision_padim", extractor="handcrafted", **SMALL, **given)


def work(out: Path, **given) -> Work:
    return Work(out, out / "cache", 1 << 30, **given)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if name not in COSTS} for row in rows]


# --- contaminated ---------------------------------------------------------------------------------


def test_contaminated_rows_are_those_of_the_protocol(root, tmp_path):
    out = tmp_path / "out"
    typed = (*TYPED, "--root", root / "ring", "--contaminated", "0%,5%,0.1", "--seeds", "0,1")
    assert call(*typed, "--out", out).code == 0
    rows = {(row["protocol"], row["seed"]): row for row in table(out)}
    assert len(rows) == 6
    clean = load_dataset("mvtec", root / "ring")
    for name, share in (("one-class", 0), ("contaminated-5%", 0.05), ("contaminated-10%", 0.1)):
        for seed in (0, 1):
            data = contaminated(clean, share, seed) if share else clean
            found, row = evaluate(padim(seed=seed), data), rows[name, str(seed)]
            assert float(row["auroc"]) == found.metrics["auroc"]
            assert float(row["aupro_0.3"]) == found.metrics["aupro_0.3"]
            assert int(row["n_train"]) == len(data.train)
            assert int(row["n_defect"]) == data.info.n_test_defect
            assert row["shots"] == ""
    again = rows["contaminated-10%", "1"]
    words = shlex.split(again["command"])
    assert call(*words[1:-1], tmp_path / "again", "-q").code == 0
    assert table(tmp_path / "again") == [again]
    page = (out / "leaderboard.md").read_text("utf-8")
    assert all(name in page for name in ("one-class", "contaminated-5%", "contaminated-10%"))


def test_a_share_of_the_shots_or_a_failed_row(root, tmp_path):
    parts = find_parts("mvtec", root, ["flange"])
    jobs = plan([padim()], parts, shots=(8, 4), shares=(0.1,))
    eight, four = benchmark(jobs, work(tmp_path / "out"))
    data = contaminated(few_shot(load_dataset("mvtec", root, category="flange"), 8), 0.1)
    assert eight["auroc"] == evaluate(padim(), data).metrics["auroc"]
    assert (eight["n_train"], eight["shots"]) == (9, 8)
    assert (four["status"], four["protocol"]) == ("failed", "contaminated-10%")
    assert "share must lie above 0" in four["error"]


@pytest.mark.parametrize("text", ["5%,", "100%", "none", "-1%"])
def test_a_share_that_cannot_be_used_is_refused(root, tmp_path, text):
    said = call(*TYPED, "--root", root, "--contaminated", text, "--out", tmp_path / "out")
    assert said.code == 2
    assert "--contaminated must be a share above 0 %" in said.err
    assert not (tmp_path / "out").exists()


# --- multi-class ----------------------------------------------------------------------------------


def test_one_model_has_a_row_for_each_category(root, tmp_path):
    part = union(find_parts("mvtec", root))
    jobs = plan([padim()], [part], map_intervals=True)
    told = []
    rows = benchmark(jobs, work(tmp_path / "out"), progress=told.append)
    assert told == rows
    assert [(row["category"], row["protocol"]) for row in rows] == [
        (name, "multi-class") for name in NAMES
    ]
    parts = [load_dataset("mvtec", root, category=name) for name in NAMES]
    detector = padim().fit(multi_class(parts).train)
    for row, data in zip(rows, parts, strict=True):
        judged = list(detector.inspect(data.test))
        maps = [one.map for one in judged]
        found = scorecard(data, Inspections(judged), maps)
        for figure in ("auroc", "ap", "pixel_auroc", "aupro_0.3", "aupimo"):
            assert row[figure] == found[figure], figure
        low_high = bootstrap_maps(list(data.masks()), maps, LIMITS)["aupro_0.3"]
        assert [row["aupro_0.3_low"], row["aupro_0.3_high"]] == list(low_high)
        assert row["escapes"] == found["at_threshold"]["escapes"]["count"]
        assert (row["n_train"], row["n_good"]) == (len(data.train), data.info.n_test_good)
        assert row["certified_bound"] == detector.certainty_.bound
    assert all(rows[0][name] == rows[1][name] for name in (*COSTS, "command"))
    facts = read_facts(tmp_path / "out" / "jobs" / jobs[0].id)
    whole = evaluate(padim(), multi_class(parts))
    assert facts["metrics"]["auroc"] == whole.metrics["auroc"]
    assert list(facts["by_category"]) == list(NAMES)


def test_multi_class_from_the_command_line_and_again(root, tmp_path):
    out = tmp_path / "out"
    typed = (*TYPED[:-1], "--root", root, "--out", out)
    said = call(*typed, "--multi-class", "--contaminated", "0,10%", "--seeds", "1")
    assert said.code == 0
    name = "ring vision_padim handcrafted multi-class, contaminated-10% all goods seed 1"
    assert said.err.splitlines()[-1] == f"result 4 of 4: {name}: complete"
    assert "multi-class, contaminated-10%   ring " in said.out
    said = call(*typed, "--seeds", "1")
    assert said.code == 0
    assert "protocol" not in said.out
    rows = table(out)
    assert sorted((row["protocol"], row["category"]) for row in rows) == sorted(
        (protocol, name)
        for protocol in ("multi-class", "multi-class, contaminated-10%", "one-class")
        for name in NAMES
    )
    mixed = [row for row in rows if row["protocol"].endswith("contaminated-10%")]
    parts = [contaminated(load_dataset("mvtec", root, category=n), 0.1, 1) for n in NAMES]
    assert [int(row["n_train"]) for row in mixed] == [len(part.train) for part in parts]
    words = shlex.split(mixed[0]["command"])
    assert call(*words[1:-1], tmp_path / "again", "-q").code == 0
    assert table(tmp_path / "again") == mixed
    methods = methods_of(read_rows(out / "leaderboard.csv"), "auroc")
    assert {method.covered("auroc") for method in methods} == {2}
    assert len({method.name for method in methods}) == 3


def test_one_broken_category_fails_the_model_of_all(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    min((data / "ring" / "ground_truth").rglob("*.png")).unlink()
    jobs = plan([padim()], [union(find_parts("mvtec", data))])
    rows = benchmark(jobs, work(tmp_path / "out"))
    assert [(row["category"], row["status"]) for row in rows] == [(n, "failed") for n in NAMES]
    assert all("MaskError: " in row["error"] for row in rows)


def test_one_category_is_no_multi_class(root, tmp_path):
    with pytest.raises(ParameterError, match="needs two or more, got ring"):
        union(find_parts("mvtec", root, ["ring", "ring"]))
    said = call(*TYPED, "--root", root / "ring", "--multi-class", "--out", tmp_path / "out")
    assert said.code == 2
    assert "needs two or more, got one" in said.err


def test_a_model_of_other_categories_takes_the_place(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    shutil.copytree(root / "ring", data / "third")
    out = tmp_path / "out"
    for names in (NAMES, ("ring", "third")):
        benchmark(plan([padim()], [union(find_parts("mvtec", data, names))]), work(out))
    assert [row["category"] for row in table(out)] == ["ring", "third"]


# --- settings -------------------------------------------------------------------------------------


def test_rows_of_different_settings_stand_side_by_side(root, tmp_path):
    out = tmp_path / "out"
    typed = (*TYPED, "--root", root / "ring", "--out", out)
    for more in ((), ("--set", "sigma=8"), ("--false-reject", "10%"), ()):
        assert call(*typed, *more).code == 0
    rows = table(out)
    settings = [set(row["settings"].split(", ")) for row in rows]
    small = {"size=96", "pad=32"}
    for wanted in (small, small | {"sigma=8.0"}, small | {"contamination=0.1"}):
        assert settings.count(wanted) == 1
    assert len(rows) == 3
    assert len({method.name for method in methods_of(read_rows(out / "leaderboard.csv"), "")}) == 3
    assert "sigma=8.0" in (out / "leaderboard.html").read_text("utf-8")


def test_defaults_have_no_settings(root):
    (job,) = plan([create_detector("vision_padim")], find_parts("mvtec", root, ["ring"]))
    assert job.settings == ""
    assert COLUMNS[:3] == ("detector", "extractor", "settings")


@pytest.mark.parametrize(("other", "named"), [("", True), ("k=2", False)])
def test_settings_are_named_where_they_differ(tmp_path, other, named):
    rows = [
        row_of_board(name, f"c{i}", float(auroc), settings=settings)
        for i, auroc in enumerate(np.linspace(0.8, 0.9, 3))
        for name, settings in (("best", "k=2"), ("best" if other == "" else "poor", other))
    ]
    out = write_board(tmp_path, rows)
    methods = methods_of(read_rows(out / "leaderboard.csv"), "auroc")
    assert len(methods) == len({method.name for method in methods}) == 2
    assert any("k=2" in method.name for method in methods) is named
    write_leaderboard(out)
    assert "k=2" in (out / "leaderboard.html").read_text("utf-8"), "what is shared stands on top"

"""``pyimgano evaluate`` and ``pyimgano demo``."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

import pyimgano
from cli_calls import SMALL, call, write_parts
from pyimgano.runs.facts import read_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("evaluate") / "data").parent


def test_evaluate_prints_figures_and_what_the_threshold_does(data, tmp_path):
    out = tmp_path / "run"
    ended = call(
        *("evaluate", "--dataset", "mvtec", "--root", data, "--category", "flange"),
        *("--out", out, *SMALL),
    )
    assert ended.code == 0
    assert "20 good images to learn from, 3 good and 6 defective" in " ".join(ended.out.split())
    assert "F1 max (oracle)" in ended.out
    assert "AUROC (oracle)" not in ended.out
    facts, rows = read_run(out)
    found = facts["metrics"]["at_threshold"]
    assert f"{found['catches']['count']} of 6" in ended.out
    assert f"{facts['metrics']['auroc']:.4f}" in ended.out
    for kind in facts["data"]["defects"]:
        assert f"  {kind}" in ended.out
    assert len(rows) == 9
    assert (out / "report.html").exists()
    assert all(len(line) <= 80 for line in ended.out.splitlines() if str(out) not in line)


def test_the_category_may_be_left_out_where_there_is_one(data, tmp_path):
    for root in (data, data / "flange"):
        ended = call("evaluate", "--root", root, "--out", tmp_path / "run", *SMALL, "--json")
        facts = json.loads(ended.out)
        assert facts["data"]["category"] == "flange"
        assert facts["metrics"]["at_threshold"]["catches"]["of"] == 6
        assert facts["detector"]["name"] == "vision_default"


def test_images_that_cannot_be_judged_are_told_and_exit_1(data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    (root / "flange" / "test" / "good" / "torn.png").write_bytes(b"nothing")
    (root / "flange" / "train" / "good" / "000.png").write_bytes(b"nothing")
    ended = call("evaluate", "--root", root, "--out", tmp_path / "run", *SMALL)
    assert ended.code == 1
    assert "torn.png" in ended.out.split("errors")[1]
    assert "000.png" in ended.out.split("skipped")[1]


def test_good_test_images_alone_have_no_auroc(data, tmp_path):
    root = tmp_path / "parts"
    for place in ("train", "test"):
        shutil.copytree(data / "flange" / place / "good", root / "good" / place)
    ended = call(
        *("evaluate", "--dataset", "custom", "--root", root, "--out", tmp_path / "run", *SMALL)
    )
    assert ended.code == 0
    assert "0 of 0" in ended.out
    row = next(line for line in ended.out.splitlines() if line.startswith("AUROC"))
    assert row.split()[1] == "-"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--root", "{data}", "--dataset", "mvtek"), "did you mean 'mvtec' or"),
        (("--root", "{data}", "--category", "flang"), "did you mean 'flange'?"),
        (("--root", "nowhere"), "the data set folder nowhere does not exist. Expected:"),
        (("--root", "{data}/flange/train"), "Did you mean"),
        (("--root", "{data}/flange/train/good", "--dataset", "custom"), "type: pyimgano fit"),
        (("--root", "{two}"), "choose one of the categories with --category: a, b"),
        (("--root", "{data}", "--detector", "padim"), "did you mean 'vision_padim'?"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(data, tmp_path, given, words):
    two = tmp_path / "two"
    for name in "ab":
        shutil.copytree(data / "flange", two / name)
    filled = [text.format(data=data, two=two) for text in given]
    ended = call("evaluate", *filled, "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["letters/to_mother.txt", "data/mine.txt"])
def test_demo_leaves_other_folders_alone(tmp_path, name):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("dear")
    ended = call("demo", "--out", tmp_path / "mine")
    assert (ended.code, ended.out) == (2, "")
    assert "holds something else than a demo" in ended.err
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [mine]


def test_demo_generates_its_parts_and_can_run_again(tmp_path, monkeypatch):
    """The parts are fewer and smaller than those of a real demo."""

    def write_few(root: Path) -> Path:
        return write_parts(root).parent

    monkeypatch.setattr("pyimgano.synthesis.write_demo", write_few)
    demo = tmp_path / "demo"
    for began in ("generating parts ...\nlearning from", "learning from"):
        ended = call("demo", "--out", demo)
        assert ended.code == 0
        assert ended.err.startswith(f"{began} 20 good parts ...\n")
        assert "promised by the calibration" in ended.out
        assert read_run(demo / "run")[0]["status"] == "complete"
        assert (demo / "run" / "report.html").exists()
        assert pyimgano.load(demo / "model.pyimg").is_calibrated
        command = f"pyimgano predict {demo / 'model.pyimg'} {demo / 'data' / 'flange' / 'test'}"
        assert f"next: {command} --out results\n" in ended.out

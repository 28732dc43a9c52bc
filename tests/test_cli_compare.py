"""``pyimgano compare`` as it is typed."""

from __future__ import annotations

import json
import shutil
import signal
import sys

import pytest

import pyimgano
from cli_calls import call
from pyimgano.runs.compare_trial import CHOICES
from pyimgano.runs.facts import read_run
from test_faults_signals import stopped

AT_ONCE = ("--budget", "0s")


@pytest.fixture
def goods(shared_parts):
    return shared_parts / "train" / "good"


@pytest.fixture
def bad(shared_parts, tmp_path):
    folder = tmp_path / "bad"
    shutil.copytree(shared_parts / "test", folder, ignore=shutil.ignore_patterns("good"))
    return folder


def test_the_winner_is_a_model_of_all_goods(goods, bad, tmp_path):
    model, out = tmp_path / "m.pyimg", tmp_path / "out"
    ended = call("compare", goods, "--bad", bad, "-o", model, "--out", out, *AT_ONCE)
    assert ended.code == 0, ended.err
    loaded = pyimgano.load(model)
    assert len(loaded.hashes_) == len(loaded.decision_scores_) == 20
    image = goods / "000.png"
    assert loaded.predict([image]).tolist() == [0]
    fresh = CHOICES[0].make(0.05, 0).fit(goods)
    assert loaded.threshold_ == fresh.threshold_
    for told in ("20 good images, 6 of defects", "the only one", "not tried", "next: pyimgano"):
        assert told in ended.out
    facts, rows = read_run(out / "01-vision_padim-handcrafted")
    assert (facts["status"], len(rows)) == ("complete", 26)
    assert json.loads((out / "compare.json").read_bytes())["taken"] == CHOICES[0].name


def test_several_are_set_side_by_side(goods, bad, tmp_path, monkeypatch):
    monkeypatch.setattr("pyimgano.runs.compare_choices.CHOICES", CHOICES[:2])
    out = tmp_path / "out"
    (bad / "broken.png").write_bytes(next(bad.rglob("*.png")).read_bytes()[:300])
    given = ("compare", goods, "--bad", bad, "-o", tmp_path / "m.pyimg", "--out", out)
    ended = call(*given, "--budget", "1h")
    assert ended.code == 1, "one image could not be judged"
    said = " ".join(ended.out.split())
    assert "broken.png: cannot be decoded" in said
    assert "oracle: chosen on these images, an upper estimate" in said
    assert "are too few to tell a difference" in said
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "What was found" in page
    assert "vision_default · handcrafted" in page
    told = json.loads(call(*given, "--budget", "1h", "--json").out)
    assert [each["errors"] for each in told["standings"]] == [1, 1]
    assert told["taken"] == "vision_default · handcrafted"


def test_without_defects_some_are_planted_and_called_so(goods, tmp_path):
    model = tmp_path / "m.pyimg"
    ended = call("compare", goods, "-o", model, *AT_ONCE)
    assert ended.code == 0, ended.err
    assert "planted defects, not yours" in ended.out
    assert "16 good images to learn from" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["m.pyimg"]
    assert len(pyimgano.load(model).hashes_) == 20


def test_good_images_among_the_defects_are_refused(goods, shared_parts, tmp_path):
    model = tmp_path / "m.pyimg"
    ended = call("compare", goods, "--bad", shared_parts / "test", "-o", model)
    assert (ended.code, ended.out) == (2, "")
    assert "should hold images of defects alone, but it holds good/ too" in ended.err
    assert not model.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_that_is_stopped_keeps_what_is_finished(goods, bad, tmp_path, number, code):
    model, out = tmp_path / "m.pyimg", tmp_path / "out"
    given = ("compare", goods, "--bad", bad, "-o", model, "--out", out, "--budget", "1h")
    ended, said = stopped(given, "vision_default", number)
    assert ended == code
    last = f"interrupted: 1 configuration was finished, see {out}; no model was written"
    assert said.splitlines()[-1] == last
    assert not model.exists()
    assert read_run(out / "01-vision_padim-handcrafted")[0]["status"] == "complete"
    assert {path.name for path in tmp_path.iterdir()} == {"bad", "out"}

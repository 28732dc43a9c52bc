"""Training with anomalib, as far as it goes without it; checkpoints in a benchmark."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anomalib_fakes import FakeInferencer
from cli_calls import call, write_parts
from pyimgano.detector_contract import texture
from pyimgano.errors import (
    CalibrationError,
    InputError,
    MissingExtra,
    ParameterError,
    UnknownNameError,
)
from pyimgano.models import create_detector
from pyimgano.models._anomalib_models import MODELS
from pyimgano.models.anomalib import FAMILY
from pyimgano.optional import is_available
from pyimgano.runs.anomalib_engine import Training
from pyimgano.runs.anomalib_training import _split, train
from pyimgano.runs.plan import find_parts, plan
from pyimgano.views.intake import learn

GOOD = [texture(seed) for seed in range(24)]


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"model": "padin"}, UnknownNameError, "did you mean padim"),
        ({"model": "xyz"}, UnknownNameError, "known: anomalydino, "),
        (
            {"model": "efficientad"},
            ParameterError,
            "a download of its teacher and the images",
        ),
        ({"model": "dsr"}, ParameterError, "needs a download of its quantised network"),
        ({"model": "draem"}, ParameterError, "give them, --set dtd_dir=DIR"),
        ({"model": "padim", "steps": 0}, ParameterError, "must be positive"),
        ({"model": "padim", "size": 0}, ParameterError, "must be positive"),
        ({"model": "padim", "batch": -1}, ParameterError, "must be positive"),
        ({"model": "padim", "seed": -1}, ParameterError, "seed from 0 on"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(given, error, told):
    with pytest.raises(error, match=re.escape(told)):
        Training(**given)


def test_what_a_model_takes_spares_its_download():
    assert Training(model="draem", parameters={"dtd_dir": "textures"}).model == "draem"
    assert {name for name, one in MODELS.items() if one.takes} == {"draem", "glass"}


def test_images_are_split_in_capture_order_and_groups_stay_whole():
    parts = _split(learn(GOOD, any_size=False, bit_depth=None))
    assert [len(part) for part in parts] == [15, 2, 7]
    assert [i for part in parts for i in part] == list(range(24))
    twice = [image for image in GOOD for _ in range(2)]
    parts = _split(learn(twice, any_size=False, bit_depth=None))
    assert [i for part in parts for i in part] == list(range(48))
    assert all(len(part) % 2 == 0 for part in parts)
    parts = _split(learn(GOOD[:10], any_size=False, bit_depth=None))
    assert [len(part) for part in parts] == [6, 1, 3]
    with pytest.raises(InputError, match="9 different good images are too few"):
        _split(learn([*GOOD[:9], GOOD[0]], any_size=False, bit_depth=None))


@pytest.mark.skipif(is_available("anomalib"), reason="anomalib is installed")
def test_without_anomalib_the_pip_line_is_given(tmp_path):
    with pytest.raises(MissingExtra, match=r'pip install "pyimgano\[anomalib\]"'):
        train(Training(model="padim"), GOOD, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_anomalib_is_named(monkeypatch):
    from pyimgano.models import _anomalib_torch

    monkeypatch.setattr(_anomalib_torch, "require", lambda *_, **__: None)
    monkeypatch.setattr(_anomalib_torch.metadata, "version", lambda _: "1.2.0")
    with pytest.raises(MissingExtra, match=r"2\.7 or newer, and 1\.2\.0 is installed"):
        _anomalib_torch.require_anomalib("models", "it")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("padim",), "a folder GOOD_DIR of good images, or a data set with --root"),
        (("padim", ".", "--root", "."), "a folder GOOD_DIR of good images, or a data set"),
        (("padin", "."), "did you mean padim?"),
        (("padim", "nowhere"), "nowhere does not exist"),
        (("padim", ".", "--set", "layers"), "--set takes KEY=VALUE"),
        (("padim", ".", "--false-reject", "no"), "--false-reject must be a share"),
    ],
)
def test_wrong_usage_of_the_verb(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call("train-anomalib", *words, "--out", "out")
    assert ended.code == 2
    assert told in ended.err
    assert list(tmp_path.iterdir()) == []


# Images that were trained with ------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "trained.txt"
    hashes = learn(GOOD[:16], any_size=False, bit_depth=None).hashes
    path.write_text("".join(f"{digest}  an image\n" for digest in hashes))
    return str(path)


def test_images_that_were_trained_with_can_be_left_out(listed):
    given = {"inferencer": FakeInferencer(), "trained_with": listed}
    with pytest.raises(CalibrationError, match="16 of 24 images are among those"):
        create_detector(FAMILY, **given).fit(GOOD)
    found = create_detector(FAMILY, **given, leave_out=True).fit(GOOD)
    own = create_detector(FAMILY, inferencer=FakeInferencer()).fit(GOOD[16:])
    assert np.array_equal(found.decision_scores_, own.decision_scores_)
    assert (found.threshold_, found.pixel_threshold_) == (own.threshold_, own.pixel_threshold_)
    assert found.certainty_.describe() == own.certainty_.describe()
    assert "16 that it was trained with were left out" in found.learned()["learned"]
    with pytest.raises(CalibrationError, match="16 of 16 images are among those"):
        create_detector(FAMILY, **given, leave_out=True).fit(GOOD[:16])


# In a benchmark ---------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path):
    write_parts(tmp_path)
    return find_parts("mvtec", tmp_path)


def test_a_job_knows_its_checkpoint_by_its_bytes(parts, tmp_path):
    def job(folder="a", data=b"first"):
        path = tmp_path / folder / "flange" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        place = str(tmp_path / folder / "{category}" / "model.onnx")
        (found,) = plan([create_detector(FAMILY, checkpoint=place)], parts)
        return found

    first, moved, other = job(), job("b"), job("a", b"second")
    assert first.id == moved.id != other.id
    assert "{category}" in first.command
    missing = create_detector(FAMILY, checkpoint=str(tmp_path / "none.ckpt"))
    (found,) = plan([missing], parts)
    assert found.content["checkpoint"] == ""


def test_each_category_gets_its_own_checkpoint(parts, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from test_anomalib_exports import export

    monkeypatch.chdir(tmp_path)
    export(tmp_path / "flange.onnx")
    words = ("benchmark", "--root", tmp_path, "--detector", FAMILY, "--out", "board")
    ended = call(*words, "--set", "checkpoint={category}.onnx")
    assert ended.code == 0, ended.err
    assert "1 result, 0 failed" in call(*words, "--set", "checkpoint={category}.onnx", "-q").out
    ended = call(*words, "--set", "checkpoint={category}.ckpt")
    assert ended.code == 1
    assert "there is no checkpoint flange.ckpt" in ended.out

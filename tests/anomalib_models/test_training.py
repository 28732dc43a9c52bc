"""``pyimgano train-anomalib`` with anomalib: what it writes, where, and what it promises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pyimgano
import torch
from cli_calls import call, write_parts
from pyimgano.errors import ArchiveError, CalibrationError, ParameterError
from pyimgano.models import create_detector
from pyimgano.runs.anomalib_engine import Training
from pyimgano.runs.anomalib_training import CHECKPOINT, MODEL, TRAINED_WITH, train

pytestmark = [pytest.mark.anomalib, pytest.mark.slow]

SMALL = ("--size", "64", "--batch", "4", "--set", 'layers=["layer1"]', "--set", "n_features=8")
CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from pyimgano.cli import main; main()"
)
RUN = [sys.executable, "-c", CODE, "train-anomalib"]


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def done(parts, tmp_path_factory):
    """A training in a process, a working directory and a home of its own."""
    place = tmp_path_factory.mktemp("training")
    for name in ("home", "here"):
        (place / name).mkdir()
    words = ["padim", "--root", str(parts), "--out", "../out", *SMALL, "--json"]
    ended = subprocess.run(
        [*RUN, *words, "--backbone-weights", "random"],
        cwd=place / "here",
        env={**os.environ, "HOME": str(place / "home"), "XDG_CACHE_HOME": "", "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return place, ended


def test_nothing_is_written_but_into_its_folder(done):
    place, ended = done
    assert sorted(path.name for path in place.iterdir()) == ["here", "home", "out"]
    assert list((place / "home").iterdir()) == list((place / "here").iterdir()) == []
    assert {path.name for path in (place / "out").iterdir()} == {CHECKPOINT, TRAINED_WITH, MODEL}
    told = [line.partition(" (")[0] for line in ended.stderr.splitlines()]
    assert told == [
        "reading 20 good images and loading anomalib ...",
        "training padim ...",
        *(f"batch {i} of 3" for i in (1, 2, 3)),
    ]
    assert json.loads(ended.stdout)["n_trained"] == 14


def test_its_threshold_is_of_images_that_it_has_not_seen(done, parts):
    place, _ = done
    detector = pyimgano.load(place / "out" / MODEL, checkpoint=str(place / "out" / CHECKPOINT))
    goods = sorted((parts / "train" / "good").iterdir())
    own = create_detector("vision_padim_anomalib", checkpoint=str(place / "out" / CHECKPOINT))
    assert np.array_equal(own.fit(goods[14:]).decision_scores_, detector.decision_scores_)
    assert detector.certainty_.n == 6
    listed = (place / "out" / TRAINED_WITH).read_text().splitlines()
    assert [line.split()[1] for line in listed] == [path.name for path in goods[:14]]
    assert detector.hashes_ == tuple(line.split()[0] for line in listed)
    given = own.parameters() | {"trained_with": str(place / "out" / TRAINED_WITH)}
    with pytest.raises(CalibrationError, match="14 of 20 images are among those"):
        type(own)(**given).fit(goods)
    with pytest.raises(CalibrationError, match="were learned from"):
        detector.calibrate(goods[10:])


def test_one_seed_gives_one_model_and_the_own_generators_stay_as_they_are(done, parts, tmp_path):
    place, _ = done
    state = torch.load(place / "out" / CHECKPOINT, weights_only=True)["state_dict"]
    training = Training(
        model="padim",
        backbone="random",
        size=64,
        batch=4,
        parameters={"layers": ["layer1"], "n_features": 8},
    )
    before = torch.get_rng_state()
    train(training, parts / "train" / "good", tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), before)
    assert "PL_GLOBAL_SEED" not in os.environ
    again = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert again["hyper_parameters"]["pre_trained"] is False
    assert state.keys() == again["state_dict"].keys()
    for name, tensor in again["state_dict"].items():  # its own threshold of maps is NaN here
        assert np.array_equal(state[name], tensor, equal_nan=tensor.is_floating_point()), name


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(parts, tmp_path, sent, code):
    words = ["stfpm", "--root", str(parts), "--out", "out", "--size", "64", "--epochs", "1000"]
    with subprocess.Popen(
        [*RUN, *words, "--backbone-weights", "random"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        lines = iter(process.stderr)
        assert any("training stfpm" in line for line in lines)
        time.sleep(2)
        process.send_signal(sent)
        assert list(lines)[-1] == "interrupted: nothing was written\n"
        assert process.wait() == code
    assert list((tmp_path / "out").iterdir()) == []


# Weights of the backbone ------------------------------------------------------------------------


def built(model, **given):
    from pyimgano.runs.anomalib_engine import _built

    return _built(Training(model=model, **given))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    import timm

    torch.manual_seed(5)
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path, state


def test_a_backbone_is_filled_from_a_file(resnet):
    path, state = resnet
    module = built("padim", backbone=str(path))
    own = module.model.feature_extractor.feature_extractor.state_dict()
    assert own.keys() < state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own)
    pair = built("stfpm", backbone=str(path)).model
    teacher, student = (
        one.feature_extractor.state_dict()["conv1.weight"]
        for one in (pair.teacher_model, pair.student_model)
    )
    assert torch.equal(teacher, state["conv1.weight"])
    assert not torch.equal(student, teacher)


def test_a_backbone_of_torchvision_is_filled_too(tmp_path):
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    module = built("cfa", backbone=str(tmp_path / "w.pth"), parameters={"backbone": "resnet18"})
    own = module.model.feature_extractor.state_dict()
    assert torch.equal(own["conv1.weight"], state["conv1.weight"])


def test_weights_of_another_network_are_refused(resnet, tmp_path):
    path, state = resnet
    with pytest.raises(ArchiveError, match=r"holds no weights of resnet34: .* is missing"):
        built("padim", backbone=str(path), parameters={"backbone": "resnet34"})
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "shape.pth")
    with pytest.raises(ArchiveError, match=r"'conv1.weight' has the shape \(64, 3, 3, 3\)"):
        built("padim", backbone=str(tmp_path / "shape.pth"))
    torch.save(torch.nn.Identity(), tmp_path / "module.pth")
    with pytest.raises(ArchiveError, match="no plain state dict, and nothing in it was run"):
        built("padim", backbone=str(tmp_path / "module.pth"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "padim"}, "needs a download of the weights of resnet18"),
        ({"model": "dinomaly"}, "weights of vit_base_patch14_reg4_dinov2"),
        ({"model": "cfa"}, "weights of wide_resnet50_2"),
        ({"model": "ganomaly", "backbone": "random"}, "ganomaly sees through no backbone"),
        ({"model": "padim", "backbone": "nowhere.pth"}, "no file of weights nowhere.pth"),
        ({"model": "padim", "parameters": {"layer": 1}}, "has no parameter 'layer'; it has: ba"),
        (
            {"model": "padim", "backbone": "random", "parameters": {"backbone": "resnet99"}},
            "cannot build this Padim: Unknown model",
        ),
    ],
)
def test_what_cannot_be_built(given, told):
    with pytest.raises(ParameterError, match=told):
        built(**given)


def test_what_the_installed_version_lacks_is_named():
    with pytest.raises(pyimgano.errors.MissingExtra, match="has no Rkde"):
        built("rkde")


# Beside native detectors ------------------------------------------------------------------------


def test_a_benchmark_takes_a_checkpoint_for_each_category(done, parts, tmp_path):
    place, _ = done
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "flange").symlink_to(place / "out")
    home = tmp_path / "models" / "{category}"
    ended = call(
        *("benchmark", "--root", Path(parts).parent, "--category", "flange"),
        *("--detector", "vision_padim", "--detector", "vision_padim_anomalib"),
        *("--extractor", "handcrafted", "--set", f"checkpoint={home / CHECKPOINT}"),
        *("--set", f"trained_with={home / TRAINED_WITH}", "--set", "leave_out=true"),
        *("--out", tmp_path / "board", "--json"),
    )
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)["rows"]
    bounds = {row["detector"]: row["certified_bound"] for row in rows}
    assert bounds["vision_padim_anomalib"] > bounds["vision_padim"]

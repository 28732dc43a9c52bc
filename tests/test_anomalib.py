"""Models of anomalib behind our contract, without anomalib: injected inferencers, foreign bytes."""

from __future__ import annotations

import logging
import pickle  # noqa: TID251 - the fault itself
import re

import numpy as np
import pytest

import pyimgano
from anomalib_fakes import SHAPES, FakeInferencer, Mute, Tensor, deviation, onnx_bytes, saved
from cli_calls import call
from pyimgano.calibration import Quantile
from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, _plant, texture
from pyimgano.errors import (
    ArchiveError,
    CalibrationError,
    InputError,
    MissingExtra,
    ParameterError,
    UnjudgedError,
)
from pyimgano.estimator import DETECTORS
from pyimgano.models import create_detector
from pyimgano.models._anomalib_exports import _read_graph
from pyimgano.models._anomalib_formats import ONNX, OPENVINO, onnx_nodes, recognise
from pyimgano.models._anomalib_outputs import read_answers
from pyimgano.models._anomalib_torch import _ends
from pyimgano.models.anomalib import FAMILY, MODELS, AnomalibCheckpoint

GOOD = [texture(seed) for seed in range(24)]
FRESH = [texture(1000 + seed) for seed in range(6)]
BAD = [_plant(texture(2000 + seed)) for seed in range(6)]


def made(**given):
    return create_detector(FAMILY, **{"inferencer": FakeInferencer(), **given})


@pytest.fixture(scope="module")
def bench():
    return Bench(made)


@pytest.mark.parametrize("check", [name for name in DETECTOR_CHECKS if name != "saves"])
def test_an_injected_inferencer_keeps_the_contract(bench, check):
    DETECTOR_CHECKS[check](bench)


# Whatever an inferencer returns -----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_answer_gives_the_same(shape):
    judged = made(inferencer=FakeInferencer(shape)).fit(GOOD).inspect(BAD[:2])
    for image, one in zip(BAD, judged, strict=False):
        assert one.score == np.float32(deviation(image).max())
        assert one.map.shape == image.shape[:2]
        assert one.map.dtype == np.float32


def test_a_batch_is_told_apart():
    maps, scores = np.arange(24.0).reshape(3, 2, 4), np.array([[5.0], [7], [6]])
    for drawn in (maps, maps[:, None], maps[..., None], Tensor(maps)):
        found = read_answers({"pred_score": scores, "anomaly_map": drawn}, 3)
        assert [one.score for one in found] == [5, 7, 6]
        assert np.array_equal(np.stack([one.map for one in found]), maps)
    assert [one.score for one in read_answers({"anomaly_map": maps}, 3)] == [7, 15, 23]
    assert [one.map for one in read_answers({"pred_scores": [1, 2]}, 2)] == [None, None]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"label": 1}, "neither pred_score nor anomaly_map: a dict with label"),
        ({}, "a dict with nothing"),
        (object(), "a object with nothing"),
        ({"pred_score": [1, 2, 3]}, "3 scores for 2 images"),
        ({"pred_score": [1, 2], "anomaly_map": np.zeros((3, 4, 4))}, r"shape \(3, 4, 4\) for 2"),
        ({"anomaly_map": np.zeros((2, 2, 4, 4))}, "for 2 images"),
        ({"anomaly_map": np.zeros((2, 0, 4))}, "for 2 images"),
        ({"pred_score": "high"}, "a str where numbers are expected|gave str where"),
    ],
)
def test_what_cannot_be_read_is_told(answer, told):
    with pytest.raises(InputError, match=told):
        read_answers(answer, 2)


def test_all_kinds_of_images_go_in():
    import cv2

    detector = made(any_size=True).fit(GOOD)
    image = BAD[0]
    large = cv2.resize(image, (130, 117), interpolation=cv2.INTER_LINEAR)
    given = [
        image,
        image.astype(np.uint16) * 257,
        np.dstack([image, np.full((96, 96), 255, np.uint8)]),
        image[..., 0],
        large,
    ]
    maps = detector.predict_anomaly_map(given)
    assert [one.shape for one in maps] == [(96, 96)] * 4 + [(117, 130)]
    scores = detector.decision_function(given)
    assert scores[0] == scores[1] == scores[2]


def test_maps_of_equal_sizes_are_stacked():
    maps = made().fit(GOOD).predict_anomaly_map(BAD)
    assert maps.shape == (6, 96, 96)
    assert maps.dtype == np.float32


# The threshold is ours --------------------------------------------------------------------------


def test_fit_calibrates_and_nothing_else():
    detector = made().fit(GOOD)
    expected = [deviation(image).max() for image in GOOD]
    assert np.array_equal(detector.decision_scores_, expected)
    assert detector.threshold_ == max(expected)
    assert detector.certainty_.method == "separate images"
    assert set(detector.predict([*FRESH, *BAD])) <= {0, 1}
    assert detector.predict(BAD).all()
    assert "for the threshold only" in str(detector)
    assert "FakeInferencer" in detector.learned()["model"]


def test_the_plain_quantile():
    detector = made(threshold=Quantile(), contamination=0.1).fit(GOOD)
    assert detector.threshold_ == np.quantile(detector.decision_scores_, 0.9)
    again = made(threshold=Quantile()).fit(GOOD[:4], calibration=GOOD[4:])
    assert len(again.decision_scores_) == 20


def test_one_good_image_sets_no_threshold():
    detector = made().fit(GOOD[:1])
    assert not detector.is_calibrated
    assert len(detector.decision_function(BAD)) == 6


def test_without_maps():
    detector = made(inferencer=FakeInferencer(maps=False)).fit(GOOD)
    assert detector.predict(BAD).all()
    assert detector.pixel_threshold_ is None
    assert not detector.draws
    with pytest.raises(InputError, match="draws no maps"):
        detector.predict_anomaly_map(BAD)


def test_it_says_that_it_only_calibrates(caplog):
    with caplog.at_level(logging.WARNING):
        made().fit(GOOD)
    assert "was not trained with" in caplog.text


def test_training_images_are_refused_if_they_are_listed(tmp_path, caplog):
    listed = tmp_path / "trained.txt"
    hashes = made().fit(GOOD).hashes_
    listed.write_text("".join(f"{each}  {i}.png\n" for i, each in enumerate(hashes[:3])))
    caplog.clear()
    with pytest.raises(CalibrationError, match="3 of 24 images are among those"):
        made(trained_with=str(listed)).fit(GOOD)
    assert made(trained_with=str(listed)).fit(GOOD[3:]).is_calibrated
    assert "trained with" not in caplog.text
    listed.write_text("no hash\n")
    with pytest.raises(ParameterError, match="lists no hashes"):
        made(trained_with=str(listed)).fit(GOOD)
    with pytest.raises(ParameterError, match="cannot be read"):
        made(trained_with=str(tmp_path / "none.txt")).fit(GOOD)


def test_an_image_that_fails_is_an_error_and_no_more():
    class Moody(FakeInferencer):
        def predict(self, image):
            return {"label": 1} if image[0, 0, 0] == 7 else super().predict(image)

    detector = made(inferencer=Moody()).fit([image for image in GOOD if image[0, 0, 0] != 7])
    odd = BAD[0].copy()
    odd[0, 0] = 7
    with pytest.raises(UnjudgedError, match="neither pred_score nor anomaly_map"):
        detector.predict([BAD[1], odd])


# Parameters, files ------------------------------------------------------------------------------


def test_it_needs_one_of_the_two():
    for given in ({"inferencer": None}, {"checkpoint": "model.ckpt"}):
        with pytest.raises(ParameterError, match="one of them"):
            made(**given).fit(GOOD)


def test_an_inferencer_is_given_again(tmp_path):
    path = tmp_path / "model.pyimg"
    detector = made().fit(GOOD)
    detector.save(path)
    loaded = pyimgano.load(path, inferencer=FakeInferencer())
    assert np.array_equal(loaded.decision_function(BAD), detector.decision_function(BAD))
    with pytest.raises(ArchiveError, match="give it again"):
        pyimgano.load(path)
    with pytest.raises(ArchiveError, match="fake 2"):
        pyimgano.load(path, inferencer=FakeInferencer(mark="fake 2"))
    with pytest.raises(ParameterError, match="cannot store"):
        made(inferencer=Mute()).fit(GOOD).save(path)


def test_trust_is_never_read_from_a_file(tmp_path):
    path = tmp_path / "model.pyimg"
    made(trust_checkpoint=True).fit(GOOD).save(path)
    assert not pyimgano.load(path, inferencer=FakeInferencer()).trust_checkpoint
    trusted = pyimgano.load(path, inferencer=FakeInferencer(), trust_checkpoint=True)
    assert trusted.trust_checkpoint


def test_aliases():
    names = [name for name in DETECTORS if name.endswith("_anomalib")]
    assert names == [f"vision_{name}_anomalib" for name in sorted(MODELS)]
    for name, one in MODELS.items():
        kind = DETECTORS[f"vision_{name}_anomalib"]
        assert issubclass(kind, AnomalibCheckpoint)
        assert kind.model == name
        assert DETECTORS.entry(f"vision_{name}_anomalib").metadata.maps == one.maps
    alias = create_detector("vision_padim_anomalib", inferencer=FakeInferencer())
    assert repr(alias).startswith("AnomalibPadim(")
    assert alias.fit(GOOD).predict(BAD).all()


def test_the_list_shows_the_aliases_in_one_place(monkeypatch):
    monkeypatch.setattr("pyimgano.registry.is_available", lambda name: name == "openvino")
    told = call("list", "detectors").out
    assert "without anomalib" in re.sub(r"\s+", " ", told)
    assert f"aliases of {FAMILY}" in told
    assert all(told.count(f"vision_{name}_anomalib") == 1 for name in MODELS)


# Formats, told from bytes -----------------------------------------------------------------------


class Malicious:
    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_a_malicious_pickle_is_not_run(tmp_path, suffix):
    trace = tmp_path / "was_here"
    words = {"model": Malicious(trace), "pytorch-lightning_version": "2"}
    if suffix == ".pt":
        del words["pytorch-lightning_version"]
    path = saved(tmp_path / f"evil{suffix}", pickle.dumps(words, protocol=2))
    with pytest.raises((ArchiveError, MissingExtra)):
        create_detector(FAMILY, checkpoint=str(path)).fit(GOOD)
    assert not trace.exists()


def test_an_export_needs_trust(tmp_path):
    path = saved(tmp_path / "model.pt", pickle.dumps({"model": 1}, protocol=4))
    with pytest.raises(ArchiveError, match="trust_checkpoint=True"):
        create_detector(FAMILY, checkpoint=str(path)).fit(GOOD)


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_model_is_told_from_what_a_pickle_would_import(tmp_path, protocol):
    if protocol == 2:
        word = b"X\x05\x00\x00\x00model"
        body = b"\x80\x02}" + word + b"canomalib.models.image.padim.lightning_model\nPadim\ns."
    else:
        first, second = b"anomalib.models.image.padim.lightning_model", b"Padim"
        texts = b"".join(b"\x8c" + bytes([len(each)]) + each for each in (first, second))
        body = b"\x80\x04}\x8c\x05model" + texts + b"\x93s."
    found = recognise(saved(tmp_path / "model.pt", body))
    assert found.model == "padim"
    assert found.describe() == "torch export of padim, written by anomalib 2.x"
    with pytest.raises(ArchiveError, match="use vision_padim_anomalib"):
        create_detector("vision_stfpm_anomalib", checkpoint=str(found.path)).fit(GOOD)


def test_artefacts_of_the_first_version_say_the_way_out(tmp_path):
    export = saved(tmp_path / "a.pt", pickle.dumps({"model": 1, "metadata": {}}, protocol=2))
    words = {"pytorch-lightning_version": "2", "state_dict": {"image_threshold.value": 1}}
    checkpoint = saved(tmp_path / "a.ckpt", pickle.dumps(words, protocol=2))
    for path in (export, checkpoint):
        with pytest.raises(ArchiveError, match=r"anomalib 1\.x.*OpenVINO or ONNX"):
            recognise(path)


def _damage(folder):
    whole = saved(folder / "whole.ckpt", pickle.dumps({"model": 1}, protocol=2)).read_bytes()
    (folder / "alone.xml").write_bytes(b'<?xml version="1.0"?><net name="x"></net>')
    (folder / "cut.bin").write_bytes(b"")
    (folder / "other.bin").write_bytes(b"")
    foreign = onnx_bytes([("Relu", ["x"], ["y"])])
    (folder / "metadata.json").write_bytes(b"{}")
    return {
        "cut.ckpt": (whole[: len(whole) // 2], "truncated or damaged"),
        "nothing.ckpt": (b"", "none of anomalib's"),
        "text.ckpt": (b"hello", "none of anomalib's"),
        "bare.pt": (pickle.dumps({}), "bare pickle"),
        "half.pt": (pickle.dumps({}), "bare pickle"),
        "alone.xml": ((folder / "alone.xml").read_bytes(), "needs its weights alone.bin"),
        "cut.xml": (b'<?xml version="1.0"?><net name="x">', "truncated"),
        "text.onnx": (b"hello, world", "truncated or damaged"),
        "cut.onnx": (foreign[:-3], "truncated or damaged"),
        "empty.onnx": (b"", "no ONNX file"),
    }


def test_damaged_files_are_named(tmp_path):
    for name, (data, told) in _damage(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match=told) as error:
            recognise(path)
        assert name.partition(".")[0] in str(error.value)


def test_zips_that_are_no_models(tmp_path):
    import zipfile

    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/code/x.py", b"")
    with pytest.raises(ArchiveError, match="TorchScript"):
        recognise(path)
    tensors = saved(tmp_path / "tensors.pt", pickle.dumps({"weight": 1}, protocol=2))
    with pytest.raises(ArchiveError, match="neither a checkpoint nor a model"):
        recognise(tensors)
    cut = saved(tmp_path / "pickle.pt", pickle.dumps({"model": 1}, protocol=2)[:-4])
    with pytest.raises(ArchiveError, match="truncated or damaged"):
        recognise(cut)


def test_a_missing_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(ArchiveError, match="there is no checkpoint"):
        create_detector(FAMILY, checkpoint=str(tmp_path / "none.ckpt")).fit(GOOD)
    with pytest.raises(ArchiveError, match="truncated or damaged"):
        recognise(tmp_path / "none.ckpt")
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(tmp_path))
    saved(tmp_path / "moved.pt", pickle.dumps({"model": 1}, protocol=2))
    with pytest.raises(ArchiveError, match="trust_checkpoint"):
        create_detector(FAMILY, checkpoint="/elsewhere/moved.pt").fit(GOOD)


def test_onnx_files_are_read_without_the_package(tmp_path):
    nodes = [
        ("Slice", ("input",), ("a",)),
        ("Conv", ("a", "w"), ("b",)),
        ("Clip", ("b",), ("c",)),
        ("Where", ("c",), ("pred_score",)),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(nodes) + b"anomalib.models.image.efficient_ad.lightning_model")
    assert onnx_nodes(onnx_bytes(nodes)) == nodes
    path.write_bytes(onnx_bytes(nodes))
    (tmp_path / "model.onnx.data").write_bytes(b"")
    found = recognise(path)
    assert (found.kind, found.version, len(found.files)) == (ONNX, 2, 2)
    assert _read_graph(found) == (True, True)
    path.write_bytes(
        onnx_bytes(
            [
                ("Conv", ("input",), ("a",)),
                ("Clip", ("a",), ("b",)),
                ("Conv", ("b",), ("pred_score",)),
            ]
        )
    )
    assert _read_graph(recognise(path)) == (False, False)


def test_files_of_the_first_version_have_one_output(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes([("Conv", ("input",), ("output",))]))
    with pytest.raises(ArchiveError, match="it is not anomalib's"):
        recognise(path)
    (tmp_path / "metadata.json").write_text('{"task": "segmentation"}')
    assert recognise(path).version == 1
    (tmp_path / "model.xml").write_bytes(b'<?xml version="1.0"?><net name="x"></net>')
    (tmp_path / "model.bin").write_bytes(b"")
    found = recognise(tmp_path / "model.bin")
    assert (found.kind, found.version) == (OPENVINO, 1)
    assert found.path == tmp_path / "model.xml"


def test_where_a_crop_begins_and_ends():
    ramp = (np.arange(224) + 16.5) / 256
    assert np.allclose(_ends(ramp), (16 / 256, 240 / 256))

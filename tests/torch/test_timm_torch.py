"""Models of timm: its own forward pass, our DINOv2 with the same weights, files of all kinds."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm", reason="needs timm, which needs torchvision")

from networks import picture, randomised, saved, write_safetensors  # noqa: E402

import pyimgano  # noqa: E402
from pyimgano import testing  # noqa: E402
from pyimgano.errors import ArchiveError, InputError, ParameterError  # noqa: E402
from pyimgano.features._checkpoint import load_checkpoint  # noqa: E402
from pyimgano.features._grid import normalised, squeezed  # noqa: E402
from pyimgano.features._vit import build_vit, patch_tokens  # noqa: E402
from pyimgano.features.base import resolve_extractor  # noqa: E402
from pyimgano.features.dinov2 import DinoV2G14, DinoV2S14, DinoV2S14Reg  # noqa: E402
from pyimgano.features.timm_model import TimmModel  # noqa: E402

VIT, CNN = "test_vit2", "test_resnet"  # the small ones that timm tests itself with


def theirs(name, **given):
    return randomised(timm.create_model(name, pretrained=False, **given))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (DinoV2S14, [(448, 448), (672, 448)]),
        (DinoV2S14Reg, [(448, 448), (672, 448)]),
        (DinoV2G14, [(672, 518)]),
    ],
    ids=["vits14", "vits14_reg", "vitg14"],
)
def test_our_dinov2_has_the_tokens_of_timm(kind, sizes, tmp_path):
    """timm interpolates positions for all models as DINOv2 does for those with registers."""
    depth = 2 if kind is DinoV2G14 else kind.shape.depth
    shape = dataclasses.replace(kind.shape, offset=0.0, antialias=True, depth=depth)
    name = f"vit_{'giant' if kind is DinoV2G14 else 'small'}_patch14"
    name += "_reg4_dinov2" if shape.registers else "_dinov2"
    other = theirs(name, dynamic_img_size=True, depth=shape.depth)
    model = build_vit(shape)
    load_checkpoint(model, saved(tmp_path / "timm.pth", other.state_dict()), name)
    for size in sizes:
        pixels = torch.from_numpy(normalised(picture(*size)[None]))
        with torch.inference_mode():
            tokens = patch_tokens(model, shape, pixels, (-1,)).flatten(1, 2)
            expected = other.forward_features(pixels)[:, other.num_prefix_tokens :]
        assert (tokens - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", VIT, CNN])
def test_the_last_layer_is_that_of_forward_features(name, tmp_path):
    other = theirs(name)
    path = saved(tmp_path / "weights.pth", other.state_dict())
    extractor = TimmModel(model=name, path=str(path), layers=(-1,))
    cell = other.feature_info[-1]["reduction"]
    side = other.pretrained_cfg["input_size"][1]
    image = picture(side + 5, side + 9)
    (found,) = extractor.embed([image])
    mean, deviation = (tuple(other.pretrained_cfg[key]) for key in ("mean", "std"))
    pixels = torch.from_numpy(normalised(image[None, :side, :side], mean, deviation))
    with torch.inference_mode():
        expected = other.forward_features(pixels)
        if expected.ndim == 3:
            expected = expected[0, other.num_prefix_tokens :].reshape(*found.values.shape)
        else:
            expected = expected[0].permute(1, 2, 0)
    assert found.extent == (0, 0, side // cell * cell, side // cell * cell)
    assert np.abs(found.values - expected.numpy()).max() < 1e-4


def test_blocks_are_averaged_and_stages_are_stacked():
    image = picture(96, 160)

    def at(name, *layers):
        return TimmModel(model=name, random=True, layers=layers).embed([image])[0]

    mean = (at(VIT, 0).values + at(VIT, -1).values) / 2
    assert np.abs(at(VIT, -1, 0).values - mean).max() < 1e-5
    assert np.array_equal(at(VIT).values, at(VIT, -1).values)
    stages = [one["reduction"] for one in timm.create_model(CNN).feature_info]
    fine, coarse = at(CNN, stages.index(8)), at(CNN, stages.index(16))
    both = at(CNN)
    assert both.values.shape[:2] == (12, 20)
    d = fine.values.shape[2]
    assert both.layers == ((d, 1), (coarse.values.shape[2], 2))
    assert np.abs(both.values[..., :d] - fine.values).max() < 1e-5
    inner = both.values[1:-1, 1:-1, d:].reshape(5, 2, 9, 2, -1)
    # Bilinear between half-pixel centres: the mean of four cells is that of their corner.
    grid = coarse.values
    corner = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    assert np.abs(inner.mean(axis=(1, 3)) - corner).max() < 1e-5
    with pytest.raises(ParameterError, match="layers of test_resnet are numbers from -5 to 4"):
        at(CNN, 5)


def test_it_keeps_the_contract_of_extractors():
    for name in (VIT, CNN):
        testing.check_extractor(TimmModel(model=name, random=True))


def test_random_weights_are_always_the_same_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first = TimmModel(model=VIT, random=True)
    told = first.fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    from pyimgano.features import timm_model

    timm_model._network.cache_clear()
    assert resolve_extractor(f"timm:{VIT},random=true") == first
    assert first.fingerprint == told
    assert TimmModel(model=VIT, random=True, precision="bf16").fingerprint != told


def test_half_precision_batches_and_wrong_parameters():
    images = [picture(64, 64, seed) for seed in range(3)]
    exact = TimmModel(model=VIT, random=True).embed(images)
    rough = TimmModel(model=VIT, random=True, precision="bf16").embed(images)
    error = np.abs(exact[0].values - rough[0].values)
    assert 0 < error.max() < 0.2
    for wrong in ({"precision": "fp8"}, {"batch_size": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            TimmModel(model=VIT, random=True, **wrong).embed(images)
    with pytest.raises(InputError, match="at least 16 pixels"):
        TimmModel(model=VIT, random=True).embed([picture(15, 40)])


def test_a_model_of_fixed_size_has_images_squeezed_into_it():
    name = "test_maxvit"
    extractor = TimmModel(model=name, random=True)
    image = picture(100, 150)
    (found,) = extractor.embed([image])
    size = timm.get_pretrained_cfg(name).input_size[1]
    assert found.extent == (0, 0, 100, 150)
    assert np.array_equal(found.values, extractor.embed([squeezed(image, (size, size))])[0].values)


def test_weights_come_from_files_of_both_kinds_and_a_folder(tmp_path, monkeypatch):
    state = theirs(VIT).state_dict()
    plain = saved(tmp_path / "weights.pth", state)
    safe = write_safetensors(tmp_path / "model.safetensors", state)
    image = picture(64, 96)
    first, second = (TimmModel(model=VIT, path=str(path)) for path in (plain, safe))
    assert np.array_equal(first.embed([image])[0].values, second.embed([image])[0].values)
    assert resolve_extractor(f"timm:{VIT}:{plain},layers=[-2,-1]").layers == (-2, -1)
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(tmp_path))
    moved = TimmModel(model=VIT, path="/elsewhere/weights.pth")
    assert moved.fingerprint == first.fingerprint


def test_what_is_missing_or_wrong_is_named(tmp_path):
    url = re.escape("https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m")
    with pytest.raises(ParameterError, match=f"downloads nothing.*{url}.*dinov3-license") as told:
        resolve_extractor("timm:vit_small_patch16_dinov3")
    assert "random=True takes untrained ones" in str(told.value)
    with pytest.raises(ArchiveError, match=f"no weights of .* at .*: fetch .*{url}"):
        resolve_extractor(f"timm:vit_small_patch16_dinov3:{tmp_path / 'none.pth'}")
    with pytest.raises(ParameterError, match="timm has no model 'test_vi'; it has test_vit"):
        resolve_extractor("timm:test_vi")
    with pytest.raises(ParameterError, match=r"timm.list_models\(\) lists them"):
        resolve_extractor("timm")
    with pytest.raises(ParameterError, match="no field 'download' that can be set here"):
        resolve_extractor(f"timm:{VIT},download=true")
    with pytest.raises(ParameterError, match=r"timm has no model .*tag \(no_such_tag\)"):
        resolve_extractor(f"timm:{VIT}.no_such_tag,random=true")


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_files_that_are_not_the_weights_are_named_and_not_run(tmp_path):
    state = theirs(VIT).state_dict()
    good = saved(tmp_path / "good.pth", state).read_bytes()
    (tmp_path / "half.pth").write_bytes(good[: len(good) // 2])
    evil = Evil()
    evil.folder = str(tmp_path / "was-run")
    without = {name: one for name, one in state.items() if name != "blocks.0.norm1.bias"}
    cases = {
        "damaged": tmp_path / "half.pth",
        "nothing in it was run": saved(tmp_path / "evil.pth", {"cls_token": evil}),
        r"Missing.*blocks\.0\.norm1\.bias": saved(tmp_path / "without.pth", without),
        "surplus": saved(tmp_path / "more.pth", {**state, "surplus": torch.zeros(2)}),
        "no plain state dict": saved(tmp_path / "empty.pth", {}),
        "holds no weights of test_vit2": saved(tmp_path / "cnn.pth", theirs(CNN).state_dict()),
    }
    for message, path in cases.items():
        with pytest.raises(ArchiveError, match=message):
            TimmModel(model=VIT, path=str(path)).embed([picture(64, 64)])
    assert not (tmp_path / "was-run").exists()


def test_a_model_file_keeps_the_name_and_never_the_wish_to_download(tmp_path):
    path = saved(tmp_path / "weights.pth", theirs(VIT).state_dict())
    good = [picture(96, 112, seed) for seed in range(3)]
    for extractor in (f"timm:{VIT}:{path}", TimmModel(model=VIT, path=str(path), download=True)):
        detector = pyimgano.create_detector(
            "vision_anomalydino", extractor=extractor, size=96, rotations="none"
        ).fit(good)
        detector.save(tmp_path / "model.pyimg")
        loaded = pyimgano.load(tmp_path / "model.pyimg")
        assert loaded.extractor_ == TimmModel(model=VIT, path=str(path))
        assert np.array_equal(loaded.decision_function(good), detector.decision_function(good))

"""The DINOv2 extractors and their files: official, of timm, damaged, missing, moved."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")

from networks import SMALL, picture, randomised, saved, write_safetensors  # noqa: E402

import pyimgano  # noqa: E402
from pyimgano.errors import ArchiveError, InputError, ParameterError  # noqa: E402
from pyimgano.features import dinov2  # noqa: E402
from pyimgano.features._checkpoint import load_checkpoint  # noqa: E402
from pyimgano.features._grid import normalised  # noqa: E402
from pyimgano.features._vit import build_vit, patch_tokens  # noqa: E402
from pyimgano.features.base import EXTRACTORS, resolve_extractor  # noqa: E402
from pyimgano.features.dinov2 import DinoV2S14, DinoV2S14Reg  # noqa: E402

NAMES = [name for name in EXTRACTORS if name.startswith("dinov2_")]


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    monkeypatch.delenv("PYIMGANO_WEIGHTS", raising=False)


@pytest.fixture
def tiny(monkeypatch):
    """DinoV2S14 and its sibling with registers, both of a size for tests."""
    monkeypatch.setattr(DinoV2S14, "shape", SMALL)
    registered = dataclasses.replace(SMALL, registers=4, offset=0.0, antialias=True)
    monkeypatch.setattr(DinoV2S14Reg, "shape", registered)


def as_timm(state, *, registers):
    """Rename as timm does: a model with registers has no position for the class token."""
    names = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    pattern = re.compile("|".join(map(re.escape, names)))
    renamed = {pattern.sub(lambda m: names[m[0]], name): one for name, one in state.items()}
    if registers:
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
        renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", [DinoV2S14, DinoV2S14Reg])
def test_official_and_timm_files_give_the_same_tokens(tiny, monkeypatch, tmp_path, kind, gated):
    monkeypatch.setattr(kind, "shape", dataclasses.replace(kind.shape, gated=gated))
    model = randomised(build_vit(kind.shape))
    state = model.state_dict()
    official = {**state, "mask_token": torch.zeros(1, 48)}
    chunked = {re.sub(r"^blocks\.", "blocks.0.", name): values for name, values in state.items()}
    timm = as_timm(state, registers=kind is DinoV2S14Reg)
    files = [
        saved(tmp_path / "official.pth", official),
        saved(tmp_path / "chunked.pth", chunked),
        saved(tmp_path / "timm.pth", timm),
        write_safetensors(tmp_path / "timm.safetensors", timm),
    ]
    image = picture(75, 60)
    pixels = torch.from_numpy(normalised(image[None, :70, :56]))
    with torch.inference_mode():
        expected = patch_tokens(model, kind.shape, pixels, (-1,))[0].numpy()
    for path in files:
        (found,) = kind(path=str(path)).embed([image])
        assert found.extent == (0, 0, 70, 56)
        assert np.abs(found.values - expected).max() < 1e-5, path.name


def test_batches_sizes_and_precision(tiny, tmp_path):
    path = saved(tmp_path / "w.pth", randomised(build_vit(SMALL)).state_dict())
    images = [picture(70, 70, 1), picture(70, 70, 2), picture(56, 70, 3), picture(70, 70, 4)]
    together = DinoV2S14(path=str(path)).embed(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = DinoV2S14(path=str(path), batch_size=1).embed([image])
        assert np.allclose(found.values, alone.values, rtol=1e-5, atol=1e-5)
    (rough,) = DinoV2S14(path=str(path), precision="bf16").embed(images[:1])
    assert rough.values.dtype == np.float32
    error = np.abs(rough.values - together[0].values)
    assert error.max() > 0
    assert error.mean() < 0.1
    with pytest.raises(InputError, match="14 pixels"):
        DinoV2S14(path=str(path)).embed([picture(13, 30)])
    for wrong in ({"layers": ()}, {"layers": (3,)}, {"precision": "fp8"}, {"batch_size": 0}):
        with pytest.raises(ParameterError):
            DinoV2S14(path=str(path), **wrong).embed(images)


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_that_is_no_state_dict_is_not_run(tiny, tmp_path):
    evil = Evil()
    evil.folder = str(tmp_path / "was-run")
    for legacy in (False, True):
        path = tmp_path / "evil.pth"
        torch.save({"cls_token": evil}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ArchiveError, match="nothing in it was run"):
            DinoV2S14(path=str(path)).embed([picture(70, 70)])
        assert not (tmp_path / "was-run").exists()


def test_files_that_are_not_the_weights_are_named(tiny, tmp_path):
    state = randomised(build_vit(SMALL)).state_dict()
    wider = build_vit(dataclasses.replace(SMALL, dim=96)).state_dict()
    good = saved(tmp_path / "good.pth", state).read_bytes()
    safe = write_safetensors(tmp_path / "good.safetensors", state).read_bytes()
    without = {name: values for name, values in state.items() if name != "norm.bias"}
    cases = {
        "damaged.*PytorchStreamReader|damaged": (".pth", good[: len(good) // 2]),
        "damaged or no": (".pth", b""),
        "damaged or no plain": (".pth", b"\x80\x02nothing"),
        "ends inside": (".safetensors", safe[:-8]),
        "claims": (".safetensors", b"\xff" * 64),
        "JSONDecodeError": (".safetensors", (4).to_bytes(8, "little") + b"none"),
    }
    for number, (message, (suffix, data)) in enumerate(cases.items()):
        path = tmp_path / f"case{number}{suffix}"
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match=message):
            DinoV2S14(path=str(path)).embed([picture(70, 70)])
    others = {
        r"'cls_token' has the shape \(1, 1, 96\), not \(1, 1, 48\)": wider,
        "'norm.bias' is missing": without,
        "'head.weight' is not part of it": {**state, "head.weight": torch.zeros(2)},
        "flat dictionary": {"model": state},
    }
    for message, wrong in others.items():
        with pytest.raises(ArchiveError, match=message):
            DinoV2S14(path=str(saved(tmp_path / "wrong.pth", wrong))).embed([picture(70, 70)])
    path = saved(tmp_path / "plain.pth", state)
    with pytest.raises(ArchiveError, match="dinov2_vits14_reg"):
        DinoV2S14Reg(path=str(path)).embed([picture(70, 70)])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_weight_says_what_to_fetch_from_where(name, tmp_path):
    base = name.removesuffix("_reg")
    file = f"{base}{'_reg4' if name.endswith('_reg') else ''}_pretrain.pth"
    url = f"https://dl.fbaipublicfiles.com/dinov2/{base}/{file}"
    with pytest.raises(ParameterError, match=re.escape(url)) as told:
        resolve_extractor(name)
    assert f"--extractor {name}:{file}" in str(told.value)
    with pytest.raises(ArchiveError, match=re.escape(url)):
        resolve_extractor(f"{name}:{tmp_path / 'nowhere.pth'}")


def test_weights_are_found_in_a_hub_folder_and_where_the_variable_says(tiny, tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    state = randomised(build_vit(SMALL)).state_dict()
    path = saved(hub / "dinov2_vits14_pretrain.pth", state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for folder in (tmp_path, tmp_path / "hub", hub):
        assert digest in DinoV2S14(path=str(folder)).fingerprint
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(hub))
    assert digest in DinoV2S14(path="/elsewhere/dinov2_vits14_pretrain.pth").fingerprint
    # Asked to download, it takes what torch.hub has already, without a connection.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert digest in DinoV2S14(download=True).fingerprint
    path.unlink()
    monkeypatch.delenv("PYIMGANO_WEIGHTS")
    mirror = tmp_path / "mirror" / path.name
    entry = dataclasses.replace(dinov2.WEIGHTS["dinov2_vits14"], url=mirror.as_uri())
    monkeypatch.setattr(dinov2, "WEIGHTS", {"dinov2_vits14": entry})
    with pytest.raises(ArchiveError, match="cannot be fetched"):
        _ = DinoV2S14(download=True).fingerprint
    mirror.parent.mkdir()
    saved(mirror, state)
    assert "sha256" in DinoV2S14(download=True).fingerprint
    assert path.is_file()


def test_a_model_file_knows_its_weights(tiny, tmp_path, monkeypatch):
    path = saved(tmp_path / "dinov2_vits14_pretrain.pth", randomised(build_vit(SMALL)).state_dict())
    good = [picture(96, 84, seed) for seed in range(3)]
    detector = pyimgano.create_detector(
        "vision_anomalydino", extractor=f"dinov2_vits14:{path}", size=84, rotations="none"
    ).fit(good)
    detector.save(tmp_path / "model.pyimg")
    scores = detector.decision_function(good)
    assert np.array_equal(pyimgano.load(tmp_path / "model.pyimg").decision_function(good), scores)
    text = zipfile.ZipFile(tmp_path / "model.pyimg").read("manifest.json").decode()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    moved = tmp_path / "moved"
    moved.mkdir()
    path.rename(moved / path.name)
    with pytest.raises(ArchiveError, match="there are no weights"):
        pyimgano.load(tmp_path / "model.pyimg")
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(moved))
    assert np.array_equal(pyimgano.load(tmp_path / "model.pyimg").decision_function(good), scores)
    saved(moved / path.name, randomised(build_vit(SMALL), seed=1).state_dict())
    with pytest.raises(ArchiveError, match="the model was fitted with"):
        pyimgano.load(tmp_path / "model.pyimg")


def test_checkpoints_of_half_precision_are_read(tiny, tmp_path):
    state = randomised(build_vit(SMALL)).half().state_dict()
    path = saved(tmp_path / "half.pth", state)
    with torch.device("meta"):
        model = build_vit(SMALL)
    load_checkpoint(model, path, "a network")
    assert all(torch.equal(values, state[name]) for name, values in model.state_dict().items())
    (found,) = DinoV2S14(path=str(path)).embed([picture(70, 70)])
    assert found.values.dtype == np.float32

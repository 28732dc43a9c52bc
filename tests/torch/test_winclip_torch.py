"""The CLIP of open_clip, small and with random weights, against open_clip's own forward pass."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.torch

open_clip = pytest.importorskip(
    "open_clip", reason="open_clip is not installed: make test-anomalib"
)
torch = pytest.importorskip("torch")

import pyimgano  # noqa: E402
from pyimgano import testing  # noqa: E402
from pyimgano.detector_contract import texture  # noqa: E402
from pyimgano.errors import ArchiveError, ParameterError  # noqa: E402
from pyimgano.features._grid import normalised, squeezed  # noqa: E402
from pyimgano.features.base import resolve_extractor  # noqa: E402
from pyimgano.features.clip_words import embed_words, prompts  # noqa: E402
from pyimgano.features.open_clip_model import OpenClip  # noqa: E402
from pyimgano.features.text_image import (  # noqa: E402
    CLIP_PIXELS,
    TextEmbedder,
    WindowEmbedder,
    windows_of,
)
from pyimgano.models.winclip import WinCLIP  # noqa: E402

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGHT = {"image_size": 80, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16}
SMALL = {"embed_dim": 24, "vision_cfg": SIGHT, "text_cfg": TEXT}
CONFIGS = {
    "tiny-ViT": SMALL,
    "tiny-ViT-mean": {
        **SMALL,
        "quick_gelu": True,
        "vision_cfg": {**SIGHT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    },
    "tiny-RN": {**SMALL, "vision_cfg": {**SIGHT, "layers": [1, 1, 1, 1]}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models that open_clip knows by name, each with a file of random weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    found = {}
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
    for name in ("tiny-ViT", "tiny-ViT-mean"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = open_clip.CLIP(**open_clip.get_model_config(name)).eval()
        path = folder / f"{name}.pt"
        torch.save(model.state_dict(), path)
        model.visual.output_tokens = True
        extractor = OpenClip(model=name, path=str(path))
        found[name] = SimpleNamespace(model=model, path=path, extractor=extractor)
    return found


@pytest.fixture(params=["tiny-ViT", "tiny-ViT-mean"])
def clip(made, request):
    return made[request.param]


def pixels(image):
    return torch.from_numpy(normalised(squeezed(image, (80, 80))[None], *CLIP_PIXELS))


def test_images_patches_and_texts_are_those_of_open_clip(clip):
    images = [texture(0), texture(1)[:60]]
    texts = prompts("screw")[1][:70]
    with torch.inference_mode():
        both = [clip.model.encode_image(pixels(image)) for image in images]
        words = clip.model.encode_text(open_clip.get_tokenizer("tiny-ViT")(texts)).numpy()
    found = clip.extractor.embed_images(images)
    expected = torch.cat([pooled for pooled, _ in both]).numpy()
    assert np.abs(found - expected).max() < 1e-5
    for grid, (_, tokens) in zip(clip.extractor.embed(images), both, strict=True):
        assert np.abs(grid.values.reshape(25, 64) - tokens[0].numpy()).max() < 1e-5
    assert grid.extent == (0, 0, 60, 96)
    assert np.abs(clip.extractor.embed_texts(texts) - words).max() < 1e-5
    assert isinstance(clip.extractor, TextEmbedder)
    testing.check_extractor(clip.extractor)


def test_a_window_sees_its_own_tokens_alone(clip):
    """A network that is given the tokens of one window, one window after another."""
    visual, image = clip.model.visual, texture(3)
    with torch.inference_mode():
        x = visual.conv1(pixels(image)).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], 1)
        x = visual.ln_pre(x + visual.positional_embedding)
        for side in (1, 2, 3, 5):
            found = windows_of(clip.extractor, image, side, 8)
            assert found.shape == (6 - side, 6 - side, 24)
            for top, left in np.ndindex(found.shape[:2]):
                own = [0]
                own += [1 + 5 * (top + v) + left + u for v, u in np.ndindex(side, side)]
                seen = visual.transformer(x[:, own])
                if visual.pool_type == "avg":
                    seen = visual.ln_post(seen[:, 1:].mean(dim=1))
                else:
                    seen = visual.ln_post(seen[:, 0])
                expected = (seen @ visual.proj)[0].numpy()
                assert np.abs(found[top, left] - expected).max() < 1e-5
    whole = clip.extractor.embed_images([image])[0]
    assert np.abs(found[0, 0] - whole).max() < 1e-5  # a window of all patches is the image
    assert isinstance(clip.extractor, WindowEmbedder)
    with pytest.raises(ParameterError, match="5 x 5 patches"):
        clip.extractor.embed_windows(image, 6)


def test_weights_of_other_kinds_of_files(made, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    clip = made["tiny-ViT"]
    state = clip.model.state_dict()
    training = {"epoch": 3, "state_dict": {f"module.{key}": one for key, one in state.items()}}
    torch.save(training, tmp_path / "epoch_3.pt")
    safetensors.save_file(state, tmp_path / "open_clip_model.safetensors")
    expected = clip.extractor.embed_images([texture(0)])
    for given in (tmp_path / "epoch_3.pt", tmp_path):
        found = OpenClip(model="tiny-ViT", path=str(given)).embed_images([texture(0)])
        assert np.array_equal(found, expected)
    rough = OpenClip(model="tiny-ViT", path=str(clip.path), precision="bf16")
    assert 0 < np.abs(rough.embed_images([texture(0)]) - expected).max() < 0.1
    assert rough.fingerprint != clip.extractor.fingerprint
    with pytest.raises(ParameterError, match="precision"):
        OpenClip(model="tiny-ViT", path=str(clip.path), precision="fp8").embed_images([texture(0)])


def test_what_is_missing_or_foreign_is_named(made, tmp_path, caplog):
    path = made["tiny-ViT"].path
    with pytest.raises(ParameterError, match=r"downloads nothing.*safetensors of https://hugg"):
        WinCLIP().fit("nowhere")
    with pytest.raises(ParameterError, match="fetch its checkpoint"):
        resolve_extractor("open_clip:tiny-ViT")
    with pytest.raises(ArchiveError, match="there are no weights of tiny-ViT at"):
        resolve_extractor(f"open_clip:tiny-ViT:{tmp_path / 'none.pt'}")
    with pytest.raises(ParameterError, match="it has ViT-B-16-plus, "):
        resolve_extractor("open_clip:vit-b-16-plus")
    with pytest.raises(ParameterError, match=r"list_models\(\)"):
        resolve_extractor("open_clip:resnet18")
    for name, why in (
        ("tiny-RN", "a ResNet"),
        ("coca_ViT-B-32", "custom_text"),
        ("convnext_base", "timm_"),
        ("ViT-H-14-worldwide", "hf_tokenizer_name"),
    ):
        with pytest.raises(ParameterError, match=why):
            resolve_extractor(f"open_clip:{name}:{path}")
    with pytest.raises(ArchiveError, match="holds no weights of tiny-ViT-mean"):
        resolve_extractor(f"open_clip:tiny-ViT-mean:{path}").embed_images([texture(0)])
    bad = tmp_path / "bad.pt"
    bad.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ArchiveError, match=r"bad.pt is damaged"):
        resolve_extractor(f"open_clip:tiny-ViT:{bad}").embed_images([texture(0)])
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_from_a_checkpoint_to_a_verdict_and_back(made, tmp_path):
    clip = made["tiny-ViT"]
    state = torch.random.get_rng_state()
    goods, image = [texture(seed) for seed in range(4)], texture(9)
    image[20:60, 30:70] = (225, 60, 40)
    named = f"open_clip:tiny-ViT:{clip.path}"
    fitted = WinCLIP(extractor=named, part="plate").fit(goods)
    assert fitted.decision_function([image])[0] > fitted.decision_scores_.max()
    assert fitted.get_anomaly_map(image).shape == (96, 96)
    fitted.save(tmp_path / "model.pyimg")
    loaded = pyimgano.load(tmp_path / "model.pyimg")
    assert np.array_equal(loaded.decision_function([image]), fitted.decision_function([image]))
    np.save(tmp_path / "plate.npy", embed_words(clip.extractor, "plate"))
    again = WinCLIP(extractor=named, words=str(tmp_path / "plate.npy")).fit(goods)
    assert np.allclose(again.decision_scores_, fitted.decision_scores_, rtol=1e-5)
    assert torch.equal(state, torch.random.get_rng_state())

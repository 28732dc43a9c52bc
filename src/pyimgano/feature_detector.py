"""Detectors on patch features: extracted once, on one grid, left out block by block."""

from __future__ import annotations

import math
import tempfile
from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, cast, final

import numpy as np

from pyimgano.ahead import batched
from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.errors import InputError, ParameterError
from pyimgano.features._grid import inside
from pyimgano.judging import Reading
from pyimgano.lazy import Lazy
from pyimgano.maps.aggregate import Maximum, TopMean
from pyimgano.maps.upsample import upsample
from pyimgano.tuned import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures
    from pyimgano.views.intake import Images

    Aggregation = Callable[[NDArray[np.float32]], NDArray[np.float64]]

__all__ = ["FeatureDetector", "PatchScores"]

GRID = 32
SIGMAS = (2.0, 4.0, 8.0, 16.0)
AREAS = (0.0001, 0.001)
AGGREGATIONS = (Maximum(), TopMean(0.001), TopMean(0.01))
_BATCH = 8
_SPILL_BYTES = 1 << 30


class PatchScores(NamedTuple):
    """Patch maps, float32 (n, h, w), and image scores, float64 (n,), if the method has its own."""

    maps: NDArray[np.float32]
    scores: NDArray[np.float64] | None = None

    @classmethod
    def joined(cls, parts: Sequence[PatchScores]) -> PatchScores:
        """Return the scores of several batches as those of one."""
        scores = [part.scores for part in parts if part.scores is not None]
        maps = np.concatenate([part.maps for part in parts])
        return cls(maps, np.concatenate(scores) if scores else None)


class _LearnedFeatures:
    input_size_: tuple[int, int]
    extent_: tuple[float, float, float, float]
    layers_: tuple[tuple[int, int], ...]
    center_: NDArray[np.float32]
    scale_: NDArray[np.float32]


@dataclass(kw_only=True, eq=False)
class FeatureDetector(_LearnedFeatures, EmbeddingDetector):
    """A detector on patch features: extracted once, standardised, on one grid for all images.

    An image is resized to ``input_size_`` (the good images' most frequent aspect, an area of about
    ``size`` squared, sides multiples of 32), reflected by ``pad`` pixels on each side, embedded,
    and the grid cropped back, so that borders see no artificial edge. Each channel is centred and
    scaled by its deviation over the good images. These two numbers a channel are
    the only thing that the out-of-sample scores share with the images they are scored without.

    Parameters
    ----------
    size : int
        Square root of the area of the model's input, in pixels.
    pad : int
        Reflected border in input pixels.
    sigma : float
        Gaussian smoothing of the map, in input pixels.
    aggregation : callable
        How the smoothed map becomes the score.
    """

    size: int = 288
    pad: int = 64
    sigma: float = 4.0
    aggregation: Aggregation = field(default_factory=Maximum)

    # What a subclass writes ----------------------------------------------------------------

    @abstractmethod
    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        """Learn from features (n, h, w, d) whose images belong to ``blocks`` (n,)."""

    @abstractmethod
    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        """Score features (n, h, w, d), each image by itself."""

    def _held_out(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> PatchScores:
        """Score each training image by a model that did not learn from its block.

        This default fits once a block; override it where a method can leave a block out cheaply.
        """
        maps = np.empty(features.shape[:3], np.float32)
        scores: NDArray[np.float64] | None = None
        for block in np.unique(blocks):
            held = blocks == block
            part = self.clone()
            part._fit_features(features[~held], blocks[~held])
            found = part._score_features(features[held])
            maps[held] = found.maps
            if found.scores is not None:
                scores = np.empty(len(features)) if scores is None else scores
                scores[held] = found.scores
        return PatchScores(maps, scores)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.size < GRID or self.pad < 0 or self.sigma < 0:
            raise ParameterError(
                f"size must be at least {GRID}, pad and sigma not negative: size={self.size}, "
                f"pad={self.pad}, sigma={self.sigma}"
            )

    # How it is done ------------------------------------------------------------------------

    @final
    def _fit(self, images: Images) -> None:
        features, _ = self._features_of(images)
        self._fit_with_variants(images, features, np.zeros(len(features), np.int64))

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        features, sizes = self._features_of(images)
        self._fit_with_variants(images, features, blocks)
        return _Readings(self, self._held_out(features, blocks), sizes)

    def _variants(self, images: Images) -> Iterable[Iterable[NDArray[np.uint8]]]:  # noqa: ARG002
        """Return all good images again in other ways, to be learned from; here in none."""
        return ()

    def _fit_with_variants(
        self, images: Images, features: NDArray[np.float32], blocks: NDArray[np.int64]
    ) -> None:
        """Learn; variants follow all images, in their order, each in the block of its image."""
        variants = list(self._variants(images))
        if variants:
            n, alone = len(features), features
            features = _allocate((n * (1 + len(variants)), *alone.shape[1:]))
            features[:n] = alone
            for batch in _batches(chain.from_iterable(variants)):
                features[n : n + len(batch)] = self._standardise(self._embed(batch))
                n += len(batch)
        self._fit_features(features, np.tile(blocks, 1 + len(variants)))

    @final
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        features = self._standardise(self._embed(images))
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return list(_Readings(self, self._score_features(features), sizes))

    @final
    def _read(self, images: Images) -> Sequence[Reading]:
        parts: list[PatchScores] = []
        sizes: list[tuple[int, int]] = []
        for batch in _batches(images):
            parts.append(self._score_features(self._standardise(self._embed(batch))))
            sizes.extend((image.shape[0], image.shape[1]) for image in batch)
        return _Readings(self, PatchScores.joined(parts), sizes)

    def _settings(self, readings: Sequence[Reading], *, masked: bool) -> tuple[Setting, ...]:
        """Smoothings by aggregations, and with masks smoothings by least regions.

        Where the score is not that of the map, only masks tell one map from another.
        """
        own = cast("_Readings", readings).own_scores
        if own and not (masked and self.draws):
            return (Setting(self.sigma),)
        first, hows = (None, ()) if own else (self.aggregation, AGGREGATIONS)
        sigmas = tuple(dict.fromkeys((self.sigma, *SIGMAS)))
        found = [Setting(s, how) for s in sigmas for how in (first, *hows)]
        if masked:
            found += [Setting(s, first, area) for s in sigmas for area in AREAS]
        return tuple(dict.fromkeys(found))

    def _under(
        self, readings: Sequence[Reading], setting: Setting, *, small: bool = False
    ) -> Sequence[Reading]:
        return cast(_Readings, readings).under(setting, small=small)

    def _features_of(self, images: Images) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
        """Extract the features of all good images, and learn geometry and scale."""
        self.extractor_ = self.resolved_extractor()
        self.input_size_ = _input_size(self.seen_size, self.size)
        sizes: list[tuple[int, int]] = []
        features: NDArray[np.float32] | None = None
        for batch in _batches(images):
            found = self._embed(batch)
            if features is None:
                features = _allocate((len(images), *found.shape[1:]))
            features[len(sizes) : len(sizes) + len(batch)] = found
            sizes.extend((image.shape[0], image.shape[1]) for image in batch)
        if features is None:
            raise InputError("there are no images to learn from")
        self._learn_scale(features)
        for image_features in features:
            image_features[:] = self._standardise(image_features)
        return features, sizes

    def _learn_scale(self, features: NDArray[np.float32]) -> None:
        """Learn what `_standardise` takes off: here each channel's mean and deviation."""
        flat = (image.reshape(-1, image.shape[-1]).astype(np.float64) for image in features)
        moments = [(rows.mean(axis=0), (rows**2).mean(axis=0)) for rows in flat]
        mean = np.mean([first for first, _ in moments], axis=0)
        variance = np.mean([second for _, second in moments], axis=0) - mean**2
        deviation = np.sqrt(np.maximum(variance, 0))
        dead = deviation <= 1e-6 * max(float(deviation.max()), 1e-12)
        self.center_ = mean.astype(np.float32)
        self.scale_ = np.where(dead, 0, 1 / np.where(dead, 1, deviation)).astype(np.float32)

    def _standardise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return (features - self.center_) * self.scale_

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features (n, h, w, d), without the padding; the first call learns their extent."""
        grids = self.extractor_.embed([self._prepare(image) for image in images])
        rows, columns, extent = self._inner(grids[0])
        if "extent_" not in vars(self):
            self.extent_, self.layers_ = extent, grids[0].layers
        return np.stack([grid.values[rows, columns] for grid in grids])

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        height, width = self.input_size_
        if image.shape[:2] != self.input_size_:
            shrinks = image.shape[0] * image.shape[1] > height * width
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            image = cast(
                "NDArray[np.uint8]", cv2.resize(image, (width, height), interpolation=method)
            )
        border = min(self.pad, height - 1, width - 1)
        sides = (border, border, border, border)
        return cast("NDArray[np.uint8]", cv2.copyMakeBorder(image, *sides, cv2.BORDER_REFLECT_101))

    def _cell_at(self, place: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
        """Return row and column of the cell at a place, x and y in shares of the image."""
        (x, y), (top, left, bottom, right) = place, self.extent_
        row = int((y - top) / (bottom - top) * grid[0])
        column = int((x - left) / (right - left) * grid[1])
        return min(max(row, 0), grid[0] - 1), min(max(column, 0), grid[1] - 1)

    def _box_of(
        self, cell: tuple[int, int], grid: tuple[int, int], reach: int
    ) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of a cell and ``reach`` cells around, in shares."""
        top, left, bottom, right = self.extent_
        down, across = (bottom - top) / grid[0], (right - left) / grid[1]
        row, column = cell
        return (
            max(left + across * (column - reach), 0.0),
            max(top + down * (row - reach), 0.0),
            min(left + across * (column + 1 + reach), 1.0),
            min(top + down * (row + 1 + reach), 1.0),
        )

    def _inner(self, grid: PatchFeatures) -> tuple[slice, slice, tuple[float, float, float, float]]:
        """Return the cells whose centre lies in the unpadded input, and what share they cover."""
        height, width = self.input_size_
        border = min(self.pad, height - 1, width - 1)
        top, left, bottom, right = grid.extent
        rows, y0, y1 = inside(top - border, bottom - border, grid.values.shape[0], height)
        columns, x0, x1 = inside(left - border, right - border, grid.values.shape[1], width)
        return rows, columns, (y0 / height, x0 / width, y1 / height, x1 / width)


class _Readings(Lazy[Reading]):
    """Patch scores as readings; the maps are drawn when they are asked for."""

    def __init__(
        self, detector: FeatureDetector, patches: PatchScores, sizes: Sequence[tuple[int, int]]
    ) -> None:
        self._detector, self._patches, self._sizes = detector, patches, sizes
        tuned = vars(detector).get("tuned_")
        chosen = tuned.setting if tuned else None
        self._setting = chosen or Setting(detector.sigma, detector.aggregation)
        self.own_scores = patches.scores is not None

    def under(self, setting: Setting, *, small: bool) -> _Readings:
        """Return the same patches under another setting; ``small``: at the size of the input."""
        sizes = [self._detector.input_size_] * len(self) if small else self._sizes
        other = _Readings(self._detector, self._patches, sizes)
        other._setting = setting
        return other

    def __len__(self) -> int:
        return len(self._sizes)

    def _item(self, index: int) -> Reading:
        size, patches = self._sizes[index], self._patches
        if patches.scores is not None and not self._detector.draws:
            return Reading(float(patches.scores[index]))
        drawn = self._draw(index, size)
        if patches.scores is not None:
            return Reading(float(patches.scores[index]), drawn)
        model_size = self._detector.input_size_
        whole = drawn if size == model_size else self._draw(index, model_size)
        return Reading(float(self._setting.aggregation(whole)), drawn)

    def _draw(self, index: int, size: tuple[int, int]) -> NDArray[np.float32]:
        detector = self._detector
        top, left, bottom, right = detector.extent_
        height, width = size
        model_height, model_width = detector.input_size_
        sigma = cast(float, self._setting.sigma)
        return upsample(
            self._patches.maps[index],
            size,
            extent=(top * height, left * width, bottom * height, right * width),
            sigma=(sigma * height / model_height, sigma * width / model_width),
        )


def _input_size(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Keep the aspect, bring the area to about target squared, round sides up to a multiple."""
    factor = target / math.sqrt(size[0] * size[1])
    height, width = (GRID * max(1, math.ceil(side * factor / GRID - 0.25)) for side in size)
    return height, width


def _batches(images: Iterable[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    return batched(images, _BATCH, lambda image: image.nbytes)


def _allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array in memory, or, if it is large, in an unnamed temporary file."""
    if math.prod(shape) * 4 <= _SPILL_BYTES:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)

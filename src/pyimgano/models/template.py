"""The mean image, done robustly: each pixel against its median and spread over the good images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.judging import Reading
from pyimgano.map_detector import MapDetector
from pyimgano.maps.aggregate import Maximum
from pyimgano.models._token_detector import Patches, Readings
from pyimgano.records import Evidence
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

    Planes = NDArray[np.float32]
    Aggregation = Callable[[NDArray[np.float32]], NDArray[np.float64]]

__all__ = ["Template"]

CHANNELS = ("light", "green to red", "blue to yellow", "edges")
SMALLEST = 16
_FLOOR = np.array([2, 1, 1, 1], np.float32)  # light has the larger range
_DEVIATION = 1.4826  # of a Gaussian, in median absolute deviations
_EDGE = 0.7
_ROWS = 16


class _Learned:
    low_: Planes
    high_: Planes
    scale_: Planes
    kept_: NDArray[np.int64]


@DETECTORS.register(
    "vision_template",
    Metadata(
        summary="Each pixel against its median and spread; milliseconds, for fixtured parts.",
        paper="its spread: Rousseeuw and Croux, JASA 1993",
    ),
)
@dataclass(kw_only=True, eq=False)
class Template(_Learned, MapDetector):
    """So many robust deviations as a pixel lies off the good images at its place.

    An image is reduced to an area of about ``size`` squared by averaging, the aspect kept, and
    becomes L, a, b (CIE, 0 to 100 and about -100 to 100) and the length of the gradient of L. A
    channel lies off by as much as it leaves the range of the medians within ``slack`` pixels, in
    robust deviations (1.4826 MAD; the largest of the neighbours, and a ``floor``). So an edge may
    move by ``slack`` pixels. The channel that is off the most makes the map, which is smoothed.

    For parts, or views such as ``Align()``, in which each pixel shows the same place of the part.

    Parameters
    ----------
    size : int
        Square root of the area of the reduced image, in pixels. An image is never enlarged.
    slack : int
        Pixels of the reduced image by which an edge may be displaced.
    floor : float
        Least deviation: so many units of a, b and the gradient, twice as many of L.
    sigma : float
        Gaussian smoothing of the map, in pixels of the reduced image.
    aggregation : callable
        How the smoothed map becomes the score.
    max_images : int
        Good images that medians and deviations are taken of, evenly chosen; all of them take part
        in the threshold. ``kept_`` says which.

    Notes
    -----
    While it learns it holds these, 16 bytes a pixel of the reduced image, and a map of each good
    image, 4 bytes a pixel. The model is as large as three images.
    """

    size: int = 256
    slack: int = 1
    floor: float = 1.0
    sigma: float = 2.0
    aggregation: Aggregation = field(default_factory=Maximum)
    max_images: int = 128

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.size < SMALLEST or self.max_images < 2:
            raise ParameterError(
                f"size must be at least {SMALLEST} and max_images at least 2: size={self.size}, "
                f"max_images={self.max_images}"
            )
        if self.slack < 0 or not self.sigma >= 0 or not self.floor > 0:
            raise ParameterError(
                "slack and sigma must not be negative, and floor must be positive: "
                f"slack={self.slack}, sigma={self.sigma}, floor={self.floor}"
            )

    def _fit(self, images: Images) -> None:
        self._keep(self._sample(images, np.zeros(len(images), np.int64))[0])

    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        planes, sizes = self._sample(images, blocks)
        kept = self.kept_.tolist()
        others = {
            block: _Range.of(planes[blocks[kept] != block], self.slack, self.floor)
            for block in np.unique(blocks).tolist()
        }
        blocks_of, found = blocks.tolist(), {}
        for i, one, size in zip(kept, planes, sizes, strict=True):
            found[i] = self._patches(one, size, others[blocks_of[i]])
        rest = sorted(set(range(len(images))).difference(kept))
        for i, image in zip(rest, images.take(rest), strict=True):
            size = image.shape[0], image.shape[1]
            found[i] = self._patches(self._reduce(image), size, others[blocks_of[i]])
        self._keep(planes)
        return Readings(self, [found[i] for i in range(len(images))])

    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        learned = _Range(self.low_, self.high_, self.scale_)
        return [
            self._reading(
                self._patches(self._reduce(image), (image.shape[0], image.shape[1]), learned)
            )
            for image in images
        ]

    def _explain(
        self, image: NDArray[np.uint8], places: Sequence[tuple[float, float]]
    ) -> list[Evidence]:
        off = _Range(self.low_, self.high_, self.scale_).deviations(self._reduce(image))
        height, width = off.shape[:2]
        said = []
        for x, y in places:
            row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
            box = column / width, row / height, (column + 1) / width, (row + 1) / height
            parts = dict(zip(CHANNELS, off[row, column].tolist(), strict=True))
            said.append(Evidence(box=box, parts=parts))
        return said

    def _sample(
        self, images: Images, blocks: NDArray[np.int64]
    ) -> tuple[Planes, list[tuple[int, int]]]:
        """Return some good images reduced, (k, h, w, 4), with their sizes; evenly of all blocks."""
        count = min(len(images), self.max_images)
        even = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        self.kept_ = np.sort(np.argsort(blocks, kind="stable")[even])
        planes = np.empty((count, *self._reduced_size(), len(CHANNELS)), np.float32)
        sizes = []
        for plane, image in zip(planes, images.take(self.kept_.tolist()), strict=True):
            plane[:] = self._reduce(image)
            sizes.append((image.shape[0], image.shape[1]))
        return planes, sizes

    def _keep(self, planes: Planes) -> None:
        self.low_, self.high_, self.scale_ = _Range.of(planes, self.slack, self.floor)

    def _reduced_size(self) -> tuple[int, int]:
        height, width = self.seen_size
        factor = min(1.0, self.size / math.sqrt(height * width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _reduce(self, image: NDArray[np.uint8]) -> Planes:
        import cv2

        height, width = self._reduced_size()
        shrinks = image.shape[0] * image.shape[1] > height * width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        small = cv2.resize(image, (width, height), interpolation=method)
        lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        light = cv2.GaussianBlur(lab[..., 0], (0, 0), _EDGE)
        across, down = (cv2.Sobel(light, cv2.CV_32F, i, 1 - i, scale=0.25) for i in (1, 0))
        return cast("Planes", cv2.merge([*cv2.split(lab), cv2.magnitude(across, down)]))

    def _patches(self, planes: Planes, size: tuple[int, int], learned: _Range) -> Patches:
        import cv2

        drawn = reduce(np.maximum, cv2.split(learned.deviations(planes)))  # max(axis=2) is slow
        if self.sigma:
            drawn = cv2.GaussianBlur(drawn, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)
        whole = 0.0, 0.0, float(size[0]), float(size[1])
        return Patches(cast("Planes", drawn), whole, size, float(self.aggregation(drawn)))

    def _reading(self, patches: Patches) -> Reading:
        import cv2

        drawn = cv2.resize(patches.distances, patches.size[::-1], interpolation=cv2.INTER_LINEAR)
        return Reading(cast("float", patches.score), cast("Planes", drawn))


class _Range(NamedTuple):
    """Lowest and highest median near each pixel, and the deviation there: (h, w, 4) each."""

    low: Planes
    high: Planes
    scale: Planes

    @classmethod
    def of(cls, planes: Planes, slack: int, floor: float) -> Self:
        """Learn from reduced images (n, h, w, 4), a few rows at a time."""
        import cv2

        median, spread = np.empty(planes.shape[1:], np.float32), np.empty_like(planes[0])
        for top in range(0, len(median), _ROWS):
            rows = slice(top, top + _ROWS)
            values = np.moveaxis(planes[:, rows], 0, -1).copy()
            middle = np.median(values, axis=-1)
            spread[rows] = np.median(np.abs(values - middle[..., None]), axis=-1)
            median[rows] = middle
        near = np.ones((2 * slack + 1, 2 * slack + 1), np.uint8)
        scale = np.hypot(_DEVIATION * cv2.dilate(spread, near), floor * _FLOOR)
        found = cv2.erode(median, near), cv2.dilate(median, near), scale
        return cls(*(cast("Planes", one.astype(np.float32)) for one in found))

    def deviations(self, planes: Planes) -> Planes:
        """Return how far each channel (h, w, 4) lies off, in deviations; 0 within the range."""
        off = np.maximum(self.low - planes, planes - self.high)
        off = np.maximum(off, 0, out=off)
        return cast("Planes", off / self.scale)

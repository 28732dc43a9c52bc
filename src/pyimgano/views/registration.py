"""From a pose of an image that is about right to the one in which it matches a template.

A pose is a 3 x 3 similarity from pixels of the template to pixels of the image (pixel centres at
whole numbers). It is refined by Gauss-Newton steps on the template (inverse composition: Baker and
Matthews, "Lucas-Kanade 20 years on", IJCV 2004) with gain and offset of the light solved along,
from coarse to fine; pixels that differ strongly, such as a defect's, weigh little (Tukey).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Pose = NDArray[np.float64]
    Grey = NDArray[np.float32]

__all__ = [
    "Level",
    "corners",
    "correlation",
    "mismatch",
    "move",
    "pyramid",
    "refine",
    "turned",
    "warp",
]

_COARSEST = 32  # pixels of a template's shorter side
_STEPS = (12, 6)  # at the coarsest level, and at those after it
_STILL = 0.02  # pixels of a step that ends a level
_CUTOFF = 4.685  # Tukey's, in robust standard deviations
_LEAST_GAIN = 0.2
_FAR = 0.15  # of the longer side
_BLOCKS = 6  # a side
_ENOUGH = 4096  # pixels for a spread


def move(x: float, y: float) -> Pose:
    """Return a translation."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def turned(angle: float, scale: float = 1.0) -> Pose:
    """Return a rotation about the origin by ``angle`` in radians, and a scaling."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float64)


def warp(
    image: NDArray[Any], pose: Pose, size: tuple[int, int], *, mirror: bool = False
) -> NDArray[Any]:
    """Return what the template sees: its pixel p shows the image at pose @ p."""
    import cv2

    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_REPLICATE

    where, flags = np.ascontiguousarray(pose[:2]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(image, where, size[::-1], flags=flags, borderMode=border)
    return cast("NDArray[Any]", seen)


def pyramid(image: Grey, weight: Grey | None = None, count: int | None = None) -> list[Level]:
    """Return an image at halved resolutions, coarsest first; ``count`` of them, or down to 32."""
    import cv2

    found = [Level(image, np.ones_like(image) if weight is None else weight)]
    while count != len(found):
        last = found[-1]
        if count is None and min(last.image.shape) < 2 * _COARSEST:
            break
        image, weight = (cv2.pyrDown(each) for each in (last.image, last.weight))
        found.append(Level(image, weight, 2 * last.step))
    return found[::-1]


@dataclass(frozen=True, eq=False)
class Level:
    """A template at one resolution.

    Parameters
    ----------
    image : ndarray of float32, shape (h, w)
    weight : ndarray of float32, shape (h, w)
        1 where pixels count, 0 where not.
    step : int
        Pixels of the finest level in one of this.
    """

    image: Grey
    weight: Grey
    step: int = 1

    def local(self, pose: Pose) -> Pose:
        """Return a pose of the finest level in pixels of this one."""
        return turned(0, 1 / self.step) @ pose @ turned(0, self.step)

    @cached_property
    def middle(self) -> Pose:
        """The move to the middle."""
        height, width = self.image.shape
        return move((width - 1) / 2, (height - 1) / 2)

    @cached_property
    def columns(self) -> Grey:
        """What gain, offset, a shift in x and y, a turn and a scaling change: (h * w, 6)."""
        import cv2

        height, width = self.image.shape
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        x, y = x - (width - 1) / 2, y - (height - 1) / 2
        right = cv2.Sobel(self.image, cv2.CV_32F, 1, 0, scale=0.125)
        down = cv2.Sobel(self.image, cv2.CV_32F, 0, 1, scale=0.125)
        parts = [self.image, np.ones_like(self.image), right, down]
        parts += [x * down - y * right, x * right + y * down]
        return np.stack([part.ravel() for part in parts], axis=1).astype(np.float32)

    @cached_property
    def light(self) -> Grey:
        """What turns an image (h * w,) into gain and offset of its light: (2, h * w)."""
        light = self.columns[:, :2].astype(np.float64)
        weighted = (light * self.weight.ravel()[:, None]).T
        return (np.linalg.pinv(weighted @ light, rcond=1e-9) @ weighted).astype(np.float32)

    @cached_property
    def counted(self) -> NDArray[np.int64]:
        """Where pixels count, as places in (h * w,); of many so many that a median is sure."""
        places = np.flatnonzero(self.weight > 0)
        return places[:: -(-len(places) // _ENOUGH) or 1]


def refine(levels: Sequence[Level], images: Sequence[Level], pose: Pose) -> Pose:
    """Refine a pose level by level, coarsest first, in an image at the same resolutions.

    A search that leads far away has lost its way: the pose stays.
    """
    start = pose
    for i, (level, image) in enumerate(zip(levels, images, strict=True)):
        local, reach = level.local(pose), math.hypot(*level.image.shape) / 2
        for _ in range(_STEPS[min(i, 1)]):
            seen = warp(image.image, local, level.image.shape)
            x, y, turn, growth = _change(level, seen)
            small = move(x, y) @ turned(turn, math.exp(growth))
            local = local @ level.middle @ np.linalg.inv(level.middle @ small)
            if math.hypot(x, y) + reach * (abs(turn) + abs(growth)) < _STILL:
                break
        pose = turned(0, level.step) @ local @ turned(0, 1 / level.step)
    height, width = levels[0].image.shape
    ends = turned(0, levels[0].step) @ corners(height, width)
    moved = np.abs((pose - start) @ ends)[:2].max()
    return pose if moved < _FAR * levels[0].step * max(height, width) else start


def corners(height: int, width: int) -> NDArray[np.float64]:
    """Return the corners of a frame, (3, 4)."""
    ends = [(x, y, 1) for x in (0, width - 1) for y in (0, height - 1)]
    return np.array(ends, np.float64).T


def correlation(image: Grey, other: Grey, weight: Grey) -> float:
    """Return the weighted correlation of two images; 0 where one is flat."""
    total = float(weight.sum())
    if total <= 0:
        return 0.0
    first, second = (each - float((each * weight).sum()) / total for each in (image, other))
    power = float((first * first * weight).sum()) * float((second * second * weight).sum())
    return float((first * second * weight).sum()) / math.sqrt(power) if power > 0 else 0.0


def mismatch(template: Level, image: Grey) -> float:
    """Return 1 minus the correlation of a typical block, so that a local defect has no say.

    The frame is cut in 6 x 6 blocks; of those with structure (the half of higher variance in the
    template) the median counts.
    """
    found = []
    for rows in _cut(image.shape[0]):
        for columns in _cut(image.shape[1]):
            weight, own = template.weight[rows, columns], template.image[rows, columns]
            if weight.size and weight.mean() > 0.3:
                middle = float((own * weight).sum()) / float(weight.sum())
                variance = float((np.square(own - middle) * weight).sum()) / float(weight.sum())
                found.append((variance, 1 - correlation(image[rows, columns], own, weight)))
    if not found:
        return 1.0
    found.sort(key=lambda block: -block[0])
    return float(np.median([wrong for _, wrong in found[: -(-len(found) // 2)]]))


def _cut(length: int) -> list[slice]:
    ends = np.linspace(0, length, _BLOCKS + 1).astype(int).tolist()
    return [slice(*pair) for pair in pairwise(ends)]


def _change(level: Level, seen: Grey) -> tuple[float, float, float, float]:
    """Return shift, turn and growth of the template that explain what is seen, to first order."""
    columns, weight, values = level.columns, level.weight.ravel(), seen.ravel()
    if float(weight.sum()) < _COARSEST:
        return 0.0, 0.0, 0.0, 0.0
    left = values - columns[:, :2] @ (level.light @ values)
    spread = 1.4826 * float(np.median(np.abs(left[level.counted]))) + 1e-3
    tukey = np.square(np.maximum(1 - np.square(left / (_CUTOFF * spread)), 0))
    weighted = (columns * (weight * tukey)[:, None]).T
    normal, wanted = (weighted @ each for each in (columns, values))
    solved = np.linalg.lstsq(normal.astype(np.float64), wanted.astype(np.float64), rcond=1e-9)[0]
    gain, _, x, y, turn, growth = solved.tolist()
    gain = max(gain, _LEAST_GAIN)
    return x / gain, y / gain, turn / gain, growth / gain

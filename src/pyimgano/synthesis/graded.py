"""Defects of a stated size and contrast, planted on any image: what a detection curve is made of.

The size is the length of a scratch and the diameter of all else, in pixels. The contrast is the
change in grey levels of all three channels; outside the defect no pixel changes, and with contrast
0 none at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.synthesis.defects import _walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONTRASTS", "GRADED", "Job", "Plan", "find_part", "line_width", "plant_graded"]

GRADED = {
    "scratch": "a slightly curved line, of that length",
    "spot": "a disc with a sharp edge, of that diameter",
    "stain": "a disc that fades out, of that diameter at half its contrast",
    "chip": "a bite out of the edge of the part, of that diameter: background shows",
}
CONTRASTS = (20, 40, 80)
_LARGEST = 0.9  # share of an image above which a part fills it
_SMALLEST = 0.01
_DISTINCT = 12  # grey levels between part and background


class Job(NamedTuple):
    """A defect to plant."""

    kind: str
    contrast: int
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is planted, every combination once in each image.

    Parameters
    ----------
    kinds : tuple of str
        Of `GRADED`.
    sizes : tuple of int
        Pixels, ascending; empty for six from 1 to 20 % of the shorter side of the images.
    contrasts : tuple of int
        Grey levels, ascending; 0 plants nothing and measures the false rejects.
    seed : int
        Where a defect is follows from it, from the number of the image, and from kind and size: the
        same defect at every contrast.
    """

    kinds: tuple[str, ...] = tuple(GRADED)
    sizes: tuple[int, ...] = ()
    contrasts: tuple[int, ...] = CONTRASTS
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in GRADED]
        if unknown or not self.kinds or not self.contrasts:
            raise ParameterError(
                f"plant at least one of {', '.join(GRADED)} at one contrast, got {self.kinds} and "
                f"{self.contrasts}"
            )
        for name, values, low in (("sizes", self.sizes, 1), ("contrasts", self.contrasts, 0)):
            if list(values) != sorted(set(values)) or any(value < low for value in values):
                raise ParameterError(f"{name} must be ascending, from {low} on, got {values}")
        if max(self.contrasts) > 255 or self.seed < 0:
            raise ParameterError("contrasts are grey levels up to 255, and a seed is not negative")

    def jobs(self) -> list[Job]:
        """Return every defect."""
        return [
            Job(kind, contrast, size)
            for kind in self.kinds
            for contrast in self.contrasts
            for size in self.sizes
        ]


class _Spot(NamedTuple):
    """Where a defect is: x, y and the distance of every pixel from there."""

    x: float
    y: float
    distance: NDArray[np.float32]


def plant_graded(
    image: NDArray[np.uint8],
    part: NDArray[np.bool_],
    kind: str,
    size: float,
    contrast: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Plant one defect at a random place of a part, and return the image and where it changed.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB; left as it is.
    part : ndarray of bool, shape (H, W)
        Where the part is, see `find_part`.
    kind : str
        One of `GRADED`.
    size : float
        Pixels, at least 1.
    contrast : float
        Grey levels, 0 to 255. Brighter or darker at random, the other way where the pixels there
        leave no room.
    rng : numpy.random.Generator
        Source of all variation.

    Returns
    -------
    image : ndarray of uint8, shape (H, W, 3)
    mask : ndarray of bool, shape (H, W)
        Half covered or more; at least one pixel.

    Raises
    ------
    ParameterError
        If the kind is unknown, size or contrast out of range, or a chip has no edge to be on.
    """
    if kind not in GRADED or not 1 <= size < math.inf or not 0 <= contrast <= 255:
        raise ParameterError(
            f"a planted defect is one of {', '.join(GRADED)}, of 1 pixel or more and a contrast of "
            f"0 to 255, got {kind!r}, {size} and {contrast}"
        )
    spot = _place(part, size, rng, on_edge=kind == "chip")
    cover = _cover(kind, size, spot, part, rng)
    mask = cover >= min(0.5, float(cover.max()))
    sign = _sign(image, mask, contrast, rng)
    step: NDArray[np.float32] | float = sign * contrast
    if kind == "chip":
        behind = np.median(image[~part], axis=0).astype(np.float32)
        step = np.clip(behind - image, -contrast, contrast)
    planted = np.clip(np.rint(image + cover[..., None] * step), 0, 255).astype(np.uint8)
    return planted, mask


def find_part(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where the part is, bool (H, W): what differs from the border of the image.

    Everything, where the border is not background: a part that fills the image, or no plain ground.
    """
    import cv2

    soft = cv2.GaussianBlur(image, (0, 0), max(1.0, min(image.shape[:2]) / 256))
    ring = np.ones(image.shape[:2], bool)
    width = max(1, min(image.shape[:2]) // 32)
    ring[width:-width, width:-width] = False
    ground = np.median(soft[ring], axis=0)
    away = np.abs(soft - ground).max(axis=2).astype(np.uint8)
    level, _ = cv2.threshold(away, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    plain = level >= _DISTINCT and float(np.median(away[ring])) < level / 4
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    closed = cv2.morphologyEx((away > level).astype(np.uint8), cv2.MORPH_CLOSE, disc)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas * 4 >= areas.max(initial=0))
    part: NDArray[np.bool_] = np.isin(labels, large)
    if not plain or not _SMALLEST < float(part.mean()) < _LARGEST:
        return np.ones(part.shape, bool)
    return part


def line_width(shape: tuple[int, ...]) -> int:
    """Return how wide a scratch is on an image of this shape, in pixels."""
    return max(1, round(min(shape[:2]) / 300))


def _place(
    part: NDArray[np.bool_], size: float, rng: np.random.Generator, *, on_edge: bool
) -> _Spot:
    """Draw a point of the part, as far from its edge as the defect is large where it can be."""
    import cv2

    depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    if on_edge:
        if part.all() or not part.any():
            raise ParameterError("a chip is at the edge of a part, and no edge can be seen here")
        outside = cv2.dilate((~part).astype(np.uint8), np.ones((3, 3), np.uint8))
        fits = part & (outside > 0)
    else:
        fits = depth >= min(size / 2, 0.7 * float(depth.max()))
    ys, xs = np.nonzero(fits)
    pick = int(rng.integers(len(xs)))
    x, y = float(xs[pick]), float(ys[pick])
    rows, columns = part.shape
    distance = np.hypot(np.arange(columns) - x, (np.arange(rows) - y)[:, None])
    return _Spot(x, y, distance.astype(np.float32))


def _cover(
    kind: str, size: float, spot: _Spot, part: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return how much of each pixel the defect takes, float32 (H, W) in [0, 1]."""
    if kind == "stain":
        wave = 0.5 + 0.5 * np.cos(np.pi * np.minimum(spot.distance / size, 1))
        return np.asarray(wave, np.float32)
    if kind == "scratch":
        return _line(size, spot, rng)
    disc = np.clip(size / 2 - spot.distance + 0.5, 0, 1)
    return np.asarray(disc * part if kind == "chip" else disc, np.float32)


def _line(length: float, spot: _Spot, rng: np.random.Generator) -> NDArray[np.float32]:
    import cv2

    turn, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-0.4, 0.4)
    path = _walk((spot.x, spot.y), turn + bend * np.linspace(-1, 1, 40), length)
    ink = np.ones(spot.distance.shape, np.uint8)
    cv2.polylines(ink, [np.rint(path * 16).astype(np.int32)[:, None]], False, 0, 1, cv2.LINE_8, 4)
    ink[round(spot.y), round(spot.x)] = 0  # whatever its length, it is there
    away = cv2.distanceTransform(ink, cv2.DIST_L2, 5)
    cover = np.clip(line_width(ink.shape) / 2 + 0.5 - away, 0, 1)
    return cast("NDArray[np.float32]", cover.astype(np.float32))


def _sign(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], contrast: float, rng: np.random.Generator
) -> float:
    sign = float(rng.choice((-1.0, 1.0)))
    level = float(image[mask].mean())
    fits = {way: 0 <= level + way * contrast <= 255 for way in (-1.0, 1.0)}
    return -sign if fits[-sign] and not fits[sign] else sign

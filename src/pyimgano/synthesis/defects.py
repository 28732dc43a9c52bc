"""Defects planted on parts, with their exact masks.

A mask is drawn from what can be seen: the pixels where some channel changed by at least
`VISIBLE` grey levels, closed by two pixels so that one defect is one region. Every pixel outside
the mask keeps its value exactly.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.synthesis.parts import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["DEFECTS", "VISIBLE", "plant"]

VISIBLE = 6
"""Change of a channel, in grey levels, from which a pixel belongs to the mask."""

_SMALLEST = 12  # pixels of a mask below which another place is tried
_ATTEMPTS = 12


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """What a painter works on: image float32 (H, W, 3), foreground bool (H, W)."""

    image: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    rng: np.random.Generator
    severity: float

    @property
    def unit(self) -> float:
        """Pixels of this image that are one pixel at a side of 256."""
        return float(min(self.foreground.shape)) / 256.0

    def contrast(self, subtle: float, obvious: float) -> float:
        """Draw a contrast, subtle ones being as likely as obvious ones."""
        drawn = math.exp(self.rng.uniform(math.log(subtle), math.log(obvious)))
        return drawn * self.severity

    def place(self, margin: float) -> tuple[float, float]:
        """Draw a point x, y of the foreground, ``margin`` units from its border if there is one."""
        import cv2

        depth = cv2.distanceTransform(_padded(self.foreground), cv2.DIST_L2, 5)[1:-1, 1:-1]
        ys, xs = np.nonzero(depth >= min(margin * self.unit, float(depth.max())))
        pick = int(self.rng.integers(len(xs)))
        return float(xs[pick]), float(ys[pick])

    def offsets(self, x: float, y: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the distance of every pixel from a point, along x and y."""
        rows, columns = self.foreground.shape
        across, down = np.meshgrid(np.arange(columns) - x, np.arange(rows) - y)
        return across.astype(np.float32), down.astype(np.float32)


def plant(
    image: NDArray[np.uint8],
    foreground: NDArray[np.bool_],
    kind: str,
    rng: np.random.Generator,
    *,
    severity: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Plant one defect of a kind; place, size and contrast are drawn.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB; left as it is.
    foreground : ndarray of bool, shape (H, W)
        Where the part is.
    kind : str
        One of `DEFECTS`.
    rng : numpy.random.Generator
        Source of all variation.
    severity : float
        Factor on the contrast, and on the size of a chip (at least 4 pixels); above 0.

    Returns
    -------
    image : ndarray of uint8, shape (H, W, 3)
        Equal to the input outside the mask.
    mask : ndarray of bool, shape (H, W)
        Never empty; see the module for the rule.

    Raises
    ------
    InputError
        If image or foreground cannot be used, or this foreground has no place for such a defect.
    ParameterError
        If the kind is unknown or the severity not positive.

    Examples
    --------
    >>> from pyimgano.synthesis.parts import render_part
    >>> rng = np.random.default_rng(0)
    >>> part = render_part(rng, (64, 64))
    >>> image, mask = plant(part.image, part.mask, "scratch", rng)
    >>> bool((image[~mask] == part.image[~mask]).all())
    True
    """
    if kind not in _PAINTERS:
        raise ParameterError(f"unknown defect {kind!r}; known: {', '.join(DEFECTS)}")
    if not 0 < severity < math.inf:
        raise ParameterError(f"severity must be a positive number, got {severity}")
    part = Part(image.copy(), foreground.astype(bool))
    if not part.mask.any():
        raise InputError("the foreground is empty: there is no part to plant a defect on")
    canvas = _Canvas(part.image.astype(np.float32), part.mask, rng, severity)
    for _ in range(_ATTEMPTS):
        planted = np.clip(np.rint(_PAINTERS[kind](canvas)), 0, 255).astype(np.uint8)
        mask = _visible(part.image, planted)
        if mask.sum() >= _SMALLEST:
            return np.where(mask[..., None], planted, part.image), mask
    raise InputError(
        f"no visible {kind!r} could be planted on this part in {_ATTEMPTS} attempts: "
        "use a larger image, a higher severity or another kind"
    )


def _visible(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    import cv2

    change = cv2.absdiff(before, after).max(axis=2) >= VISIBLE
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(_padded(change, 2), cv2.MORPH_CLOSE, disc)[2:-2, 2:-2]
    return np.asarray(closed, bool)


def _padded(mask: NDArray[np.bool_], width: int = 1) -> NDArray[np.uint8]:
    return np.pad(mask.astype(np.uint8), width)


def _scratch(canvas: _Canvas) -> NDArray[np.float32]:
    """Plant a slightly curved scratch: a bright burr on one side of a dark groove, fading out."""
    rng, unit = canvas.rng, canvas.unit
    length = rng.uniform(28.0, 85.0) * unit
    heading = rng.uniform(0.0, 2 * math.pi) + rng.uniform(-0.5, 0.5) * np.linspace(-1.0, 1.0, 60)
    path = _walk(canvas.place(5.0), heading, length)
    width = rng.uniform(0.55, 1.1) * unit
    groove = _stroke(canvas, path, width)
    burr = _stroke(canvas, path + np.array([width, width]), width)
    contrast = canvas.contrast(30.0, 110.0) * canvas.foreground
    sign = rng.choice([-1.0, 1.0])
    profile = sign * contrast * (burr - 0.75 * groove)
    return np.asarray(canvas.image + profile[..., None], np.float32)


def _dent(canvas: _Canvas) -> NDArray[np.float32]:
    """Plant a dent: the wall that faces the lamp is bright, the other one dark."""
    rng, unit = canvas.rng, canvas.unit
    x, y = canvas.offsets(*canvas.place(10.0))
    width, turn = rng.uniform(2.4, 5.5) * unit, rng.uniform(0.0, math.pi)
    aspect = rng.uniform(0.65, 1.0)
    along = (x * math.cos(turn) + y * math.sin(turn)) / width
    aside = (y * math.cos(turn) - x * math.sin(turn)) / (width * aspect)
    bowl = np.exp(-0.5 * (along * along + aside * aside))
    lamp = math.radians(55.0)
    slope = (x * math.cos(lamp) + y * math.sin(lamp)) / width
    shade = (slope - 0.35) * bowl * canvas.foreground
    light = 1.0 + canvas.contrast(0.28, 0.95) * shade
    return np.asarray(canvas.image * light[..., None], np.float32)


def _stain(canvas: _Canvas) -> NDArray[np.float32]:
    """Plant a soft blotch of rust, oil or coolant with a ragged border and a darker rim."""
    import cv2

    rng, unit = canvas.rng, canvas.unit
    x, y = canvas.offsets(*canvas.place(12.0))
    radius = rng.uniform(7.0, 17.0) * unit
    ragged = cv2.resize(
        rng.standard_normal((24, 24), dtype=np.float32),
        canvas.foreground.shape[::-1],
        interpolation=cv2.INTER_CUBIC,
    )
    depth = 1.0 - np.sqrt(x * x + y * y) / radius + 0.22 * ragged
    body = np.clip(depth / 0.35, 0.0, 1.0)
    rim = np.exp(-(((depth - 0.25) / 0.18) ** 2))
    density = (0.75 * body + 0.35 * rim * body) * canvas.foreground
    absorbed = rng.choice(np.array(((0.25, 0.55, 0.85), (0.7, 0.6, 0.5), (0.75, 0.45, 0.3))))
    strength = min(canvas.contrast(0.16, 0.75), 1.0)
    return np.asarray(canvas.image * (1.0 - strength * density[..., None] * absorbed), np.float32)


def _fibre(canvas: _Canvas) -> NDArray[np.float32]:
    """Plant a curled hair that lies on the part and throws a faint shadow."""
    rng, unit = canvas.rng, canvas.unit
    along = np.linspace(0.0, 2 * math.pi, 120)
    heading = rng.uniform(0.0, 2 * math.pi) + rng.uniform(0.5, 1.5) * np.sin(
        rng.uniform(0.4, 1.1) * along + rng.uniform(0.0, 2 * math.pi)
    )
    heading += 0.45 * np.sin(rng.uniform(1.5, 2.6) * along + rng.uniform(0.0, 2 * math.pi))
    path = _walk(canvas.place(8.0), heading, rng.uniform(35.0, 75.0) * unit)
    hair = _stroke(canvas, path, rng.uniform(0.5, 0.85) * unit, fading=False)
    shadow = _stroke(canvas, path + 2.0 * unit, 1.1 * unit, fading=False)
    colour = rng.choice(np.array(((232.0, 232.0, 226.0), (40.0, 34.0, 32.0), (58.0, 76.0, 140.0))))
    opacity = min(canvas.contrast(0.4, 0.95), 1.0)
    lit = canvas.image * (1.0 - 0.25 * opacity * shadow * canvas.foreground)[..., None]
    return np.asarray(lit + (colour - lit) * (opacity * hair)[..., None], np.float32)


def _chip(canvas: _Canvas) -> NDArray[np.float32]:
    """Break a piece off the outer edge: the belt shows, the fracture glints."""
    import cv2

    rng, unit = canvas.rng, canvas.unit
    outline = (
        max(
            cv2.findContours(_padded(canvas.foreground), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[
                0
            ],
            key=cv2.contourArea,
        ).reshape(-1, 2)
        - 1.0
    )
    at = outline[rng.integers(len(outline))]
    outward = at - outline.mean(axis=0)
    outward /= max(float(np.hypot(*outward)), 1.0)
    size = max(rng.uniform(3.5, 9.0) * unit * canvas.severity, 4.0)
    x, y = canvas.offsets(*(at + outward * size * 0.25))
    angle = np.arctan2(y, x)
    first, second = rng.uniform(0.0, 2 * math.pi, 2)
    ragged = 1.0 + 0.16 * np.sin(3 * angle + first) + 0.10 * np.sin(7 * angle + second)
    depth = size * ragged - np.sqrt(x * x + y * y)
    gone = (np.clip(depth + 0.5, 0.0, 1.0) * canvas.foreground)[..., None]
    fracture = np.exp(-((depth / (0.9 * unit)) ** 2)) * canvas.foreground
    shift = np.array([[1, 0, -outward[0] * 2.2 * size], [0, 1, -outward[1] * 2.2 * size]])
    beyond = cv2.warpAffine(
        canvas.image, shift, canvas.foreground.shape[::-1], borderMode=cv2.BORDER_REFLECT
    )
    chipped = canvas.image * (1.0 - gone) + 0.9 * beyond * gone
    return np.asarray(chipped + (rng.uniform(25.0, 80.0) * fracture)[..., None], np.float32)


def _missing_hole(canvas: _Canvas) -> NDArray[np.float32]:
    """Fill a bolt hole, with or without its countersink, with metal from between two holes."""
    import cv2

    rows, columns = canvas.foreground.shape
    solid, hole = _pick_hole(canvas)
    grow = 2 * round(canvas.rng.choice([0.0, 5.0]) * canvas.unit) + 1
    hole = cv2.dilate(hole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow)))
    rim = (cv2.dilate(hole, np.ones((5, 5), np.uint8)) > hole) & canvas.foreground
    ys, xs = np.nonzero(solid)
    centre = (float(xs.mean()), float(ys.mean()))
    for turn in canvas.rng.permutation(np.array([-35.0, -30.0, -25.0, 25.0, 30.0, 35.0])):
        rotation = cv2.getRotationMatrix2D(centre, float(turn), 1.0)
        source = cv2.warpAffine(canvas.foreground.astype(np.uint8), rotation, (columns, rows))
        if rim.any() and source[hole > 0].all():
            break
    else:
        raise InputError("there is no metal beside this hole to fill it with")
    metal = cv2.warpAffine(canvas.image, rotation, (columns, rows))
    metal *= canvas.image[rim].mean() / max(float(metal[rim].mean()), 1.0)
    fill = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(0.6 * canvas.unit, 0.3))
    fill *= min(canvas.contrast(0.35, 1.3), 1.0)
    return np.asarray(canvas.image + (metal - canvas.image) * fill[..., None], np.float32)


def _pick_hole(canvas: _Canvas) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return the part without its holes, and one hole as 0 and 1.

    The bore is left alone: the largest hole counts only if it is the only one.
    """
    import cv2

    empty = _padded(~canvas.foreground)
    empty[[0, -1]] = empty[:, [0, -1]] = 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(empty, connectivity=4)
    outside, labels = labels[0, 0], labels[1:-1, 1:-1]
    areas = stats[:, cv2.CC_STAT_AREA]
    holes = [i for i in range(1, count) if i != outside and areas[i] >= _SMALLEST]
    if not holes:
        raise InputError("this foreground has no hole that could be missing")
    if len(holes) > 1:
        holes.remove(max(holes, key=lambda i: int(areas[i])))
    chosen = canvas.rng.choice(holes)
    return labels != outside, (labels == chosen).astype(np.uint8)


def _walk(
    middle: tuple[float, float], heading: NDArray[np.float64], length: float
) -> NDArray[np.float64]:
    """Return a path x, y of equal steps with the given headings around a point, shape (n, 2)."""
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / len(heading))
    path = np.cumsum(steps, axis=0)
    return np.asarray(path - path[len(path) // 2] + np.array(middle), np.float64)


def _stroke(
    canvas: _Canvas, path: NDArray[np.float64], width: float, *, fading: bool = True
) -> NDArray[np.float32]:
    """Return the coverage in [0, 1] of a path drawn with a soft pen, float32 (H, W)."""
    import cv2

    ink = np.zeros(canvas.foreground.shape, np.uint8)
    points = np.rint(path * 16.0).astype(np.int32)
    for i, (start, end) in enumerate(itertools.pairwise(points)):
        level = math.sin(math.pi * (i + 1) / len(points)) ** 0.6 if fading else 1.0
        first, last = (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))
        cv2.line(ink, first, last, round(255 * level), 1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(ink.astype(np.float32), (0, 0), max(width / 1.6, 0.3))
    return np.asarray(np.clip(soft / 170.0, 0.0, 1.0), np.float32)


_PAINTERS: Mapping[str, Callable[[_Canvas], NDArray[np.float32]]] = MappingProxyType(
    {
        "chip": _chip,
        "dent": _dent,
        "fibre": _fibre,
        "missing_hole": _missing_hole,
        "scratch": _scratch,
        "stain": _stain,
    }
)
DEFECTS = tuple(_PAINTERS)
"""The kinds that `plant` knows."""

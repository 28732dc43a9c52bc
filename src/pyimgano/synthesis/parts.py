"""The demo's part: a turned flange with a brass bushing, seen from above on a conveyor belt.

The relief of the part is a height field on a grid of twice the resolution; normals, two lamps and
the anisotropic highlight of turned metal give the shading, and averaging gives smooth edges. Pose,
light, surface, colour temperature, focus and noise vary as they do on a real line.

Source of the highlight: Ward, "Measuring and modeling anisotropic reflection", SIGGRAPH 1992.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Part", "render_part"]

MINIMUM_SIDE = 64
_FINE = 2  # sub-pixels along each side of a pixel
_NOMINAL = 256.0  # image side for which shifts, blur and belt are stated in pixels
_RADIUS = 0.41  # outer radius of the part, as a share of the shorter image side
_BORE, _BUSHING, _HUB = 0.20, 0.305, 0.43
_HOLES, _HOLE_CIRCLE, _HOLE, _SINK = 6, 0.715, 0.078, 0.118
_KNURL = (0.895, 0.975)
_PROFILE = (
    (0.20, 0.075),
    (0.225, 0.10),
    (0.290, 0.10),
    (0.305, 0.075),
    (0.320, 0.10),
    (0.395, 0.10),
    (0.440, 0.05),
    (0.865, 0.05),
    (0.880, 0.03),
    (0.895, 0.05),
    (0.975, 0.05),
    (1.000, 0.025),
)
"""Radius and height of the turned profile, in outer radii."""
_STEEL = (0.56, 0.575, 0.60)
_BRASS = (0.70, 0.54, 0.30)
_MARK, _MARK_RADIUS = "PIA-60 M8", 0.53


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One rendered part: RGB image (H, W, 3), mask (H, W), False on its holes and the belt."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (*self.mask.shape, 3)
        if self.image.dtype != np.uint8 or len(shape) != 3 or self.image.shape != shape:
            raise InputError(
                f"a part is RGB uint8 (H, W, 3) with a mask (H, W), got {self.image.dtype} "
                f"{self.image.shape} and {self.mask.shape}"
            )
        self.image.setflags(write=False)
        self.mask.setflags(write=False)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What differs from one shot to the next; lengths in pixels of the image."""

    centre: tuple[float, float]
    radius: float
    turn: float
    azimuth: float
    tilt: float
    gain: float
    slope: tuple[float, float]
    tint: tuple[float, float, float]
    blur: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Coordinates of the fine grid, in outer radii from the centre of the part."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    r: NDArray[np.float32]
    theta: NDArray[np.float32]
    step: float


def render_part(rng: np.random.Generator, size: tuple[int, int] = (256, 256)) -> Part:
    """Render one good part: RGB image (H, W, 3) and foreground mask (H, W).

    Position (+-6 px at a side of 256), rotation (+-8 degrees), scale (+-3 %), light, brushing,
    colour temperature, focus and sensor noise are drawn from ``rng``: equal states give equal
    parts. ``size`` is height and width, each at least 64, else a `ParameterError`.

    Examples
    --------
    >>> part = render_part(np.random.default_rng(0), (64, 96))
    >>> part.image.shape, part.mask.shape
    ((64, 96, 3), (64, 96))
    """
    import cv2

    if min(size) < MINIMUM_SIDE:
        raise ParameterError(f"size must be at least {MINIMUM_SIDE} x {MINIMUM_SIDE}, got {size}")
    scene = _draw(rng, size)
    grid = _grid(scene, size)
    height, cover = _relief(grid)
    metal = _shade(grid, scene, height, _brushing(rng, grid))
    metal *= cover[..., None]
    metal = cv2.resize(metal, size[::-1], interpolation=cv2.INTER_AREA)
    cover = cv2.resize(cover, size[::-1], interpolation=cv2.INTER_AREA)
    belt = _belt(rng, scene, cover)
    metal += belt * (1.0 - cover)[..., None]
    return Part(_expose(rng, scene, metal), cover >= 0.5)


def _draw(rng: np.random.Generator, size: tuple[int, int]) -> _Scene:
    side = min(size)
    shift = rng.uniform(-6.0, 6.0, 2) * side / _NOMINAL
    warmth = rng.uniform(-0.035, 0.035)
    return _Scene(
        centre=(size[1] / 2 + float(shift[0]), size[0] / 2 + float(shift[1])),
        radius=side * _RADIUS * rng.uniform(0.97, 1.03),
        turn=math.radians(rng.uniform(-8.0, 8.0)),
        azimuth=math.radians(-125.0 + rng.uniform(-9.0, 9.0)),
        tilt=rng.uniform(0.36, 0.44),
        gain=rng.uniform(0.92, 1.06),
        slope=(rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
        blur=rng.uniform(0.35, 0.65) * side / _NOMINAL,
        noise=rng.uniform(1.2, 2.0),
    )


def _grid(scene: _Scene, size: tuple[int, int]) -> _Grid:
    import cv2

    rows, columns = ((np.arange(n * _FINE, dtype=np.float32) + 0.5) / _FINE - 0.5 for n in size)
    across = ((columns - scene.centre[0]) / scene.radius).astype(np.float32)
    down = ((rows - scene.centre[1]) / scene.radius).astype(np.float32)
    x, y = np.meshgrid(across, down)
    r, angle = cv2.cartToPolar(x, y)
    theta = _wrap(angle - np.float32(scene.turn), 2 * math.pi)
    return _Grid(x, y, np.maximum(r, 1e-3), theta, 1.0 / (scene.radius * _FINE))


def _relief(grid: _Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return height (outer radii) and coverage in [0, 1] of the part on the fine grid."""
    radii, heights = zip(*_PROFILE, strict=True)
    height = np.interp(grid.r, radii, heights).astype(np.float32)
    pitch = 2 * math.pi / _HOLES
    folded = _wrap(grid.theta, pitch) - np.float32(pitch / 2)
    along, aside = grid.r * np.cos(folded) - np.float32(_HOLE_CIRCLE), grid.r * np.sin(folded)
    hole = np.sqrt(along * along + aside * aside)
    height -= np.clip((_SINK - hole) / (_SINK - _HOLE), 0.0, 1.0) * np.float32(0.05)
    band = np.clip(np.minimum(grid.r - _KNURL[0], _KNURL[1] - grid.r) / 0.01, 0.0, 1.0)
    waves = np.cos(96 * grid.theta) + np.cos(np.float32(2 * math.pi / 0.08) * grid.r)
    height += band * waves * np.float32(0.006)
    key = np.maximum(np.abs(grid.theta - np.float32(1.5 * math.pi)) * grid.r - 0.055, grid.r - 0.26)
    inside = np.minimum(np.minimum(1.0 - grid.r, grid.r - _BORE), np.minimum(hole - _HOLE, key))
    return height, np.clip(inside / grid.step + 0.5, 0.0, 1.0).astype(np.float32)


def _marking(grid: _Grid) -> NDArray[np.float32]:
    """Return the opacity in [0, 1] of a laser mark along an arc, twice around the part."""
    import cv2

    scale, reach = 800.0, math.pi * _MARK_RADIUS  # the strip's pixels an outer radius
    strip = np.zeros((100, round(reach * scale)), np.uint8)
    origin = (strip.shape[1] // 2 - 300, 72)
    cv2.putText(strip, _MARK, origin, cv2.FONT_HERSHEY_SIMPLEX, 2.0, 255, 7, cv2.LINE_AA)
    along = _wrap(grid.theta, math.pi) * np.float32(strip.shape[1] / math.pi)
    across = np.float32(50) - (grid.r - np.float32(_MARK_RADIUS)) * np.float32(scale)
    mark = cv2.remap(strip, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(mark, np.float32) / np.float32(255.0)


def _wrap(values: NDArray[np.float32], period: float) -> NDArray[np.float32]:
    """Return ``values`` modulo ``period``; `numpy.mod` takes ten times as long."""
    turns = np.floor(values * np.float32(1.0 / period))
    return np.asarray(values - np.float32(period) * turns, np.float32)


def _brushing(rng: np.random.Generator, grid: _Grid) -> NDArray[np.float32]:
    """Return the tool marks of the lathe: noise that varies quickly outward, slowly around."""
    import cv2

    noise = rng.standard_normal((384, 48), dtype=np.float32)
    noise += rng.standard_normal((384, 1), dtype=np.float32)
    noise[:, -1] = noise[:, 0]
    around = grid.theta * np.float32((noise.shape[1] - 1) / (2 * math.pi))
    outward = grid.r * np.float32(noise.shape[0] / 1.05)
    marks = cv2.remap(noise, around, outward, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(marks, np.float32)


def _shade(
    grid: _Grid, scene: _Scene, height: NDArray[np.float32], brush: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the colour of the metal, float32 (2H, 2W, 3), 1.0 being white."""
    import cv2

    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125 / grid.step)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125 / grid.step)
    radial_x, radial_y = grid.x / grid.r, grid.y / grid.r
    norm = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    diffuse = np.zeros_like(height)
    gloss = np.zeros_like(height)
    for turn, weight in ((0.0, 1.0), (2.2, 0.45)):
        east, north = math.cos(scene.azimuth + turn), math.sin(scene.azimuth + turn)
        facing = (0.75 - 0.66 * (slope_x * east + slope_y * north)) * norm
        diffuse += weight * np.maximum(facing, 0.0)
        half = scene.tilt * norm
        across = half * (radial_x * north - radial_y * east) / 0.12
        outward = scene.tilt * (radial_x * east + radial_y * north)
        outward = (outward - slope_x * radial_x - slope_y * radial_y + 0.05 * brush) / 0.5
        gloss += weight * np.exp(-across * across - outward * outward)
    light = 0.12 + 0.62 * diffuse + 0.022 * brush
    light *= 1.0 - 0.55 * _marking(grid)
    brass = np.clip((_BUSHING - grid.r) / grid.step + 0.5, 0.0, 1.0)
    shade = np.empty((*height.shape, 3), np.float32)
    for channel, (steel, bronze) in enumerate(zip(_STEEL, _BRASS, strict=True)):
        base = steel + (bronze - steel) * brass
        shade[..., channel] = base * (light + 1.25 * gloss)
    return shade


def _belt(
    rng: np.random.Generator, scene: _Scene, cover: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the woven belt with the part's soft shadow, float32 (H, W, 3)."""
    import cv2

    rows, columns = cover.shape
    scale = scene.radius / (_NOMINAL * _RADIUS)
    y = (np.arange(rows, dtype=np.float32)[:, None] + rng.uniform(0, 40)) / scale
    x = (np.arange(columns, dtype=np.float32)[None] + rng.uniform(0, 40)) / scale
    weave = np.sin(1.26 * (x + y)) * np.sin(1.26 * (x - y))
    dust = cv2.resize(
        rng.standard_normal((12, 12), dtype=np.float32),
        (columns, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    level = 0.085 + 0.014 * weave + 0.008 * dust
    reach = 9.0 * scale
    shift = np.array(
        [[1, 0, -reach * math.cos(scene.azimuth)], [0, 1, -reach * math.sin(scene.azimuth)]]
    )
    shadow = cv2.warpAffine(cover, shift, (columns, rows))
    shadow = cv2.GaussianBlur(np.maximum(shadow, cover), (0, 0), 5.0 * scale)
    level *= 1.0 - 0.75 * shadow
    return np.asarray(level[..., None] * np.array([0.92, 1.0, 1.08]), np.float32)


def _expose(
    rng: np.random.Generator, scene: _Scene, radiance: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return what the camera makes of it: uneven light, white balance, focus, tone, noise."""
    import cv2

    rows, columns = radiance.shape[:2]
    y = np.linspace(-1.0, 1.0, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, columns, dtype=np.float32)[None]
    field = scene.gain * (1.0 + scene.slope[0] * x + scene.slope[1] * y - 0.06 * (x * x + y * y))
    image = radiance * field[..., None]
    image *= np.array(scene.tint, np.float32)
    image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    image = 255.0 * (1.0 - np.exp(-1.45 * image))
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    image += grain * (scene.noise * np.sqrt(0.35 + image / 255.0))
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)

"""Colour, bands, oriented energy and local patterns on cells of 8 pixels: no weights at all.

It runs wherever numpy and OpenCV do, says what each channel means, and on parts with fine regular
texture it separates better than a small network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.features._grid import check_image, tiled
from pyimgano.features.base import EXTRACTORS
from pyimgano.registry import Metadata
from pyimgano.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

    Plane = NDArray[np.float32]

__all__ = ["CHANNELS", "Handcrafted"]

_CELL = 8
_SMALLEST = 16
_OCTAVES = 4
_ORIENTATIONS = 6
_OPPONENT = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0], [0.25, 0.25, -0.5]], np.float32)
_ENVELOPE = 4 / 3
_FREQUENCY = 2.17
_PATTERNS = 10
_PATTERN_STEP = 0.5
_OVERLAP = 0.6

CHANNELS: tuple[str, ...] = (
    *(f"{what} {axis}" for what in ("mean", "deviation") for axis in ("light", "red", "yellow")),
    "darkest",
    "brightest",
    *(f"pattern {number}" for number in range(_PATTERNS)),
    *(
        f"octave {octave} {what}"
        for octave in range(_OCTAVES)
        for what in (
            *("fine", "fine energy", "coarse", "coarse energy"),
            *(f"energy at {180 * k // _ORIENTATIONS}" for k in range(_ORIENTATIONS)),
        )
    ),
)
"""What each channel measures, in order."""


@EXTRACTORS.register(
    "handcrafted",
    Metadata(
        summary="Colour, bands, oriented energy and local patterns; needs no weights.",
        paper=(
            "Gabor energy: Manjunath and Ma, PAMI 1996; local binary patterns: Ojala et al., "
            "PAMI 2002"
        ),
    ),
)
@dataclass(frozen=True, kw_only=True)
class Handcrafted:
    """Classical texture and colour measures as patch vectors.

    Notes
    -----
    All in grey levels, from the gamma-encoded pixels. Opponent colours (light, red - green, yellow
    - blue) stand in for Lab, because theirs are exactly zero in a grey image: nothing is left that
    standardising could blow up to noise. Of each: mean and deviation of the cell. Of the light: its
    darkest and brightest pixel against the mean; ten rotation-invariant uniform patterns as shares
    of the cell's pixels; and on each of four octaves two difference-of-Gaussians bands, signed and
    rectified, and the magnitude of six quadrature pairs of Gabor filters. Neighbouring cells
    overlap by a Gaussian of 0.6 cells, so that a small shift changes a vector little. An image
    whose sides are no multiples of 8 is continued by reflection at the bottom and right; the grid
    keeps the ``H // 8`` by ``W // 8`` cells that lie wholly in the image.

    Examples
    --------
    >>> import numpy as np
    >>> Handcrafted().embed([np.zeros((64, 96, 3), np.uint8)])[0].values.shape
    (8, 12, 58)
    """

    @property
    def fingerprint(self) -> str:
        """Version of the arithmetic and number of channels."""
        return f"handcrafted version:1 channels:{len(CHANNELS)}"

    @property
    def families(self) -> tuple[str, ...]:
        """What each of `CHANNELS` tells of: see `NamedChannels`."""
        return tuple(_family(name) for name in CHANNELS)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed images, each by itself.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W, 3)
            RGB, at least 16 pixels a side; sizes may differ.

        Returns
        -------
        list of PatchFeatures
            For each image (H // 8, W // 8, 58), the channels as in `CHANNELS`.

        Raises
        ------
        InputError
            If an image has another type or shape, or is too small.
        """
        for image in images:
            check_image(image, smallest=_SMALLEST)
        return side_by_side(_embed_one, images)


def _family(channel: str) -> str:
    if channel.endswith(("red", "yellow")):
        return "colour"
    if channel == "mean light":
        return "brightness"
    if not channel.startswith("octave"):
        return "texture" if channel.startswith("pattern") else "contrast"
    if "energy at" in channel:
        return "edges"
    return "fine structure" if int(channel.split()[1]) < _OCTAVES // 2 else "coarse structure"


def _embed_one(image: NDArray[np.uint8]) -> PatchFeatures:
    import cv2

    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % _CELL), (0, -width % _CELL), (0, 0)), "reflect")
    planes = cv2.split(cv2.transform(padded.astype(np.float32), _OPPONENT))
    light = planes[0]
    grids = [*_colour(planes), *_extremes(light), *_patterns(light)]
    for octave in range(_OCTAVES):
        cell = _CELL >> octave
        fine = _blur(light, 1)
        for band in (light - fine, fine - _blur(light, 2)):
            grids += [_pool(band, cell), _pool(np.abs(band), cell)]
        grids += [_pool(energy, cell) for energy in _oriented(light)]
        light = _pool(fine, 2)
    stacked = np.stack([_blur(grid, _OVERLAP) for grid in grids], axis=-1)
    return tiled(np.ascontiguousarray(stacked[: height // _CELL, : width // _CELL]), _CELL)


def _blur(plane: Plane, sigma: float) -> Plane:
    import cv2

    blurred: Plane = cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return blurred


def _pool(plane: Plane, cell: int) -> Plane:
    """Average squares of ``cell`` pixels, by which both sides are divisible."""
    import cv2

    height, width = plane.shape
    size = (width // cell, height // cell)
    pooled: Plane = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return pooled


def _colour(planes: Sequence[Plane]) -> list[Plane]:
    means = [_pool(plane, _CELL) for plane in planes]
    deviations = []
    for plane in planes:
        local = plane - _blur(plane, _CELL / 2)  # small numbers, whose squares keep their digits
        variance = _pool(local * local, _CELL) - _pool(local, _CELL) ** 2
        deviations.append(np.sqrt(np.maximum(variance, 0)))
    return means + deviations


def _extremes(light: Plane) -> list[Plane]:
    height, width = light.shape
    cells = light.reshape(height // _CELL, _CELL, width // _CELL, _CELL)
    mean = _pool(light, _CELL)
    return [cells.min((1, 3)) - mean, cells.max((1, 3)) - mean]


def _patterns(light: Plane) -> list[Plane]:
    """Count the neighbours that are brighter, if they adjoin on the circle; all others are one."""
    height, width = light.shape
    padded = np.pad(_blur(light, 0.7), 1, "reflect")
    centre = padded[1:-1, 1:-1] + np.float32(_PATTERN_STEP)
    circle = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
    brighter = [
        (padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] > centre).view(np.uint8)
        for y, x in circle
    ]
    changes = sum(here ^ brighter[i - 1] for i, here in enumerate(brighter))
    code = np.where(changes <= 2, sum(brighter), _PATTERNS - 1)
    rows, columns = height // _CELL, width // _CELL
    cell = np.arange(rows * columns).reshape(rows, columns).repeat(_CELL, 0).repeat(_CELL, 1)
    counts = np.bincount(
        (cell * _PATTERNS + code).ravel(), minlength=cell.size // _CELL**2 * _PATTERNS
    )
    shares = counts.reshape(rows, columns, _PATTERNS).astype(np.float32) / _CELL**2
    return list(np.moveaxis(shares, -1, 0))


def _oriented(light: Plane) -> list[Plane]:
    """Give the magnitude of the quadrature pair of each orientation, in ascending order.

    A Gabor filter with a round envelope is a sum of separable ones, and those of an angle and of
    its mirror image are shared: 4 rows and columns instead of 4 full kernels.
    """
    import cv2

    def filtered(row: Plane, column: Plane) -> Any:
        return cv2.sepFilter2D(light, cv2.CV_32F, row, column, borderType=cv2.BORDER_REFLECT_101)

    envelope, pairs = _gabor()
    low = filtered(envelope, envelope)
    energies = [low] * _ORIENTATIONS
    for k, ((cos_x, sin_x), (cos_y, sin_y)) in enumerate(pairs):
        even = filtered(cos_x, cos_y) - float(cos_x.sum() * cos_y.sum()) * low
        odd = filtered(sin_x, sin_y)
        turned, crossed = filtered(sin_x, cos_y), filtered(cos_x, sin_y)
        energies[k] = _magnitude(even - odd, turned + crossed)
        energies[-k] = _magnitude(even + odd, turned - crossed)
    return energies


def _magnitude(first: Plane, second: Plane) -> Plane:
    """Give what ``cv2.magnitude`` would, whose last bit depends on where the arrays lie."""
    return np.sqrt(first * first + second * second)


@lru_cache(maxsize=1)
def _gabor() -> tuple[Plane, list[tuple[tuple[Plane, Plane], tuple[Plane, Plane]]]]:
    """Return the envelope and, from 0 to 90 degrees, its cosines and sines along x and along y."""
    radius = int(np.ceil(3 * _ENVELOPE))
    at = np.arange(-radius, radius + 1)
    envelope = np.exp(-((at / _ENVELOPE) ** 2) / 2)
    envelope /= envelope.sum()

    def waves(frequency: float) -> tuple[Plane, Plane]:
        cosine, sine = np.cos(frequency * at), np.sin(frequency * at)
        return (envelope * cosine).astype(np.float32), (envelope * sine).astype(np.float32)

    angles = np.pi / _ORIENTATIONS * np.arange(_ORIENTATIONS // 2 + 1)
    pairs = [(waves(_FREQUENCY * np.cos(a)), waves(_FREQUENCY * np.sin(a))) for a in angles]
    return envelope.astype(np.float32), pairs

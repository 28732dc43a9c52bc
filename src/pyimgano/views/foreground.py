"""The part in front of a plain background: what differs from the colour of the image's border."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PLAIN", "Foreground", "find_foreground"]

PLAIN = 3.5  # generated parts have 13 and more, textures, noise and empty backgrounds 1.7 at most

_RING = 0.02
_CLOSE = 0.015


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """The largest connected piece that differs from the border, its holes filled.

    Attributes
    ----------
    mask : ndarray of bool, shape (H, W)
    area : float
        Share of the image.
    touch : float
        Share of the image's border that it touches.
    centre : (float, float)
        x and y of the centroid.
    angle : float
        Of the longer principal axis, in radians; its heavier end decides between two directions.
    elongation : float
        Ratio of the standard deviations along the principal axes.
    contrast : float
        How far it is from the border's colour beyond all else, in standard deviations of the
        latter: below `PLAIN` it is no part in front of a plain background.
    """

    mask: NDArray[np.bool_]
    area: float
    touch: float
    centre: tuple[float, float]
    angle: float
    elongation: float
    contrast: float


def find_foreground(image: NDArray[np.uint8]) -> Foreground:
    """Find the part: Otsu on the distance from the border's colour, closed, the largest piece.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        Small: nothing here needs more than some 256 pixels a side.
    """
    import cv2

    height, width = image.shape[:2]
    side = math.sqrt(height * width)
    ring = max(1, round(_RING * side))
    inner = np.zeros((height, width), np.bool_)
    inner[ring:-ring, ring:-ring] = True
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
    away = np.abs(smooth - np.median(smooth[~inner], axis=0).astype(np.float32)).max(axis=2)
    levels = np.clip(np.rint(away), 0, 255).astype(np.uint8)
    _, found = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    reach = 2 * max(1, round(_CLOSE * side)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    closed = cv2.morphologyEx(found, cv2.MORPH_CLOSE, kernel)
    mask = _largest(cast("NDArray[np.uint8]", closed))
    return _measured(mask, away)


def _largest(found: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest piece with its holes filled."""
    import cv2

    outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(found)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled


def _measured(mask: NDArray[np.uint8], away: NDArray[np.float32]) -> Foreground:
    rows, columns = np.nonzero(mask)
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if len(rows) < 2 or mask.all():
        height, width = mask.shape
        middle = ((width - 1) / 2, (height - 1) / 2)
        return Foreground(np.zeros_like(mask, np.bool_), 0.0, 0.0, middle, 0.0, 1.0, 0.0)
    part, rest = away[mask > 0], away[mask == 0]
    points = np.stack([columns, rows]).astype(np.float64)
    centre = points.mean(axis=1)
    points -= centre[:, None]
    values, axes = np.linalg.eigh(points @ points.T / len(rows))
    axis = axes[:, 1]
    heavy = float(((axis @ points) ** 3).mean())
    axis = axis if heavy >= 0 else -axis
    return Foreground(
        mask=mask > 0,
        area=len(rows) / mask.size,
        touch=float(border.mean()),
        centre=(float(centre[0]), float(centre[1])),
        angle=math.atan2(axis[1], axis[0]),
        contrast=float(part.mean() - rest.mean()) / max(float(rest.std()), 1.0),
        elongation=math.sqrt(float(values[1]) / max(float(values[0]), 1e-9)),
    )

"""Pictures of anomaly maps on one fixed colour scale that is tied to the pixel threshold.

The scale never depends on the picture: it spans ``|threshold|`` on either side of the threshold,
so for a map of distances it runs from 0 to twice the threshold. Values at or below the threshold
are blue, and transparent in the lower half of that range; values above it are orange to pale
yellow. Lightness rises along the whole scale, and blue and orange stay apart for every common
kind of colour blindness. A good part is therefore never red. Where not all of an image is judged,
a dashed magenta line runs around what is.

=========================  ========================================================
threshold                  scale
=========================  ========================================================
``t > 0``                  0 to 2 t; negative values count as 0
``t < 0``                  2 t to 0, for maps such as log-likelihoods
``t = 0``                  two colours: at or below 0 nothing, above 0 the top colour
``None`` (not calibrated)  0 to twice the map's maximum: blue only, nothing can alarm
=========================  ========================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from pyimgano.records import Region

    Mask = NDArray[np.bool_]

__all__ = ["encode_png", "heatmap", "legend", "overlay", "side_by_side"]

_HALF = 128  # colours on each side of the threshold
_GAP = 4  # white pixels between pictures side by side
_BELOW = ((8, 12, 38), (22, 58, 122), (48, 116, 190))
_ABOVE = ((232, 112, 24), (250, 178, 50), (255, 246, 170))
_FAINT = 0.55  # share of alpha just below the threshold
_STRONG = 0.85  # share of alpha just above it
_ALPHA = 0.5  # at the top of the scale
_DASHED = (235, 40, 200)  # neither on the scale nor white, by turns with black
_DASH = 5  # in thicknesses of the line


def heatmap(anomaly_map: NDArray[Any], threshold: float | None) -> NDArray[np.uint8]:
    """Colour a map (H, W) on the fixed scale of a pixel threshold: RGB uint8 (H, W, 3).

    A map that is not finite is an `InputError`, such a threshold a `ParameterError`.
    """
    return _palette()[_levels(anomaly_map, threshold)]


def overlay(
    image: NDArray[Any],
    anomaly_map: NDArray[Any],
    threshold: float | None,
    regions: Sequence[Region] = (),
    *,
    max_side: int | None = None,
    seen: Mask | None = None,
) -> NDArray[np.uint8]:
    """Lay a map over its image; outline what is above the threshold and box the regions.

    Below half the threshold the image is left as it is; from there the map fades in. Map,
    threshold, result and errors are as of `heatmap`.

    Parameters
    ----------
    image : ndarray of uint8 or uint16, shape (H, W, 3) or (H, W)
        RGB or grey. A uint16 image is shifted by the fewest bits that bring its maximum into 8.
    max_side : int, optional
        Shrink so that no side is longer. Shrinking keeps the largest map value of each block, so
        that no defect gets lost.
    seen : ndarray of bool, shape (H, W), optional
        Where the image was judged; by default everywhere. A dashed line runs around it.
    """
    picture, values, scale = _prepare(image, anomaly_map, max_side)
    levels = _levels(values, threshold)
    blended = _blend(picture, levels)
    if seen is not None:
        _draw_limits(blended, seen, anomaly_map.shape)
    _draw_outlines(blended, levels >= _HALF)
    _draw_boxes(blended, regions, scale)
    return blended


def side_by_side(
    image: NDArray[Any],
    anomaly_map: NDArray[Any],
    threshold: float | None,
    regions: Sequence[Region] = (),
    *,
    max_side: int | None = None,
    seen: Mask | None = None,
) -> NDArray[np.uint8]:
    """Return original, heatmap and overlay in one row; parameters and errors as in `overlay`."""
    picture, values, _ = _prepare(image, anomaly_map, max_side)
    last = overlay(image, anomaly_map, threshold, regions, max_side=max_side, seen=seen)
    gap = np.full((picture.shape[0], _GAP, 3), 255, np.uint8)
    return np.hstack([picture, gap, heatmap(values, threshold), gap, last])


def legend(width: int, height: int = 16) -> NDArray[np.uint8]:
    """Return the colour scale as a strip, RGB uint8 (height, width, 3), of at least 2 x 1 pixels.

    The threshold is the change of colour in the middle.
    """
    if width < 2 or height < 1:
        raise ParameterError(f"a legend is at least 2 x 1 pixels, got {width} x {height}")
    levels = np.arange(width) * (2 * _HALF) // width
    return np.repeat(_palette()[levels][None], height, axis=0)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return a PNG file of an image: uint8, RGB (H, W, 3) or grey (H, W), else an `InputError`."""
    import cv2

    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not shaped or image.size == 0:
        raise InputError(
            f"a PNG is written from uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}"
        )
    data = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])[1]
    return bytes(data)


def _palette() -> NDArray[np.uint8]:
    """Return the 256 colours of the scale, shape (256, 3)."""
    halves = []
    for colours in (_BELOW, _ABOVE):
        at = np.linspace(0.0, len(colours) - 1.0, _HALF)
        stops = np.arange(len(colours))
        halves.append(
            np.stack([np.interp(at, stops, channel) for channel in zip(*colours, strict=True)], 1)
        )
    return np.rint(np.concatenate(halves)).astype(np.uint8)


def _levels(anomaly_map: NDArray[Any], threshold: float | None) -> NDArray[np.uint8]:
    """Return the place of each value on the scale: at most 127 exactly where not above it."""
    if anomaly_map.ndim != 2 or anomaly_map.dtype.kind not in "fiu":
        raise InputError(
            f"a map has real numbers and shape (H, W), got {anomaly_map.dtype} {anomaly_map.shape}"
        )
    values = anomaly_map.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("the map holds NaN or infinity; judge the image again before drawing it")
    limit = max(float(values.max(initial=0.0)), 0.0) if threshold is None else threshold
    if not math.isfinite(limit):
        raise ParameterError(f"the pixel threshold must be finite or None, got {threshold}")
    above = values > limit
    if limit == 0:
        return np.where(above, 2 * _HALF - 1, 0).astype(np.uint8)
    with np.errstate(over="ignore"):
        steps = np.floor(np.clip((values - limit) / abs(limit), -1.0, 1.0) * _HALF)
    return np.where(
        above, _HALF + np.clip(steps, 0, _HALF - 1), np.clip(_HALF + steps, 0, _HALF - 1)
    ).astype(np.uint8)


def _blend(picture: NDArray[np.uint8], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    below = np.clip(np.linspace(-1.0, 1.0, _HALF), 0.0, 1.0) * _FAINT
    above = np.linspace(_STRONG, 1.0, _HALF)
    opacity = (_ALPHA * np.concatenate([below, above])).astype(np.float32)
    weight = opacity[levels][..., None]
    mixed = picture + (_palette().astype(np.float32)[levels] - picture) * weight
    return np.rint(mixed).astype(np.uint8)


def _prepare(
    image: NDArray[Any], anomaly_map: NDArray[Any], max_side: int | None
) -> tuple[NDArray[np.uint8], NDArray[Any], float]:
    """Return an RGB uint8 image, its map, both shrunk alike, and the factor."""
    import cv2

    if image.shape[:2] != anomaly_map.shape or image.size == 0:
        raise InputError(
            f"image and map must have the same size, got {image.shape} and {anomaly_map.shape}"
        )
    picture = _display(image)
    longest = max(anomaly_map.shape)
    if max_side is not None and max_side < 1:
        raise ParameterError(f"max_side must be at least 1, got {max_side}")
    if max_side is None or longest <= max_side:
        return picture, anomaly_map, 1.0
    scale = max_side / longest
    rows, columns = (max(1, round(length * scale)) for length in anomaly_map.shape)
    picture = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    return picture, _block_maximum(anomaly_map, rows, columns), scale


def _block_maximum(values: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return the maximum of each of ``rows`` x ``columns`` blocks; every pixel lies in one."""
    for axis, count in enumerate((rows, columns)):
        starts = np.arange(count) * values.shape[axis] // count
        values = np.maximum.reduceat(values, starts, axis=axis)
    return values


def _display(image: NDArray[Any]) -> NDArray[np.uint8]:
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype not in (np.uint8, np.uint16) or not shaped:
        raise InputError(
            "an image to draw on is uint8 or uint16 of shape (H, W, 3) or (H, W), "
            f"got {image.dtype} {image.shape}"
        )
    if image.dtype == np.uint16:
        image = (image >> max(0, int(image.max()).bit_length() - 8)).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _thickness(picture: NDArray[np.uint8]) -> int:
    return max(1, round(int(max(picture.shape[:2])) / 500))


def _draw_limits(picture: NDArray[np.uint8], seen: Mask, shape: tuple[int, ...]) -> None:
    """Draw a dashed line around what was judged; none along the border of the picture."""
    import cv2

    if seen.shape != shape:
        raise InputError(f"what was seen and the map differ in size: {seen.shape} and {shape}")
    line = _thickness(picture)
    small = cv2.resize(seen.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    wide = np.pad(small, 2 * line, "edge")  # what reaches the border has its line outside of it
    away = (-2 * line, -2 * line)
    contours = cv2.findContours(wide, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=away)[0]
    cv2.drawContours(picture, contours, -1, (0, 0, 0), line)
    dash = _DASH * line
    dashes = [some[at : at + dash] for some in contours for at in range(0, len(some), 2 * dash)]
    cv2.polylines(picture, dashes, False, _DASHED, line)


def _draw_outlines(picture: NDArray[np.uint8], above: NDArray[np.bool_]) -> None:
    """Draw white outlines just outside of what is above the threshold."""
    import cv2

    grown = cv2.dilate(above.astype(np.uint8), np.ones((3, 3), np.uint8))
    contours = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(picture, contours, -1, (255, 255, 255), _thickness(picture))


def _draw_boxes(picture: NDArray[np.uint8], regions: Sequence[Region], scale: float) -> None:
    """Draw white boxes with a black rim, clear of the outline of what they hold."""
    import cv2

    line = _thickness(picture)
    for region in regions:
        left, top, right, bottom = (edge * scale for edge in region.bbox)
        first = (math.floor(left) - 2 * line - 2, math.floor(top) - 2 * line - 2)
        last = (math.ceil(right) + 2 * line + 1, math.ceil(bottom) + 2 * line + 1)
        cv2.rectangle(picture, first, last, (0, 0, 0), line + 2)
        cv2.rectangle(picture, first, last, (255, 255, 255), line)

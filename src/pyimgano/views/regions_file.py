"""Files that draw a region: a mask image, polygons as JSON, LabelMe, COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ImageError, InputError
from pyimgano.images import read_image

if TYPE_CHECKING:
    from pyimgano.views.base import Mask, Size

__all__ = ["read_region"]

_FORMS = (
    "a list of polygons [[[x, y], ...], ...], a LabelMe file with polygons or rectangles, or a "
    "COCO file with polygons of one image"
)


def read_region(path: str | Path, size: Size) -> Mask:
    """Read a region of images of a size.

    Parameters
    ----------
    path : str or Path
        A mask image, of which all that is not black belongs to the region; or JSON: a list of
        polygons in pixels, a LabelMe file, a COCO file.
    size : (int, int)
        Height and width of the images.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    InputError
        If the file cannot be read, is for images of another size, or draws nothing.
    """
    path = Path(path)
    mask = _drawn(path, size) if path.suffix.lower() == ".json" else _painted(path, size)
    if not mask.any():
        raise InputError(f"the region in {path} is empty")
    return mask


def _painted(path: Path, size: Size) -> Mask:
    try:
        image = read_image(path)
    except ImageError as error:
        raise InputError(f"the region cannot be read: {error}") from error
    _require_size(path, (image.shape[0], image.shape[1]), size)
    return np.asarray(image.max(axis=2) > 0, np.bool_)


def _drawn(path: Path, size: Size) -> Mask:
    import cv2

    try:
        stored = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"the region {path} cannot be read: {error}") from error
    try:
        polygons = [np.array(each, np.float64) for each in _polygons(path, stored, size)]
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} draws no region; it takes {_FORMS}") from error
    mask = np.zeros(size, np.uint8)
    for points in polygons:
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
            raise InputError(f"{path}: a polygon has three points [x, y] at least; got {points}")
        if not np.isfinite(points).all():
            raise InputError(f"{path}: a polygon has points that are no numbers")
        near = np.clip(points, -(10**6), 10**6)
        cv2.fillPoly(mask, [np.rint(near * 16).astype(np.int32)], 1, shift=4)
    return mask > 0


def _polygons(path: Path, stored: Any, size: Size) -> list[Any]:
    """Return the polygons of a file as lists of points."""
    if isinstance(stored, list):
        return stored if isinstance(stored[0][0], list) else [stored]
    if "shapes" in stored:
        if stored.get("imageHeight"):
            _require_size(path, (stored["imageHeight"], stored["imageWidth"]), size)
        return [_shape(shape) for shape in stored["shapes"]]
    if "annotations" in stored:
        images = stored["images"]
        if len(images) != 1:
            raise InputError(f"{path} draws on {len(images)} images: give a file of one")
        _require_size(path, (images[0]["height"], images[0]["width"]), size)
        parts = [part for one in stored["annotations"] for part in one["segmentation"]]
        return [np.reshape(part, (-1, 2)) for part in parts]
    return list(stored["polygons"])


def _shape(shape: dict[str, Any]) -> Any:
    points = shape["points"]
    kind = shape.get("shape_type", "polygon")
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return [[left, top], [right, top], [right, bottom], [left, bottom]]
    if kind != "polygon":
        raise ValueError(kind)
    return points


def _require_size(path: Path, found: Size, size: Size) -> None:
    if tuple(found) != tuple(size):
        raise InputError(
            f"the region {path} is for images of {found[1]} x {found[0]} px, the images are "
            f"{size[1]} x {size[0]} px"
        )

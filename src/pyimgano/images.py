"""The image boundary: what the caller has becomes RGB (H, W, 3), once.

Everything below works on RGB uint8, or uint16 where the camera gives more than 8 bits. OpenCV
users hand over BGR arrays through `from_bgr`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pyimgano.decode import MAX_PIXELS, decode, from_pillow
from pyimgano.errors import ImageError, ImageSizeError, MaskError, ParameterError
from pyimgano.files import read_bytes, shown
from pyimgano.header import ImageInfo, probe
from pyimgano.records import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
    ImageSource: TypeAlias = str | os.PathLike[str] | Sample | NDArray[np.generic] | Image

__all__ = [
    "MAX_PIXELS",
    "ImageInfo",
    "describe",
    "from_bgr",
    "is_constant",
    "probe",
    "read_image",
    "read_mask",
    "read_mask_values",
    "to_uint8",
]


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image as RGB.

    Files are decoded completely or refused; EXIF orientation is applied; grey, palette and CMYK
    become RGB; alpha is dropped where the image is opaque and otherwise composited on black.

    Parameters
    ----------
    source : str, os.PathLike, Sample, ndarray or PIL.Image.Image
        A file (BMP, JPEG, PNG, TIFF or WebP of one frame); an array of uint8 or uint16,
        shape (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; or a Pillow image.
    max_pixels : int
        Larger images are refused, files before they are decoded.

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W, 3)
        RGB, C-contiguous; uint16 when the source has more than 8 bits per channel. It may be
        read-only, and a view of the caller's array: copy it before writing.

    Raises
    ------
    ImageReadError
        If a file cannot be read or decoded completely.
    ImageSizeError
        If the image has more than ``max_pixels`` pixels.
    ImageError
        If an array or a Pillow image has a type, shape or values that cannot be judged.

    Examples
    --------
    >>> import numpy as np
    >>> read_image(np.zeros((4, 6), np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(source, Sample):
        source = source.path
    if isinstance(source, str | os.PathLike):
        data = read_bytes(source, limit=_file_limit(max_pixels))
        return _rgb(decode(data, shown(source), max_pixels=max_pixels)[1])
    name = describe(source)
    samples = (
        _array_samples(source, name)
        if isinstance(source, np.ndarray)
        else _pillow_samples(source, name)
    )
    height, width = samples.shape[:2]
    if height * width > max_pixels:
        raise ImageSizeError(f"{name}: more than the limit of {max_pixels} pixels; crop or reduce")
    return _rgb(samples)


def from_bgr(array: NDArray[np.generic] | None) -> Pixels:
    """Return RGB from an array in OpenCV's channel order.

    Parameters
    ----------
    array : ndarray of uint8 or uint16
        Shape (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, as ``cv2.imread`` gives it.

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W, 3)
        RGB, C-contiguous.

    Raises
    ------
    ImageError
        If the array has a type or shape that is no image, or is the None by which OpenCV says
        that it could not read a file.

    Examples
    --------
    >>> import numpy as np
    >>> from_bgr(np.array([[[255, 0, 7]]], np.uint8)).tolist()
    [[[7, 0, 255]]]
    """
    if array is None:
        raise ImageError("None is no image; cv2.imread returns it for a file it cannot read")
    samples = _array_samples(array, describe(array))
    if samples.ndim == 3 and samples.shape[2] >= 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    return _rgb(samples)


def read_mask(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """Read a ground-truth mask: true where `read_mask_values` is not 0.

    Parameters
    ----------
    path : str or os.PathLike
        The mask file.
    max_pixels : int
        Larger masks are refused.

    Returns
    -------
    ndarray of bool, shape (H, W)
        The mask, turned upright by EXIF like its image.

    Raises
    ------
    MaskError
        If the file cannot be read or decoded completely.
    """
    return read_mask_values(path, max_pixels=max_pixels) > 0


def read_mask_values(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8 | np.uint16]:
    """Read the values of a ground-truth mask: of each pixel the largest channel but alpha.

    A palette mask counts by index. A JPEG mask, whose values compression has blurred, counts where
    it exceeds half of its range, and is 0 elsewhere.

    Parameters
    ----------
    path : str or os.PathLike
        The mask file.
    max_pixels : int
        Larger masks are refused.

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W)
        The values, turned upright by EXIF like the image; 0 is not defective.

    Raises
    ------
    MaskError
        If the file cannot be read or decoded completely.
    """
    try:
        data = read_bytes(path, limit=_file_limit(max_pixels))
        info, samples = decode(data, shown(path), max_pixels=max_pixels, indices=True)
    except ImageError as error:
        raise MaskError(f"mask {error}") from error
    values = samples.reshape(*samples.shape[:2], -1)[..., :3].max(axis=2)
    return np.where(values > 127, values, 0) if info.format == "JPEG" else values


def to_uint8(image: Pixels, white: float) -> tuple[NDArray[np.uint8], float]:
    """Reduce a 16-bit image to 8 bits on a stated scale.

    Parameters
    ----------
    image : ndarray of uint16, any shape
        A uint8 image is returned as it is, with nothing clipped.
    white : float
        The value that becomes 255; what lies above is clipped. 4095 for 12-bit cameras.

    Returns
    -------
    image : ndarray of uint8
        Rounded to the nearest.
    clipped : float
        Share of the samples that exceed ``white``.

    Raises
    ------
    ParameterError
        If ``white`` does not lie in (0, 65535].

    Examples
    --------
    >>> import numpy as np
    >>> to_uint8(np.array([0, 4095, 5000, 2048], np.uint16), 4095)
    (array([  0, 255, 255, 128], dtype=uint8), 0.25)
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False), 0.0
    if not 0 < white <= 65535:
        raise ParameterError(f"white must lie in (0, 65535], got {white}")
    levels = np.arange(65536)
    table = np.minimum(np.floor(levels * (255.0 / white) + 0.5), 255).astype(np.uint8)
    return table[image], float(np.count_nonzero(image > white) / image.size)


def is_constant(image: Pixels) -> bool:
    """Tell whether all pixels of an image (H, W, 3) are equal: a covered lens, a dead camera."""
    return bool((image == image[:1, :1]).all())


def describe(source: object) -> str:
    """Return what messages call a source: its path, or its kind and shape."""
    if isinstance(source, Sample):
        source = source.path
    if isinstance(source, str | os.PathLike):
        return shown(source)
    if isinstance(source, np.ndarray):
        return f"array {source.shape} of {source.dtype}"
    filename = getattr(source, "filename", "")  # of Pillow's images, only files have one
    if isinstance(filename, str) and filename:
        return shown(filename)
    return f"{type(source).__name__} object"


def _file_limit(max_pixels: int) -> int:
    """Eight bytes a pixel, the most that a format needs, and room for metadata."""
    return 8 * max_pixels + 2**28


def _pillow_samples(source: object, name: str) -> Pixels:
    from PIL import Image

    if not isinstance(source, Image.Image):
        raise ImageError(
            f"an image must be a path, a Sample, an array or a Pillow image, got {name}"
        )
    if 0 in source.size:
        raise ImageError(f"{name}: the image has no pixels")
    return from_pillow(source, name)


def _array_samples(array: NDArray[np.generic], name: str) -> Pixels:
    """Return a native view of the array, or say what is wrong with it."""
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        first = array.ndim == 3 and array.shape[0] in {1, 3, 4}
        hint = "; move the channels from the front to the end" if first else ""
        raise ImageError(f"{name}: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}")
    if array.size == 0:
        raise ImageError(f"{name}: the image has no pixels")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ImageError(f"{name}: non-finite values (NaN or infinity)")
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype.newbyteorder("=") == np.uint16:
        return array.astype(np.uint16, copy=False)
    raise ImageError(f"{name}: expected uint8 (0..255) or uint16 (0..65535); scale and convert it")


def _rgb(samples: Pixels) -> Pixels:
    """Bring grey, RGB or RGBA samples to a contiguous (H, W, 3)."""
    import cv2

    channels = 1 if samples.ndim == 2 else samples.shape[2]
    if channels == 1:
        grey = np.ascontiguousarray(samples.reshape(samples.shape[:2]))
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
    if channels == 4:
        return _on_black(samples)
    view = np.ascontiguousarray(samples).view()
    view.flags.writeable = False
    return view


def _on_black(samples: Pixels) -> Pixels:
    colour, alpha = np.ascontiguousarray(samples[..., :3]), samples[..., 3:]
    full = np.iinfo(samples.dtype).max
    if (alpha == full).all():
        return colour
    product = colour.astype(np.uint32) * alpha + full // 2  # 65535 * 65535 + 32767 just fits
    return (product // full).astype(samples.dtype)

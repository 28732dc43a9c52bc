"""Files to samples: bytes are read first, then decoded strictly, or refused with a reason.

A decoder that fills what it could not read with grey makes a damaged file look like a defect, or
like a good part. Here a file is decoded completely or not at all.
"""

from __future__ import annotations

import io
import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyimgano.errors import ImageReadError, ImageSizeError
from pyimgano.header import ImageInfo, damage_named, parsed, warnings_judged

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Samples: TypeAlias = NDArray[np.uint8 | np.uint16]

__all__ = ["MAX_PIXELS", "decode", "from_pillow"]

MAX_PIXELS = 178_956_970
"""The largest image that is read by default, in pixels; Pillow refuses larger ones as bombs."""

_PHOTOMETRIC, _ORIENTATION = 262, 274
_LARGE = 2**26
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def decode(
    data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, indices: bool = False
) -> tuple[ImageInfo, Samples]:
    """Decode an image file held in memory, completely or not at all.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What messages call it.
    max_pixels : int
        Larger images are refused before anything is allocated.
    indices : bool
        Return the indices of a palette image instead of its colours.

    Returns
    -------
    info : ImageInfo
        What the header declares.
    samples : ndarray of uint8 or uint16, shape (H, W) or (H, W, c)
        Grey, RGB (c = 3) or RGBA (c = 4), upright.

    Raises
    ------
    ImageReadError
        If the file is damaged, has several frames, or is of a kind that cannot be judged.
    ImageSizeError
        If the declared size exceeds ``max_pixels``.
    """
    with damage_named(name):
        image, info = parsed(io.BytesIO(data), name)
        _require_readable(info, name, max_pixels)
        if info.format == "JPEG":
            samples = _jpeg_samples(data, image)
        else:
            samples = _strict_samples(data, image, info, indices=indices)
        # Pillow turns a TIFF upright itself and then forgets its orientation.
        return info, _upright(samples, image.getexif().get(_ORIENTATION, 1))


def from_pillow(image: Image, name: str) -> Samples:
    """Return the samples of a Pillow image, upright by EXIF.

    Parameters
    ----------
    image : PIL.Image.Image
        Any mode that holds 8 or 16 unsigned bits per channel.
    name : str
        What messages call it.

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W) or (H, W, c)
        Grey, RGB (c = 3) or RGBA (c = 4).

    Raises
    ------
    ImageError
        If the image holds floating point numbers or integers outside 0..65535, or a file behind
        it is damaged.
    """
    with damage_named(name):
        image.load()
        return _upright(_samples(image), image.getexif().get(_ORIENTATION, 1))


def _samples(image: Image, *, indices: bool = False) -> Samples:
    if image.mode == "F":
        raise ValueError("floating point pixels; save it as 8 or 16 bit with a scale you choose")
    if image.mode.startswith("I"):
        return _wide_grey(image)
    if indices and image.mode in {"P", "PA"}:
        return np.asarray(image if image.mode == "P" else image.getchannel(0))
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))


def _require_readable(info: ImageInfo, name: str, max_pixels: int) -> None:
    if info.width * info.height > max_pixels:
        raise ImageSizeError(
            f"{name}: {info.width} x {info.height} pixels exceed the limit of {max_pixels}; "
            "crop or reduce the image, or raise max_pixels"
        )
    if info.frames != 1:
        raise ImageReadError(
            f"{name}: animated or multi-page, with {info.frames} frames; save each as its own file"
        )


def _jpeg_samples(data: bytes, image: Image) -> Samples:
    """Decode with libjpeg-turbo's warnings as errors; Pillow would pass over corrupt data."""
    import simplejpeg

    colours = {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB")
    samples: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, strict=True)
    if colours == "CMYK":
        return _samples(image)  # the file is sound; Pillow knows Adobe's inverted inks
    return samples[..., 0] if colours == "GRAY" else samples


def _strict_samples(data: bytes, image: Image, info: ImageInfo, *, indices: bool) -> Samples:
    from PIL import PngImagePlugin

    if info.format == "PNG":
        # The check sums of all chunks; load() does not look at those of the pixels.
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
    if info.format == "PNG" and _PNG_END not in data:
        raise ValueError("the file is truncated: it has no end")
    if info.format == "BMP" and struct.unpack_from("<I", data, 2)[0] > len(data):
        raise ValueError("the file is truncated: it is shorter than its header declares")
    large = info.width * info.height > _LARGE
    with warnings_judged() if large else nullcontext():  # Pillow warns anew of a large TIFF
        image.load()
    if info.bits > 8:
        _require_plain_samples(image, info.bits)
    if info.bits <= 8 or image.mode.startswith(("I", "F")):
        return _samples(image, indices=indices)
    return _wide_colour(data, image)


def _require_plain_samples(image: Image, bits: int) -> None:
    """Refuse the kinds of wide samples that Pillow or OpenCV would misread."""
    from PIL import TiffImagePlugin

    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if bits > 16 and image.mode != "F":
        raise ValueError(f"{bits} bits per channel; save it as 8 or 16 bit")
    if "transparency" in image.info or tags.get(_PHOTOMETRIC) == 0:
        raise ValueError(
            "16 bits with a transparent colour, or with white as zero; save it as plain RGB or grey"
        )


def _wide_grey(image: Image) -> NDArray[np.uint16]:
    values: NDArray[Any] = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(
            f"grey values {values.min()}..{values.max()}; only 8 and 16 unsigned bits can be read"
        )
    return values.astype(np.uint16)


def _wide_colour(data: bytes, image: Image) -> NDArray[np.uint16]:
    """Decode 16-bit colour with OpenCV; Pillow, which keeps the high bytes only, has checked it."""
    import cv2

    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if found is None or found.dtype != np.uint16 or found.ndim != 3:
        raise ValueError(
            f"16-bit pixels of mode {image.mode} cannot be read; save it as 16-bit RGB"
        )
    order = cv2.COLOR_BGR2RGB if found.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    samples: NDArray[np.uint16] = cv2.cvtColor(found, order)
    if not np.array_equal(samples >> 8, _samples(image)):
        raise ValueError("two decoders disagree on its 16-bit pixels; save it as 16-bit PNG in RGB")
    return samples


def _upright(samples: Samples, orientation: int) -> Samples:
    """Undo the eight orientations of EXIF (2.32, tag 0112) without interpolation."""
    if orientation in {5, 6, 7, 8}:
        samples = samples.swapaxes(0, 1)
    rows = -1 if orientation in {3, 4, 7, 8} else 1
    columns = -1 if orientation in {2, 3, 6, 7} else 1
    return np.ascontiguousarray(samples[::rows, ::columns])

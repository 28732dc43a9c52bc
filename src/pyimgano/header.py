"""What an image file declares, read by Pillow before a pixel is decoded."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.errors import ImageReadError, ImageSizeError
from pyimgano.files import opened, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import BinaryIO

    from PIL.Image import Image

__all__ = ["ImageInfo", "damage_named", "parsed", "probe", "warnings_judged"]

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_MAGIC = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"RIFF": "WebP",
}
_WIDTH, _HEIGHT, _BITS, _ORIENTATION = 256, 257, 258, 274
# What Pillow's readers are known to raise on damaged files, UserWarnings included.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    EOFError,
    Warning,
    struct.error,
    zlib.error,
)
_warning_filters = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image file declares.

    Attributes
    ----------
    format : str
        ``"BMP"``, ``"JPEG"``, ``"PNG"``, ``"TIFF"`` or ``"WEBP"``.
    mode : str
        Pillow's name of the pixel layout: ``"RGB"``, ``"L"``, ``"P"``, ``"I;16"``, ``"CMYK"`` ...
    width, height : int
        Size in pixels as `pyimgano.images.read_image` returns it, turned upright by EXIF.
    frames : int
        Pages or animation frames; only files of one frame can be read.
    bits : int
        Bits per channel.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int
    bits: int


def probe(path: str | os.PathLike[str]) -> ImageInfo:
    """Read the header of an image file without decoding its pixels.

    Parameters
    ----------
    path : str or os.PathLike
        The image file.

    Returns
    -------
    ImageInfo
        What the header declares; of a PNG, an EXIF orientation stored after the pixels is not
        seen.

    Raises
    ------
    ImageReadError
        If the file cannot be opened or its header cannot be parsed.
    """
    name = shown(path)
    with opened(path) as file, damage_named(name):
        return parsed(file, name)[1]


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the file."""
    from PIL import Image

    try:
        yield
    except (ImageReadError, ImageSizeError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageSizeError(f"{name}: more pixels than Pillow opens: {error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageReadError(f"{name}: cannot be decoded: {reason}") from error


@contextmanager
def warnings_judged() -> Iterator[None]:
    """Make errors of Pillow's warnings of damage; the filters are global, hence the lock."""
    from PIL import Image

    with _warning_filters, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
        # Our own limit is checked instead, with a message that says what to do.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def parsed(stream: BinaryIO, name: str) -> tuple[Image, ImageInfo]:
    """Let Pillow parse the header; the pixels are not decoded yet."""
    from PIL import Image, UnidentifiedImageError

    head = stream.read(32)
    stream.seek(0)
    try:
        with warnings_judged():
            image = Image.open(stream, formats=_FORMATS)
            return image, _info(image, getattr(image, "n_frames", 1), head)
    except UnidentifiedImageError as error:
        raise ImageReadError(f"{name}: {_unidentified(head)}") from error


def _info(image: Image, frames: int, head: bytes) -> ImageInfo:
    from PIL import PngImagePlugin, TiffImagePlugin

    width, height = image.size
    bits = 1 if image.mode == "1" else 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Some versions of Pillow swap the size of a turned TIFF when opening, some when loading.
        width, height = (int(image.tag_v2[tag]) for tag in (_WIDTH, _HEIGHT))
        bits = int(max(image.tag_v2.get(_BITS, (1,))))
        orientation = image.tag_v2.get(_ORIENTATION, 1)
    elif isinstance(image, PngImagePlugin.PngImageFile):
        bits = head[24]
        # getexif would decode the pixels to look for a chunk behind them.
        known = not image.info.keys().isdisjoint({"exif", "XML:com.adobe.xmp", "xmp"})
        orientation = image.getexif().get(_ORIENTATION, 1) if known else 1
    else:
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in {5, 6, 7, 8}:
        width, height = height, width
    # The further pictures of a multi-picture JPEG are views, previews or gain maps of the first.
    if image.format == "MPO":
        return ImageInfo("JPEG", image.mode, width, height, 1, bits)
    return ImageInfo(str(image.format), image.mode, width, height, frames, bits)


def _unidentified(head: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return (
                f"its {kind} header is damaged or of a kind that cannot be read, such as floating "
                "point or 32 bit; save it as 8 or 16 bit"
            )
    if head.startswith(b"GIF8"):
        return "GIF, which may be animated and has few colours, is not read; save it as PNG"
    return "not an image file; BMP, JPEG, PNG, TIFF and WebP can be read"

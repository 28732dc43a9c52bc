"""Files as cameras, networks and strangers leave them: name -> maker -> what must come of it.

A maker writes the file. It returns the words of the ERROR, or the pixels (H, W) or (H, W, 3) by
which the file must be judged, exactly.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Pixels = NDArray[Any]
    Maker = Callable[[Path, Pixels], str | Pixels]

BOMB = "more pixels than Pillow opens: .* pixels.* exceeds limit of 178956970 pixels"
CUT = "cannot be decoded|damaged|truncated"


def encoded(pixels: Pixels, kind: str, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes) -> bytes:
    """A PNG in RGB with sound check sums, whatever its pixels are."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def is_cut(kind: str, keep: float, **options: Any) -> Maker:
    def make(path: Path, part: Pixels) -> str:
        data = encoded(part, kind, **options)
        path.write_bytes(data[: int(len(data) * keep)])
        return CUT

    return make


def holds(data: bytes, words: str) -> Maker:
    def make(path: Path, _: Pixels) -> str:
        path.write_bytes(data)
        return words

    return make


def is_patched(kind: str, at: bytes, new: bytes, words: str, offset: int = 0) -> Maker:
    """Overwrite what stands ``offset`` bytes behind the first ``at``."""

    def make(path: Path, part: Pixels) -> str:
        data = encoded(part, kind)
        start = data.index(at) + offset
        path.write_bytes(data[:start] + new + data[start + len(new) :])
        return words

    return make


def is_link_to(target: str, words: str) -> Maker:
    def make(path: Path, _: Pixels) -> str:
        path.symlink_to(path.parent / target)
        return words

    return make


def pipe(path: Path, _: Pixels) -> str:
    os.mkfifo(path)
    return "is not a regular file"


def deleted_middle(path: Path, part: Pixels) -> str:
    data = encoded(part, "JPEG", quality=95)
    path.write_bytes(data[:900] + data[1200:])
    return CUT


def declared_tiff(path: Path, _: Pixels) -> str:
    tags = {256: 2**20, 257: 2**20, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2**20, 279: 99}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4))
    return BOMB


def frames(kind: str) -> Maker:
    def make(path: Path, part: Pixels) -> str:
        pages = [Image.fromarray(part), Image.fromarray(255 - part)]
        pages[0].save(path, kind, save_all=True, append_images=pages[1:])
        return "animated or multi-page, with 2 frames"

    return make


def floats(path: Path, part: Pixels) -> str:
    cv2.imwrite(str(path), part.astype(np.float32) / 255)
    return "save it as 8 or 16 bit"


def plain(kind: str = "PNG", mode: str | None = None, **options: Any) -> Maker:
    """A sound file; its pixels are those that Pillow shows in RGB."""

    def make(path: Path, part: Pixels) -> Pixels:
        path.write_bytes(encoded(part, kind, mode, **options))
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    return make


def exactly(pixels: Pixels) -> Maker:
    def make(path: Path, _: Pixels) -> Pixels:
        Image.fromarray(pixels).save(path)
        return pixels

    return make


def half_transparent(path: Path, part: Pixels) -> Pixels:
    alpha = np.full(part.shape[:2], 51, np.uint8)
    Image.fromarray(np.dstack([part, alpha])).save(path)
    return np.rint(part * 0.2).astype(np.uint8)


def deep(channels: int) -> Maker:
    """16 bits whose low bytes are not zero: cut to 8 bits it would be another image."""

    def make(path: Path, part: Pixels) -> Pixels:
        wide = part.astype(np.uint16) * 256 + noise(*part.shape)
        wide = wide if channels == 3 else wide[..., 0]
        cv2.imwrite(str(path), wide[..., ::-1] if channels == 3 else wide)
        return wide

    return make


def turned(path: Path, part: Pixels) -> Pixels:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(part).save(path, exif=exif)
    with Image.open(path) as image:
        return np.ascontiguousarray(np.rot90(np.asarray(image), -1))


def blank(kind: str, value: int) -> Maker:
    def make(path: Path, part: Pixels) -> str:
        Image.fromarray(np.full_like(part, value)).save(path, kind)
        return r"blank \(one colour\)"

    return make


BAD: dict[str, Maker] = {
    "header.png": is_patched("PNG", b"IHDR", b"XXXX", CUT),
    "checksum.png": is_patched("PNG", b"IDAT", b"\xff", CUT, offset=600),
    "pixels.png": holds(png(96, 96, b"no zlib stream"), CUT),
    "few pixels.png": holds(png(96, 96, zlib.compress(b"\0" * 99)), CUT),
    "header.jpg": is_patched("JPEG", b"\xff\xc0", b"\xff\xc9", CUT),
    "middle.jpg": deleted_middle,
    "half.png": is_cut("PNG", 0.5),
    "half.jpg": is_cut("JPEG", 0.5),
    "half progressive.jpg": is_cut("JPEG", 0.5, progressive=True),
    "nearly whole.jpg": is_cut("JPEG", 0.999),
    "half.tif": is_cut("TIFF", 0.5),
    "half lzw.tif": is_cut("TIFF", 0.5, compression="tiff_lzw"),
    "half.bmp": is_cut("BMP", 0.5),
    "half.webp": is_cut("WEBP", 0.5),
    "empty.png": holds(b"", r"is empty \(0 bytes\)"),
    "text.png": holds(b"404 not found\n" * 9, "not an image file; BMP, JPEG, PNG"),
    "page.jpg": holds(b"<!doctype html><title>Login</title>", "not an image file"),
    "zeros.png": holds(bytes(5000), "not an image file"),
    "magic.png": holds(b"\x89PNG\r\n\x1a\n", "PNG header is damaged|cannot be decoded"),
    "gif.png": holds(encoded(noise(8, 8), "GIF"), "GIF, which may be animated"),
    "pipe.png": pipe,
    "loop.png": is_link_to("loop.png", "symbolic links"),
    "dangling.png": is_link_to("nowhere", "No such file"),
    "bomb.png": holds(png(60_000, 60_000, zlib.compress(bytes(9))), BOMB),
    "bomb.jpg": is_patched("JPEG", b"\xff\xc0", b"\xfd\xe8\xfd\xe8", BOMB, offset=5),
    "bomb.tif": declared_tiff,
    "just too large.png": holds(png(13_400, 13_400, zlib.compress(bytes(9))), BOMB),
    "float.tif": floats,
    "pages.tif": frames("TIFF"),
    "animated.webp": frames("WEBP"),
    "animated.png": frames("PNG"),
    "1x1.png": holds(encoded(noise(1, 1, 3), "PNG"), "blank"),
    "black.png": blank("PNG", 0),
    "white.jpg": blank("JPEG", 255),
    "one grey.bmp": blank("BMP", 77),
}

GOOD: dict[str, Maker] = {
    "1xN.png": exactly(noise(1, 96, 3)),
    "Nx1.png": exactly(noise(96, 1, 3)),
    "20000 wide.png": exactly(noise(40, 20_000, 3)),
    "grey.png": plain(mode="L"),
    "grey alpha.png": plain(mode="LA"),
    "palette.png": plain(mode="P"),
    "rgba.png": plain(mode="RGBA"),
    "half transparent.png": half_transparent,
    "cmyk.jpg": plain("JPEG", "CMYK"),
    "progressive.jpg": plain("JPEG", progressive=True),
    "grey 16.png": deep(1),
    "rgb 16.png": deep(3),
    "rgb 16.tif": deep(3),
    "turned.jpg": turned,
    "turned.png": turned,
    "Prüfling 部品.png": plain(),
    f"{'long' * 62}.png": plain(),
    "UPPER.PNG": plain(),
    "-dash.png": plain(),
    "=1+1.png": plain(),
    "new\nline.png": plain(),
    "wrong suffix.bmp": plain("PNG"),
}


def write_all(folder: Path, makers: dict[str, Maker], part: Pixels) -> dict[str, str | Pixels]:
    """Write every file; return what must come of each."""
    return {name: make(folder / name, part) for name, make in makers.items()}

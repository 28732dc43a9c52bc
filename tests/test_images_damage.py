"""Damaged files and things that are no files: an error that names them, never other pixels."""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyimgano.decode import decode
from pyimgano.errors import ImageError, ImageReadError, ImageSizeError
from pyimgano.images import probe, read_image

PIXELS = cv2.GaussianBlur(
    np.random.default_rng(5).integers(0, 256, (13, 17, 3), dtype=np.uint8), (0, 0), 2
)
DEEP = np.random.default_rng(5).integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def encoded(kind, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {
    "png": encoded("PNG"),
    "png palette": encoded("PNG", "P"),
    "png bits": encoded("PNG", "1"),
    "png 16 colour": cv2.imencode(".png", DEEP)[1].tobytes(),
    "png 16 grey": cv2.imencode(".png", DEEP[..., 0])[1].tobytes(),
    "jpeg": encoded("JPEG"),
    "jpeg progressive": encoded("JPEG", progressive=True),
    "jpeg grey": encoded("JPEG", "L"),
    "jpeg cmyk": encoded("JPEG", "CMYK"),
    "tiff": encoded("TIFF"),
    "tiff lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff deflate": encoded("TIFF", compression="tiff_adobe_deflate"),
    "tiff libtiff": cv2.imencode(".tiff", PIXELS)[1].tobytes(),
    "tiff 16 colour": cv2.imencode(".tiff", DEEP)[1].tobytes(),
    "bmp": encoded("BMP"),
    "bmp palette": encoded("BMP", "P"),
    "webp": encoded("WEBP"),
    "webp lossless": encoded("WEBP", lossless=True),
}


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_an_error(name, capfd):
    data = FILES[name]
    decode(data, name)
    for length in range(1, len(data)):
        with pytest.raises(ImageReadError) as caught:
            decode(data[:length], name)
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)
    capfd.readouterr()  # what C libraries say of it is not our output


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("png")])
def test_any_flipped_bit_of_a_png_is_an_error(name):
    data = FILES[name]
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(ImageError):
            decode(bytes(damaged), name)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("png")])
def test_flipped_bits_elsewhere_raise_our_errors_only(name, capfd):
    data = FILES[name]
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        try:
            samples = decode(bytes(damaged), name)[1]
        except ImageError:
            continue
        assert samples.dtype in (np.uint8, np.uint16)
    capfd.readouterr()


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM"]),
    st.binary(min_size=1, max_size=300),
)
def test_noise_is_never_an_image(magic, noise):
    with pytest.raises(ImageError, match="noise: "):
        decode(magic + noise, "noise")


def test_corrupt_jpeg_data_is_an_error_though_its_end_is_there(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=95)
    data = bytearray(buffer.getvalue())
    middle = len(data) // 2
    del data[middle : middle + 500]
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"x\.jpg: cannot be decoded: .*JPEG"):
        read_image(tmp_path / "x.jpg")


# --- declared sizes -----------------------------------------------------------------------------


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def declared(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = header + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(size, tmp_path):
    (tmp_path / "bomb.png").write_bytes(declared(*size))
    with pytest.raises(ImageSizeError, match=r"bomb\.png: .*pixels"):
        read_image(tmp_path / "bomb.png", max_pixels=10**8)


def test_the_limit_is_stated_and_can_be_moved(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    with pytest.raises(ImageSizeError, match=r"17 x 13 pixels exceed the limit of 220"):
        read_image(tmp_path / "x.png", max_pixels=220)
    assert read_image(tmp_path / "x.png", max_pixels=221).shape == (13, 17, 3)


def test_a_large_declared_size_within_the_limit_is_read_without_a_warning(tmp_path):
    (tmp_path / "x.png").write_bytes(declared(10_000, 9_000))  # Pillow would warn of it
    assert probe(tmp_path / "x.png").width == 10_000
    with pytest.raises(ImageReadError, match="cannot be decoded: image file is truncated"):
        read_image(tmp_path / "x.png")


def test_a_large_tiff_is_read_without_a_warning(tmp_path):
    tags = {256: 10_000, 257: 9_000, 258: 1, 259: 1, 262: 1, 273: 8, 278: 9_000, 279: 11_250_000}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    with (tmp_path / "x.tif").open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 11_250_008) + b"\xaa")
        file.seek(11_250_008)
        file.write(directory)
    image = decode((tmp_path / "x.tif").read_bytes(), "x")[1]
    assert image.shape == (9_000, 10_000)
    assert image[0, :4].tolist() == [255, 0, 255, 0]
    assert np.count_nonzero(image[0]) == 4


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImageReadError, match="1099511627776 bytes are more than"):
        read_image(path)


# --- things that are no image files -------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, probe])
def test_what_is_no_image_file_is_named(read, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not found", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    reasons = {
        "folder.png": "is a directory",
        "empty.png": r"is empty \(0 bytes\)",
        "text.png": "not an image file; BMP, JPEG",
        "none.png": "cannot be read: No such file",
        "file/x.png": "cannot be read: Not a directory",
        "nul\0.png": "cannot be read: embedded null",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageReadError, match=reason) as caught:
            read(tmp_path / name)
        assert name.replace("\0", r"\x00") in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX kinds of files")
def test_special_files_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path, reason in (
        (tmp_path / "pipe.png", "is not a regular file"),
        (tmp_path / "loop.png", "cannot be read: .*symbolic links"),
        ("/dev/zero", "is not a regular file"),
    ):
        with pytest.raises(ImageReadError, match=reason):
            read_image(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_forbidden_file_is_named():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.png")
        path.write_bytes(FILES["png"])
        path.chmod(0)
        Path(folder).chmod(0o755)
        if user == 0:
            os.seteuid(65534)  # root may read anything
        try:
            with pytest.raises(ImageReadError, match=r"x\.png: cannot be read: Permission denied"):
                read_image(path)
        finally:
            os.seteuid(user)


def test_threads_share_the_warning_filters_without_harm():
    """Damage is an error in every thread, and the filters are as before afterwards."""
    import warnings

    before = list(warnings.filters)
    failures = []

    def work():
        for _ in range(20):
            np.testing.assert_array_equal(decode(FILES["tiff"], "x")[1], PIXELS)
            try:
                decode(FILES["tiff"][:-1], "x")
            except ImageReadError:
                continue
            failures.append("a truncated file was accepted")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert warnings.filters == before

"""Every kind of file that is read: the pixels are those of the file, upright, in RGB."""

from __future__ import annotations

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pyimgano.errors import ImageReadError, MaskError
from pyimgano.images import describe, probe, read_image, read_mask
from pyimgano.records import Sample

RNG_SEED = 3


@pytest.fixture
def rgb():
    noise = np.random.default_rng(RNG_SEED).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


@pytest.fixture
def deep():
    return np.random.default_rng(RNG_SEED).integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, colour_type, *, extra=b"", bits=16):
    """A PNG as the specification describes it, for kinds that no library here writes."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(samples, **changed):
    """An uncompressed little-endian 16-bit TIFF of one strip; tags can be changed."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    pixels = samples.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: 2 if channels == 3 else 1, 273: 0}
    tags |= {274: 1, 277: channels, 278: height, 279: len(pixels), 284: 1, 339: 1}
    tags |= {int(key.removeprefix("tag")): value for key, value in changed.items()}
    size = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"<{channels}H", *[tags[258]] * channels)
    tags[273] = size + len(bits)
    out = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag in sorted(tags):
        if tag == 258 and channels > 2:
            out += struct.pack("<HHII", tag, 3, channels, size)
        else:
            out += struct.pack("<HHIHH", tag, 3, 1, tags[tag], 0)
    return out + struct.pack("<I", 0) + bits + pixels


# --- 8 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "extension"),
    [(m, e) for e in ("png", "tiff", "webp") for m in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [(m, "bmp") for m in ("1", "L", "P", "RGB", "RGBA")],
)
def test_lossless_modes_are_what_pillow_shows(rgb, mode, extension, tmp_path):
    image = Image.fromarray(rgb).convert(mode)
    path = tmp_path / f"x.{extension}"
    image.save(path, **({"lossless": True} if extension == "webp" else {}))
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, np.asarray(Image.open(path).convert("RGB")))
    assert probe(path).format == extension.upper()
    assert (probe(path).width, probe(path).height, probe(path).frames) == (31, 24, 1)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs(rgb, compression, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), rgb)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_has_the_pixels_that_pillow_decodes(rgb, mode, progressive, tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(rgb).convert(mode).save(path, progressive=progressive, quality=90)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_image(opened), expected)


def test_adobe_cmyk_is_not_inverted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red = read_image(tmp_path / "red.jpg").reshape(-1, 3).mean(axis=0)
    assert red[0] > 250
    assert max(red[1:]) < 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("extension", ["png", "tiff", "bmp", "jpg", "webp"])
def test_slivers(shape, extension, tmp_path):
    path = tmp_path / f"x.{extension}"
    Image.fromarray(np.full((*shape, 3), 128, np.uint8)).save(path)
    read = read_image(path)
    assert read.shape == (*shape, 3)
    assert abs(int(read[0, 0, 0]) - 128) <= 2


def test_alpha_is_dropped_when_opaque_and_on_black_otherwise(rgb, tmp_path):
    alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), rgb)
    alpha[:4], alpha[4:8] = 0, 51
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "open.png")
    read = read_image(tmp_path / "open.png")
    assert not read[:4].any()
    np.testing.assert_array_equal(read[4:8], np.rint(rgb[4:8] * 0.2))
    np.testing.assert_array_equal(read[8:], rgb[8:])


def test_transparent_palette_index_becomes_black(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    image.save(tmp_path / "p.png", transparency=b"\xff\x00\xff")
    expected = [[[250, 0, 0], [0, 0, 0]], [[0, 0, 250], [0, 0, 0]]]
    assert read_image(tmp_path / "p.png").tolist() == expected


# --- 16 bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bits_survive(deep, extension, tmp_path):
    for name, array in (("rgb", deep), ("grey", deep[..., 0])):
        path = tmp_path / f"{name}.{extension}"
        cv2.imwrite(str(path), array[..., ::-1] if name == "rgb" else array)
        read = read_image(path)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, np.broadcast_to(array.reshape(5, 7, -1), (5, 7, 3)))
        assert probe(path).bits == 16


def test_sixteen_bits_of_the_specification(deep, tmp_path):
    (tmp_path / "x.png").write_bytes(png(deep, 2))
    (tmp_path / "x.tif").write_bytes(tiff(deep))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), deep)


def test_sixteen_bit_alpha_is_composited(deep, tmp_path):
    alpha = deep[::-1, :, :1]
    exact = deep.astype(float) * (alpha / 65535)
    (tmp_path / "x.png").write_bytes(png(np.dstack([deep, alpha]), 6))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rint(exact))
    (tmp_path / "la.png").write_bytes(png(np.dstack([deep[..., :1], alpha]), 4))
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[..., 2], np.rint(exact[..., 0]))


def test_big_endian_grey(deep, tmp_path):
    big = Image.frombytes("I;16B", (7, 5), deep[..., 0].astype(">u2").tobytes())
    big.save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[..., 1], deep[..., 0])
    np.testing.assert_array_equal(read_image(big)[..., 1], deep[..., 0])
    assert read_image(big).dtype == np.uint16


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda deep: png(deep, 2, extra=chunk(b"tRNS", b"\0" * 6)), "transparent colour"),
        (lambda deep: png(deep[..., 0], 0, extra=chunk(b"tRNS", b"\0" * 2)), "transparent colour"),
        (lambda deep: tiff(deep[..., 0], tag262=0), "white as zero"),
        (lambda deep: tiff(deep[..., 0] | 0x8000, tag339=2), "unsigned"),
        (lambda deep: tiff(np.dstack([deep, deep[..., 0]]), tag262=5), "mode CMYK"),
        (lambda deep: tiff(np.dstack([deep, deep[..., 0]]), tag262=2, tag338=0), "disagree"),
        (lambda _: cv2.imencode(".tiff", np.ones((1, 2**20 + 1, 3), np.uint16))[1], "OpenCV"),
    ],
)
def test_what_would_be_misread_in_sixteen_bits_is_refused(deep, make, reason, tmp_path):
    (tmp_path / "x.img").write_bytes(make(deep))
    with pytest.raises(ImageReadError, match=reason):
        read_image(tmp_path / "x.img")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_and_32_bit_tiffs_say_what_to_do(dtype, channels, tmp_path):
    path = tmp_path / "x.tiff"
    cv2.imwrite(str(path), np.ones((4, 6, channels), dtype))
    with pytest.raises(ImageReadError, match=r"x\.tiff: .*save it as 8 or 16 bit"):
        read_image(path)


# --- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "tiff", "webp", "jpg"])
def test_exif_orientation(rgb, orientation, extension, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{extension}"
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(rgb).save(path, exif=exif, **options)
    stored = Image.open(path)
    upright = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_image(path), upright)
    assert (probe(path).height, probe(path).width) == upright.shape[:2]
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(read_image(lazy), upright)
    np.testing.assert_array_equal(read_mask(path) if extension != "jpg" else upright.any(2), True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_sixteen_bits(deep, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    marked = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7))
    marked.info["exif"] = exif.tobytes()
    marked.getexif()[0x0112] = orientation
    order = np.asarray(ImageOps.exif_transpose(marked))
    expected = deep.reshape(35, 3)[order]
    body = png(deep, 2, extra=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    (tmp_path / "x.png").write_bytes(body)
    (tmp_path / "x.tif").write_bytes(tiff(deep, tag274=orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected)
    assert (probe(tmp_path / "x.tif").height, probe(tmp_path / "x.tif").width) == order.shape


def test_multi_picture_jpeg_is_its_first_picture(rgb, tmp_path):
    first, second = Image.fromarray(rgb), Image.fromarray(255 - rgb)
    first.save(tmp_path / "one.jpg", quality=95)
    first.save(tmp_path / "x.mpo", save_all=True, append_images=[second], quality=95)
    read = read_image(tmp_path / "x.mpo").astype(int)
    assert np.abs(read - read_image(tmp_path / "one.jpg")).mean() < 3
    assert probe(tmp_path / "x.mpo").format == "JPEG"
    assert probe(tmp_path / "x.mpo").frames == 1


@pytest.mark.parametrize("extension", ["tiff", "webp", "png"])
def test_several_frames_are_refused(rgb, extension, tmp_path):
    path = tmp_path / f"x.{extension}"
    pages = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert probe(path).frames == 2
    with pytest.raises(ImageReadError, match="animated or multi-page, with 2 frames"):
        read_image(path)


def test_gif_is_refused_by_name(rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "x.gif")
    with pytest.raises(ImageReadError, match=r"GIF.*animated.*PNG"):
        read_image(tmp_path / "x.gif")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Prüfling.png", "部品 1.png", "a\nb.png", "x.wrong"])
def test_any_file_name(rgb, name, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    (tmp_path / name).write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_image(tmp_path / name), rgb)
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), rgb)
    np.testing.assert_array_equal(read_image(Sample(tmp_path / name)), rgb)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_undecodable_names_are_read_and_shown_in_one_line(rgb, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.bmp")
    try:
        with open(path, "wb") as file:  # noqa: PTH123 - the name itself is under test
            Image.fromarray(rgb).save(file, "BMP")
    except OSError:
        pytest.skip("the file system refuses such names")
    np.testing.assert_array_equal(read_image(path), rgb)
    assert describe(Sample(path)).endswith(r"\udcff\n.bmp")
    assert describe(path).encode() == describe(Sample(path)).encode()


# --- masks --------------------------------------------------------------------------------------


def test_masks_of_every_kind_are_the_same_mask(tmp_path):
    truth = np.zeros((9, 12), bool)
    truth[2:5, 3:9] = True
    grey = truth.astype(np.uint8)
    palette = Image.fromarray(grey).convert("L")
    palette.putpalette([0, 0, 0, 0, 0, 0])  # index 1 looks as black as index 0
    opaque = np.full((9, 12), 255, np.uint8)
    files = {
        "one.png": Image.fromarray(grey),
        "full.bmp": Image.fromarray(grey * 255),
        "bits.png": Image.fromarray(truth),
        "palette.png": palette,
        "blue.tif": Image.fromarray(np.dstack([grey * 0, grey * 0, grey])),
        "alpha.png": Image.fromarray(np.dstack([grey, grey, grey, opaque])),
        "clear.png": Image.fromarray(np.dstack([grey, grey, grey, opaque * 0])),
        "deep.png": Image.fromarray(grey.astype(np.uint16)),
        "lossy.jpg": Image.fromarray(grey * 255),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        mask = read_mask(tmp_path / name)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, truth, err_msg=name)
    (tmp_path / "low.png").write_bytes(png(np.dstack([truth * 1] * 3), 2))
    np.testing.assert_array_equal(read_mask(tmp_path / "low.png"), truth)


def test_an_unreadable_mask_is_a_mask_error(tmp_path):
    with pytest.raises(MaskError, match=r"mask .*none\.png: cannot be read: No such file"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "x.png").write_bytes(png(np.ones((4, 4, 3)), 2)[:-20])
    with pytest.raises(MaskError, match=r"x\.png"):
        read_mask(tmp_path / "x.png")

"""Arrays and Pillow images at the boundary: equal pixels, no aliasing, named refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pyimgano.errors import ImageError, ImageReadError, ImageSizeError, ParameterError
from pyimgano.images import describe, from_bgr, is_constant, read_image, to_uint8

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda size: st.sampled_from([size, (*size, 1), (*size, 3), (*size, 4)])
)
arrays = st.sampled_from([np.uint8, np.uint16, ">u2"]).flatmap(
    lambda dtype: hnp.arrays(dtype, shapes)
)


def reference(array):
    """RGB in exact arithmetic, channel by channel."""
    full = np.iinfo(array.dtype).max
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 4:
        return np.floor(array[..., :3].astype(object) * array[..., 3:] / full + 0.5)
    return np.dstack([array[..., [0, 1, 2][: array.shape[2]]]] * (3 // array.shape[2]))


@PROPERTY
@given(arrays)
def test_arrays_become_rgb_and_are_left_alone(array):
    before = array.copy()
    read = read_image(array)
    np.testing.assert_array_equal(read, reference(array).astype(read.dtype))
    assert read.dtype == (np.uint8 if array.dtype == np.uint8 else np.uint16)
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    assert not (read.flags.writeable and np.shares_memory(read, array))
    np.testing.assert_array_equal(array, before)
    assert array.flags.writeable


@PROPERTY
@given(arrays)
def test_bgr_is_rgb_backwards(array):
    expected = read_image(array)
    order = [2, 1, 0, 3][: array.shape[2]] if array.ndim == 3 and array.shape[2] > 1 else ...
    swapped = array if order is ... else array[..., order]
    np.testing.assert_array_equal(from_bgr(swapped), expected)
    assert from_bgr(swapped).flags.c_contiguous


def test_views_with_any_strides():
    base = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    for view in (base[::-1, ::2], base[..., ::-1], base.transpose(1, 0, 2), base[..., 0].T):
        expected = view if view.ndim == 3 else np.dstack([view] * 3)
        np.testing.assert_array_equal(read_image(view), expected)
    base.flags.writeable = False
    np.testing.assert_array_equal(read_image(base), base)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 3)), r"float64: expected uint8 \(0\.\.255\) or uint16"),
        (np.full((4, 4), np.nan), "non-finite"),
        (np.full((4, 4, 3), np.inf, np.float32), "non-finite"),
        (np.zeros((4, 4), bool), "bool: expected uint8"),
        (np.zeros((4, 4), np.int64), "int64: expected uint8"),
        (np.zeros((4, 4), object), "object: expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"array \(4, 4, 2\) of uint8: expected \(H, W\)"),
        (np.zeros((3, 8, 8), np.uint8), "move the channels from the front to the end"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"expected \(H, W\)"),
        (np.zeros(5, np.uint8), r"expected \(H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_what_is_no_image_is_named(array, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(array)
    with pytest.raises(ImageError, match=reason):
        from_bgr(array)


def test_other_sources_are_named():
    with pytest.raises(ImageError, match=r"a Pillow image, got NoneType object"):
        read_image(None)
    with pytest.raises(ImageError, match=r"cv2\.imread returns it"):
        from_bgr(None)
    with pytest.raises(ImageSizeError, match="limit of 24 pixels"):
        read_image(np.zeros((5, 5), np.uint8), max_pixels=24)


# --- Pillow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"])
def test_pillow_images(mode):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(rgb).convert(mode)
    np.testing.assert_array_equal(read_image(image), np.asarray(image.convert("RGB")))


def test_sixteen_bit_pillow_images():
    grey = np.array([[0, 1], [4095, 65535]], np.uint16)
    for image in (Image.fromarray(grey), Image.fromarray(grey.astype(np.int32))):
        read = read_image(image)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, np.dstack([grey] * 3))


def test_pillow_images_that_cannot_be_judged(tmp_path):
    for image, reason in (
        (Image.new("F", (2, 2)), "floating point"),
        (Image.new("I", (2, 2), -1), r"grey values -1\.\.-1"),
        (Image.new("RGB", (0, 2)), "no pixels"),
    ):
        with pytest.raises(ImageError, match=f"Image object: .*{reason}"):
            read_image(image)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:60])
    with Image.open(tmp_path / "cut.png") as lazy:
        assert describe(lazy) == str(tmp_path / "cut.png")
        with pytest.raises(ImageReadError, match=r"cut\.png: cannot be decoded"):
            read_image(lazy)


# --- values -------------------------------------------------------------------------------------


@PROPERTY
@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3))),
    st.integers(1, 65535),
)
def test_reduction_to_8_bits_is_rounding(image, white):
    reduced, clipped = to_uint8(image, white)
    exact = np.minimum(image.astype(float), white) * 255 / white
    assert reduced.dtype == np.uint8
    assert np.abs(reduced - exact).max() <= 0.5 + 1e-9
    assert clipped == np.mean(image > white)


def test_8_bits_stay_as_they_are():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    reduced, clipped = to_uint8(image, 100)
    assert reduced is image
    assert clipped == 0.0


@pytest.mark.parametrize("white", [0, -1, 65536, float("nan")])
def test_an_impossible_white_is_refused(white):
    with pytest.raises(ParameterError, match="white"):
        to_uint8(np.zeros((2, 2, 3), np.uint16), white)


def test_constant_images():
    image = np.full((5, 6, 3), (10, 20, 30), np.uint8)
    assert is_constant(image)
    image[4, 5, 2] += 1
    assert not is_constant(image)
    assert is_constant(image[:1, :1])
    assert describe(image) == "array (5, 6, 3) of uint8"

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import InputError, ParameterError
from pyimgano.maps.overlay import encode_png, heatmap, legend, overlay, side_by_side
from pyimgano.records import Region

LUMA = np.array([0.2126, 0.7152, 0.0722])


def grey(height=40, width=60, value=128):
    return np.full((height, width, 3), value, np.uint8)


def region(left, top, right, bottom):
    area = (right - left) * (bottom - top)
    return Region((left, top, right, bottom), area, area / 1e6, (left, top), 1.0)


def warm(colours):
    return colours[..., 0].astype(int) > colours[..., 2]


def lightness(colours):
    linear = (colours / 255.0) ** 2.2
    return linear @ LUMA


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.floats(-1e6, 1e6).filter(lambda t: t != 0),
    st.lists(st.floats(-3e6, 3e6), min_size=1, max_size=30),
)
def test_the_colour_is_warm_exactly_above_the_threshold(threshold, values):
    values = np.array([[*values, threshold]])
    colours = heatmap(values, threshold)
    np.testing.assert_array_equal(warm(colours), values > threshold)


@pytest.mark.parametrize("threshold", [0.3, 5.0, -2.0])
def test_lightness_never_falls_along_the_scale_and_jumps_at_the_threshold(threshold):
    values = threshold + np.linspace(-1.2, 1.2, 500)[None] * abs(threshold)
    light = lightness(heatmap(values, threshold))[0]
    assert (np.diff(light) >= 0).all()
    at = int((values > threshold).argmax())
    assert np.diff(light)[at - 1] > 4 * np.delete(np.diff(light), at - 1).max()


def test_the_scale_is_0_to_twice_the_threshold_and_clips_beyond():
    colours = heatmap(np.array([[-7.0, 0.0, 4.0, 99.0]]), 2.0)[0]
    np.testing.assert_array_equal(colours[0], colours[1])
    np.testing.assert_array_equal(colours[2], colours[3])
    np.testing.assert_array_equal(legend(256, 1)[0, [0, -1]], colours[[0, 2]])


def test_the_scale_does_not_depend_on_the_other_pixels():
    alone = heatmap(np.array([[0.7]]), 1.0)[0, 0]
    beside = heatmap(np.array([[0.7, 1000.0, -50.0]]), 1.0)[0, 0]
    np.testing.assert_array_equal(alone, beside)


def test_a_threshold_of_zero_gives_two_colours():
    colours = heatmap(np.array([[-1.0, 0.0, 1e-12, 5.0]]), 0.0)[0]
    assert warm(colours).tolist() == [False, False, True, True]
    assert len(np.unique(colours, axis=0)) == 2


def test_without_a_threshold_nothing_is_warm():
    values = np.random.default_rng(0).uniform(-1, 9, (20, 20)).astype(np.float32)
    assert not warm(heatmap(values, None)).any()
    assert not warm(heatmap(np.zeros((3, 3)), None)).any()
    drawn = overlay(grey(20, 20), values, None)
    assert not warm(drawn).any()
    assert (drawn != 128).any()


def test_huge_and_tiny_thresholds_do_not_overflow():
    values = np.array([[0.0, 1e-320, 1e308, -1e308]])
    assert warm(heatmap(values, 1e-320))[0].tolist() == [False, False, True, False]
    assert warm(heatmap(values, -1e308))[0].tolist() == [True, True, True, False]


def test_a_good_map_leaves_the_image_as_it_is():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    good = rng.uniform(0.0, 0.5, (40, 60))
    np.testing.assert_array_equal(overlay(image, good, 1.0), image)
    uneasy = overlay(image, np.full((40, 60), 0.6), 1.0).astype(int)
    assert 0 < abs(uneasy - image).max() < 16


def test_half_of_the_image_shows_through_at_the_top_of_the_scale():
    top = np.full((40, 60), 2.0)
    drawn = overlay(grey(), top, 1.0)[5:-5, 5:-5].astype(float)
    half = (heatmap(top, 1.0)[5:-5, 5:-5].astype(float) + 128) / 2
    assert abs(drawn - half).max() <= 0.5


def dashed(picture):
    """Return where the line around what was judged is: magenta, by turns with black."""
    return (picture == (235, 40, 200)).all(axis=2), (picture == 0).all(axis=2)


@pytest.mark.parametrize("side", [None, 40])
def test_a_dashed_line_runs_around_what_was_judged(side):
    seen = np.ones((80, 120), bool)
    seen[:, :30] = False
    seen[40:60, 70:90] = False
    drawn = overlay(grey(80, 120), np.zeros((80, 120)), 1.0, max_side=side, seen=seen)
    scale = drawn.shape[0] / 80
    bright, dark = dashed(drawn)
    assert (bright | dark | (drawn == 128).all(axis=2)).all()
    rows, columns = np.nonzero(bright | dark)
    left = abs(columns / scale - 30) <= 2 / scale
    hole = (columns / scale > 66) & (columns / scale < 94) & (rows / scale > 36)
    assert (left | hole).all(), "none runs along the border of the picture"
    assert left.sum() >= 0.9 * drawn.shape[0]
    assert hole.sum() >= 0.8 * 80 * scale
    for line in (bright, dark):
        assert line.sum() > 0.3 * (bright | dark).sum()


def test_what_was_judged_has_the_size_of_the_map():
    with pytest.raises(InputError, match="differ in size"):
        overlay(grey(), np.zeros((40, 60)), 1.0, seen=np.ones((40, 61), bool))


def test_what_is_above_the_threshold_is_outlined_and_inputs_are_not_changed():
    image, values = grey(), np.zeros((40, 60))
    values[10:20, 30:45] = 1.5
    drawn = overlay(image, values, 1.0)
    ring = np.zeros((40, 60), bool)
    ring[9:21, 29:46] = True
    ring[10:20, 30:45] = False
    assert (drawn[ring] == 255).all()
    assert warm(drawn)[10:20, 30:45].all()
    outside = np.ones((40, 60), bool)
    outside[9:21, 29:46] = False
    assert (drawn[outside] == 128).all()
    assert (image == 128).all()
    assert (values > 0).sum() == 150


def test_boxes_surround_their_region_and_may_leave_the_image():
    drawn = overlay(grey(), np.zeros((40, 60)), 1.0, [region(20, 10, 30, 20), region(0, 0, 60, 40)])
    assert (drawn[10:20, 20:30] == 128).all()
    white, black = (drawn == 255).all(axis=2), (drawn == 0).all(axis=2)
    ys, xs = np.nonzero(white)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (6, 23, 16, 33)
    assert black.any()


def test_shrinking_keeps_the_smallest_defect_and_moves_the_boxes():
    image, values = grey(400, 1000), np.zeros((400, 1000), np.float32)
    values[333, 777] = 3.0
    drawn = overlay(image, values, 1.0, max_side=100)
    assert drawn.shape == (40, 100, 3)
    hot = np.argwhere(warm(drawn))
    assert hot.tolist() == [[33, 77]]
    boxed = overlay(image, np.zeros_like(values), 1.0, [region(500, 200, 600, 300)], max_side=100)
    ys, xs = np.nonzero((boxed == 255).all(axis=2))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (16, 33, 46, 63)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**31))
def test_shrinking_never_hides_an_alarm(height, width, side, seed):
    values = np.random.default_rng(seed).uniform(0, 1, (height, width))
    drawn = side_by_side(grey(height, width), values, 0.99, max_side=side)
    rows = drawn.shape[0]
    columns = (drawn.shape[1] - 8) // 3
    assert max(rows, columns) == min(side, max(height, width))
    heat = drawn[:, columns + 4 : 2 * columns + 4]
    assert warm(heat).any() == (values > 0.99).any()


def test_side_by_side_is_original_heatmap_overlay():
    image, values = grey(), np.random.default_rng(2).uniform(0, 2, (40, 60))
    row = side_by_side(image, values, 1.0, [region(20, 10, 30, 20)])
    np.testing.assert_array_equal(row[:, :60], image)
    np.testing.assert_array_equal(row[:, 64:124], heatmap(values, 1.0))
    np.testing.assert_array_equal(
        row[:, 128:], overlay(image, values, 1.0, [region(20, 10, 30, 20)])
    )
    assert (row[:, 60:64] == 255).all()


@pytest.mark.parametrize(("top", "shift"), [(4095, 4), (65535, 8), (255, 0), (256, 1), (0, 0)])
def test_a_16_bit_image_is_shifted_to_8_bits(top, shift):
    image = np.linspace(0, top, 12).astype(np.uint16).reshape(3, 4)
    drawn = overlay(image, np.zeros((3, 4)), 1.0)
    np.testing.assert_array_equal(drawn, np.repeat((image >> shift)[..., None], 3, axis=2))


def test_a_legend_changes_colour_in_the_middle():
    strip = legend(300)
    assert strip.shape == (16, 300, 3)
    np.testing.assert_array_equal(warm(strip[0]), np.arange(300) >= 150)
    assert warm(legend(2, 1))[0].tolist() == [False, True]


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_png_round_trip(shape):
    import cv2

    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    data = np.frombuffer(encode_png(image), np.uint8)
    back = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back if back.ndim == 2 else back[..., ::-1], image)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), grey(0, 4)],
)
def test_what_is_not_a_picture_is_not_encoded(image):
    with pytest.raises(InputError, match="PNG"):
        encode_png(image)


@pytest.mark.parametrize(
    ("image", "values", "message"),
    [
        (grey(), np.zeros((40, 61)), "same size"),
        (grey(0, 4), np.zeros((0, 4)), "same size"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), "uint8 or uint16"),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), "uint8 or uint16"),
        (grey(4, 4), np.full((4, 4), np.nan), "NaN"),
        (grey(4, 4), np.full((4, 4), np.inf), "infinity"),
        (grey(4, 4), np.zeros((4, 4), bool), "real numbers"),
    ],
)
def test_unusable_inputs_are_named(image, values, message):
    with pytest.raises(InputError, match=message):
        overlay(image, values, 1.0)


@pytest.mark.parametrize(
    ("threshold", "options", "message"),
    [
        (np.nan, {}, "threshold"),
        (np.inf, {}, "threshold"),
        (1.0, {"max_side": 0}, "max_side"),
    ],
)
def test_parameters_out_of_range_are_named(threshold, options, message):
    with pytest.raises(ParameterError, match=message):
        overlay(grey(), np.zeros((40, 60)), threshold, **options)


@pytest.mark.parametrize(("width", "height"), [(1, 16), (20, 0)])
def test_a_legend_needs_room(width, height):
    with pytest.raises(ParameterError, match="legend"):
        legend(width, height)


def test_a_map_must_be_two_dimensional():
    with pytest.raises(InputError, match="shape"):
        heatmap(np.zeros((2, 3, 1)), 1.0)

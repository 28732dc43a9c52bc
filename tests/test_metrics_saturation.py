from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from pyimgano import metrics
from pyimgano.errors import MetricError, ParameterError, PyimganoWarning
from pyimgano.metrics.saturation import saturation_area


def area_by_definition(channels, maps, limit):
    """Draw the curve of each channel threshold by threshold, in exact fractions."""
    unions = [
        np.any([mask for mask, _ in each], axis=0) if each else np.zeros(scores.shape, bool)
        for each, scores in zip(channels, maps, strict=True)
    ]
    normals = np.concatenate([s[~union] for union, s in zip(unions, maps, strict=True)])
    thresholds = np.unique(np.concatenate([scores.ravel() for scores in maps]))[::-1]
    areas, limit = [], Fraction(limit)
    for each, scores in zip(channels, maps, strict=True):
        for mask, saturation in each or ():
            enough = min(int(saturation), int(mask.sum()))
            area, x0, y0 = Fraction(0), Fraction(0), Fraction(0)
            for threshold in thresholds:
                x1 = Fraction(int((normals >= threshold).sum()), normals.size)
                found = int((scores[mask != 0] >= threshold).sum())
                y1 = min(Fraction(found, enough), Fraction(1))
                if x0 < limit and x1 > x0:
                    end = min(x1, limit)
                    area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
                x0, y0 = x1, y1
            areas.append(area / limit)
    return float(sum(areas) / len(areas))


@st.composite
def inspected(draw):
    """A few small images with up to three overlapping channels each, and tied scores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from((2, 6, 250)))
    dtype = draw(st.sampled_from((np.float64, np.float32, np.float16, np.uint8)))
    channels, maps = [], []
    for count in [2, *draw(st.lists(st.integers(0, 3), max_size=3))]:
        shape = (4, int(rng.integers(3, 7)))
        masks = [rng.random(shape) < 0.4 for _ in range(count)]
        for mask in masks:
            mask[0, 0], mask[-1, -1] = True, False
        channels.append([(mask, int(rng.integers(1, mask.sum() + 3))) for mask in masks])
        maps.append(rng.integers(0, levels, shape).astype(dtype))
    return channels, maps


@settings(derandomize=True, deadline=None, max_examples=150)
@given(inspected(), st.sampled_from((0.05, 0.3, 1.0)))
def test_the_area_follows_the_definition(data, limit):
    channels, maps = data
    value = metrics.aspro(channels, maps, limit)
    assert value == pytest.approx(area_by_definition(channels, maps, limit), rel=0, abs=1e-12)
    stretched = [np.exp(scores.astype(np.float64) / 100) for scores in maps[::-1]]
    assert metrics.aspro(channels[::-1], stretched, limit) == value


def test_three_channels_by_hand():
    # Normals 9 8 7 ... 1. A holds 8.5, 6.5 and two below nearly all, but two pixels are enough:
    # from FPR 1/9 it has 1/2, from 3/9 all. B holds 10 and, like A, 8.5, and asks for more than
    # it has: 1/2 at once, all from 1/9. C has one pixel, above all.
    scores = np.array([[8.5, 6.5, 0.5, 0.4, 10.0], [9, 8, 7, 6, 5], [4, 3, 2, 1, 11]])
    a, b, c = np.zeros((3, 3, 5), bool)
    a[0, :4] = b[0, [0, 4]] = c[2, 4] = True
    # Up to 4/9, in steps of a ninth.
    areas = (0 + 1 / 2 + 1 / 2 + 1) / 4, (1 / 2 + 1 + 1 + 1) / 4, 1
    value = metrics.aspro([[(a, 2), (b, 9), (c, 1)]], [scores], 4 / 9)
    assert value == pytest.approx(sum(areas) / 3, abs=1e-15)
    # Without C its pixel is a normal one, ahead of all: every step begins one of ten later.
    areas = (0 + 0 + 1 / 2 + 1 / 2) / 4, (0 + 1 / 2 + 1 + 1) / 4
    value = metrics.aspro([[(a, 2), (b, 9)]], [scores], 4 / 10)
    assert value == pytest.approx(sum(areas) / 2, abs=1e-15)


def test_ties_share_what_is_left_of_the_saturation():
    # Three defect pixels and two of four normals tie; two pixels are enough. The curve rises to
    # (1/2, 1) in a line, then stays: area up to 1 is 3/4.
    mask, scores = np.array([[1, 1, 1, 0, 0, 0, 0]]), np.array([[5, 5, 5, 5, 5, 1, 0]], np.uint8)
    assert metrics.aspro([[(mask, 2)]], [scores], 1.0) == 0.75


def test_channels_that_are_components_and_saturate_at_their_area_give_aupro():
    rng = np.random.default_rng(3)
    masks = np.zeros((3, 20, 20), bool)
    masks[1, 2:6, 3:9] = masks[2, 1:3, 1:3] = masks[2, 10:18, 4:7] = True
    maps = rng.random(masks.shape) + 0.4 * masks * rng.random(masks.shape)
    halves = [masks[2].copy(), masks[2].copy()]
    halves[0][5:], halves[1][:5] = False, False
    channels = [None, [(masks[1], 24)], [(half, 10**6) for half in halves]]
    for limit in (0.05, 0.3, 1.0):
        assert metrics.aspro(channels, maps, limit) == metrics.aupro(masks, maps, limit)


@pytest.mark.parametrize("name", golden.parameters(images=False)[:1])
def test_a_loco_like_set_follows_the_definition(name):
    del name
    maps, given = golden.cases().loco_case()
    channels = [[(mask, saturation) for mask, saturation, _ in each] for each in given]
    for each in given:
        for mask, saturation, (kind, threshold) in each:
            relative = kind == "relative"
            expected = max(1, saturation_area(int(mask.sum()), threshold, relative=relative))
            assert saturation == expected
    small = [s[::4, ::4] for s in maps]
    thinned = [
        [
            (mask[::4, ::4], -(-saturation // 16))
            for mask, saturation in each
            if mask[::4, ::4].any()
        ]
        for each in channels
    ]
    for limit in (0.05, 0.3):
        value = metrics.aspro(thinned, small, limit)
        expected = area_by_definition(thinned, small, limit)
        assert value == pytest.approx(expected, rel=0, abs=1e-12)
        assert 0 < metrics.aspro(channels, maps, limit) < 1


def test_a_saturation_area_is_absolute_or_relative():
    assert saturation_area(101, 0.5, relative=True) == 50
    assert saturation_area(101, 1.0, relative=True) == 101
    assert saturation_area(101, 60, relative=False) == 60
    for threshold, relative in ((0, False), (1.5, True), (math.nan, True), (-1, False)):
        with pytest.raises(ParameterError, match="saturation threshold"):
            saturation_area(101, threshold, relative=relative)


def test_without_defects_it_is_undefined():
    with pytest.warns(PyimganoWarning, match="aspro is undefined: there is no defective pixel"):
        assert math.isnan(metrics.aspro([None, []], np.zeros((2, 3, 3))))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([[(np.zeros((3, 3), bool), 1)]], "image 0 has"),
        ([[(np.eye(3), 1), (np.ones((2, 2)), 1)]], "image 0 has"),
        ([[(np.eye(3, dtype=bool), 0)]], "image 0 has 0"),
        ([[(np.eye(3, dtype=bool), 1.5)]], "image 0 has 1.5"),
        ([[(np.eye(4, dtype=bool), 1)]], "image 0 has a mask"),
        ([], "0 masks and 1 maps"),
    ],
)
def test_what_cannot_be_evaluated_is_named(channels, message):
    with pytest.raises(MetricError, match=message):
        metrics.aspro(channels, np.zeros((1, 3, 3)))


def test_a_limit_is_a_rate():
    with pytest.raises(ParameterError, match="false-positive rate"):
        metrics.aspro([[(np.eye(3, dtype=bool), 1)]], np.zeros((1, 3, 3)), 0)

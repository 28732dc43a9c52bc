from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import MetricError, ParameterError, PyimganoWarning
from test_metrics_maps import inspected

WIDE = (1e-3, 0.9)


def areas_by_definition(masks, maps, bounds):
    """One defect pixel after the other."""
    lower, upper = bounds
    bad = [mask is not None and bool(np.any(mask)) for mask in masks]
    goods = [scores for scores, defective in zip(maps, bad, strict=True) if not defective]
    areas = []
    for mask, scores, defective in zip(masks, maps, bad, strict=True):
        if not (defective and goods):
            areas.append(math.nan)
            continue
        terms = []
        for value in scores[mask != 0]:
            rate = sum(float((good >= value).mean()) for good in goods) / len(goods)
            terms.append(max(0.0, math.log(upper / max(lower, rate))) / math.log(upper / lower))
        areas.append(sum(terms) / len(terms))
    return areas


@settings(derandomize=True, deadline=None, max_examples=150)
@given(inspected(), st.sampled_from((WIDE, (0.01, 0.3), (0.2, 1.0))))
def test_areas_follow_the_definition(data, bounds):
    masks, maps = data
    masks, maps = [*masks, None], [*maps, maps[0]]
    expected = areas_by_definition(masks, maps, bounds)
    areas = metrics.aupimo(masks, maps, bounds)
    np.testing.assert_allclose(areas, expected, rtol=0, atol=1e-12)
    assert np.nanmin(areas) >= 0
    assert np.nanmax(areas) <= 1
    narrow = metrics.aupimo(masks, maps)
    card = metrics.evaluate_maps(masks, maps)
    assert card["aupimo"] == pytest.approx(np.nanmean(narrow), rel=0, abs=1e-15)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(inspected(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_monotone_maps_change_no_bit(data, random):
    masks, maps = data
    masks, maps = [*masks, None], [*maps, maps[0]]
    areas = metrics.aupimo(masks, maps, WIDE)
    order = list(range(len(maps)))
    random.shuffle(order)
    stretched = [np.exp(maps[i].astype(np.float64) / 100) for i in order]
    moved = metrics.aupimo([masks[i] for i in order], stretched, WIDE)
    np.testing.assert_array_equal(moved, areas[order])


def test_an_image_by_hand():
    # The good images show the scores at rates 0 and 1/4, 1/4 and 1/4, 1 and 3/4: F = 1/8, 1/4, 7/8.
    mask, scores = np.array([[1, 1, 1, 0]]), np.array([[8.0, 5.0, 1.0, 99.0]])
    goods = [np.array([[6.0, 3, 2, 1]]), np.array([[9.0, 4, 1, 0]])]
    areas = metrics.aupimo([mask, None, np.zeros((1, 4))], [scores, *goods], (1 / 16, 1 / 2))
    assert areas[0] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3, abs=1e-15)
    assert np.isnan(areas[1:]).all()


def test_infinities_and_a_perfect_detector():
    masks, maps = [np.eye(4, dtype=bool), None], np.zeros((2, 4, 4))
    maps[0][masks[0]] = math.inf
    maps[1, 0, 0] = -math.inf
    assert metrics.aupimo(masks, maps)[0] == 1.0
    maps[1, 0, 0] = math.inf
    assert metrics.aupimo(masks, maps)[0] == 0.0


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ([None, None], "no defective pixel"),
        ([], "no defective pixel"),
        ([np.eye(3, dtype=bool)], "no good image"),
    ],
)
def test_without_one_kind_of_image_it_is_undefined(masks, reason):
    maps = np.zeros((len(masks), 3, 3))
    with pytest.warns(PyimganoWarning, match=f"aupimo is undefined: there is {reason}"):
        areas = metrics.aupimo(masks, maps)
    assert np.isnan(areas).all()
    assert areas.shape == (len(masks),)
    assert metrics.evaluate_maps(masks, maps)["undefined"]["aupimo"] == f"there is {reason}"


@pytest.mark.parametrize("bounds", [(0, 0.1), (0.2, 0.1), (0.1, 0.1), (0.1, 2), (math.nan, 1)])
def test_bounds_are_rates(bounds):
    with pytest.raises(ParameterError, match="lower < upper"):
        metrics.aupimo([np.eye(3, dtype=bool), None], np.zeros((2, 3, 3)), bounds)


@pytest.mark.parametrize(
    "mask", [np.full((3, 3), 0.5), np.ones((3, 4), bool), np.ones((1, 3, 3), bool)]
)
def test_a_mask_that_does_not_fit_is_named(mask):
    with pytest.raises(MetricError, match="image 0 has a mask"):
        metrics.aupimo([mask, None], np.zeros((2, 3, 3)))

"""Regions against scipy's labels, and scores against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from pyimgano.errors import InputError, ParameterError
from pyimgano.maps import Maximum, Mean, TopMean, find_regions
from pyimgano.registry import VALUES

PROPERTY = settings(derandomize=True, deadline=None, max_examples=120)
values = st.floats(0, 4, width=32).map(lambda value: np.float32(round(value * 4) / 4))
maps = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=values)


def reference(anomaly_map, threshold, min_area):
    labels, count = ndimage.label(anomaly_map > threshold, np.ones((3, 3)))
    found = []
    for label in range(1, count + 1):
        rows, columns = np.nonzero(labels == label)
        if len(rows) >= min_area:
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            centre = (columns.mean(), rows.mean())
            found.append((anomaly_map[rows, columns].max(), box, len(rows), centre))
    return sorted(found, key=lambda region: (region[1], region[2:]))


@PROPERTY
@given(maps, values, st.integers(1, 4))
def test_regions_are_scipys_components(anomaly_map, threshold, min_area):
    found = find_regions(anomaly_map, float(threshold), min_area=min_area)
    expected = reference(anomaly_map, threshold, min_area)
    peaks = [region.peak for region in found]
    assert peaks == sorted(peaks, reverse=True)
    ordered = sorted(found, key=lambda one: (one.bbox, one.area, one.centroid))
    assert len(ordered) == len(expected)
    for region, (peak, box, area, centre) in zip(ordered, expected, strict=True):
        assert (region.bbox, region.area, region.peak) == (box, area, peak)
        assert region.area_fraction == area / anomaly_map.size
        np.testing.assert_allclose(region.centroid, centre)


def test_equal_peaks_come_in_reading_order():
    found = find_regions(np.array([[0, 0, 2], [2, 0, 0], [0, 0, 2]], np.float32), 1)
    assert [region.bbox[:2] for region in found] == [(2, 0), (0, 1), (2, 2)]


def test_a_scale_makes_square_millimetres():
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[2:4, 3:8] = 5
    (region,) = find_regions(anomaly_map, 1, scale=0.5)
    assert region.area == 2.5
    assert region.area_fraction == 0.1
    assert region.bbox == (3, 2, 8, 4)


def test_a_threshold_at_infinity_finds_nothing_and_below_everything_one_region():
    anomaly_map = np.ones((3, 4), np.float32)
    assert find_regions(anomaly_map, np.inf) == ()
    assert find_regions(anomaly_map, 1.0) == ()
    (whole,) = find_regions(anomaly_map, -np.inf)
    assert whole.area_fraction == 1


def test_what_cannot_be_decided_is_refused():
    anomaly_map = np.ones((3, 4), np.float32)
    for wrong in (np.float32([1, 2]), np.ones((2, 3, 4), np.float32), np.ones((0, 3), np.float32)):
        with pytest.raises(InputError, match=r"shape \(H, W\)"):
            find_regions(wrong, 1)
    with pytest.raises(InputError, match="NaN"):
        find_regions(np.array([[0, np.nan]], np.float32), 1)
    with pytest.raises(ParameterError, match="threshold nan"):
        find_regions(anomaly_map, np.nan)
    with pytest.raises(ParameterError, match="scale 0"):
        find_regions(anomaly_map, 0, scale=0)


# --- scores -------------------------------------------------------------------------------------


@PROPERTY
@given(maps, st.floats(0.001, 1))
def test_scores_are_those_of_sorted_values(anomaly_map, fraction):
    ordered = np.sort(anomaly_map.astype(np.float64), axis=None)[::-1]
    count = max(1, int(fraction * ordered.size))
    for score, expected in (
        (Maximum(), ordered[0]),
        (Mean(), ordered.mean()),
        (TopMean(fraction), ordered[:count].mean()),
    ):
        found = score(anomaly_map)
        assert found.shape == ()
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("score", [Maximum(), Mean(), TopMean(), TopMean(0.3)])
def test_a_map_has_the_same_bits_alone_and_in_a_batch(score):
    maps = np.random.default_rng(0).random((7, 33, 41), dtype=np.float32)
    batch = score(maps)
    assert batch.shape == (7,)
    assert batch.dtype == np.float64
    assert [float(score(one)) for one in maps] == batch.tolist()
    np.testing.assert_array_equal(score(maps.transpose(0, 2, 1)[::-1])[3], score(maps[3].T))


@pytest.mark.parametrize("fraction", [0, -1, 1.1, np.nan])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(ParameterError, match="fraction"):
        TopMean(fraction)


def test_scores_have_names():
    assert [VALUES.name_of(kind) for kind in (Maximum, Mean, TopMean)] == [
        "maximum",
        "mean",
        "top_mean",
    ]

"""Upsampling against scipy, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from pyimgano.errors import InputError, ParameterError
from pyimgano.maps import upsample

PROPERTY = settings(derandomize=True, deadline=None, max_examples=80)
SIDES = st.integers(1, 9)


def reference(grid, size, extent=None, sigma=0.0):
    """Bilinear by coordinates, then a Gaussian, both by scipy in double precision."""
    top, left, bottom, right = extent or (0, 0, *size)
    rows = (np.arange(size[0]) + 0.5 - top) / (bottom - top) * grid.shape[0] - 0.5
    columns = (np.arange(size[1]) + 0.5 - left) / (right - left) * grid.shape[1] - 0.5
    where = np.meshgrid(rows, columns, indexing="ij")
    resized = map_coordinates(grid.astype(float), where, order=1, mode="nearest")
    sigma = np.maximum(sigma, 1e-3)  # scipy divides by the square
    return gaussian_filter(resized, sigma, mode="reflect", truncate=4.0)


@PROPERTY
@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40), st.floats(0, 6), st.floats(0, 6))
def test_equals_scipy(h, w, height, width, vertical, horizontal):
    grid = np.random.default_rng(h * 10 + w).random((h, w), dtype=np.float32)
    sigma = (vertical, horizontal)
    found = upsample(grid, (height, width), sigma=sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(grid, (height, width), None, sigma), atol=1e-6)


@PROPERTY
@given(
    st.tuples(st.floats(-20, 5), st.floats(-20, 5), st.floats(10, 60), st.floats(10, 60)),
    st.floats(0, 4),
)
def test_equals_scipy_with_an_extent(extent, sigma):
    grid = np.random.default_rng(7).random((6, 5), dtype=np.float32)
    found = upsample(grid, (33, 41), extent=extent, sigma=sigma)
    np.testing.assert_allclose(found, reference(grid, (33, 41), extent, sigma), atol=1e-6)


def test_the_extent_places_the_grid():
    """A grid over the left half tells nothing new of the right half."""
    grid = np.array([[1, 2, 3, 4]], np.float32)
    half = upsample(grid, (1, 16), extent=(0, 0, 1, 8))
    np.testing.assert_array_equal(half[:, :8], upsample(grid, (1, 8)))
    np.testing.assert_array_equal(half[:, 8:], 4)


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_an_image_has_the_same_bits_alone_and_in_a_batch(sigma):
    grids = np.random.default_rng(1).random((5, 14, 18), dtype=np.float32)
    maps = upsample(grids, (224, 288), sigma=sigma)
    assert maps.shape == (5, 224, 288)
    for grid, one in zip(grids, maps, strict=True):
        np.testing.assert_array_equal(one, upsample(grid, (224, 288), sigma=sigma))
    np.testing.assert_array_equal(
        upsample(grids[::-2, :, ::-1], (60, 60))[1], upsample(grids[2, :, ::-1], (60, 60))
    )
    assert upsample(grids[:0], (8, 8)).shape == (0, 8, 8)


def test_a_constant_grid_stays_constant_and_a_peak_stays_in_place():
    constant = upsample(np.full((7, 9), 3.0, np.float32), (100, 90), sigma=4)
    np.testing.assert_allclose(constant, 3, rtol=1e-6)
    grid = np.zeros((8, 8), np.float32)
    grid[2, 5] = 1
    found = upsample(grid, (128, 128), sigma=4)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert abs(row + 0.5 - 2.5 * 16) <= 1
    assert abs(column + 0.5 - 5.5 * 16) <= 1


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2), (0, 4), (2, 4, 0)])
def test_wrong_grids_are_refused(shape):
    with pytest.raises(InputError, match=r"shape \(h, w\) or \(n, h, w\)"):
        upsample(np.zeros(shape, np.float32), (8, 8))


@pytest.mark.parametrize(
    "options",
    [
        {"size": (0, 8)},
        {"extent": (4, 0, 4, 8)},
        {"extent": (0, 8, 8, 0)},
        {"extent": (0, 0, np.nan, 8)},
        {"extent": (0, -np.inf, 8, 8)},
        {"sigma": -1.0},
        {"sigma": np.nan},
        {"sigma": (1.0, np.inf)},
    ],
)
def test_impossible_parameters_are_refused(options):
    options = {"size": (8, 8)} | options
    with pytest.raises(ParameterError, match="upsample needs"):
        upsample(np.ones((2, 2), np.float32), **options)

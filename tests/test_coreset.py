from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import InputError, ParameterError
from pyimgano.models import _coreset
from pyimgano.models._coreset import cover_radius, covering, greedy_k_center, random_projection

KINDS = ("plain", "offset", "heavy", "tight", "copies", "lattice")


def points(kind: str, rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    noise = rng.normal(size=(n, d))
    if kind == "offset":
        return noise + 1e4
    if kind == "heavy":
        return rng.standard_t(1, size=(n, d))
    if kind == "tight":
        return 1e-2 * noise + 100 * rng.integers(0, 2, size=(n, 1))
    if kind == "copies":
        return noise[rng.integers(0, max(1, n // 10), n)]
    if kind == "lattice":
        return rng.integers(0, 3, size=(n, d)).astype(np.float64)
    return noise


def one_at_a_time(features: np.ndarray, k: int, first: int) -> np.ndarray:
    x = features.astype(np.float64)
    chosen, squared = [first], ((x - x[first]) ** 2).sum(axis=1)
    while len(chosen) < k:
        chosen.append(int(squared.argmax()))
        squared = np.minimum(squared, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen)


def worst_pick(features: np.ndarray, chosen: np.ndarray) -> float:
    """Return by how much a pick falls short of the farthest row at its turn, relative."""
    x = features.astype(np.float64)
    squared, worst = ((x - x[chosen[0]]) ** 2).sum(axis=1), 0.0
    for pick in chosen[1:]:
        if squared.max() > 0:
            worst = max(worst, 1 - (squared[pick] / squared.max()) ** 0.5)
        squared = np.minimum(squared, ((x - x[pick]) ** 2).sum(axis=1))
    return worst


@st.composite
def choices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(2, 300)), draw(st.sampled_from((1, 2, 8, 64, 512)))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    features = points(draw(st.sampled_from(KINDS)), rng, n, d).astype(dtype)
    return features, draw(st.integers(1, n)), draw(st.integers(0, 99))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(case=choices(), candidates=st.sampled_from((1, 2, 7, 512)))
def test_every_pick_is_a_greedy_pick(case, candidates):
    features, k, seed = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_coreset, "_CANDIDATES", candidates)
        chosen = greedy_k_center(features, k, seed)
    assert chosen.shape == (k,)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == k
    if k < len(features):
        assert worst_pick(features, chosen) < 2e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["plain", "offset", "heavy"])
def test_centres_are_those_of_the_loop(kind, dtype):
    features = points(kind, np.random.default_rng(0), 4000, 48).astype(dtype)
    chosen = greedy_k_center(features, 400, 3)
    np.testing.assert_array_equal(chosen, one_at_a_time(features, 400, chosen[0]))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(case=choices())
def test_the_radius_is_that_of_the_direct_measurement(case):
    features, k, seed = case
    chosen = greedy_k_center(features, k, seed)
    x = features.astype(np.float64)
    nearest = np.full(len(x), np.inf)
    for centre in chosen:
        nearest = np.minimum(nearest, ((x - x[centre]) ** 2).sum(axis=1))
    np.testing.assert_allclose(
        cover_radius(features, chosen), nearest.max() ** 0.5, rtol=1e-12, atol=0
    )


@settings(derandomize=True, deadline=None, max_examples=60)
@given(case=choices())
def test_the_radius_that_the_choice_gives_is_the_cover_radius(case):
    features, k, seed = case
    chosen, radius = covering(features, k, seed)
    np.testing.assert_array_equal(chosen, greedy_k_center(features, k, seed))
    true, spread = cover_radius(features, chosen), np.ptp(features, axis=0).max()
    assert radius <= true
    assert radius == pytest.approx(true, rel=1e-3, abs=1e-3 * float(spread))


def test_many_rows_as_far_as_the_farthest_do_not_hide_it():
    features = points("plain", np.random.default_rng(5), 5000, 64).astype(np.float32)
    chosen, radius = covering(features, 100, 0)
    assert radius == cover_radius(features, chosen)


def test_the_radius_equals_that_of_the_loop_and_shrinks():
    features = points("plain", np.random.default_rng(1), 3000, 16).astype(np.float32)
    chosen = greedy_k_center(features, 300, 0)
    loop = one_at_a_time(features, 300, chosen[0])
    assert cover_radius(features, chosen) == pytest.approx(cover_radius(features, loop), rel=1e-9)
    radii = [cover_radius(features, chosen[:k]) for k in (1, 10, 100, 300)]
    assert radii == sorted(radii, reverse=True)


def test_the_first_centres_are_those_of_a_smaller_choice():
    features = points("plain", np.random.default_rng(2), 2000, 16)
    np.testing.assert_array_equal(
        greedy_k_center(features, 500, 7)[:60], greedy_k_center(features, 60, 7)
    )


def test_distinct_rows_are_chosen_before_their_copies():
    rng = np.random.default_rng(3)
    distinct = rng.normal(size=(40, 5)).astype(np.float32)
    features = distinct[np.concatenate([np.arange(40), rng.integers(0, 40, 500)])]
    chosen = greedy_k_center(features, 40, 0)
    assert len(np.unique(features[chosen], axis=0)) == 40
    assert cover_radius(features, chosen) == 0
    assert len(set(greedy_k_center(features, 200, 0).tolist())) == 200


def test_constant_features():
    features = np.full((3000, 4), 7.0)
    chosen = greedy_k_center(features, 900, 0)
    assert len(set(chosen.tolist())) == 900
    assert cover_radius(features, chosen) == 0


def test_clusters_finer_than_float32_resolves_are_still_covered():
    rng = np.random.default_rng(4)
    features = 1e-3 * rng.normal(size=(1000, 32)) + 1e3 * rng.integers(0, 2, size=(1000, 1))
    assert worst_pick(features, greedy_k_center(features, 200, 0)) < 1e-3


@pytest.mark.parametrize("k", [5, 6, 100])
def test_all_rows_are_returned_when_k_is_not_less(k):
    assert sorted(greedy_k_center(np.eye(5), k, 0).tolist()) == [0, 1, 2, 3, 4]


def test_one_centre_and_the_seed():
    features = np.random.default_rng(5).normal(size=(100, 3))
    assert greedy_k_center(features, 1, 0).shape == (1,)
    assert len({int(greedy_k_center(features, 1, seed)[0]) for seed in range(20)}) > 10
    np.testing.assert_array_equal(greedy_k_center(features, 9, 4), greedy_k_center(features, 9, 4))


def test_features_are_not_changed_and_copied_once():
    features = np.random.default_rng(6).normal(size=(30000, 64)).astype(np.float32)
    before = features.copy()
    features.setflags(write=False)
    tracemalloc.start()
    greedy_k_center(features, 300, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(features, before)
    assert peak < 1.2 * features.nbytes + 20e6


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match="k must be at least 1, got 0"):
        greedy_k_center(np.eye(3), 0, 0)
    with pytest.raises(ParameterError, match="dims must be at least 1, got 0"):
        random_projection(np.eye(3), 0, 0)
    rows = np.eye(3)
    rows[1, 1] = np.nan
    for call in (greedy_k_center, random_projection):
        with pytest.raises(InputError, match="features row 1 holds NaN"):
            call(rows, 2, 0)
    with pytest.raises(InputError, match="features row 1 holds NaN"):
        cover_radius(rows, np.array([0]))


def test_projection_keeps_distances():
    rng = np.random.default_rng(7)
    features = (rng.normal(size=(3000, 512)) + 1e4).astype(np.float32)
    low = random_projection(features, 128, 0)
    assert low.shape == (3000, 128)
    assert low.dtype == np.float32
    np.testing.assert_array_equal(low, random_projection(features, 128, 0))
    assert (low != random_projection(features, 128, 1)).any()
    pairs = rng.integers(0, 3000, size=(2, 500))
    pairs = pairs[:, pairs[0] != pairs[1]]
    full = np.linalg.norm(features[pairs[0]].astype(np.float64) - features[pairs[1]], axis=1)
    ratio = np.linalg.norm(low[pairs[0]].astype(np.float64) - low[pairs[1]], axis=1) / full
    assert abs(np.median(ratio) - 1) < 0.02
    assert ratio.std() < 0.09


def test_projection_to_as_many_columns_is_the_identity():
    features = np.eye(4)
    assert random_projection(features, 4, 0) is features

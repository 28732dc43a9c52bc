"""Short forms of rows: they never overstate a distance, and change no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.models import _exact_search, _shortlist, _sketch
from pyimgano.models.knn_index import NumpyIndex
from pyimgano.testing import check_index
from test_knn_index import KINDS, brute, points, searches


@pytest.fixture
def always(monkeypatch):
    """Sketch any bank, with few axes, whatever they carry."""
    monkeypatch.setattr(_sketch, "_LEAST", (4, 1))
    monkeypatch.setattr(_sketch, "_ENERGY", -1.0)
    monkeypatch.setattr(_sketch, "_MOST", 20)


@settings(max_examples=40)
@given(case=searches())
def test_short_forms_are_never_farther_apart_than_the_rows(always, case):
    bank, queries, _ = case
    held = _exact_search.Bank.of(bank, None)
    sketch = _sketch.Sketch.of(held)
    if sketch is None:
        assert bank.shape[1] < 4 or not held.norms.any()
        return
    assert_sound(sketch, held, bank, queries)


def assert_sound(sketch, held, bank, queries):
    folded, offset, error = sketch.fold(*_exact_search.centred(queries, held.shift))
    gap = bank.astype(np.float64)[None] - queries.astype(np.float64)[:, None]
    distance = np.sqrt((gap**2).sum(axis=2))
    product = (folded @ sketch.tile(np.arange(len(bank))).T).astype(np.float64)
    limit = _exact_search._limit
    found = np.stack(
        [
            limit(_shortlist.Nearest(column[:, None] ** 2, None), offset, error)[:, 0]
            for column in distance.T
        ],
        axis=1,
    )
    assert (product <= found).all()


def hard(kind, rng, n, d):
    """Return rows that one byte a column serves badly."""
    rows = rng.normal(size=(n, d))
    if kind == "one far row":
        rows[n // 2] *= 1e9
    elif kind == "all sizes":
        rows *= 10.0 ** rng.uniform(-18, 12, (n, 1))
    elif kind == "columns of all sizes":
        rows *= 10.0 ** rng.uniform(-12, 6, d)
    elif kind == "below normal numbers":
        rows *= 1e-41
    elif kind == "near the limit":
        rows *= 1e13
    elif kind == "heavy":
        rows = rng.standard_cauchy((n, d))
    elif kind == "far from the origin":
        rows = 1e6 + rows / 8
    elif kind == "copies and near copies":
        rows = rows[rng.integers(0, 5, n)] + 1e-7 * rows * (rng.random((n, 1)) < 0.5)
    return rows


HARD = (
    *("one far row", "all sizes", "columns of all sizes", "below normal numbers"),
    *("near the limit", "heavy", "far from the origin", "copies and near copies"),
)


@pytest.mark.parametrize("pair", [0, 25], ids=["short", "some"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", HARD)
def test_hard_rows_are_bounded_and_change_no_answer(always, monkeypatch, kind, dtype, pair):
    monkeypatch.setattr(_exact_search, "_PAIR", pair)
    for seed in range(5):
        both = hard(kind, np.random.default_rng(seed), 400, 24).astype(dtype)
        bank, queries = both[:300], np.concatenate([both[300:], both[:40]])
        index = NumpyIndex().fit(bank)
        assert_sound(index._sketch, index._bank, bank, queries)
        found = index.kneighbors(queries, 3)
        index._sketch = None
        plain = index.kneighbors(queries, 3)
        np.testing.assert_array_equal(found[0], plain[0])
        np.testing.assert_array_equal(found[1], plain[1])
        np.testing.assert_allclose(found[0], brute(bank, queries, 3)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("pair", [0, 25, 10**9], ids=["short", "some", "long"])
@settings(max_examples=15)
@given(case=searches(), data=st.data())
def test_answers_are_those_without_a_sketch(always, monkeypatch, pair, case, data):
    monkeypatch.setattr(_exact_search, "_PAIR", pair)
    bank, queries, k = case
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    groups = rng.integers(-1, 4, len(bank))
    room = [g for g in range(-1, 6) if g == -1 or (groups != g).sum() >= k]
    exclude = rng.choice(room, len(queries))
    index = NumpyIndex().fit(bank, groups)
    found = index.kneighbors(queries, k, exclude)
    index._sketch = None
    plain = index.kneighbors(queries, k, exclude)
    np.testing.assert_array_equal(found[0], plain[0])
    np.testing.assert_array_equal(found[1], plain[1])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_several_tiles_of_both(always, monkeypatch, kind, k):
    monkeypatch.setattr(_exact_search, "_QUERY_TILE", 37)
    monkeypatch.setattr(_exact_search, "_BANK_TILE", 53)
    monkeypatch.setattr(_exact_search, "_DIRECT_ELEMENTS", 40)
    monkeypatch.setattr(_sketch, "_TILE", 41)
    both = points(kind, np.random.default_rng(5), 700, 12).astype(np.float32)
    bank, queries = both[:500], np.concatenate([both[500:], both[:50]])
    index = NumpyIndex().fit(bank)
    assert index._sketch is not None
    distances, _ = index.kneighbors(queries, k)
    np.testing.assert_allclose(distances, brute(bank, queries, k)[0], rtol=1e-12, atol=0)


def features(n, d, scale):
    """Return rows of which 20 directions carry most, and noise of a given size the rest."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(n, 20)) @ np.random.default_rng(1).normal(size=(20, d))
    return (few + scale * rng.normal(size=(n, d))).astype(np.float32)


def test_only_a_bank_with_a_short_form_has_one():
    assert NumpyIndex().fit(features(3000, 64, 0.3))._sketch.axes.shape == (64, 16)
    wide = NumpyIndex().fit(features(2500, 512, 0.3))._sketch
    assert wide.axes.shape == (512, 20)  # no more than carry something
    assert (wide.codes.shape, wide.codes.dtype) == ((2500, 21), np.int8)
    rich = np.random.default_rng(0).normal(size=(2500, 512)) * np.exp(-np.arange(512) / 80)
    assert NumpyIndex().fit(rich)._sketch.axes.shape == (512, 96)
    assert NumpyIndex().fit(features(3000, 64, 30))._sketch is None
    assert NumpyIndex().fit(features(1000, 64, 0.3))._sketch is None
    assert NumpyIndex().fit(features(3000, 32, 0.3))._sketch is None
    assert NumpyIndex().fit(np.ones((3000, 64)))._sketch is None


def test_the_whole_product_is_for_what_it_leaves_open(monkeypatch):
    monkeypatch.setenv("PYIMGANO_THREADS", "1")  # all queries in one tile
    multiplied = []
    finish = _exact_search._Tile.finish
    monkeypatch.setattr(
        _exact_search._Tile, "finish", lambda *given: (multiplied.append(1), finish(*given))
    )
    rows = features(6000, 128, 0.1)
    index = NumpyIndex().fit(rows[:5000])
    index.kneighbors(rows[5000:], 3)
    assert not multiplied
    monkeypatch.setattr(_exact_search, "_PAIR", 10**9)
    index.kneighbors(rows[5000:], 3)
    assert len(multiplied) == 3  # one a tile of rows: the sketch is given up at the first


def test_it_keeps_the_contract_of_indexes(always):
    check_index(NumpyIndex)

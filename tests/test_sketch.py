"""Short forms of rows: they never overstate a distance, and change no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.models import _exact_search, _sketch
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
    folded, offset = sketch.fold(*_exact_search.centred(queries, held.shift))
    gap = bank.astype(np.float64)[None] - queries.astype(np.float64)[:, None]
    squared = (gap**2).sum(axis=2)
    product = (folded @ sketch.folded.T).astype(np.float64)
    assert (product <= squared + offset[:, None]).all()


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
    assert wide.axes.shape == (512, 96)
    assert wide.folded.shape == (2500, 99)
    assert NumpyIndex().fit(features(3000, 64, 30))._sketch is None
    assert NumpyIndex().fit(features(1000, 64, 0.3))._sketch is None
    assert NumpyIndex().fit(features(3000, 32, 0.3))._sketch is None
    assert NumpyIndex().fit(np.ones((3000, 64)))._sketch is None


def test_the_whole_product_is_for_what_it_leaves_open(monkeypatch):
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

"""Indexes that miss neighbours: asked for by name, measured, and never wrong about a distance."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimgano.models import _faiss_search
from pyimgano.models.knn_index import INDEXES, ApproximateIndex, NumpyIndex, create_index
from test_knn_index import brute, searches

NAMES = [entry.name for entry in INDEXES.entries() if not entry.metadata.exact]


def clusters(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (
        rng.normal(size=(n, 6)) @ rng.normal(size=(6, d)) + 0.1 * rng.normal(size=(n, d))
    ).astype(np.float32)


def test_there_are_two() -> None:
    assert NAMES == ["faiss_hnsw", "faiss_ivf"]


@pytest.mark.parametrize("name", NAMES)
@given(case=searches(), data=st.data())
def test_distances_are_those_of_rows_that_may_be_seen(name, case, data) -> None:
    bank, queries, k = case
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    groups = rng.integers(-1, 4, len(bank))
    room = [g for g in range(-1, 6) if g == -1 or (groups != g).sum() >= k]
    exclude = rng.choice(room, len(queries))
    index = create_index(name).fit(bank, groups)
    distances, indices = index.kneighbors(queries, k, exclude)
    gap = bank.astype(np.float64)[indices] - queries.astype(np.float64)[:, None]
    np.testing.assert_allclose(distances, np.sqrt((gap**2).sum(axis=2)), rtol=1e-12, atol=0)
    nearest, _ = brute(bank, queries, k, groups, exclude)
    assert (distances >= nearest * (1 - 1e-12)).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not ((groups[indices] == exclude[:, None]) & (exclude[:, None] != -1)).any()
    assert all(len(set(row)) == k for row in indices.tolist())
    assert 0 <= index.recall_ <= 1


@pytest.mark.parametrize("name", NAMES)
def test_recall_is_the_share_of_rows_whose_nearest_other_row_is_found(name, caplog) -> None:
    caplog.set_level(logging.INFO)
    bank = clusters(3000, 24)
    index = create_index(name).fit(bank)
    assert isinstance(index, ApproximateIndex)
    rows = bank[:: -(-3000 // _faiss_search._SAMPLE)]
    found, truth = index.kneighbors(rows, 2)[0], NumpyIndex().fit(bank).kneighbors(rows, 2)[0]
    assert index.recall_ == (found[:, 1] == truth[:, 1]).mean() > 0.8
    assert f"finds {100 * index.recall_:.1f} % of nearest rows" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_too_little_effort_is_seen_in_the_recall(name, monkeypatch) -> None:
    bank = np.random.default_rng(0).normal(size=(4000, 32))

    def least(self, width, seen):
        faiss = pytest.importorskip("faiss")
        selected = _faiss_search._selected(seen)
        if name == "faiss_ivf":
            return faiss.SearchParametersIVF(nprobe=1, **selected)
        return faiss.SearchParametersHNSW(efSearch=1, **selected)

    full = create_index(name).fit(bank).recall_
    monkeypatch.setattr(INDEXES[name], "_effort", least)
    assert create_index(name).fit(bank).recall_ < full - 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_second_fit_finds_the_same(name) -> None:
    bank, queries = np.split(clusters(3100, 24), [3000])
    first = create_index(name).fit(bank).kneighbors(queries, 5)
    second = create_index(name).fit(bank).kneighbors(queries, 5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_of_one_row(name) -> None:
    index = create_index(name).fit([[1.0, 2.0]])
    assert index.kneighbors([[1.0, 4.0]])[0].tolist() == [[2.0]]
    assert index.recall_ == 1

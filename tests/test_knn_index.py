from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import (
    InputError,
    MissingExtra,
    NotFittedError,
    ParameterError,
    UnknownNameError,
)
from pyimgano.models import _exact_search
from pyimgano.models.knn_index import (
    INDEXES,
    FaissIndex,
    NearestNeighborIndex,
    NumpyIndex,
    create_index,
)

KINDS = ("plain", "offset", "heavy", "low rank", "flat", "lattice", "tiny", "far")


def points(kind: str, rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    noise = rng.normal(size=(n, d))
    if kind == "offset":
        return noise + 1e4
    if kind == "heavy":
        return rng.standard_t(1, size=(n, d))
    if kind == "low rank":
        return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) * 30 + 1e-3 * noise
    if kind == "flat":
        noise[rng.random(n) < 0.6] = 1e-6 * noise[0]
        return noise + 1e-6 * rng.normal(size=(n, d)) * (rng.random((n, 1)) < 0.3)
    if kind == "lattice":
        return rng.integers(0, 2, size=(n, d)).astype(np.float64)
    if kind == "tiny":
        return noise * 1e-30
    if kind == "far":
        noise[0] = 1e12
        return noise
    return noise


def brute(
    bank: np.ndarray,
    queries: np.ndarray,
    k: int,
    groups: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    distances, indices = [], []
    for row, query in enumerate(queries.astype(np.float64)):
        squared = ((bank.astype(np.float64) - query) ** 2).sum(axis=1)
        if groups is not None and exclude is not None and exclude[row] != -1:
            squared[groups == exclude[row]] = np.inf
        order = np.argsort(squared, kind="stable")[:k]
        distances.append(np.sqrt(squared[order]))
        indices.append(order)
    return np.array(distances), np.array(indices)


@st.composite
def searches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind, dtype = draw(st.sampled_from(KINDS)), draw(st.sampled_from((np.float32, np.float64)))
    d = draw(st.sampled_from((1, 2, 3, 17, 64, 384, 1536)))
    n, m = draw(st.integers(1, 200)), draw(st.integers(1, 60))
    both = points(kind, rng, n + m, d).astype(dtype)
    bank, queries = both[:n], both[n:]
    copies = draw(st.integers(0, min(n, m)))
    queries[:copies] = bank[rng.integers(0, n, copies)]
    bank[rng.integers(0, n, n // 4)] = bank[0]
    k = draw(st.integers(1, min(n, 12)))
    return bank, queries, k


@pytest.mark.parametrize("name", ["numpy", "faiss"])
@settings(derandomize=True, deadline=None, max_examples=80)
@given(case=searches())
def test_nearest_rows_are_those_of_the_direct_measurement(name, case):
    bank, queries, k = case
    distances, indices = create_index(name).fit(bank).kneighbors(queries, k)
    expected, _ = brute(bank, queries, k)
    assert distances.shape == indices.shape == (len(queries), k)
    assert distances.dtype == np.float64
    assert indices.dtype == np.int64
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=0)
    gap = bank.astype(np.float64)[indices] - queries.astype(np.float64)[:, None]
    np.testing.assert_allclose(distances, np.sqrt((gap**2).sum(axis=2)), rtol=1e-12, atol=0)
    assert all(len(set(row)) == k for row in indices.tolist())


@settings(derandomize=True, deadline=None, max_examples=40)
@given(case=searches(), data=st.data())
def test_excluded_groups_are_not_seen(case, data):
    bank, queries, k = case
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    groups = rng.integers(-1, 4, len(bank))
    if data.draw(st.booleans()):
        groups = np.sort(groups)
    room = [g for g in range(-1, 6) if g == -1 or (groups != g).sum() >= k]
    exclude = rng.choice(room, len(queries))
    expected, _ = brute(bank, queries, k, groups, exclude)
    for name in ("numpy", "faiss"):
        distances, indices = create_index(name).fit(bank, groups).kneighbors(queries, k, exclude)
        np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=0)
        assert not ((groups[indices] == exclude[:, None]) & (exclude[:, None] != -1)).any()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(case=searches(), data=st.data())
def test_answers_do_not_depend_on_batch_or_bank_order(case, data):
    bank, queries, k = case
    index = NumpyIndex().fit(bank)
    distances, indices = index.kneighbors(queries, k)
    order = np.array(data.draw(st.permutations(range(len(queries)))))
    chosen = order[: data.draw(st.integers(1, len(queries)))]
    some_distances, some_indices = index.kneighbors(queries[chosen], k)
    np.testing.assert_array_equal(some_distances, distances[chosen])
    np.testing.assert_array_equal(some_indices, indices[chosen])
    order = np.array(data.draw(st.permutations(range(len(bank)))))
    permuted, _ = NumpyIndex().fit(bank[order]).kneighbors(queries, k)
    np.testing.assert_array_equal(permuted, distances)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(case=searches())
def test_engines_give_equal_answers(case):
    bank, queries, k = case
    first = NumpyIndex().fit(bank).kneighbors(queries, k)
    second = FaissIndex().fit(bank).kneighbors(queries, k)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@settings(derandomize=True, deadline=None, max_examples=40)
@given(case=searches())
def test_the_bound_holds_for_every_pair(case):
    bank, queries, _ = case
    held = _exact_search.Bank.of(bank, None)
    folded, offset = _exact_search.fold_queries(*_exact_search.centred(queries, held.shift))
    gap = bank.astype(np.float64)[None] - queries.astype(np.float64)[:, None]
    squared = (gap**2).sum(axis=2)
    for chosen in held.tiles(len(bank)):
        product = (folded @ held.fold(chosen).T).astype(np.float64)
        assert (product <= squared[:, chosen] + offset[:, None]).all()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_any_number_of_threads_gives_the_same_answers(threads, monkeypatch):
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(3000, 80)) * np.exp(-np.arange(80) / 8)
    queries, groups = np.concatenate([bank[:300], bank[::7] + 0.1]), np.arange(3000) // 500
    exclude = np.arange(len(queries)) % 7 - 1
    monkeypatch.setenv("PYIMGANO_THREADS", threads)
    found = NumpyIndex().fit(bank, groups).kneighbors(queries, 4, exclude)
    monkeypatch.setenv("PYIMGANO_THREADS", "2")
    other = NumpyIndex().fit(bank, groups).kneighbors(queries, 4, exclude)
    np.testing.assert_array_equal(found[0], other[0])
    np.testing.assert_array_equal(found[1], other[1])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_several_tiles_of_both(kind, k, monkeypatch):
    monkeypatch.setattr(_exact_search, "_QUERY_TILE", 37)
    monkeypatch.setattr(_exact_search, "_BANK_TILE", 53)
    monkeypatch.setattr(_exact_search, "_DIRECT_ELEMENTS", 40)
    rng = np.random.default_rng(5)
    both = points(kind, rng, 700, 6).astype(np.float32)
    bank, queries = both[:500], np.concatenate([both[500:], both[:50]])
    groups = np.arange(500) // 60
    exclude = rng.integers(-1, 9, 250)
    distances, indices = NumpyIndex().fit(bank, groups).kneighbors(queries, k, exclude)
    expected, rows = brute(bank, queries, k, groups, exclude)
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=0)
    if kind != "lattice":
        np.testing.assert_array_equal(indices, rows)


def test_agrees_with_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(3000, 32)), rng.normal(size=(1500, 32))
    expected = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(bank).kneighbors(queries)
    distances, indices = NumpyIndex().fit(bank).kneighbors(queries, 4)
    np.testing.assert_allclose(distances, expected[0], rtol=1e-9)
    np.testing.assert_array_equal(indices, expected[1])


@pytest.mark.parametrize("name", ["numpy", "faiss"])
def test_ties_go_to_the_smaller_index(name):
    bank = np.array([[5.0, 5.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    index = create_index(name).fit(bank)
    distances, indices = index.kneighbors([[0.0, 0.0], [1.0, 0.0]], 3)
    assert distances.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 2**0.5]]
    assert indices.tolist() == [[1, 2, 3], [1, 3, 2]]


def test_copies_of_bank_rows_are_at_distance_zero_beside_a_large_offset():
    bank = (np.random.default_rng(1).standard_t(2, size=(5000, 64)) + 1e4).astype(np.float32)
    distances, indices = NumpyIndex().fit(bank).kneighbors(bank[2000:2500])
    assert (distances == 0).all()
    assert indices[:, 0].tolist() == list(range(2000, 2500))


def test_a_flat_background_is_searched_once():
    rng = np.random.default_rng(2)
    bank = rng.normal(size=(4000, 8)).astype(np.float32)
    bank[::2] = 0
    held = _exact_search.Bank.of(bank, None)
    assert sum(map(len, held.tiles(1))) == 2001
    assert sum(map(len, held.tiles(3))) == 2003
    apart = _exact_search.Bank.of(bank, np.arange(4000) // 400)
    assert sum(map(len, apart.tiles(1))) == 2010


@pytest.mark.parametrize("name", ["numpy", "faiss"])
@pytest.mark.parametrize("group", [-1, 0, 3])
def test_what_all_queries_exclude_is_left_out_and_changes_no_answer(name, group):
    rng = np.random.default_rng(3)
    bank = rng.normal(size=(9000, 12)).astype(np.float32)
    groups = np.arange(9000) // 1500 - 1
    queries = bank[::40] + rng.normal(scale=0.1, size=(225, 12)).astype(np.float32)
    index = create_index(name).fit(bank, groups)
    alike = index.kneighbors(queries, 2, np.full(225, group))
    expected, rows = brute(bank, queries, 2, groups, np.full(225, group))
    np.testing.assert_allclose(alike[0], expected, rtol=1e-5)
    assert np.array_equal(alike[1], rows)
    mixed = index.kneighbors(np.repeat(queries, 2, axis=0), 2, np.tile([group, 4], 225))
    assert np.array_equal(mixed[1][::2], alike[1])
    assert np.array_equal(mixed[0][::2], alike[0])


def test_rows_of_equal_norm_are_not_taken_for_copies():
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    distances, indices = NumpyIndex().fit(bank).kneighbors(bank)
    assert (distances == 0).all()
    assert indices[:, 0].tolist() == [0, 1, 2, 3]


def test_a_noisy_background_is_sharpened_before_it_is_measured(monkeypatch):
    rng = np.random.default_rng(3)
    bank = rng.normal(size=(2000, 64))
    bank[:1500] = 3 + 1e-6 * rng.normal(size=(1500, 64))
    queries = bank[:300] + 1e-6 * rng.normal(size=(300, 64))
    measured = []
    measure = _exact_search.Bank.measure

    def count(self, queries, which, indices):
        measured.append(len(which))
        return measure(self, queries, which, indices)

    monkeypatch.setattr(_exact_search.Bank, "measure", count)
    distances, indices = NumpyIndex().fit(bank).kneighbors(queries)
    expected, rows = brute(bank, queries, 1)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_array_equal(indices, rows)
    assert sum(measured) <= 3 * len(queries)


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_stays_bounded(threads, monkeypatch):
    monkeypatch.setenv("PYIMGANO_THREADS", str(threads))
    bank = np.random.default_rng(4).normal(size=(20000, 64)).astype(np.float32)
    index = NumpyIndex().fit(bank)
    tracemalloc.start()
    index.kneighbors(bank[:3000], 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < threads * 40e6


@pytest.mark.parametrize("name", ["numpy", "faiss"])
def test_inputs_are_neither_copied_nor_changed(name):
    rng = np.random.default_rng(6)
    bank, queries = rng.normal(size=(300, 5)), rng.normal(size=(40, 5))
    before = bank.copy(), queries.copy()
    bank.setflags(write=False)
    queries.setflags(write=False)
    index = create_index(name).fit(bank, np.arange(300) % 3)
    index.kneighbors(queries, 2, np.arange(40) % 3)
    np.testing.assert_array_equal(bank, before[0])
    np.testing.assert_array_equal(queries, before[1])
    assert index._bank.rows is bank


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.bool_])
def test_other_real_numbers_are_converted(dtype):
    rng = np.random.default_rng(7)
    bank, queries = (rng.integers(0, 2, size=(n, 9)).astype(dtype) for n in (60, 20))
    distances, _ = NumpyIndex().fit(bank).kneighbors(queries)
    np.testing.assert_allclose(distances, brute(bank, queries, 1)[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["numpy", "faiss", "auto"])
@settings(derandomize=True, deadline=None, max_examples=40)
@given(case=searches())
def test_a_bank_of_half_floats_is_kept_and_measured_as_it_is(name, case):
    bank, queries, k = case
    bank = np.clip(bank, -65504, 65504).astype(np.float16)
    index = create_index(name).fit(bank)
    distances, indices = index.kneighbors(queries, k)
    assert index._index._bank.rows is bank if name == "auto" else index._bank.rows is bank
    np.testing.assert_allclose(distances, brute(bank, queries, k)[0], rtol=1e-12, atol=0)
    gap = bank.astype(np.float64)[indices] - queries.astype(np.float64)[:, None]
    np.testing.assert_allclose(distances, np.sqrt((gap**2).sum(axis=2)), rtol=1e-12, atol=0)
    again, _ = NumpyIndex().fit(bank.astype(np.float32)).kneighbors(queries, k)
    np.testing.assert_array_equal(distances, again)


@pytest.mark.parametrize("name", ["numpy", "faiss"])
def test_a_second_fit_forgets_the_first(name):
    index = create_index(name).fit([[0.0], [1.0]], [0, 1])
    assert index.fit([[5.0, 0.0]]) is index
    assert index.kneighbors([[5.0, 2.0]])[0].tolist() == [[2.0]]
    with pytest.raises(InputError, match="exclude needs groups"):
        index.kneighbors([[5.0, 2.0]], 1, [0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_rows_are_named(bad):
    rows = np.zeros((4000, 3), np.float32)
    rows[3001, 2] = bad
    with pytest.raises(InputError, match=r"bank row 3001 holds NaN or infinity"):
        NumpyIndex().fit(rows)
    with pytest.raises(InputError, match=r"queries row 3001 holds NaN or infinity"):
        NumpyIndex().fit(np.zeros((2, 3))).kneighbors(rows)


@pytest.mark.parametrize("bank", [[], [[]], np.zeros((0, 3)), np.zeros(3), np.zeros((2, 2, 2))])
def test_banks_that_are_no_matrix(bank):
    with pytest.raises(InputError, match=r"bank must have shape \(n, d\)"):
        NumpyIndex().fit(bank)


@pytest.mark.parametrize("bank", [[["a"]], [[1j]], np.zeros((1, 1), np.longdouble)])
def test_banks_that_are_no_real_numbers(bank):
    with pytest.raises(InputError, match="must hold real numbers"):
        NumpyIndex().fit(bank)


@pytest.mark.parametrize("size", [1e18, 1e38, 1e300])
def test_values_beyond_the_products_are_refused(size):
    spread = np.array([[size, 0.0], [-size, 0.0]])
    with pytest.raises(InputError, match="rescale the features"):
        NumpyIndex().fit(spread)
    with pytest.raises(InputError, match="rescale the features"):
        NumpyIndex().fit(np.eye(2)).kneighbors(spread)


def test_queries_must_fit_the_bank():
    index = NumpyIndex().fit(np.eye(3), [0, 0, 1])
    with pytest.raises(InputError, match="queries must have 3 columns"):
        index.kneighbors(np.eye(2))
    with pytest.raises(ParameterError, match="k must be at least 1, got 0"):
        index.kneighbors(np.eye(3), 0)
    with pytest.raises(InputError, match="query 0 may see only 3 of 3"):
        index.kneighbors(np.eye(3), 4)
    with pytest.raises(InputError, match="query 2 may see only 1 of 3"):
        index.kneighbors(np.eye(3), 2, [-1, 1, 0])
    with pytest.raises(InputError, match=r"exclude must be whole numbers of shape \(3,\)"):
        index.kneighbors(np.eye(3), 1, [0])
    with pytest.raises(InputError, match="groups must be whole numbers"):
        NumpyIndex().fit(np.eye(3), [0.5, 1.0, 2.0])


@pytest.mark.parametrize("kind", [NumpyIndex, FaissIndex])
def test_an_index_without_bank_says_so(kind):
    with pytest.raises(NotFittedError, match="call fit first"):
        kind().kneighbors([[0.0]])


def test_names():
    assert sorted(INDEXES) == ["faiss", "faiss_hnsw", "faiss_ivf", "numpy", "torch"]
    assert type(create_index("numpy")) is NumpyIndex
    assert type(create_index("faiss")) is FaissIndex
    assert all(isinstance(entry.value(), NearestNeighborIndex) for entry in INDEXES.entries())
    with pytest.raises(UnknownNameError, match="did you mean 'faiss'"):
        create_index("fais")


@pytest.mark.parametrize("name", ["faiss", "torch"])
def test_a_missing_package_is_named_with_its_pip_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf'pip install "pyimgano\[{name}\]"'):
        create_index(name)
    with pytest.raises(MissingExtra, match=rf'pip install "pyimgano\[{name}\]"'):
        INDEXES[name]().fit([[0.0]])

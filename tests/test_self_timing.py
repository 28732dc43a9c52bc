"""The index "auto": what it times, what it keeps, and what a bad file cannot do."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest

from pyimgano.errors import InputError, NotFittedError
from pyimgano.models import _self_timing
from pyimgano.models.knn_index import NumpyIndex, create_index

RNG = np.random.default_rng(0)
BANK = RNG.normal(size=(900, 40)).astype(np.float32)
QUERIES = RNG.normal(size=(50, 40)).astype(np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_self_timing, "_LEAST_ELEMENTS", 1)
    monkeypatch.setattr(_self_timing, "_picked", {})
    return tmp_path / "pyimgano" / "indexes.json"


def timed(caplog):
    return sum("index" in record.msg and "for %s" in record.msg for record in caplog.records)


def answers():
    expected = NumpyIndex().fit(BANK).kneighbors(QUERIES, 3)
    found = create_index().fit(BANK).kneighbors(QUERIES, 3)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def pick(cache):
    (name,) = json.loads(cache.read_text())["picks"].values()
    return name


def test_a_small_bank_is_searched_with_numpy_untimed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answers()
    assert not list(tmp_path.iterdir())
    assert type(create_index().fit(BANK)._index) is NumpyIndex


def test_it_times_once_and_keeps_what_it_picked(cache, caplog):
    caplog.set_level(logging.INFO)
    answers()
    answers()
    assert timed(caplog) == 1
    assert pick(cache) in _self_timing._candidates()
    _self_timing._picked.clear()  # as another process
    answers()
    assert timed(caplog) == 1


def test_a_pick_of_before_is_taken(cache, caplog):
    answers()
    known = json.loads(cache.read_text())
    for name in ("faiss", "numpy"):
        cache.write_text(json.dumps({**known, "picks": dict.fromkeys(known["picks"], name)}))
        _self_timing._picked.clear()
        index = create_index().fit(BANK)._index
        assert type(index).__name__.lower() == f"{name}index"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "\x00\xff",
        '{"machine": 1',
        '{"machine": ["elsewhere", "x"], "versions": {}, "picks": {}}',
        "stale",
        "unknown name",
        "no table",
    ],
)
def test_a_file_of_no_use_is_replaced(cache, caplog, text):
    caplog.set_level(logging.INFO)
    answers()
    known = json.loads(cache.read_text())
    changed = {
        "stale": {**known, "versions": {**known["versions"], "numpy": "1.0"}},
        "unknown name": {**known, "picks": dict.fromkeys(known["picks"], "gone")},
        "no table": {**known, "picks": ["numpy"]},
    }
    cache.write_bytes((json.dumps(changed[text]) if text in changed else text).encode("latin-1"))
    _self_timing._picked.clear()
    answers()
    assert timed(caplog) == 2
    assert json.loads(cache.read_text())["versions"] == known["versions"]
    assert pick(cache) in _self_timing._candidates()


def test_a_folder_that_cannot_be_written_costs_a_timing_and_no_error(cache, caplog, monkeypatch):
    place = cache.parent.parent / "a file"
    place.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    answers()
    assert "cannot be kept" in caplog.text


def test_a_package_that_is_installed_but_broken_takes_no_part(cache, caplog, monkeypatch, tmp_path):
    (tmp_path / "faiss.py").write_text("raise ImportError('libgomp.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    answers()
    assert pick(cache) == "numpy"
    assert "index faiss takes no part" in caplog.text
    assert "libgomp.so.1: cannot open" in caplog.text


def test_a_shape_of_its_own_is_kept_beside_the_others(cache):
    answers()
    create_index().fit(RNG.normal(size=(500, 9)))
    assert len(json.loads(cache.read_text())["picks"]) == 2


def test_others_must_be_much_faster():
    assert _self_timing._choice({"faiss": 0.9, "numpy": 1.0}) == "numpy"
    assert _self_timing._choice({"faiss": 0.5, "numpy": 1.0, "torch": 0.6}) == "faiss"


def test_a_bad_feature_is_named_before_anything_is_timed(cache):
    bad = BANK.copy()
    bad[7, 3] = np.nan
    with pytest.raises(InputError, match="bank row 7 holds NaN"):
        create_index().fit(bad)
    assert not cache.exists()
    with pytest.raises(NotFittedError):
        create_index().kneighbors(QUERIES)

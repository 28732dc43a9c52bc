"""Products in torch propose rows; the answers are those of numpy, whatever torch rounds."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.torch

pytest.importorskip("torch.nn")  # this folder alone would do for "torch"
torch = pytest.importorskip("torch")

from pyimgano import testing  # noqa: E402
from pyimgano.models import _torch_search  # noqa: E402
from pyimgano.models._bounds import centred  # noqa: E402
from pyimgano.models._proposals import Asked  # noqa: E402
from pyimgano.models.knn_index import NumpyIndex, TorchIndex, create_index  # noqa: E402
from test_knn_index import KINDS, brute, points, searches  # noqa: E402


@pytest.fixture(params=["float32", "TF32 allowed", "bfloat16"])
def precision(request, monkeypatch, tmp_path):
    """Run in float32, in what the user allows instead, and as where the processor has bfloat16."""
    facts = tmp_path / "cpuinfo"
    facts.write_text("flags : fma avx512_bf16" if request.param == "bfloat16" else "flags : fma")
    monkeypatch.setattr(_torch_search, "_CPU_FACTS", facts)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if "TF32" in request.param else "highest")
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_keeps_the_protocol(precision):
    testing.check_index(lambda: create_index("torch"))


@given(case=searches(), data=st.data())
def test_answers_equal_those_of_numpy(precision, case, data):
    bank, queries, k = case
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    groups = rng.integers(-1, 4, len(bank))
    room = [g for g in range(-1, 6) if g == -1 or (groups != g).sum() >= k]
    exclude = rng.choice(room, len(queries))
    expected = NumpyIndex().fit(bank, groups).kneighbors(queries, k, exclude)
    index = TorchIndex().fit(bank, groups)
    assert (index._type is torch.bfloat16) == (precision == "bfloat16")
    found = index.kneighbors(queries, k, exclude)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    some = index.kneighbors(queries[::2], k, exclude[::2])
    np.testing.assert_array_equal(some[0], expected[0][::2])
    np.testing.assert_array_equal(some[1], expected[1][::2])


@given(case=searches())
def test_no_row_that_is_not_proposed_is_nearer_than_the_bound(precision, case):
    bank, queries, _ = case
    index = TorchIndex().fit(bank)
    width = max(1, len(bank) // 3)
    shifted, norms = centred(queries, index._bank.shift)
    indices, bound = index._propose(Asked(shifted, norms, width, None))
    gap = bank.astype(np.float64)[None] - queries.astype(np.float64)[:, None]
    squared = (gap**2).sum(axis=2)
    np.put_along_axis(squared, indices, np.inf, axis=1)
    assert (bound <= squared.min(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_may_be_one_query(kind, precision, monkeypatch):
    monkeypatch.setattr(_torch_search, "_PRODUCT_ELEMENTS", 1)
    both = points(kind, np.random.default_rng(5), 260, 6).astype(np.float32)
    bank, queries = both[:200], both[200:]
    distances, _ = TorchIndex().fit(bank).kneighbors(queries, 3)
    np.testing.assert_allclose(distances, brute(bank, queries, 3)[0], rtol=1e-12, atol=0)


def test_most_queries_are_proven_without_a_second_search(precision, monkeypatch):
    from pyimgano.models import _proposals

    rng = np.random.default_rng(0)
    both = rng.normal(size=(4400, 10)) @ rng.normal(size=(10, 128)) + 0.3 * rng.normal(
        size=(4400, 128)
    )
    again = []
    search = _proposals.search

    def count(bank, queries, k, exclude):
        again.append(len(queries))
        return search(bank, queries, k, exclude)

    monkeypatch.setattr(_proposals, "search", count)
    TorchIndex().fit(both[:4000].astype(np.float32)).kneighbors(both[4000:].astype(np.float32))
    assert again[0] <= (0 if precision == "float32" else 40)


def test_a_processor_that_cannot_be_asked_multiplies_float32(monkeypatch, tmp_path):
    monkeypatch.setattr(_torch_search, "_CPU_FACTS", tmp_path / "absent")
    index = TorchIndex().fit(np.eye(3))
    assert index._type is torch.float32
    assert index.kneighbors(np.eye(3))[1][:, 0].tolist() == [0, 1, 2]


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="an older torch")
def test_precision_set_for_one_backend_alone_is_taken_for_coarse():
    assert not _torch_search._rounds_float32(torch)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        assert _torch_search._rounds_float32(torch)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"
    assert not _torch_search._rounds_float32(torch)


@pytest.mark.parametrize(("first", "parts"), [("", "no"), ("import torch; ", "takes")])
def test_auto_times_torch_only_where_it_is_imported_already(first, parts, tmp_path):
    code = (
        "import sys, numpy as np; from pyimgano.models import _self_timing; "
        "_self_timing._LEAST_ELEMENTS = 1; from pyimgano.models.knn_index import create_index; "
        "create_index().fit(np.random.default_rng(0).normal(size=(500, 8))); "
        "print('takes' if 'torch' in _self_timing._candidates() else 'no', 'torch' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", first + code],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.stdout.split() == [parts, str(bool(first))], ran.stderr

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.metrics import counting
from pyimgano.metrics.counting import count_normals

DTYPES = (np.float32, np.float64, np.longdouble, np.int32, np.int64, np.uint32, np.uint64)
SHAPES = {
    "even": lambda rng, n: rng.random(n) * 1000,
    "levels": lambda rng, n: rng.integers(0, 7, n),
    "heavy tail": lambda rng, n: np.exp(rng.normal(0, 6, n)),
    "far from zero": lambda rng, n: 1e9 + rng.integers(0, 50, n),
    "one value": lambda rng, n: np.full(n, 3.0),
    "both signs": lambda rng, n: rng.normal(0, 1e6, n),
}


def counted(scores, parts, **limits):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(counting, name, value)
        return count_normals(scores, parts, sum(part.size for part in parts))


def check(scores, parts, **limits):
    together = np.sort(np.concatenate(parts))
    above, at_or_above = counted(scores, parts, **limits)
    np.testing.assert_array_equal(above, together.size - together.searchsorted(scores, "right"))
    np.testing.assert_array_equal(at_or_above, together.size - together.searchsorted(scores))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from(DTYPES),
    st.sampled_from((1, 10**6)),
    st.booleans(),
)
def test_the_counts_are_those_of_one_sort(seed, shape, dtype, few, with_infinities):
    rng = np.random.default_rng(seed)

    def drawn(n):
        values = SHAPES[shape](rng, n)
        if np.dtype(dtype).kind != "f":
            return np.clip(values, 0 if np.dtype(dtype).kind == "u" else -(2**31), 2**31).astype(
                dtype
            )
        values = values.astype(dtype)
        if with_infinities:
            values[rng.random(n) < 0.1] = np.inf
            values[rng.random(n) < 0.1] = -np.inf
        return values

    parts = [drawn(n) for n in rng.integers(0, 90, 6)]
    scores = np.unique(np.concatenate([drawn(30), parts[0][:10]]))
    limits = {"_FEW": few, "_IN_CACHE": 13, "_PENDING": 16, "_BLOCK": 7, "_MOST_BITS": 4}
    check(scores, parts, **limits, _CHUNK_BYTES=64)
    check(scores, parts, _FEW=few)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_ranges_and_neighbouring_numbers(dtype):
    top, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    wide = np.array([-top, -1, -tiny, 0, tiny, 1, top, np.inf], dtype)
    check(wide, [wide, np.array([-np.inf, -0.0, 2], dtype)], _FEW=1)
    near = np.array([1, np.nextafter(dtype(1), dtype(2)), 1 + 1e-6], dtype)
    check(near[:2], [near, near[::-1]], _FEW=1)
    check(np.array([np.inf], dtype), [wide], _FEW=1)
    check(np.array([-np.inf, np.inf], dtype), [wide], _FEW=1)


def test_integers_that_no_double_tells_apart():
    scores = np.array([2**62, 2**62 + 1, 2**62 + 3], np.int64)
    check(scores, [scores - 1, scores, scores + 1], _FEW=1)


def test_most_normals_are_never_sorted():
    rng = np.random.default_rng(0)
    scores = np.unique(rng.normal(2, 1, 5_000).astype(np.float32))
    parts = [rng.normal(0, 1, 50_000).astype(np.float32) for _ in range(4)]
    sieve = counting._Sieve.made_for(scores, 200_000)
    assert sieve is not None
    unclear = sum(part.size for part in sieve.sift(parts))
    assert unclear < 0.2 * 200_000
    check(scores, parts)


def test_no_scores_and_no_normals():
    none = np.empty(0, np.float32)
    assert [found.size for found in count_normals(none, [np.ones(3, np.float32)], 3)] == [0, 0]
    assert [found.tolist() for found in count_normals(np.ones(1, np.float32), [], 0)] == [[0], [0]]

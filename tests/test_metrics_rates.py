from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.calibration import false_reject_bound
from pyimgano.errors import ParameterError
from pyimgano.metrics import clopper_pearson
from pyimgano.metrics.rates import Rate


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from((0.5, 0.9, 0.95, 0.999)))
def test_intervals_agree_with_scipy(n, share, confidence):
    from scipy.stats import binomtest

    k = round(share * n)
    low, high = clopper_pearson(k, n, confidence)
    # scipy finds the ends by root finding.
    expected = binomtest(k, n).proportion_ci(confidence, method="exact")
    assert (low, high) == pytest.approx(tuple(expected), rel=0, abs=1e-8)
    assert low <= k / n <= high
    mirrored = clopper_pearson(n - k, n, confidence)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), rel=0, abs=1e-12)
    if 0 < k < n:
        tail = (1 - confidence) / 2
        assert low == pytest.approx(false_reject_bound(n, k, tail), rel=1e-12)
        assert high == pytest.approx(false_reject_bound(n, k + 1, 1 - tail), rel=1e-12)


def test_the_ends_by_hand():
    # None of n: (1 - p)^n = 2.5 %.
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025 ** (1 / 10)), abs=1e-14)
    assert clopper_pearson(10, 10) == pytest.approx((0.025 ** (1 / 10), 1), abs=1e-14)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_a_rate_describes_itself():
    assert Rate(0, 0).describe() == {"count": 0, "of": 0, "rate": None, "low": None, "high": None}
    facts = Rate(3, 60).describe()
    assert (facts["count"], facts["of"], facts["rate"]) == (3, 60, 0.05)
    assert (facts["low"], facts["high"]) == Rate(3, 60).interval == clopper_pearson(3, 60)


@pytest.mark.parametrize(
    ("k", "n", "confidence"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1), (1, 3, 0)]
)
def test_what_is_no_rate_is_refused(k, n, confidence):
    with pytest.raises(ParameterError, match="an interval needs"):
        clopper_pearson(k, n, confidence)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import MetricError, ParameterError, PyimganoWarning
from test_metrics_scores import labelled_scores


def by_all_pairs(labels, scores_a, scores_b):
    """Return the AUROCs and the variance of their difference, by the definition of 1988."""
    labels = np.asarray(labels) != 0
    rows, columns = [], []
    for scores in (np.asarray(scores_a), np.asarray(scores_b)):
        bad, good = scores[labels][:, None], scores[~labels][None]
        beats = (bad > good) + 0.5 * (bad == good)
        rows.append(beats.mean(1))
        columns.append(beats.mean(0))
    covariance = np.cov(rows) / labels.sum() + np.cov(columns) / (~labels).sum()
    contrast = np.array([1, -1])
    return rows[0].mean(), rows[1].mean(), float(contrast @ covariance @ contrast)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(labelled_scores(), st.integers(0, 2**32 - 1), st.sampled_from((2, 5, 1000)))
def test_the_comparison_follows_the_definition(data, seed, levels):
    from scipy.stats import norm

    labels, scores_a = data
    labels, scores_a = np.append(labels, [0, 1]), np.append(scores_a, scores_a[:2])
    scores_b = np.random.default_rng(seed).integers(0, levels, labels.size)
    found = metrics.delong(labels, scores_a, scores_b)
    auroc_a, auroc_b, variance = by_all_pairs(labels, scores_a, scores_b)
    assert found.auroc_a == pytest.approx(metrics.auroc(labels, scores_a), abs=1e-14)
    assert found.auroc_b == pytest.approx(auroc_b, abs=1e-14)
    assert found.difference == pytest.approx(auroc_a - auroc_b, abs=1e-14)
    half = norm.ppf(0.975) * math.sqrt(max(variance, 0))
    assert found.high - found.difference == pytest.approx(half, abs=1e-7)
    if variance > 1e-12:
        assert found.p == pytest.approx(
            2 * norm.sf(abs(found.difference) / math.sqrt(variance)), rel=1e-6, abs=1e-12
        )
    # Only the order counts, and the other way round it is the other sign.
    turned = metrics.delong(labels, scores_b, np.arctan(scores_a.astype(np.float64) / 50))
    assert turned.difference == pytest.approx(-found.difference, abs=1e-14)
    assert turned.p == pytest.approx(found.p, rel=1e-9)
    order = np.random.default_rng(seed).permutation(labels.size)
    moved = metrics.delong(labels[order], scores_a[order], scores_b[order])
    assert moved.p == pytest.approx(found.p, rel=1e-9)


def test_six_images_by_hand():
    # Share of the good images below each defective one: 2/3 1 1 and 1/3 1/3 1, less: 1/3 2/3 0.
    # Share of the defective images above each good one: 1 1 2/3 and 1 1/3 1/3, less: 0 2/3 1/3.
    # Either has the variance 1/9, and their means 2/27 together; the difference is 1/3.
    found = metrics.delong([0, 0, 0, 1, 1, 1], [1, 2, 5, 4, 6, 7], [1, 5, 6, 2, 4, 7])
    assert (found.auroc_a, found.auroc_b) == pytest.approx((8 / 9, 5 / 9), abs=1e-15)
    reach = 1.959963984540054 * math.sqrt(2 / 27)
    assert (found.low, found.high) == pytest.approx((1 / 3 - reach, 1 / 3 + reach), abs=1e-14)
    assert found.p == pytest.approx(math.erfc(math.sqrt(3 / 4)), abs=1e-14)


# Albumin, total protein and K-G score of 43 patients with ovarian cancer: data of DeLong, DeLong
# and Clarke-Pearson, Biometrics 44, 1988, as example of the SAS/STAT User's Guide, which prints the
# results: LOGISTIC procedure, "Comparing Receiver Operating Characteristic Curves".
EVENT = """
    3.0 5.8 10   2.8 4.8 6   0.9 4.0 5   2.5 5.7 8   3.6 6.7 4   4.2 7.6 4
    4.0 6.6 6    3.0 4.7 8   3.3 6.8 6   1.7 4.0 7   2.9 5.7 9   2.8 6.2 8
"""
NO_EVENT = """
    3.2 6.3 5   3.9 6.8 3   3.2 5.8 3   1.6 5.6 5   3.8 5.7 5   3.7 6.7 6   3.2 5.4 4   3.8 6.6 6
    4.1 6.6 5   3.6 5.7 5   4.3 7.0 4   2.3 4.4 6   3.5 5.8 6   3.8 6.8 7   4.5 7.4 5   3.7 7.4 5
    3.1 6.6 6   4.1 8.2 6   4.3 7.0 5   4.3 6.5 4   3.2 5.1 5   2.6 4.7 6   3.7 6.1 5   3.3 6.3 7
    4.2 7.7 6   3.5 6.2 5   2.1 4.8 7   4.0 7.0 7   3.3 5.7 6   3.7 6.9 5   3.6 6.6 5
"""


@pytest.mark.parametrize(
    ("column", "auroc", "difference", "low", "high", "p"),
    [
        (0, 0.7366, 0.0108, -0.1761, 0.1976, 0.9102),  # albumin
        (1, 0.6478, -0.0780, -0.2830, 0.1271, 0.4561),  # total protein
    ],
)
def test_the_published_example(column, auroc, difference, low, high, p):
    with_event, without = (
        np.fromstring(text, sep=" ").reshape(-1, 3) for text in (EVENT, NO_EVENT)
    )
    labels, tests = (
        np.repeat([1, 0], [len(with_event), len(without)]),
        np.concatenate([with_event, without]),
    )
    found = metrics.delong(labels, -tests[:, column], tests[:, 2])
    assert round(found.auroc_a, 4) == auroc
    assert round(found.auroc_b, 4) == 0.7258
    assert round(found.difference, 4) == difference
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert round(found.p, 4) == p


def test_where_two_detectors_agree_there_is_no_difference():
    labels, scores = [0, 0, 1, 1], np.array([0.1, 0.4, 0.35, 0.8])
    found = metrics.delong(labels, scores, 10 * scores)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    found = metrics.delong(labels, [1, 2, 3, 4], [4, 3, 2, 1])
    assert (found.difference, found.low, found.high, found.p) == (1.0, 1.0, 1.0, 0.0)


def test_infinities_are_legal_and_the_confidence_widens():
    labels = [0, 0, 0, 1, 1, 1]
    a, b = [-math.inf, 1, 2, 0, 3, math.inf], [0.0, 1, 5, 2, 1, 6]
    narrow = metrics.delong(labels, a, b, 0.5)
    wide = metrics.delong(labels, np.clip(a, -9, 9), b)
    assert wide.low < narrow.low < narrow.difference == wide.difference < narrow.high < wide.high


@pytest.mark.parametrize("labels", [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
def test_one_image_of_a_kind_tells_no_variance(labels):
    with pytest.warns(PyimganoWarning, match="delong is undefined: it needs two good and two"):
        found = metrics.delong(labels, [1, 2, 3], [1, 3, 2])
    assert math.isnan(found.p)
    assert math.isnan(found.difference)


def test_what_cannot_be_compared_is_named():
    with pytest.raises(MetricError, match="image 1 is NaN"):
        metrics.delong([0, 0, 1, 1], [1, 2, 3, 4], [1, math.nan, 3, 4])
    with pytest.raises(ParameterError, match="confidence is a share"):
        metrics.delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], 1.5)

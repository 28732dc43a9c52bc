from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import MetricError, PyimganoError, PyimganoWarning
from pyimgano.registry import Metadata, Registry

DTYPES = (np.float64, np.float32, np.float16, np.uint8, np.uint16, np.int16, np.int64)


@st.composite
def labelled_scores(draw):
    """Labels of both kinds and scores with many ties, in any dtype."""
    n = draw(st.integers(2, 60))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[:2] = (0, 1)
    levels = draw(st.lists(st.integers(0, draw(st.integers(0, 200))), min_size=n, max_size=n))
    return np.array(labels), np.array(levels).astype(draw(st.sampled_from(DTYPES)))


def by_scikit_learn(labels, scores):
    """AUROC, average precision, and F1 of each threshold."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    found = dict(zip(thresholds.tolist(), f1[:-1].tolist(), strict=True))
    return roc_auc_score(labels, scores), average_precision_score(labels, scores), found


@settings(derandomize=True, deadline=None, max_examples=200)
@given(labelled_scores())
def test_scores_agree_with_scikit_learn(data):
    labels, scores = data
    card = metrics.evaluate_scores(labels, scores)
    auroc, ap, f1 = by_scikit_learn(labels, scores)
    assert card["auroc"] == pytest.approx(auroc, rel=0, abs=1e-12)
    assert card["ap"] == pytest.approx(ap, rel=0, abs=1e-12)
    assert card["f1max"] == pytest.approx(max(f1.values()), rel=0, abs=1e-12)
    assert f1[card["f1max_threshold"]] == pytest.approx(card["f1max"], rel=0, abs=1e-12)
    assert card["undefined"] == {}
    assert metrics.auroc(labels, scores) == card["auroc"]
    assert metrics.average_precision(labels, scores) == card["ap"]
    assert metrics.f1_max(labels, scores) == card["f1max"]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(labelled_scores(), st.randoms(use_true_random=False))
def test_only_the_order_of_the_scores_counts(data, random):
    labels, scores = data
    card = metrics.evaluate_scores(labels, scores)
    order = list(range(labels.size))
    random.shuffle(order)
    stretched = np.arctan(scores.astype(np.float64) / 50) - 3
    moved = metrics.evaluate_scores(labels[order], stretched[order])
    assert [moved[key] for key in ("auroc", "ap", "f1max")] == [
        card[key] for key in ("auroc", "ap", "f1max")
    ]
    assert moved["f1max_threshold"] == np.arctan(card["f1max_threshold"] / 50) - 3


def test_the_keys_are_those_promised():
    card = metrics.evaluate_scores([0, 1], [0.0, 1.0])
    assert set(card) >= {"auroc", "ap", "f1max", "f1max_threshold", "undefined"}
    assert not any(key.startswith("pixel_") for key in card)


def test_double_precision_is_kept():
    labels = [0, 1, 0, 1]
    scores = np.array([1.0, 1.0 + 2e-16, 1.0 + 4e-16, 1.0 + 6e-16]) + 0.0
    assert np.unique(scores.astype(np.float32)).size == 1
    assert metrics.auroc(labels, scores) == 0.75


def test_scores_outside_the_unit_interval_are_not_squashed():
    assert metrics.auroc([0, 0, 1, 1], np.array([40, 50, 60, 70], np.float32)) == 1.0
    assert metrics.auroc([0, 0, 1, 1], np.array([-70, -60, -50, -40], np.float32)) == 1.0


def test_infinities_are_legal_and_tie_with_themselves():
    scores = [-math.inf, math.inf, math.inf, 0.0, -math.inf]
    labels = [0, 0, 1, 1, 1]
    # Pairs: inf beats -inf and ties with inf; 0 beats one; -inf ties with one.
    assert metrics.auroc(labels, scores) == (1.5 + 1 + 0.5) / 6
    assert metrics.evaluate_scores([0, 1], [0.0, math.inf])["f1max_threshold"] == math.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_both_zeros_are_one_score(dtype):
    scores = np.array([0.0, -0.0, -0.0, 0.0], dtype)
    assert metrics.auroc([0, 0, 1, 1], scores) == 0.5
    assert metrics.average_precision([0, 0, 1, 1], scores) == 0.5


def test_a_perfect_detector_has_the_average_precision_one():
    assert metrics.average_precision([0, 0, 0, 1, 1], [1, 2, 3, 4, 5]) == 1.0


def test_of_equally_good_thresholds_the_lowest_is_given():
    labels, scores = [1, 1, 0, 0, 1, 0, 0, 1], [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    card = metrics.evaluate_scores(labels, scores)
    assert (card["f1max"], card["f1max_threshold"]) == (2 / 3, 1.0)


@pytest.mark.parametrize("labels", [[0, 0, 0], []])
def test_without_defects_all_is_undefined_with_a_reason(labels):
    card = metrics.evaluate_scores(labels, np.arange(len(labels), dtype=float))
    reason = "there is no defective image"
    keys = ("auroc", "ap", "f1max", "f1max_threshold")
    assert card["undefined"] == dict.fromkeys(keys, reason)
    assert all(math.isnan(card[key]) for key in keys)


def test_without_good_images_only_the_curve_is_undefined():
    card = metrics.evaluate_scores([1, 1], [0.1, 0.2])
    assert card["undefined"] == {"auroc": "there is no normal image"}
    assert (card["ap"], card["f1max"], card["f1max_threshold"]) == (1.0, 1.0, 0.1)


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.average_precision, metrics.f1_max])
def test_an_undefined_figure_is_nan_and_says_why(metric):
    with pytest.warns(PyimganoWarning, match="undefined: there is no defective image") as caught:
        assert math.isnan(metric([0, 0], [0.1, 0.2]))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [0.1, math.nan, math.nan], "image 1 is NaN"),
        ([0, math.nan], [0.1, 0.2], "image 1 has"),
        ([0, 1], [0.1], r"\(2,\) and \(1,\)"),
        ([[0, 1]], [[0.1, 0.2]], "one shape"),
        ([0, -1], [0.1, 0.2], "image 1 has"),
        ([0, None], [0.1, 0.2], "image 1 has None"),
        (["good", "bad"], [0.1, 0.2], "image 0 has"),
        ([0, 1], ["a", "b"], "real numbers"),
        ([0, 1], [1j, 2j], "real numbers"),
        ([0, 1], [None, 0.1], "real numbers"),
    ],
)
def test_what_cannot_be_evaluated_is_named(labels, scores, message):
    with pytest.raises(MetricError, match=message) as caught:
        metrics.evaluate_scores(labels, scores)
    assert isinstance(caught.value, PyimganoError)
    assert isinstance(caught.value, ValueError)


def test_labels_may_be_bool():
    assert metrics.auroc(np.array([False, True]), [0.1, 0.2]) == 1.0


def test_the_table_lists_every_figure():
    assert isinstance(metrics.METRICS, Registry)
    assert {"auroc", "ap", "f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"} <= set(
        metrics.METRICS
    )
    for entry in metrics.METRICS.entries():
        assert entry.metadata.summary.endswith(".")
        assert ("f1max" in entry.name) == entry.metadata.summary.startswith("Oracle")


def test_a_registered_metric_is_on_the_scorecard(monkeypatch):
    len(metrics.METRICS)
    monkeypatch.setattr(metrics.METRICS, "_entries", dict(metrics.METRICS._entries))

    @metrics.METRICS.register("prevalence", Metadata(summary="Share of defects.", maps=False))
    def prevalence(evidence):
        ranks = evidence.ranks
        return {"prevalence": ranks.n_defective / (ranks.n_defective + ranks.n_normal)}

    assert metrics.evaluate_scores([0, 0, 0, 1], [1, 2, 3, 4])["prevalence"] == 0.25
    assert "prevalence" not in metrics.evaluate_maps([None], np.zeros((1, 2, 2)))

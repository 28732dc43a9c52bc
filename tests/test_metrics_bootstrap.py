from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import MetricError, ParameterError, PyimganoWarning
from pyimgano.metrics import bootstrap
from pyimgano.metrics.bootstrap import draw, map_replicates, score_replicates
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import Evidence
from test_metrics_maps import inspected
from test_metrics_scores import labelled_scores

LIMITS = (0.3, 0.05, 1.0)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(labelled_scores(), st.integers(0, 2**32 - 1))
def test_each_replicate_is_the_figure_of_the_images_drawn(data, seed):
    labels, scores = data
    drawn = list(draw(labels > 0, 5, seed))
    for weights, (auroc, ap) in zip(
        drawn, score_replicates(labels, scores, iter(drawn)), strict=True
    ):
        assert weights[labels > 0].sum() == labels.sum()
        assert weights.sum() == labels.size
        again = np.repeat(labels, weights), np.repeat(scores, weights)
        assert auroc == metrics.auroc(*again)
        assert ap == pytest.approx(metrics.average_precision(*again), rel=0, abs=1e-12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(inspected(), st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 256)))
def test_each_replicate_of_maps_is_the_figure_of_the_images_drawn(data, seed, block):
    masks, maps = data
    labels = np.array([mask is not None and bool(np.any(mask)) for mask in masks])
    drawn = np.array(list(draw(labels, 6, seed)))
    evidence = Evidence(rank_maps(masks, maps), masks, maps, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_BLOCK", block)
        found = map_replicates(evidence, drawn)
    assert found.shape == (3, 6)
    for place, weights in enumerate(drawn):
        images = np.repeat(np.arange(len(maps)), weights)
        again = [masks[i] for i in images], [maps[i] for i in images]
        for row, limit in zip(found, LIMITS, strict=True):
            assert row[place] == pytest.approx(metrics.aupro(*again, limit), rel=0, abs=1e-12)


def test_intervals_are_percentiles_of_the_replicates():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3 == 0
    scores = rng.normal(size=60) + labels
    found = metrics.bootstrap_scores(labels, scores, replicates=200, seed=7, confidence=0.8)
    figures = np.array(list(score_replicates(labels, scores, draw(labels, 200, 7))))
    np.testing.assert_array_equal(
        np.array([found["auroc"], found["ap"]]).T, np.quantile(figures, (0.1, 0.9), axis=0)
    )
    assert found["auroc"][0] < metrics.auroc(labels, scores) < found["auroc"][1]
    again = metrics.bootstrap_scores(labels, scores, replicates=200, seed=7, confidence=0.8)
    assert again == found
    assert metrics.bootstrap_scores(labels, scores, replicates=200, seed=8) != found
    stretched = metrics.bootstrap_scores(
        labels, np.exp(scores), replicates=200, seed=7, confidence=0.8
    )
    assert stretched == found


def test_intervals_of_maps():
    rng = np.random.default_rng(1)
    masks = [None] * 4 + [rng.random((12, 12)) < 0.1 for _ in range(8)]
    maps = [rng.random((12, 12)) + (0 if m is None else 0.5 * m) for m in masks]
    found = metrics.bootstrap_maps(masks, maps, (0.3,), replicates=300)
    assert set(found) == {"aupro_0.3"}
    assert found["aupro_0.3"][0] < metrics.aupro(masks, maps) < found["aupro_0.3"][1]
    assert metrics.bootstrap_maps(masks, maps, (0.3,), replicates=300) == found


def test_the_interval_holds_the_figure_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    labels = np.arange(120) % 2
    held = 0
    for seed in range(200):
        scores = rng.normal(size=120) + labels
        low, high = metrics.bootstrap_scores(labels, scores, replicates=200, seed=seed)["auroc"]
        held += low <= 0.7602499389065233 <= high  # P(N(1, 2) > 0)
    assert 180 <= held <= 199


def test_draws_without_normal_pixels_are_left_out():
    masks, maps = [np.ones((2, 2), bool), np.eye(2, dtype=bool)], np.arange(8.0).reshape(2, 2, 2)
    evidence = Evidence(rank_maps(masks, maps), masks, maps, (0.3,))
    found = map_replicates(evidence, np.array([[2, 0], [1, 1], [0, 2]]))
    assert np.isnan(found[0]).tolist() == [True, False, False]
    low, high = metrics.bootstrap_maps(masks, maps, (0.3,), replicates=20)["aupro_0.3"]
    assert 0 <= low <= high <= 1


def test_what_is_undefined_is_nan_and_says_why():
    with pytest.warns(PyimganoWarning, match="there is no normal image"):
        found = metrics.bootstrap_scores([1, 1], [0.1, 0.2], replicates=3)
    assert np.isnan(found["auroc"]).all()
    assert found["ap"] == (1.0, 1.0)
    with pytest.warns(PyimganoWarning, match="there is no defective image"):
        found = metrics.bootstrap_scores([0, 0], [0.1, 0.2], replicates=3)
    assert np.isnan([*found["auroc"], *found["ap"]]).all()
    with pytest.warns(PyimganoWarning, match="aupro_0.3 is undefined: there is no defective pixel"):
        found = metrics.bootstrap_maps([None], np.zeros((1, 2, 2)), (0.3,))
    assert all(math.isnan(end) for end in found["aupro_0.3"])


def test_what_cannot_be_evaluated_is_named():
    with pytest.raises(MetricError, match="image 1 is NaN"):
        metrics.bootstrap_scores([0, 1], [0.0, math.nan])
    with pytest.raises(ParameterError, match="at least 1 replicate, got 0"):
        metrics.bootstrap_scores([0, 1], [0.0, 1.0], replicates=0)
    with pytest.raises(ParameterError, match="confidence is a share"):
        metrics.bootstrap_scores([0, 1], [0.0, 1.0], confidence=1.0)
    with pytest.raises(ParameterError, match="false-positive rate"):
        metrics.bootstrap_maps([np.eye(2) > 0], np.zeros((1, 2, 2)), (2.0,))

"""AnomalyDINO against slow, obvious code; what turning, masking and leaving out must do."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

import fakes
from pyimgano.errors import InputError, NotFittedError, ParameterError
from pyimgano.models import anomalydino
from pyimgano.models._foreground import lies_inside
from pyimgano.models._token_detector import shortened, turned
from pyimgano.models.anomalydino import AnomalyDINO
from pyimgano.views.intake import Images
from token_reference import (
    Colours,
    part,
    picture,
    slow_distances,
    slow_foreground,
    slow_map,
    slow_top_mean,
)

TINY = {"extractor": fakes.TinyExtractor(), "size": 96}


@pytest.mark.parametrize("rotations", ["none", "agnostic"])
@pytest.mark.parametrize("k", [1, 3])
def test_scores_and_maps(rotations, k):
    """The image does not fill the cells: the map must not stretch over what was cut off."""
    goods = [picture(seed, 102, 133) for seed in range(2)]
    detector = AnomalyDINO(
        extractor=fakes.TinyExtractor(), size=51, rotations=rotations, n_neighbors=k, top=0.1
    ).fit(goods)
    tiny, test = fakes.TinyExtractor(), picture(9, 102, 133)
    angles = [0] if rotations == "none" else range(0, 360, 45)
    views = [shortened(turned(image, angle), 51) for image in goods for angle in angles]
    bank = np.concatenate([one.values.reshape(-1, 6) for one in tiny.embed(views)])
    tokens = tiny.embed([shortened(test, 51)])[0].values
    expected = slow_distances(tokens, bank, k)
    found = next(iter(detector.inspect([test])))
    assert expected.shape == (6, 8)
    assert found.score == pytest.approx(slow_top_mean(expected, 0.1), rel=1e-4)
    drawn = slow_map(expected, (48 * 102 / 51, 64 * 133 / 66), (102, 133), 4)
    assert np.abs(found.map - drawn).max() <= 1e-4 * drawn.max()


@pytest.mark.parametrize("how", ["topk_mean", "max", "mean"])
def test_aggregation(how):
    detector = AnomalyDINO(**TINY, aggregation=how, top=0.2, sigma=0).fit([picture(0), picture(1)])
    tokens = fakes.TinyExtractor().embed([picture(5)])[0].values
    distances = slow_distances(tokens, detector.bank_, 1)
    share = {"topk_mean": 0.2, "max": 1e-9, "mean": 1.0}[how]
    expected = slow_top_mean(distances, share)
    assert detector.decision_function([picture(5)])[0] == pytest.approx(expected, rel=1e-4)


# Properties --------------------------------------------------------------------------------


def test_turning_an_image_turns_its_map():
    detector = AnomalyDINO(**TINY, rotations="none", mask="never").fit([picture(0), picture(1)])
    image = picture(4)
    upright = detector.get_anomaly_map(image)
    for turns in (1, 2, 3):
        turned = detector.get_anomaly_map(np.rot90(image, turns).copy())
        assert np.allclose(turned, np.rot90(upright, turns), rtol=1e-3, atol=1e-6)


def test_turned_references_know_a_turned_part():
    goods = [picture(0), picture(1)]
    turned = np.rot90(goods[0]).copy()
    scores = {}
    for rotations, angles in (("agnostic", ()), ("informed", (90.0,)), ("none", ())):
        detector = AnomalyDINO(**TINY, rotations=rotations, angles=angles).fit(goods)
        scores[rotations] = detector.decision_function([turned])[0]
    assert scores["agnostic"] == 0 == scores["informed"] < scores["none"]


def test_a_reference_scores_0_in_sample_and_more_out_of_sample():
    goods = [picture(seed) for seed in range(4)]
    detector = AnomalyDINO(**TINY).fit(goods)
    assert np.array_equal(detector.decision_function(goods), np.zeros(4))
    assert (detector.decision_scores_ > 0).all()


@pytest.mark.parametrize("n", [4, 20])
def test_out_of_sample_scores_are_those_of_a_memory_without_the_block_and_its_turns(n):
    goods = [picture(seed, 48, 48) for seed in range(n)]
    made = AnomalyDINO(extractor=fakes.TinyExtractor(), size=48, mask="never", folds=5)
    detector = made.clone().fit(goods)
    width = n // 5 or 1
    for first in range(0, n, width):
        others = goods[:first] + goods[first + width :]
        held = made.clone().fit(others).decision_function(goods[first : first + width])
        assert np.allclose(held, detector.decision_scores_[first : first + width], rtol=1e-6)


def test_more_neighbours_change_the_result():
    goods, image = [picture(0), picture(1)], picture(5)
    scores = [
        AnomalyDINO(**TINY, n_neighbors=k).fit(goods).decision_function([image]) for k in (1, 5)
    ]
    assert scores[0] < scores[1]
    with pytest.raises(InputError, match="lower k"):
        AnomalyDINO(**TINY, n_neighbors=10**5).fit(goods).decision_function([image])


def test_masked_patches_are_0_and_the_part_is_judged():
    goods = [part(seed) for seed in range(5)]
    detectors = {
        mask: AnomalyDINO(extractor=Colours(), size=96, sigma=0, mask=mask, rotations="none")
        for mask in ("auto", "always", "never")
    }
    aside, on = part(20, spot=(1, 1)), part(21, spot=(6, 5))
    for mask, detector in detectors.items():
        drawn = detector.fit(goods).get_anomaly_map(aside)
        assert detector.masks_ is (mask != "never")
        assert bool((drawn[:12, :12] > 0).any()) is (mask == "never")
        assert detector.get_anomaly_map(on)[52, 44] > 0.1
        labels = detector.predict([aside, on])
        assert labels.tolist() == [int(mask == "never"), 1]
    tokens = Colours().embed([on])[0].values
    images = Images([aside, on], detectors["auto"].intake_)
    readings = detectors["auto"]._read(images)
    assert [one.score for one in readings[:2]] == [readings[0].score, readings[1].score]
    judged = detectors["auto"]._patches(detectors["auto"]._embed([on])[0])
    assert np.array_equal(judged.distances == 0, ~slow_foreground(tokens, None))


def test_a_texture_is_not_masked():
    detector = AnomalyDINO(**TINY).fit([picture(seed) for seed in range(3)])
    assert not detector.masks_
    assert not lies_inside(np.ones((8, 8), np.bool_))
    assert not lies_inside(np.zeros((8, 8), np.bool_))


def test_the_published_limit_is_for_dinov2_alone():
    found = {}
    for name in ("dinov2_vits14 sha256:0", "colours"):
        detector = AnomalyDINO(extractor=Colours(name=name), size=96).fit([part(0), part(1)])
        found[name] = detector._limit()
    assert list(found.values()) == [10.0, None]
    given = AnomalyDINO(extractor=Colours(), size=96, mask_threshold=3.5).fit([part(0), part(1)])
    assert given._limit() == 3.5


# One reference, bad input ------------------------------------------------------------------


def test_one_reference_gives_scores_and_no_threshold(caplog):
    detector = AnomalyDINO(**TINY).fit([picture(0)])
    assert "no threshold" in caplog.text
    assert not detector.is_calibrated
    assert detector.decision_function([picture(0), picture(1)])[1] > 0
    with pytest.raises(NotFittedError, match="no threshold"):
        detector.predict([picture(1)])
    detector.fit([picture(0)], calibration=[picture(seed) for seed in range(1, 5)])
    assert detector.certainty_.n == 4
    assert detector.predict([np.rot90(picture(0)).copy()])[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotations": "all"},
        {"mask": "yes"},
        {"aggregation": "median"},
        {"rotations": "informed"},
        {"angles": (90.0,)},
        {"size": 8},
        {"n_neighbors": 0},
        {"sigma": math.nan},
        {"top": 0.0},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(wrong):
    with pytest.raises(
        ParameterError, match=next(iter(wrong)) if "top" not in wrong else "fraction"
    ):
        AnomalyDINO(**{**TINY, **wrong}).fit([picture(0), picture(1)])


def test_references_of_several_sizes():
    goods = [picture(0), picture(1, 100, 140), picture(2, 140, 100)]
    detector = AnomalyDINO(**TINY).fit(goods)
    maps = detector.predict_anomaly_map(goods)
    assert [one.shape for one in maps] == [(96, 96), (100, 140), (140, 100)]
    assert np.array_equal(detector.decision_function(goods), np.zeros(3))


def test_a_large_memory_is_announced(caplog, monkeypatch):
    monkeypatch.setattr(anomalydino, "_WARN_BYTES", 10**4)
    with caplog.at_level(logging.WARNING):
        AnomalyDINO(**TINY).fit([picture(0), picture(1)])
    assert "2 references in 8 orientations" in caplog.text

"""AnomalyDINO whose reference is the batch, against slow, obvious code."""

from __future__ import annotations

import numpy as np
import pytest

import fakes
from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, _plant, texture
from pyimgano.errors import ParameterError
from pyimgano.models import create_detector
from pyimgano.models.anomalydino import AnomalyDINO
from token_reference import Colours, part, picture, slow_distances, slow_foreground, slow_top_mean

TINY = {"extractor": fakes.TinyExtractor(), "size": 48, "reference": "batch"}
BATCH = [picture(seed, *size) for seed, size in enumerate([(48, 64), (48, 64), (64, 48), (80, 48)])]


@pytest.fixture(scope="module")
def bench(named_fakes):
    made = {"extractor": "tiny", "size": 96, "reference": "batch"}
    return Bench(lambda: create_detector("vision_anomalydino", **made))


@pytest.mark.parametrize("check", DETECTOR_CHECKS)
def test_the_contract(bench, check):
    DETECTOR_CHECKS[check](bench)


@pytest.mark.parametrize("lowest", [0.001, 0.05, 1.0])
def test_scores(lowest):
    """Each image by the smallest distances to the patches of all others, however many these are."""
    detector = AnomalyDINO(**TINY, lowest=lowest, top=0.1, mask="never").fit(BATCH)
    tokens = [one.values for one in fakes.TinyExtractor().embed(BATCH)]
    expected = []
    for i, own in enumerate(tokens):
        others = np.concatenate([t.reshape(-1, 6) for j, t in enumerate(tokens) if j != i])
        distances = slow_distances(own, others, max(1, int(lowest * len(others))))
        expected.append(slow_top_mean(distances, 0.1))
    np.testing.assert_allclose(detector.decision_function(BATCH), expected, rtol=1e-4)
    np.testing.assert_array_equal(detector.decision_scores_, detector.decision_function(BATCH))


def test_masked_patches_are_0_and_compared_with_all_the_same():
    goods = [part(seed) for seed in range(6)]
    made = AnomalyDINO(extractor=Colours(), size=96, sigma=0, reference="batch")
    detector = made.fit(goods)
    assert detector.masks_
    aside, on = part(20, spot=(1, 1)), part(21, spot=(6, 5))
    batch = [aside, on, *goods]
    seen = [detector._look(image) for image in batch]
    for found, one in zip(detector._mutual(seen)[:2], seen, strict=False):
        mask = slow_foreground(one.tokens, None)
        assert not found.distances[~mask].any()
        assert found.distances[mask].any()
        others = np.concatenate([o.tokens.reshape(-1, 3) for o in seen if o is not one])
        expected = slow_distances(one.tokens, others, 1) * mask
        np.testing.assert_allclose(found.distances, expected, rtol=1e-3, atol=1e-7)
    assert detector.predict([aside, *goods]).tolist() == [0] * 7
    assert detector.predict([on, *goods]).tolist() == [1] + [0] * 6
    assert detector.predict(batch).tolist() == [0] * 8  # two spots of one colour: not so rare


def test_nothing_is_remembered_and_nothing_is_turned():
    goods = [picture(seed) for seed in range(3)]
    detector = AnomalyDINO(extractor=fakes.TinyExtractor(), size=96, reference="batch").fit(goods)
    assert not {"bank_", "index_"} & vars(detector).keys()
    turned = np.rot90(goods[0]).copy()
    assert detector.decision_function([turned, *goods])[0] > 0


def test_the_reference_decides_whether_scores_belong_to_the_batch():
    assert AnomalyDINO(reference="batch").is_transductive
    assert not AnomalyDINO().is_transductive


def test_a_rare_defect_is_found():
    made = AnomalyDINO(extractor=fakes.TinyExtractor(), size=96, reference="batch")
    detector = made.fit([texture(i) for i in range(8)])
    batch = [*(texture(100 + i) for i in range(9)), _plant(texture(200))]
    assert detector.decision_function(batch).argmax() == 9
    assert detector.predict(batch)[9] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reference": "test"}, "reference must be one of"),
        ({"lowest": 0.0}, "lowest a share"),
        ({"lowest": 1.1}, "lowest a share"),
        ({"n_neighbors": 2}, "compared as they lie"),
        ({"rotations": "informed", "angles": (90.0,)}, "compared as they lie"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(wrong, message):
    with pytest.raises(ParameterError, match=message):
        AnomalyDINO(**{**TINY, **wrong}).fit(BATCH)

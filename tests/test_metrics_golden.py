from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import golden
from pyimgano import metrics
from pyimgano.errors import MetricError
from pyimgano.metrics.ranks import rank_maps, rank_scores
from pyimgano.metrics.regions import mean_pro

LIMITS = (0.3, 0.05, 1.0)


@pytest.mark.parametrize("name", golden.parameters(images=False))
def test_maps_equal_the_golden_values(name):
    expected, case = golden.expected()[name], golden.cases().build(name)
    assert golden.cases().digest(case) == expected["sha256"]
    if isinstance(expected["exact"], str):
        with pytest.raises(MetricError, match="image 0"):
            metrics.evaluate_maps(case["masks"], case["scores"], LIMITS)
        return
    card = metrics.evaluate_maps(case["masks"], case["scores"], LIMITS)

    assert case["scores"].shape == tuple(expected["shape"])
    assert str(case["scores"].dtype) == expected["dtype"]
    ranks = rank_maps(case["masks"], case["scores"])
    counted = {key: expected["exact"][key] for key in ("n_regions", "n_pos", "n_neg")}
    assert counted == {
        "n_regions": card["n_regions"],
        "n_pos": ranks.n_defective,
        "n_neg": ranks.n_normal,
    }
    for key in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro_0.3", "aupro_0.05", "aupro_1.0"):
        if key in expected["exact"]:
            assert card[key] == pytest.approx(expected["exact"][key], rel=0, abs=1e-12), key
        else:
            assert math.isnan(card[key])
            assert card["undefined"][key].startswith("there is no ")
        if key in expected["official_mvtec"] and key not in card["undefined"]:
            assert card[key] == pytest.approx(expected["official_mvtec"][key], rel=0, abs=1e-7), key
        if key in expected["sklearn"] and key not in card["undefined"]:
            assert card[key] == pytest.approx(expected["sklearn"][key], rel=0, abs=1e-12), key
    if "pixel_f1max_threshold" in expected["exact"]:
        assert card["pixel_f1max_threshold"] == expected["exact"]["pixel_f1max_threshold"]
        assert card["pixel_f1max_threshold"] == expected["sklearn"]["pixel_f1max_threshold"]


@pytest.mark.parametrize("name", golden.parameters(images=False))
def test_maps_equal_the_fractions_derived_by_hand(name):
    derived, case = golden.expected()[name]["hand_exact"], golden.cases().build(name)
    if "all" in derived:
        pytest.skip("the case is an error")
    card = metrics.evaluate_maps(case["masks"], case["scores"], LIMITS)
    card["n_regions_8"] = card["n_regions"]
    for key in derived.keys() - {"n_regions_4", "aupro_0.3_conn4"}:
        if derived[key] == "undefined":
            assert math.isnan(card[key])
            assert card["undefined"][key]
        else:
            assert card[key] == pytest.approx(float(Fraction(derived[key])), rel=0, abs=1e-15), key
    if "n_regions_4" in derived:
        ranks = rank_maps(case["masks"], case["scores"], four_connected)
        assert ranks.images.size == int(derived["n_regions_4"])
        if "aupro_0.3_conn4" in derived:
            value = float(Fraction(derived["aupro_0.3_conn4"]))
            assert mean_pro(ranks, 0.3) == pytest.approx(value, rel=0, abs=1e-15)


def four_connected(_, mask, scores):
    from scipy import ndimage

    return scores[mask], ndimage.label(mask)[0][mask].astype(np.int32) - 1


@pytest.mark.parametrize("bounds", [(1e-5, 1e-4), (1e-3, 1e-1)])
@pytest.mark.parametrize("name", golden.parameters(aupimo=True))
def test_aupimo_equals_the_golden_values(name, bounds):
    lower, upper = bounds
    expected = golden.expected()["aupimo"][name][f"{lower}_{upper}"]
    case = golden.cases().build(name)
    areas = metrics.aupimo(case["masks"], case["scores"], bounds)
    np.testing.assert_array_equal(np.isnan(areas), ~case["masks"].any((1, 2)))
    found = areas[~np.isnan(areas)]
    np.testing.assert_allclose(found, expected["exact_per_image"], rtol=0, atol=1e-12)
    assert found.mean() == pytest.approx(expected["exact_mean"], rel=0, abs=1e-12)
    # The official program bins the thresholds.
    away = np.abs(found - expected["official_per_image"])
    assert away.max() == pytest.approx(expected["max_abs_diff"], rel=0, abs=1e-12)
    assert away.max() < 4e-3
    official = found.mean() + expected["mean_diff"]
    assert official == pytest.approx(expected["official_mean"], rel=0, abs=1e-12)
    if "anomalib_mean" in expected:
        assert official == pytest.approx(expected["anomalib_mean"], rel=0, abs=1e-12)
    if bounds == (1e-5, 1e-4):
        card = metrics.evaluate_maps(case["masks"], case["scores"])
        assert card["aupimo"] == pytest.approx(expected["exact_mean"], rel=0, abs=1e-12)


@pytest.mark.parametrize("name", golden.parameters(images=True))
def test_scores_equal_the_golden_values(name):
    expected, case = golden.expected()["image_cases"][name], golden.cases().IMAGE_CASES[name]
    card = metrics.evaluate_scores(case["labels"], case["scores"])
    for key, fraction in expected["exact"].items():
        if fraction == "undefined":
            assert math.isnan(card[key])
            assert card["undefined"][key]
        else:
            assert card[key] == pytest.approx(float(Fraction(fraction)), rel=0, abs=1e-15)
    oracle = expected["sklearn"]
    if case["labels"].any():
        assert card["ap"] == pytest.approx(oracle["ap"], rel=0, abs=1e-12)
        f1, threshold = oracle["f1max_threshold"]
        assert card["f1max"] == pytest.approx(f1, rel=0, abs=1e-12)
        assert card["f1max_threshold"] == threshold
    if "auroc" not in card["undefined"]:
        assert card["auroc"] == pytest.approx(oracle["auroc"], rel=0, abs=1e-12)
        official = expected["official_mvtec_auroc"]
        assert card["auroc"] == pytest.approx(official, rel=0, abs=1e-12)
        foreign = expected["anomalib_main"]  # in single precision
        for key in ("auroc", "f1max", "f1max_threshold"):
            assert card[key] == pytest.approx(foreign[key], rel=0, abs=1e-7)
        if np.unique(case["scores"]).size == len(case["scores"]):  # MVTec LOCO's breaks ties
            assert card["auroc"] == pytest.approx(expected["loco_official_auroc"], abs=1e-12)
    assert np.mean(case["labels"]) == pytest.approx(expected["labels_mean"], abs=1e-15)


@pytest.mark.parametrize("name", golden.parameters(images=True))
def test_scores_are_maps_of_one_pixel(name):
    case = golden.cases().IMAGE_CASES[name]
    labels, scores = case["labels"], np.asarray(case["scores"])
    of_scores = metrics.evaluate_scores(labels, scores)
    of_maps = metrics.evaluate_maps(labels.reshape(-1, 1, 1), scores.reshape(-1, 1, 1))
    for key in ("auroc", "ap", "f1max", "f1max_threshold"):
        np.testing.assert_equal(of_scores[key], of_maps[f"pixel_{key}"])
    rates = rank_maps(labels.reshape(-1, 1, 1), scores.reshape(-1, 1, 1)).good_rates
    np.testing.assert_allclose(rank_scores(labels, scores).good_rates, rates, rtol=1e-15)

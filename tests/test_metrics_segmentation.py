from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import ParameterError
from test_metrics_maps import inspected

COUNTED = ("regions", "by_area", "by_defect")


@settings(derandomize=True, deadline=None, max_examples=120)
@given(inspected(), st.integers(-1, 251), st.sampled_from((0.0, 0.5)))
def test_overlap_agrees_with_scikit_learn_and_regions_with_the_definition(data, level, step):
    from scipy import ndimage
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    masks, maps = data
    threshold = level + step
    kinds = [f"kind {index % 2}" for index in range(len(maps))]
    card = metrics.evaluate_segmentation(masks, maps, threshold, kinds)
    filled = [np.zeros(m.shape) if k is None else k for k, m in zip(masks, maps, strict=True)]
    truth = np.concatenate([mask.ravel() != 0 for mask in filled])
    above = np.concatenate([scores.ravel() > threshold for scores in maps])
    assert card["f1"] == pytest.approx(f1_score(truth, above), abs=1e-12)
    assert card["iou"] == pytest.approx(jaccard_score(truth, above), abs=1e-12)
    assert card["recall"] == pytest.approx(recall_score(truth, above), abs=1e-12)
    if above.any():
        assert card["precision"] == pytest.approx(precision_score(truth, above), abs=1e-12)
    else:
        assert card["undefined"] == {"precision": "no pixel is above the threshold"}
    assert card["fpr"] == pytest.approx(above[~truth].mean(), abs=1e-15)

    rows = []
    for mask, scores, kind in zip(filled, maps, kinds, strict=True):
        labels, n = ndimage.label(mask, np.ones((3, 3)))
        for number in range(1, n + 1):
            inside = labels == number
            rows.append((bool((scores[inside] > threshold).any()), int(inside.sum()), kind))

    def share(found):
        return {"count": sum(found), "of": len(found), "rate": sum(found) / len(found)}

    assert card["regions"] == share([row[0] for row in rows])
    for kind in {row[2] for row in rows}:
        assert card["by_defect"][kind] == share([row[0] for row in rows if row[2] == kind])
    for decade in {len(str(row[1])) for row in rows}:
        name = f"{10 ** (decade - 1)}-{10**decade - 1}"
        expected = share([row[0] for row in rows if len(str(row[1])) == decade])
        assert card["by_area"][name] == expected
    assert sum(each["of"] for each in card["by_area"].values()) == len(rows)
    assert sum(each["of"] for each in card["by_defect"].values()) == len(rows)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(inspected())
def test_no_threshold_is_better_than_the_oracle(data):
    masks, maps = data
    best = metrics.evaluate_maps(masks, maps)
    below = np.nextafter(float(best["pixel_f1max_threshold"]), -math.inf)
    assert metrics.evaluate_segmentation(masks, maps, below)["f1"] == best["pixel_f1max"]
    for threshold in (-1, 1, 10, 100):
        assert metrics.evaluate_segmentation(masks, maps, threshold)["f1"] <= best["pixel_f1max"]


def test_the_threshold_is_not_rounded_to_the_type_of_the_maps():
    scores = np.array([[1.0, 1.0, 0.0]], np.float32)
    mask = np.array([[1, 0, 0]])
    barely = np.nextafter(1.0, 0)  # in single precision it is 1
    assert metrics.evaluate_segmentation([mask], [scores], float(barely))["recall"] == 1.0
    assert metrics.evaluate_segmentation([mask], [scores], 1.0)["recall"] == 0.0
    assert metrics.evaluate_segmentation([mask], [scores], math.inf)["fpr"] == 0.0
    assert metrics.evaluate_segmentation([mask], [scores], -math.inf)["fpr"] == 1.0


def test_what_is_missing_is_undefined_with_a_reason():
    maps = np.arange(8.0).reshape(2, 2, 2)
    card = metrics.evaluate_segmentation([None, None], maps, 5.0)
    assert card["undefined"] == dict.fromkeys(
        ("recall", "f1", "iou"), "there is no defective pixel"
    )
    assert all(math.isnan(card[name]) for name in card["undefined"])
    assert (card["precision"], card["fpr"]) == (0.0, 0.25)
    assert card["regions"] == {"count": 0, "of": 0, "rate": None}
    assert card["by_area"] == {}
    assert "by_defect" not in card
    card = metrics.evaluate_segmentation(np.ones((2, 2, 2)) > 0, maps, 5.0, ["a", "b"])
    assert card["undefined"] == {"fpr": "there is no normal pixel"}
    assert card["by_defect"]["a"] == {"count": 0, "of": 1, "rate": 0.0}


def test_what_cannot_be_evaluated_is_named():
    maps = np.zeros((1, 2, 2))
    with pytest.raises(ParameterError, match="got nan"):
        metrics.evaluate_segmentation([None], maps, math.nan)
    with pytest.raises(ParameterError, match="2 kinds for 1 images"):
        metrics.evaluate_segmentation([None], maps, 0.5, ["good", "bad"])

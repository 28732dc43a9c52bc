from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cli_calls import call, write_parts
from miniatures import mvtec_loco
from pyimgano import create_detector, load_dataset, metrics
from pyimgano.inspection import Inspection, Inspections, Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.runs.evaluate import evaluate
from pyimgano.runs.facts import read_run
from pyimgano.runs.scorecard import scorecard

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("logical_anomalies", "structural_anomalies")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    folder = tmp_path_factory.mktemp("scorecard")
    dataset = load_dataset("mvtec", write_parts(folder / "data"))
    detector = create_detector("vision_patchcore", extractor="handcrafted", size=96, pad=32)
    return dataset, evaluate(detector, dataset, folder / "run", maps=True), folder / "run"


def test_a_run_says_which_figures_are_oracle(ran):
    _, found, folder = ran
    names = ["f1max", "f1max_threshold", "pixel_f1max", "pixel_f1max_threshold"]
    assert sorted(found.metrics["oracle"]) == names
    facts, _ = read_run(folder)
    assert sorted(facts["metrics"]["oracle"]) == names
    assert {"aupimo", "intervals", "at_threshold", "at_pixel_threshold"} <= facts["metrics"].keys()


def test_the_figures_at_the_thresholds_are_those_of_the_metrics(ran):
    dataset, found, _ = ran
    judged = list(found.detector.inspect(dataset.test))
    masks, maps = list(dataset.masks()), [one.map for one in judged]
    kinds = [sample.defect for sample in dataset.test]
    limit = found.detector.pixel_threshold_
    measured = found.metrics["at_pixel_threshold"]
    assert measured == metrics.evaluate_segmentation(masks, maps, limit, kinds)
    assert set(measured["by_defect"]) == set(dataset.info.defects)
    assert found.metrics["aupimo"] == pytest.approx(np.nanmean(metrics.aupimo(masks, maps)))
    labels, scores = dataset.labels, found.inspections.scores
    assert found.metrics["intervals"] == metrics.bootstrap_scores(labels, scores)

    at = found.metrics["at_threshold"]
    bad = found.inspections.labels[labels == 1]
    assert at["catches"]["count"] + at["escapes"]["count"] == at["escapes"]["of"] == bad.size
    ends = [at["escapes"]["low"], at["escapes"]["high"]]
    assert ends == pytest.approx(metrics.clopper_pearson(int((bad == 0).sum()), bad.size))
    assert at["false_rejects"]["of"] == int((labels == 0).sum())


def test_without_maps_or_defects_what_needs_them_is_left_out(ran):
    dataset, found, _ = ran
    bare = scorecard(dataset, found.inspections, [None] * len(dataset.test))
    assert not {"aupimo", "pixel_auroc", "at_pixel_threshold"} & bare.keys()
    assert bare["oracle"] == ["f1max", "f1max_threshold"]

    class Good:
        test = tuple(sample for sample in dataset.test if sample.label == 0)
        labels = np.zeros(len(test), np.int64)
        info = dataset.info

    alone = list(found.detector.inspect(Good.test))
    card = scorecard(Good(), Inspections(alone), [one.map for one in alone])
    assert "intervals" not in card
    assert card["aupimo"] is None
    assert card["undefined"]["aupimo"] == "there is no defective pixel"
    assert card["at_pixel_threshold"]["f1"] is None
    assert card["at_pixel_threshold"]["undefined"]["f1"] == "there is no defective pixel"
    assert card["at_threshold"]["escapes"] == {
        "count": 0,
        "of": 0,
        "rate": None,
        "low": None,
        "high": None,
    }


def test_a_run_warns_of_training_images_among_the_test_images(tmp_path, caplog):
    root = write_parts(tmp_path / "data")
    good = min((root / "train" / "good").iterdir())
    shutil.copy(good, root / "test" / "good" / "again.png")
    detector = create_detector("vision_patchcore", extractor="handcrafted", size=96, pad=32)
    evaluate(detector, load_dataset("mvtec", root), tmp_path / "run")
    (warning,) = read_run(tmp_path / "run")[0]["data"]["warnings"]
    assert "again.png equals the training image" in warning
    assert warning in caplog.messages
    assert "again.png equals" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """Two logical defects, of which one pixel is enough, and a structural one of two pixels."""
    box = mvtec_loco(tmp_path / "loco") / "breakfast_box"
    (box / "ground_truth" / "logical_anomalies" / "000" / "001.png").unlink()
    (box / "test" / "structural_anomalies" / "001.png").unlink()
    return box


def test_each_kind_of_defect_among_all_goods_and_their_mean_by_hand(box):
    parts = load_dataset("mvtec_loco", box)
    kinds = [sample.defect for sample in parts.test]
    assert kinds == [*["good"] * 3, *[KINDS[0]] * 2, KINDS[1]]
    maps = np.zeros((6, 8, 12), np.float32)
    maps[0, 4, :10] = 5  # 10 normal pixels, ahead of the second logical defect
    maps[3:, 2, 3:5] = [[8, 0], [3, 3], [6, 4]]
    judged = zip(parts.test, (1, 2, 3, 2.5, 4, 3.5), strict=True)
    told = Inspections([Inspection(source=s, score=float(score)) for s, score in judged])
    found = scorecard(parts, told, list(maps))
    # Of the goods 2 and 3 are below the logical defects, and all are below the structural one.
    assert found["auroc"] == pytest.approx(8 / 9)
    assert found["auroc_logical_anomalies"] == pytest.approx(5 / 6)
    assert found["auroc_structural_anomalies"] == 1.0
    assert found["auroc_mean_of_kinds"] == pytest.approx(11 / 12)
    # 5 % of the normal pixels are the room: of 6 images, of 5 or of 4, less 2 a defect.
    every, logical, structural = 0.05 * (6 * 96 - 6), 0.05 * (5 * 96 - 4), 0.05 * (4 * 96 - 2)
    late, half = (lambda room: (room - 10) / room), (lambda room: (room - 5) / room)
    assert found["aspro_0.05"] == pytest.approx((1 + late(every) + half(every)) / 3)
    both = (1 + late(logical)) / 2, half(structural)
    assert [found[f"aspro_0.05_{kind}"] for kind in KINDS] == pytest.approx(both)
    assert found["aspro_0.05_mean_of_kinds"] == pytest.approx(sum(both) / 2)


def test_a_kind_without_a_figure_leaves_none_to_the_mean(box):
    parts = load_dataset("mvtec_loco", box)
    bad = [Inspection(source=sample, score=float(sample.label)) for sample in parts.test]
    torn = {"score": math.nan, "label": -1, "verdict": Verdict.ERROR, "error": "torn"}
    lost = [Inspection(source=one.source, **torn) for one in bad[:3]]
    found = scorecard(parts, Inspections([*lost, *bad[3:]]), list(np.zeros((6, 8, 12), np.float32)))
    assert found["auroc_logical_anomalies"] is found["auroc_mean_of_kinds"] is None
    assert found["undefined"]["auroc_logical_anomalies"] == "there is no normal image"
    assert found["undefined"]["auroc_mean_of_kinds"] == "a kind has no figure"
    assert found["aspro_0.05_mean_of_kinds"] is not None
    assert "at_threshold" not in found, "there is none"


def test_figures_by_kind_stand_in_run_report_and_terminal(box, tmp_path):
    out, generator = tmp_path / "run", np.random.default_rng(0)
    for path in sorted(set(box.glob("t*/*/*.png"))):
        path.write_bytes(encode_png(generator.integers(0, 255, (8, 12, 3), np.uint8)))
    ended = call(
        *("evaluate", "--dataset", "mvtec_loco", "--root", box, "--out", out),
        *("--extractor", "handcrafted", "--set", "size=96"),
    )
    assert ended.code == 0
    noted, page = read_run(out)[0]["metrics"], (out / "report.html").read_text("utf-8")
    for key, name in (("auroc", "AUROC"), ("aspro_0.05", "AU-sPRO 0.05")):
        for kind in (*KINDS, "mean_of_kinds"):
            value, title = noted[f"{key}_{kind}"], f"{name}, {kind.replace('_', ' ')}"
            assert title in page
            assert f"{value:.4f}" in ended.out

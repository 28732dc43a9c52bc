from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cli_calls import write_parts
from miniatures import mvtec_loco
from pyimgano import create_detector, load_dataset, metrics
from pyimgano.inspection import Inspection, Inspections
from pyimgano.runs.evaluate import evaluate, scorecard
from pyimgano.runs.facts import read_run

if TYPE_CHECKING:
    from pathlib import Path


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

        def masks(self):
            return iter([None] * len(self.test))

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


def test_a_set_that_saturates_is_measured_by_its_channels(tmp_path):
    boxes = load_dataset("mvtec_loco", mvtec_loco(tmp_path), category="breakfast_box")
    generator = np.random.default_rng(0)
    maps = [generator.random(image.shape[:2]) for image in boxes.images("test")]
    judged = [Inspection(source=sample, score=float(i)) for i, sample in enumerate(boxes.test)]
    found = scorecard(boxes, Inspections(judged), maps)
    assert found["aspro_0.05"] == metrics.aspro(list(boxes.channels()), maps, 0.05)

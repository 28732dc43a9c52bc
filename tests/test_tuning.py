"""A few labelled defects: what they choose, what is claimed of it, and what keeps it honest."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import beta

import fakes
import pyimgano
from cli_calls import SMALL, call
from pyimgano.calibration import Conformal, Fixed, calibrate, false_reject_bound
from pyimgano.datasets.base import Dataset, load_dataset
from pyimgano.datasets.defects import read_defects
from pyimgano.errors import CalibrationError, InputError, MaskError, ParameterError
from pyimgano.images import read_image
from pyimgano.maps import Maximum, Mean, SmallComponentRemoval
from pyimgano.maps.postprocess import MinMaxNormalisation, Pipeline
from pyimgano.metrics import aupro, auroc
from pyimgano.models import create_detector
from pyimgano.records import Sample, images_needed
from pyimgano.synthesis import write_demo
from pyimgano.tuned import Setting, Tuned
from pyimgano.tuning import TARGETS, Look, Plan, choose, overlaps, search

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.detector import Detector


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = write_demo(
        tmp_path_factory.mktemp("tuning") / "parts",
        n_train=30,
        n_good=12,
        n_defect=24,
        size=(96, 96),
    )
    return load_dataset("mvtec", root, category="flange")


@pytest.fixture(scope="module")
def defects(parts: Dataset) -> list[Sample]:
    return [sample for sample in parts.test if sample.label == 1]


def small(**given: Any) -> Detector:
    return create_detector("vision_padim", extractor="handcrafted", size=96, pad=16, **given)


def folds(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n) * 5 // n, np.arange(m) * 5 // m


# The search, on arrays ----------------------------------------------------------------------------


def noise(seed: int, n: int, m: int, settings: int) -> list[tuple[Look, Look]]:
    drawn = np.exp(np.random.default_rng(seed).normal(size=(settings, n + m)))
    return [(Look(scores[:n]), Look(scores[n:])) for scores in drawn]


@pytest.mark.parametrize(("n", "m"), [(60, 20), (30, 6)])
def test_pure_noise_mostly_keeps_the_defaults(n: int, m: int) -> None:
    settings = [Setting(float(i), Maximum()) for i in range(20)]
    kept, claimed = 0, []
    for seed in range(60):
        looks = noise(seed, n, m, len(settings))
        found = search(settings, looks, folds(n, m), Plan(Conformal(), 0.05))
        kept += found.setting is None
        claimed.append((found.after or 0) - (found.before or 0))
    assert kept >= 54  # 5 % of false alarms at most, give or take
    assert abs(np.mean(claimed)) < 0.02  # what is stated out of fold invents no gain


def test_at_a_neutral_cost_noise_mostly_keeps_the_operating_point() -> None:
    kept = 0
    for seed in range(60):
        looks = noise(seed, 60, 15, 1)
        found = search([Setting()], looks, folds(60, 15), Plan(Conformal(), 0.05, miss_cost=1.0))
        kept += found.is_default_target
    assert kept >= 48


def test_a_setting_that_separates_is_found_and_its_gain_stated() -> None:
    looks = noise(1, 40, 15, 6)
    looks[4] = (looks[4][0], Look(looks[4][1].scores + 50))
    settings = [Setting(float(i), Maximum()) for i in range(6)]
    found = search(settings, looks, folds(40, 15), Plan(Conformal(), 0.05))
    assert found.setting == settings[4]
    assert found.after == 1
    assert 0.2 < (found.before or 0) < 0.8
    assert found.caught == 15
    assert found.choices == 2 * 5


def test_auroc_is_what_a_search_without_masks_looks_at() -> None:
    (good, bad), *_ = noise(3, 17, 9, 1)
    found = search([Setting()] * 2, [(good, bad)] * 2, folds(17, 9), Plan(Conformal(), 0.1))
    held = [
        auroc(
            np.r_[np.zeros(int((a == f).sum())), np.ones(int((b == f).sum()))].astype(int),
            np.r_[good.scores[a == f], bad.scores[b == f]],
        )
        * (b == f).sum()
        for a, b in [folds(17, 9)]
        for f in range(5)
    ]
    assert found.before == pytest.approx(sum(held) / 9)
    assert found.before == found.after


def test_the_mean_of_the_overlaps_is_aupro() -> None:
    generator = np.random.default_rng(0)
    maps = generator.random((5, 24, 32)).astype(np.float32)
    masks = np.zeros((5, 24, 32), bool)
    masks[1, 2:6, 3:9] = masks[2, 10:20, 4:8] = masks[2, 2:4, 20:30] = True
    maps[masks] += 0.4
    regions = [
        [maps[1][2:6, 3:9].ravel()],
        [maps[2][10:20, 4:8].ravel(), maps[2][2:4, 20:30].ravel()],
    ]
    normals = np.where(masks, np.nan, maps)
    expected = aupro([mask if mask.any() else None for mask in masks], maps)
    assert overlaps(normals, regions).mean() == pytest.approx(expected, abs=2e-3)


def test_equal_gains_of_all_are_a_gain_and_none_is_none() -> None:
    low, high = Look(np.arange(6.0)), Look(np.full(6, -1.0))
    assert choose([low, low], [high, Look(np.full(6, 9.0))]) == 1
    assert choose([low, low], [high, high]) == 0
    assert choose([low], [high]) == 0


@pytest.mark.parametrize("cost", [0.01, 50.0])
def test_the_cost_moves_the_operating_point_its_own_way(cost: float) -> None:
    generator = np.random.default_rng(2)
    good, bad = generator.normal(size=200), generator.normal(1.5, 1, size=80)
    plan = Plan(Conformal(), 0.05, miss_cost=cost)
    found = search([Setting()], [(Look(good), Look(bad))], folds(200, 80), plan)
    if cost > 1:
        assert found.target == max(TARGETS)
        assert found.caught > found.caught_before
    else:
        assert found.target < 0.05
        assert found.rejected < found.rejected_before
    assert found.choices == 2 * (len(TARGETS) - 1)
    assert set(found.describe()) == {"operating", "caught"}


def test_a_bound_holds_for_whatever_was_chosen() -> None:
    scores = np.arange(100.0)
    plain, chosen = (
        calibrate(scores, rule=Conformal(), contamination=0.05, method="m", choices=c).certainty
        for c in (1, 10)
    )
    assert plain.bound == false_reject_bound(100, 5)
    assert chosen.bound == pytest.approx(beta.ppf(1 - 0.05 / 10, 5, 96))
    assert (plain.certified, chosen.certified) == (True, False)
    assert "chosen with the help of defects" in chosen.describe()
    assert f"5 % needs {images_needed(0.05, 0.995)}" in chosen.describe()
    wide = calibrate(
        np.arange(300.0), rule=Conformal(), contamination=0.2, method="m", choices=2
    ).certainty
    assert not wide.certified  # the order statistic itself lies at the target


def test_the_false_rejects_of_a_chosen_threshold_keep_its_bound() -> None:
    generator = np.random.default_rng(5)
    broken, trials = 0, 200
    settings = [Setting(float(i), Maximum()) for i in range(8)]
    for _ in range(trials):
        # Eight equal settings with scores of their own: whichever is chosen rejects by one law.
        goods, bads = generator.random((8, 30)), generator.random((8, 10)) + 0.4
        looks = [(Look(g), Look(b)) for g, b in zip(goods, bads, strict=True)]
        plan = Plan(Conformal(), 0.05, miss_cost=5.0)
        found = search(settings, looks, folds(30, 10), plan)
        chosen = 0 if found.setting is None else settings.index(found.setting)
        told = calibrate(
            goods[chosen],
            rule=plan.rule,
            contamination=found.target,
            method="",
            choices=found.choices,
        )
        broken += 1 - told.threshold > (told.certainty.bound or 1)
    assert broken <= 0.05 * trials


# The door of a detector ---------------------------------------------------------------------------


def test_defects_alone_decide_nothing_and_tell_the_recall(
    parts: Dataset, defects: list[Sample]
) -> None:
    plain, told = small().fit(parts.train), small().fit(parts.train, defects=defects)
    assert told.threshold_ == plain.threshold_
    assert told.certainty_.describe() == plain.certainty_.describe()
    assert told.tuned_.caught == plain.predict(defects).sum()
    assert told.tuned_.rejected == (plain.decision_scores_ > plain.threshold_).sum()
    low, high = told.tuned_.recall.interval
    assert f"{100 * low:.0f} to {100 * high:.0f} % with 95 %" in told.tuned_.describe()["caught"]
    assert "decided nothing" in str(told)
    assert "tuned_" not in vars(plain)


def test_bad_defaults_give_way_and_new_images_gain(parts: Dataset, defects: list[Sample]) -> None:
    rest = [*(s for s in parts.test if s.label == 0), *defects[1::2]]
    labels = [sample.label for sample in rest]
    plain = small(aggregation=Mean(), sigma=16.0).fit(parts.train)
    tuned = small(aggregation=Mean(), sigma=16.0).fit(parts.train, defects=defects[::2], tune=True)
    found = tuned.tuned_
    assert found.setting is not None
    assert (found.after or 0) > (found.before or 0)
    assert found.objective == "mean of AUROC and AUPRO 0.3"
    assert auroc(labels, tuned.decision_function(rest)) > auroc(
        labels, plain.decision_function(rest)
    )
    assert tuned.parameters() == plain.parameters()  # learned, not rewritten
    # What stands is what a detector with these parameters says.
    same = small(aggregation=found.setting.aggregation, sigma=found.setting.sigma).fit(parts.train)
    np.testing.assert_array_equal(tuned.decision_function(rest), same.decision_function(rest))
    np.testing.assert_array_equal(tuned.decision_scores_, same.decision_scores_)
    assert tuned.threshold_ == same.threshold_
    assert (tuned.certainty_.bound or 0) > (same.certainty_.bound or 0)
    assert tuned.certainty_.choices == 2 * (found.n_settings - 1)


def test_it_is_deterministic_and_survives_the_file(
    parts: Dataset, defects: list[Sample], tmp_path: Path
) -> None:
    first, second = (
        small(aggregation=Mean()).fit(parts.train, defects=defects, tune=True, miss_cost=10)
        for _ in range(2)
    )
    first.save(tmp_path / "model.pyimg")
    loaded = pyimgano.load(tmp_path / "model.pyimg")
    assert first.tuned_.describe() == second.tuned_.describe() == loaded.tuned_.describe()
    assert isinstance(loaded.tuned_, Tuned)
    np.testing.assert_array_equal(
        loaded.decision_function(parts.test), second.decision_function(parts.test)
    )
    assert loaded.threshold_ == second.threshold_
    assert loaded.certainty_.describe() == first.certainty_.describe()


def test_a_least_region_reaches_the_maps(parts: Dataset) -> None:
    chosen = Setting(4.0, Maximum(), 0.01)
    fitted = small().fit(parts.train)
    fitted.tuned_ = search(
        [Setting(), chosen],
        [(Look(np.arange(9.0)), Look(np.arange(9.0))), (Look(np.arange(9.0)), Look(np.full(9, 9)))],
        folds(9, 9),
        Plan(Conformal(), 0.05),
    )
    assert fitted.tuned_.setting == chosen
    steps = fitted._steps(chosen, (96, 96)).steps
    assert steps == (SmallComponentRemoval(92),)
    assert "regions below 1 % of the image lowered" in chosen.describe()
    assert Setting().describe() == "as it is"


def test_post_processing_of_ones_own_stays_under_a_search(
    parts: Dataset, defects: list[Sample]
) -> None:
    given = Pipeline((MinMaxNormalisation(),))
    fitted = small(postprocess=given).fit(parts.train, defects=defects[:10], tune=True)
    assert isinstance(fitted.postprocess_.steps[0], MinMaxNormalisation)
    assert fitted.postprocess_.steps[0].high is not None


def test_without_masks_auroc_decides(parts: Dataset, defects: list[Sample]) -> None:
    bare = [replace(sample, mask_path=None) for sample in defects]
    fitted = small(aggregation=Mean()).fit(parts.train, defects=bare, tune=True)
    assert fitted.tuned_.objective == "AUROC"
    arrays = [read_image(sample.path) for sample in defects]
    same = small(aggregation=Mean()).fit(parts.train, defects=arrays, tune=True)
    assert same.tuned_.describe() == fitted.tuned_.describe()


def test_a_score_of_its_own_stays_and_masks_tune_its_map_alone(
    parts: Dataset, defects: list[Sample]
) -> None:
    def default() -> Detector:
        return create_detector("vision_default", extractor="handcrafted", size=96, pad=16)

    plain = default().fit(parts.train)
    tuned = default().fit(parts.train, defects=defects, tune=True)
    found = tuned.tuned_
    assert found.map_alone
    assert found.n_settings == 12  # four smoothings, by three least regions
    told = found.describe()["tuned"]
    assert "12 settings of the map" in told
    assert told.endswith("the score is the detector's own, and stays")
    assert (tuned.threshold_, found.choices) == (plain.threshold_, 1)
    assert tuned.certainty_.describe() == plain.certainty_.describe()
    np.testing.assert_array_equal(
        tuned.decision_function(defects), plain.decision_function(defects)
    )


def test_a_score_of_its_own_has_nothing_to_tune_without_masks(
    parts: Dataset, defects: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bare = [replace(sample, mask_path=None) for sample in defects]
    given = {"extractor": "handcrafted", "size": 96, "pad": 16, "score": "image"}
    made = create_detector("vision_knn_gallery", **given)
    with caplog.at_level(logging.WARNING):
        found = made.fit(parts.train, defects=bare, tune=True).tuned_
    assert (
        "no post-processing to tune that its score depends on; a map is tuned with" in caplog.text
    )
    assert (found.n_settings, found.setting) == (1, None)
    assert set(found.describe()) == {"caught"}


def test_calibration_images_of_their_own_and_back_again(
    parts: Dataset, defects: list[Sample]
) -> None:
    goods = [sample for sample in parts.test if sample.label == 0]
    fitted = small(aggregation=Mean()).fit(
        parts.train, calibration=goods, defects=defects, tune=True
    )
    assert fitted.certainty_.method == "separate images"
    assert fitted.tuned_.n_good == len(goods)
    again = small(aggregation=Mean()).fit(parts.train).calibrate(goods, defects, tune=True)
    assert again.threshold_ == fitted.threshold_
    fitted.calibrate(goods)
    plain = small(aggregation=Mean()).fit(parts.train, calibration=goods)
    assert "tuned_" not in vars(fitted)
    assert fitted.threshold_ == plain.threshold_
    assert fitted.certainty_.choices == 1


def test_a_detector_without_settings_still_finds_its_operating_point(
    caplog: pytest.LogCaptureFixture,
) -> None:
    goods = [fakes.grey(100 + i * 5 % 21, i) for i in range(84)]
    bad = [fakes.grey(119, 100 + i) for i in range(8)]  # as far off as the last good ones
    with caplog.at_level(logging.WARNING):
        fitted = fakes.LevelDetector().fit(goods, defects=bad, tune=True, miss_cost=30)
    assert "LevelDetector has no post-processing to tune" in caplog.text
    assert fitted.tuned_.setting is None
    assert fitted.tuned_.n_settings == 1
    assert fitted.tuned_.target > 0.05
    assert fitted.certainty_.target == fitted.tuned_.target
    fixed = fakes.LevelDetector(threshold=Fixed(3.0)).fit(goods, defects=bad, miss_cost=30)
    assert fixed.threshold_ == 3


def test_defects_must_be_defects(parts: Dataset, defects: list[Sample], tmp_path: Path) -> None:
    fitted = small().fit(parts.train)
    goods = [sample for sample in parts.test if sample.label == 0]
    with pytest.raises(InputError, match="1 defects are labelled good, the first is"):
        fitted.calibrate(goods, [*defects, goods[0]])
    for wrong in (parts.train[0].path, goods[0].path):
        with pytest.raises(CalibrationError, match="as a defect and as a good image"):
            fitted.calibrate(goods, [defects[0].path, wrong])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"none")
    with pytest.raises(InputError, match="1 of 2 defects cannot be used"):
        fitted.calibrate(goods, [defects[0].path, broken])
    with pytest.raises(InputError, match="X is empty"):
        fitted.calibrate(goods, [])
    assert fitted.certainty_.method == "5 block folds"  # what failed has changed nothing


def test_one_broken_file_among_many_is_left_out(
    parts: Dataset, defects: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"none")
    with caplog.at_level(logging.WARNING):
        fitted = small().fit(parts.train, defects=[*(d.path for d in defects), broken])
    assert fitted.tuned_.n_defect == len(defects)
    assert f"the defect {broken} is left out" in caplog.text


def test_too_few_to_choose_with_are_named(parts: Dataset, defects: list[Sample]) -> None:
    four = [defects[0], *defects[:4]]
    for given in ({"tune": True}, {"miss_cost": 3.0}):
        with pytest.raises(CalibrationError, match="at least 5 different defects, got 4"):
            small().fit(parts.train, defects=four, **given)
    with pytest.raises(CalibrationError, match="at least 5 different good images, got 3"):
        small().fit(parts.train[:3], defects=defects, tune=True)
    assert small().fit(parts.train, defects=four).tuned_.n_defect == 5


@pytest.mark.parametrize("cost", [0.0, -1.0, np.inf, np.nan])
def test_a_cost_is_a_positive_number(parts: Dataset, cost: float) -> None:
    with pytest.raises(ParameterError, match="miss_cost must be a positive number"):
        small().fit(parts.train, defects=["x"], miss_cost=cost)


def test_without_defects_nothing_can_be_chosen(parts: Dataset) -> None:
    for given in ({"tune": True}, {"miss_cost": 3.0}):
        with pytest.raises(ParameterError, match="give some"):
            small().fit(parts.train, **given)


def test_masks_are_no_trouble_to_a_detector_without_maps(
    parts: Dataset, defects: list[Sample]
) -> None:
    fitted = fakes.LevelDetector().fit(parts.train, defects=defects, tune=True, miss_cost=2)
    assert fitted.tuned_.objective == "AUROC"
    mapped = fakes.CellDetector().fit(parts.train, defects=defects, tune=True)
    assert mapped.tuned_.choices == 1
    assert mapped.tuned_.caught == mapped.predict(defects).sum()


# Folder and verb ----------------------------------------------------------------------------------


@pytest.fixture
def folder(parts: Dataset, tmp_path: Path) -> Path:
    home = tmp_path / "defects"
    for kind in ("chip", "scratch"):
        shutil.copytree(parts.root / "flange" / "test" / kind, home / kind)
        shutil.copytree(parts.root / "flange" / "ground_truth" / kind, home / "masks" / kind)
    return home


def test_a_folder_of_defects_is_read_with_its_masks(folder: Path) -> None:
    found = read_defects(folder)
    assert [sample.defect for sample in found] == ["chip"] * 4 + ["scratch"] * 4
    assert {sample.label for sample in found} == {1}
    for sample in found:
        assert sample.mask_path == folder / "masks" / sample.defect / f"{sample.path.stem}_mask.png"
    shutil.rmtree(folder / "masks")
    assert {sample.mask_path for sample in read_defects(folder)} == {None}


def test_a_data_set_of_ones_own_can_be_given_as_it_is(folder: Path, parts: Dataset) -> None:
    (folder / "bad").mkdir()
    for kind in ("chip", "scratch"):
        (folder / kind).rename(folder / "bad" / kind)
    shutil.copytree(parts.root / "flange" / "test" / "good", folder / "good")
    found = read_defects(folder)
    assert [sample.defect for sample in found] == ["chip"] * 4 + ["scratch"] * 4
    assert all(sample.mask_path for sample in found)
    flat = folder / "bad" / "chip"
    assert {sample.defect for sample in read_defects(flat)} == {"defect"}


def test_missing_masks_and_empty_folders_are_named(folder: Path) -> None:
    next((folder / "masks" / "chip").iterdir()).unlink()
    with pytest.raises(MaskError, match="no mask"):
        read_defects(folder)
    shutil.rmtree(folder / "chip")
    shutil.rmtree(folder / "scratch")
    with pytest.raises(InputError, match="no images of defects"):
        read_defects(folder)


def test_the_verb_says_what_was_tuned_and_what_is_caught(
    parts: Dataset, folder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pyimg"
    given = ("fit", parts.root / "flange" / "train" / "good", "-o", model, *SMALL)
    ended = call(*given, "--defects", folder, "--tune", "--miss-cost", "20")
    told = " ".join(ended.out.split())
    assert ended.code == 0
    expected = (
        "tuned ",
        "gained mean of AUROC and AUPRO",
        "operating ",
        "of 8 defects out of",
        "and has its settings from the defects given.",
    )
    for words in expected:
        assert words in told
    loaded = pyimgano.load(model)
    assert loaded.tuned_.describe()["caught"] in told
    answer = json.loads(call(*given, "--defects", folder, "--json").out)
    assert set(answer["tuned"]) == {"caught"}
    out = tmp_path / "run"
    assert call("predict", model, folder / "chip", "--out", out).code == 0
    assert "Few defects, caught" in (out / "report.html").read_text(encoding="utf-8")


def test_the_verb_refuses_what_makes_no_sense(parts: Dataset, tmp_path: Path) -> None:
    model = tmp_path / "model.pyimg"
    given = ("fit", parts.root / "flange" / "train" / "good", "-o", model, *SMALL)
    for words, told in (
        (("--tune",), "give some"),
        (("--miss-cost", "2"), "give some"),
        (("--defects", tmp_path / "nowhere"), "give a folder of images of defects"),
        (("--defects", tmp_path, "--tune"), "give a folder of images of defects"),
    ):
        ended = call(*given, *words)
        assert ended.code == 2, ended
        assert told in " ".join(ended.err.split())
    assert not model.exists()

"""The contract of a detector on one whose arithmetic is known: distance to the mean grey level."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from fakes import NOT_A_NUMBER, POISON, LevelDetector, grey
from pyimgano.calibration import Conformal, Fixed, Quantile, calibrate, false_reject_bound
from pyimgano.errors import (
    CalibrationError,
    ImageSizeError,
    InputError,
    NotFittedError,
    ParameterError,
    UnjudgedError,
)
from pyimgano.groups import block_folds
from pyimgano.inspection import Verdict
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GOODS = [grey(100 + (i * 7) % 25, i) for i in range(25)]
STEADY = [grey(100 + (10 + i % 3) * (-1) ** (i // 3), i) for i in range(24)]
LEVELS = np.array([image.mean() for image in GOODS])


def held_out(levels: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    """By definition: the distance of each from the mean of those outside its block."""
    blocks = np.asarray(blocks)
    return np.array(
        [abs(x - levels[blocks != b].mean()) for x, b in zip(levels, blocks, strict=True)]
    )


def marked(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    image = image.copy()
    image[0, 0] = colour
    return image


def saved(folder: Path, images: Sequence[np.ndarray], **facts: Sequence[Any]) -> list[Sample]:
    samples = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
        one = {name: values[i] for name, values in facts.items()}
        samples.append(Sample(folder / f"{i:03d}.png", **one))
    return samples


def test_scores_are_out_of_sample_by_blocks() -> None:
    fitted = LevelDetector().fit(GOODS)
    blocks = [i // 5 for i in range(25)]
    np.testing.assert_allclose(fitted.decision_scores_, held_out(LEVELS, blocks), rtol=1e-12)
    assert fitted.level_ == pytest.approx(LEVELS.mean())
    expected = calibrate(
        fitted.decision_scores_, rule=Conformal(), contamination=0.05, method="5 block folds"
    )
    assert fitted.threshold_ == expected.threshold
    assert fitted.certainty_.describe() == expected.certainty.describe()
    assert fitted.pixel_threshold_ is None
    assert fitted.skipped_ == fitted.suspects_ == ()


@pytest.mark.parametrize("n", [2, 3, 5, 19])
def test_below_twenty_images_each_is_left_out(n: int) -> None:
    fitted = LevelDetector().fit(GOODS[:n])
    np.testing.assert_allclose(fitted.decision_scores_, held_out(LEVELS[:n], range(n)), rtol=1e-12)
    assert fitted.certainty_.method == "leave one out"


def test_more_folds_are_a_choice() -> None:
    fitted = LevelDetector(folds=12).fit(GOODS)
    blocks = block_folds([None] * 25, 12)
    np.testing.assert_allclose(fitted.decision_scores_, held_out(LEVELS, blocks), rtol=1e-12)
    assert fitted.certainty_.method == "12 block folds"
    assert LevelDetector(folds=25).fit(GOODS).certainty_.method == "leave one out"
    assert LevelDetector(folds=30).fit(GOODS).certainty_.method == "leave one out"


def test_a_group_is_never_split(tmp_path: Path) -> None:
    groups = [f"part {i // 2}" for i in range(12)]
    fitted = LevelDetector().fit(saved(tmp_path, GOODS[:12], group=groups))
    expected = held_out(LEVELS[:12], [i // 2 for i in range(12)])
    np.testing.assert_allclose(fitted.decision_scores_, expected, rtol=1e-12)


def test_a_copy_in_another_block_is_held_out_too() -> None:
    goods = [*GOODS[:24], GOODS[0]]
    fitted = LevelDetector().fit(goods)
    blocks = [i * 5 // 24 for i in range(24)] + [0]
    levels = np.array([image.mean() for image in goods])
    np.testing.assert_allclose(fitted.decision_scores_, held_out(levels, blocks), rtol=1e-12)


def test_one_good_image_gives_scores_but_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted = LevelDetector().fit(GOODS[:1])
    assert "there is no threshold" in caplog.text
    assert not fitted.is_calibrated
    assert fitted.decision_function([grey(110)])[0] == pytest.approx(10)
    with pytest.raises(NotFittedError, match="at least two good images, or call calibrate"):
        fitted.predict([grey(110)])
    (found,) = fitted.inspect([grey(110)])
    assert (found.verdict, found.label) == (None, -1)
    with pytest.raises(NotFittedError, match="threshold_"):
        getattr(fitted, "threshold_")  # noqa: B009


@pytest.mark.parametrize("n", [2, 5])
def test_copies_of_one_image_are_one_image(n: int) -> None:
    assert not LevelDetector().fit([GOODS[0]] * n).is_calibrated


def test_one_image_with_images_for_the_threshold() -> None:
    fitted = LevelDetector().fit(GOODS[:1], calibration=GOODS[1:])
    np.testing.assert_allclose(fitted.decision_scores_, abs(LEVELS[1:] - 100), atol=1e-9)
    assert fitted.certainty_.method == "separate images"
    assert fitted.certainty_.n == 24


def test_separate_images_set_the_threshold(tmp_path: Path) -> None:
    fitted = LevelDetector().fit(GOODS[:10], calibration=saved(tmp_path, GOODS[10:]))
    assert fitted.level_ == pytest.approx(LEVELS[:10].mean())
    expected = abs(LEVELS[10:] - LEVELS[:10].mean())
    np.testing.assert_allclose(fitted.decision_scores_, expected, rtol=1e-12)
    again = LevelDetector().fit(GOODS[:10]).calibrate(tmp_path)
    assert again.threshold_ == fitted.threshold_


def test_images_that_were_learned_from_calibrate_nothing() -> None:
    fitted = LevelDetector().fit(GOODS[:10])
    before = fitted.threshold_
    with pytest.raises(CalibrationError, match="2 of 4 calibration images were learned from"):
        fitted.calibrate(GOODS[8:12])
    assert fitted.threshold_ == before
    with pytest.raises(CalibrationError, match="learned from"):
        LevelDetector().fit(GOODS, calibration=GOODS[:1])


def test_calibration_images_are_checked_as_all_others(tmp_path: Path) -> None:
    fitted = LevelDetector().fit(GOODS[:10])
    with pytest.raises(InputError, match="labelled defective"):
        fitted.calibrate([Sample("x.png", label=1)])
    with pytest.raises(ImageSizeError, match="60 x 50 px"):
        fitted.calibrate([grey(100, size=(50, 60))])
    with pytest.raises(CalibrationError, match=r"score of array .* is not finite"):
        fitted.calibrate([marked(grey(120), NOT_A_NUMBER)])
    with pytest.raises(NotFittedError):
        LevelDetector().calibrate(GOODS)


def test_skipped_files_are_listed_wherever_they_were_given(tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"GIF89a")
    fitted = LevelDetector().fit([*GOODS[:24], torn])
    assert [name for name, _ in fitted.skipped_] == [str(torn)]
    assert fitted.certainty_.n == len(fitted.decision_scores_) == 24
    other = tmp_path / "other.png"
    other.write_bytes(b"GIF89a")
    fresh = [grey(100 + i, 100 + i) for i in range(22)]
    for _ in range(2):
        fitted.calibrate([*fresh, other])
        assert [name for name, _ in fitted.skipped_] == [str(torn), str(other)]
    with pytest.raises(InputError, match="more than 5%"):
        LevelDetector().fit([*GOODS[:10], torn])


def test_suspects_are_named_and_kept_out(tmp_path: Path) -> None:
    images = [*STEADY[:12], grey(140, 99), *STEADY[12:]]
    fitted = LevelDetector().fit(saved(tmp_path, images))
    assert fitted.suspects_ == (str(tmp_path / "012.png"),)
    assert fitted.certainty_.dropped == 1
    assert len(fitted.decision_scores_) == 25
    assert fitted.threshold_ == np.delete(fitted.decision_scores_, 12).max()
    kept = LevelDetector(keep_suspects=True).fit(tmp_path)
    assert kept.suspects_ == ()
    assert kept.threshold_ == kept.decision_scores_.max() > 35


def test_a_copy_of_a_suspect_is_a_suspect(tmp_path: Path) -> None:
    odd = grey(140, 99)
    steady = [grey(96 + i % 9, 300 + i) for i in range(60)]
    fitted = LevelDetector().fit(saved(tmp_path, [*steady[:12], odd, *steady[12:], odd]))
    assert fitted.suspects_ == (str(tmp_path / "012.png"), str(tmp_path / "061.png"))
    assert min(fitted.suspects_z_) > 4
    assert (fitted.certainty_.n, fitted.certainty_.dropped, fitted.certainty_.grouped) == (61, 1, 1)
    assert (str(tmp_path / "061.png"), f"copy of {tmp_path / '012.png'}") in fitted.odd_


def test_views_of_one_part_count_once_with_their_highest_score(tmp_path: Path) -> None:
    fitted = LevelDetector().fit(saved(tmp_path, GOODS, group=[f"{i // 2}" for i in range(25)]))
    assert (fitted.certainty_.n, fitted.certainty_.grouped) == (13, 12)
    highest = [fitted.decision_scores_[i : i + 2].max() for i in range(0, 25, 2)]
    assert fitted.threshold_ == Conformal().choose(np.array(highest), 0.05).value
    assert "25 images count as 13, near copies as one" in fitted.certainty_.describe()


def test_images_that_were_taken_out_count_as_rejected() -> None:
    dropped = [("odd.png", "score: z = 9.0"), ("dark.png", "exposure: 3 %"), ("b", "copy of a")]
    clean = LevelDetector().fit(GOODS)
    fitted = LevelDetector().fit(GOODS, dropped=dropped)
    assert fitted.dropped_ == tuple(dropped)
    assert fitted.threshold_ == clean.threshold_
    certainty = fitted.certainty_
    assert (certainty.n, certainty.dropped) == (27, 2)
    assert certainty.bound == false_reject_bound(27, 2 + certainty.rank)
    assert certainty.bound_without_suspects == clean.certainty_.bound < certainty.bound
    other = LevelDetector().fit(GOODS[:10], calibration=GOODS[10:], dropped=dropped)
    assert (other.certainty_.n, other.certainty_.dropped) == (15, 0)  # they set no threshold


def test_other_sessions_are_told_apart(tmp_path: Path) -> None:
    fitted = LevelDetector().fit(STEADY)
    same = [grey(level, 500 + i) for i, level in enumerate(range(92, 108))]
    assert fitted.drift(fitted.inspect(same)).found == ()
    darker = [grey(70 + i / 4, 600 + i) for i in range(16)]
    drift = fitted.drift(fitted.inspect(darker))
    assert drift.found[0].endswith("% darker")
    labelled = saved(tmp_path, [*same, *darker], label=[0] * 16 + [1] * 16)
    assert fitted.drift(fitted.inspect(labelled)).n == 16
    assert fitted.drift(fitted.inspect(labelled)).found == ()
    assert not fitted.drift(fitted.inspect(darker[:7])).enough
    held = LevelDetector().fit(STEADY, calibration=darker)
    assert held.drift_.describe("they").startswith("they differ from the goods: ")
    assert held.decision_scores_.shape == (16,)


def test_suspects_are_told_of_what_sets_no_threshold(tmp_path: Path) -> None:
    images = saved(tmp_path, [*STEADY[:12], grey(140, 99), *STEADY[12:]])
    fitted = LevelDetector().fit(images, calibration=[grey(90 + i, 70 + i) for i in range(20)])
    assert [name for name, reason in fitted.odd_ if reason.startswith("score: z = ")] == [
        str(tmp_path / "012.png")
    ]


def test_two_populations_are_kept_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted = LevelDetector().fit(
            [*STEADY, *[grey(level, 50 + level) for level in (30, 32, 168, 170)]]
        )
    assert "two populations" in caplog.text
    assert fitted.suspects_ == ()


def test_defects_are_not_learned_from(tmp_path: Path) -> None:
    samples = saved(tmp_path, GOODS[:3], label=[0, 1, 0])
    with pytest.raises(InputError, match="labelled defective"):
        LevelDetector().fit(samples)


def test_a_score_that_is_no_number_stops_the_fit() -> None:
    with pytest.raises(CalibrationError, match=r"score of array .* is not finite"):
        LevelDetector().fit([*GOODS[:5], marked(GOODS[6], NOT_A_NUMBER)])


def test_a_refit_forgets() -> None:
    fitted = LevelDetector().fit(GOODS, calibration=[grey(90 + i, 70 + i) for i in range(30)])
    fitted.fit(GOODS[:1])
    assert not fitted.is_calibrated
    assert sorted(n for n in vars(fitted) if n.endswith("_")) == [
        "dropped_",
        "hashes_",
        "intake_",
        "level_",
        "odd_",
        "skipped_",
        "suspects_",
        "suspects_z_",
        "view_",
    ]


@pytest.mark.parametrize("goods", [[], [marked(GOODS[0], POISON), GOODS[1]]])
def test_a_fit_that_failed_leaves_nothing_to_judge_with(goods: list[np.ndarray]) -> None:
    fitted = LevelDetector().fit(GOODS)
    with pytest.raises(ValueError, match=r"X is empty|poison"):
        fitted.fit(goods)
    with pytest.raises(NotFittedError, match="LevelDetector is not fitted"):
        fitted.decision_function(GOODS)


def test_the_label_is_whether_the_score_exceeds_the_threshold() -> None:
    fitted = LevelDetector(threshold=Fixed(10.0)).fit([grey(100), grey(100, 1)])
    assert fitted.predict([grey(110), grey(111), grey(90), grey(89)]).tolist() == [0, 1, 0, 1]
    assert fitted.predict(grey(120)).tolist() == [1]


def test_bit_depth_and_scale_reach_the_images() -> None:
    deep = [image.astype(np.uint16) * 16 for image in GOODS[:6]]
    learned = LevelDetector().fit(deep)
    assert learned.intake_.white == max(int(image.max()) for image in deep)
    stated = LevelDetector(bit_depth=12).fit(deep)
    assert stated.intake_.white == 4095
    assert stated.level_ == pytest.approx(LEVELS[:6].mean(), rel=0.01)
    with pytest.raises(ParameterError, match="bit_depth"):
        LevelDetector(bit_depth=8).fit(deep)


def test_sizes_are_a_promise() -> None:
    odd = grey(100, size=(20, 30))
    (found,) = LevelDetector().fit(GOODS).inspect([odd])
    assert found.verdict is Verdict.ERROR
    assert "any_size=True" in found.error
    (found,) = LevelDetector(any_size=True).fit(GOODS).inspect([odd])
    assert found.verdict is not Verdict.ERROR


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contamination": 0}, "contamination"),
        ({"contamination": 1.0}, "contamination"),
        ({"threshold": "conformal"}, "must be a rule"),
        ({"threshold": Quantile}, "must be a rule"),
        ({"seed": -1}, "seed must not be negative"),
        ({"folds": 1}, "folds must be at least 2"),
    ],
)
def test_parameters_are_checked_by_fit(parameters: dict[str, Any], message: str) -> None:
    made = LevelDetector(**parameters)
    with pytest.raises(ParameterError, match=message):
        made.fit(GOODS)


# Judging ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> LevelDetector:
    return LevelDetector().fit(GOODS)


def test_what_cannot_be_judged_is_raised_after_everything_was(fitted: LevelDetector) -> None:
    images = [grey(112), marked(grey(112), POISON), grey(200), marked(grey(1), NOT_A_NUMBER)]
    images = [np.clip(image, 0, 255).astype(np.uint8) for image in images]
    for judge in (fitted.decision_function, fitted.predict):
        with pytest.raises(UnjudgedError, match="2 of 4 images could not be judged") as caught:
            judge(images)
        found = caught.value.inspections
        assert [one.verdict for one in found] == ["OK", "ERROR", "NG", "ERROR"]
        assert found[1].error == "ValueError: poison"
        assert found[3].error == "the score or the map is not finite"
        assert found.scores[2] == pytest.approx(200 - fitted.level_)
        assert math.isnan(found.scores[1])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_batch_size_changes_nothing(fitted: LevelDetector, batch_size: int) -> None:
    images = [*GOODS[:5], marked(GOODS[5], POISON), *GOODS[6:10]]
    found = list(fitted.inspect(images, batch_size=batch_size))
    assert [i for i, one in enumerate(found) if one.verdict is Verdict.ERROR] == [5]
    scores = [one.score for one in found if one.error is None]
    np.testing.assert_array_equal(scores, abs(np.delete(LEVELS[:10], 5) - fitted.level_))


def test_a_batch_of_none_is_refused(fitted: LevelDetector) -> None:
    with pytest.raises(ParameterError, match="batch_size must be at least 1, got 0"):
        list(fitted.inspect(GOODS, batch_size=0))


def test_inspect_streams(fitted: LevelDetector) -> None:
    taken = []

    class Endless(list):
        def __iter__(self) -> Any:
            while True:
                taken.append(1)
                yield GOODS[0]

    found = fitted.inspect(Endless([0]), batch_size=2)
    assert next(found).score == pytest.approx(abs(LEVELS[0] - fitted.level_))
    found.close()
    assert len(taken) < 12


def test_records_carry_the_sample(fitted: LevelDetector, tmp_path: Path) -> None:
    (sample,) = saved(tmp_path, GOODS[:1], label=[0])
    (found,) = fitted.inspect([sample])
    assert found.source is sample
    assert found.threshold == fitted.threshold_
    assert fitted.decision_function(tmp_path) == fitted.decision_function(sample.path)


def test_an_unfitted_detector_says_so() -> None:
    with pytest.raises(NotFittedError, match="LevelDetector is not fitted: call fit"):
        LevelDetector().predict(GOODS)

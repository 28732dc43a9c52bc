"""The paragraph with which a fit ends is true in each case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes import CellDetector, LevelDetector, TinyExtractor, grey
from pyimgano.calibration import Fixed, false_reject_bound
from pyimgano.models.musc import MuSc
from pyimgano.models.patchcore import PatchCore
from pyimgano.records import _percent, images_needed

if TYPE_CHECKING:
    from pyimgano.detector import Detector


def goods(n: int, start: int = 0) -> list:
    return [grey(100 + i % 7, start + i) for i in range(n)]


def told(detector: Detector) -> str:
    text = detector.summary()
    assert text.endswith(".")
    assert "  " not in text
    return text


def test_before_a_fit() -> None:
    assert told(LevelDetector()) == "LevelDetector has learned nothing yet."


def test_one_image_gives_no_verdicts() -> None:
    text = told(LevelDetector().fit(goods(1)))
    assert "learned what 1 good image looks like, and nothing of defects" in text
    assert "no threshold" in text
    assert "no verdicts" in text
    assert "NG" not in text


@pytest.mark.parametrize("n", [5, 24])
def test_few_images_say_how_many_are_missing(n: int) -> None:
    fitted = LevelDetector().fit(goods(n))
    text = told(fitted)
    bound = false_reject_bound(n, 1)
    assert f"{n} good images look like" in text
    assert f"NG above {fitted.threshold_:.4g}, the largest of {n} good images" in text
    assert f"at most {_percent(bound)} of good parts" in text
    assert f"({fitted.certainty_.method})" in text
    missing = images_needed(0.05) - n
    assert f"add {missing} good images (the largest of all scores would certify 5 %)" in text
    assert false_reject_bound(n + missing, 1) <= 0.05
    assert false_reject_bound(n + missing - 1, 1) > 0.05
    assert "another day" in text


def test_many_images_need_a_lower_target_and_not_more() -> None:
    fitted = LevelDetector().fit(goods(80))
    assert fitted.certainty_.bound > 0.05
    text = told(fitted)
    assert "ask for less than 5 % to be sure of it" in text
    assert "add " not in text


def test_a_bound_that_is_met_asks_for_nothing_more() -> None:
    fitted = LevelDetector(contamination=0.3).fit(goods(150), calibration=goods(150, 900))
    assert fitted.certainty_.bound <= 0.4
    text = told(fitted)
    assert "(separate images)" in text
    assert "another day" not in text, "that was done"
    assert "learned what 150 good images" in text


def test_suspects_are_counted() -> None:
    fitted = LevelDetector().fit([*goods(40), grey(200, 77)])
    assert len(fitted.suspects_) == 1
    text = told(fitted)
    assert "1 more stands out and did not set it" in text
    assert f"at most {_percent(fitted.certainty_.bound)} of good parts" in text


def test_what_was_seen_through_is_named() -> None:
    fitted = PatchCore(extractor=TinyExtractor(), size=96).fit(
        [grey(100 + i, i, (64, 80)) for i in range(4)]
    )
    assert "through tiny features" in told(fitted)


def test_a_batch_certifies_nothing() -> None:
    images = [grey(100 + i, i, (96, 96)) for i in range(6)]
    text = told(MuSc(extractor="handcrafted", size=96).fit(images))
    assert "nothing can be certified: a score belongs to its batch" in text
    assert "add " not in text
    assert "rejected" not in text


def test_a_threshold_beyond_the_scores_is_no_certificate() -> None:
    fitted = LevelDetector(threshold=Fixed(-1.0)).fit(goods(24))
    assert fitted.certainty_.bound is None
    assert "nothing can be certified from 24 good images" in told(fitted)


def test_defects_that_were_given_are_not_forgotten() -> None:
    flawed = [image.copy() for image in goods(8, 300)]
    for image in flawed:
        image[8:24, 8:24] = 250
    text = told(CellDetector().fit(goods(40), defects=flawed))
    assert "Which defects it finds beyond those that were given" in text

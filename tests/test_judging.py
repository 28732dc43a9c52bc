"""From readings to verdicts: one image never ends a batch, and nothing bad becomes an OK."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyimgano.errors import ImageError
from pyimgano.inspection import Verdict
from pyimgano.judging import Judge, Reading, attempt
from pyimgano.records import Sample
from pyimgano.views.base import Seen, Whole

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE = np.zeros((4, 6, 3), np.uint8)


def level(images: Sequence[np.ndarray]) -> list[Reading]:
    return [Reading(float(image.max()), image[..., 0].astype(np.float32)) for image in images]


def judge(infer: Any = level, threshold: float | None = 5.0, pixels: float | None = 5.0) -> Judge:
    return Judge(infer, lambda drawn: drawn, threshold, pixels)


def spot(value: int) -> np.ndarray:
    image = IMAGE.copy()
    image[1:3, 2:5] = value
    return image


def whole(image: np.ndarray) -> Seen:
    return Whole().see(image)


def test_attempt_returns_the_error_but_lets_the_user_stop() -> None:
    assert attempt(int, "3") == 3
    assert isinstance(attempt(int, "x"), ValueError)
    with pytest.raises(KeyboardInterrupt):
        attempt(interrupt)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_score_decides_and_the_map_shows_where() -> None:
    ok, ng = judge().judge([("a.png", whole(spot(5))), (Sample("b.png"), whole(spot(6)))])
    assert (ok.verdict, ok.label, ok.regions, ok.threshold) == (Verdict.OK, 0, (), 5.0)
    assert (ng.verdict, ng.label, ng.pixel_threshold) == (Verdict.NG, 1, 5.0)
    assert [r.bbox for r in ng.regions] == [(2, 1, 5, 3)]
    assert (ok.path, ng.source.path.name) == ("a.png", "b.png")


def test_without_a_threshold_there_is_a_score_and_no_verdict() -> None:
    (found,) = judge(threshold=None, pixels=None).judge([("a", whole(spot(6)))])
    assert (found.verdict, found.label, found.score) == (None, -1, 6.0)
    assert found.map is not None


def test_without_a_map_there_are_no_regions() -> None:
    (found,) = judge(lambda images: [Reading(9.0)] * len(images), pixels=None).judge(
        [("a", whole(IMAGE))]
    )
    assert (found.verdict, found.map, found.regions) == (Verdict.NG, None, ())


def test_an_image_that_could_not_be_read_is_not_inferred() -> None:
    seen: list[int] = []

    def infer(images: Sequence[np.ndarray]) -> list[Reading]:
        seen.append(len(images))
        return level(images)

    batch = [("a", whole(spot(1))), ("b", ImageError("torn")), ("c", whole(spot(7)))]
    found = list(judge(infer).judge(batch))
    assert [one.verdict for one in found] == ["OK", "ERROR", "NG"]
    assert found[1].error == "torn"
    assert seen == [2]
    assert [one.verdict for one in judge(infer).judge([("b", ImageError("torn"))])] == ["ERROR"]
    assert seen == [2]


def picky(images: Sequence[np.ndarray]) -> list[Reading]:
    if any(image.max() == 9 for image in images):
        raise RuntimeError("out of memory")
    return level(images)


def forgetful(images: Sequence[np.ndarray]) -> list[Reading]:
    return [one for one in level(images) if one.score != 9]


@pytest.mark.parametrize(
    ("infer", "text"), [(picky, "RuntimeError: out of memory"), (forgetful, "IndexError: ")]
)
def test_a_batch_that_fails_is_tried_one_by_one(infer: Any, text: str) -> None:
    batch = [(str(value), whole(spot(value))) for value in (1, 9, 7)]
    found = list(judge(infer).judge(batch))
    assert [one.verdict for one in found] == ["OK", "ERROR", "NG"]
    assert found[1].error.startswith(text)
    assert [one.score for one in found[::2]] == [1, 7]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error(score: float) -> None:
    (found,) = judge(lambda images: [Reading(score)]).judge([("a", whole(IMAGE))])
    assert (found.verdict, found.label) == (Verdict.ERROR, -1)
    assert math.isnan(found.score)
    assert found.error == "the score or the map is not finite"


def test_a_map_that_is_not_finite_is_an_error() -> None:
    drawn = np.zeros((4, 6), np.float32)
    drawn[2, 2] = np.nan
    (found,) = judge(lambda images: [Reading(1.0, drawn)]).judge([("a", whole(IMAGE))])
    assert found.verdict is Verdict.ERROR


def test_a_step_that_fails_on_a_map_is_an_error_of_that_image() -> None:
    def finish(drawn: np.ndarray) -> np.ndarray:
        if drawn.max() == 9:
            raise ZeroDivisionError("step")
        return drawn

    found = list(
        Judge(level, finish, 5.0, 5.0).judge([("a", whole(spot(9))), ("b", whole(spot(1)))])
    )
    assert [one.verdict for one in found] == ["ERROR", "OK"]
    assert found[0].error == "ZeroDivisionError: step"

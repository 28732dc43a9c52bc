"""Detectors whose scores belong to the batch: what holds for all of them, and the verbs."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fakes
from cli_calls import SMALL, call
from pyimgano import load
from pyimgano.detector_contract import _plant, texture
from pyimgano.errors import InputError, NotFittedError, ParameterError, UnjudgedError
from pyimgano.estimator import DETECTORS
from pyimgano.inspection import Verdict
from pyimgano.models.musc import MuSc

if TYPE_CHECKING:
    from pathlib import Path

GOODS = [texture(i) for i in range(24)]
FRESH = [texture(100 + i) for i in range(7)]
BAD = _plant(texture(200))
BATCH = [*FRESH[:3], BAD, *FRESH[3:]]
FAST = {"extractor": fakes.TinyExtractor(), "size": 96, "neighbourhoods": (1,)}


@pytest.fixture(scope="module")
def fitted() -> fakes.MutualDetector:
    return fakes.MutualDetector().fit(GOODS)


def test_the_table_and_the_objects_agree() -> None:
    """The table tells of an object as it is made by name alone."""
    for entry in DETECTORS.entries():
        if not entry.metadata.missing:
            assert entry.metadata.transductive == entry.value().is_transductive, entry.name


def test_the_scores_of_the_goods_are_those_of_their_batch(fitted: fakes.MutualDetector) -> None:
    np.testing.assert_array_equal(fitted.decision_scores_, fitted.decision_function(GOODS))
    assert fitted.certainty_.method == "leave one out"
    assert fitted.certainty_.n == 24


@pytest.mark.parametrize("kind", [fakes.MutualDetector, lambda: MuSc(**FAST)])
def test_nothing_is_certified_and_the_text_says_why(kind: Any) -> None:
    certainty = kind().fit(GOODS).certainty_
    assert (certainty.bound, certainty.bound_without_suspects) == (None, None)
    assert not certainty.certified
    assert "nothing can be certified: a score belongs to its batch" in certainty.describe()


def test_all_ways_to_ask_agree(fitted: fakes.MutualDetector) -> None:
    records = list(fitted.inspect(BATCH, batch_size=2))
    scores = fitted.decision_function(BATCH)
    assert [one.score for one in records] == scores.tolist()
    assert fitted.predict(BATCH).tolist() == [int(one.verdict == "NG") for one in records]
    assert scores.argmax() == 3
    assert records[3].label == 1
    maps = fitted.predict_anomaly_map(BATCH)
    assert all(np.array_equal(one.map, drawn) for one, drawn in zip(records, maps, strict=True))


def test_what_cannot_be_read_is_no_part_of_the_batch(
    fitted: fakes.MutualDetector, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    poison = FRESH[0].copy()
    poison[0, 0] = fakes.POISON
    expected = fitted.decision_function(BATCH)
    found = list(fitted.inspect([BATCH[0], broken, *BATCH[1:], poison]))
    failed = [i for i, one in enumerate(found) if one.verdict is Verdict.ERROR]
    assert failed == [1, 9]
    assert "poison" in found[9].error
    assert [one.score for i, one in enumerate(found) if i not in failed] == expected.tolist()


def test_features_that_are_not_finite_are_told_of_their_own_image() -> None:
    class SometimesNaN(fakes.TinyExtractor):
        def _one(self, image: Any) -> Any:
            found = super()._one(image)
            if tuple(image[0, 0]) == fakes.NOT_A_NUMBER:
                found.values[0, 0, 0] = np.nan
            return found

    detector = MuSc(**{**FAST, "extractor": SometimesNaN()}).fit(GOODS[:6])
    odd = FRESH[0].copy()
    odd[0, 0] = fakes.NOT_A_NUMBER
    found = list(detector.inspect([odd, *FRESH]))
    assert [one.verdict is Verdict.ERROR for one in found] == [True] + [False] * 7
    assert "not finite" in found[0].error


@pytest.mark.parametrize("company", [[], ["broken.png"]])
def test_a_batch_of_one_is_an_error_with_its_reason(
    fitted: fakes.MutualDetector, company: list[str]
) -> None:
    found = list(fitted.inspect([BAD, *company]))
    assert {one.verdict for one in found} == {Verdict.ERROR}
    assert "give two at least" in found[0].error
    for ask in (fitted.predict, fitted.decision_function, fitted.predict_anomaly_map):
        with pytest.raises(UnjudgedError, match="others of their batch"):
            ask([BAD, *company])
    with pytest.raises(UnjudgedError, match="others of their batch"):
        fitted.get_anomaly_map(BAD)


def test_a_comparison_that_fails_is_told_of_every_image() -> None:
    class Fails(fakes.MutualDetector):
        def _read_together(self, looks: Sequence[Any]) -> Any:
            if len(looks) == 3:
                raise MemoryError("too many")
            return super()._read_together(looks)[: 5 if len(looks) < 24 else None]

    detector = Fails().fit(GOODS)
    assert [one.error for one in detector.inspect(FRESH[:3])] == ["MemoryError: too many"] * 3
    verdicts = [one.verdict is Verdict.ERROR for one in detector.inspect(FRESH)]
    assert verdicts == [False] * 5 + [True] * 2


class Rendered(Sequence[Any]):
    """Images that exist while somebody holds them."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < 30:
            raise IndexError
        image = texture(300 + index)
        self.given.append(weakref.ref(image))
        return image


def test_the_whole_batch_is_seen_first_and_its_pixels_are_let_go(
    fitted: fakes.MutualDetector,
) -> None:
    images = Rendered()
    records = fitted.inspect(images)
    assert not images.given
    next(records)
    assert len(images.given) == 30
    assert sum(one() is not None for one in images.given) <= 2
    records.close()


def test_one_good_image_gives_scores_and_no_threshold(caplog: pytest.LogCaptureFixture) -> None:
    detector = MuSc(**FAST).fit(GOODS[:1])
    assert "no threshold" in caplog.text
    assert detector.decision_function(BATCH).argmax() == 3
    with pytest.raises(NotFittedError, match="no threshold"):
        detector.predict(BATCH)
    detector.calibrate(GOODS[1:])
    np.testing.assert_array_equal(detector.decision_scores_, detector.decision_function(GOODS[1:]))
    with pytest.raises(InputError, match="others of their batch"):
        detector.calibrate(FRESH[:1])


def test_defects_by_themselves_are_refused() -> None:
    with pytest.raises(ParameterError, match="leave them out"):
        fakes.MutualDetector().fit(GOODS, defects=[BAD])
    with pytest.raises(ParameterError, match="MutualDetector judges images by the others"):
        fakes.MutualDetector().fit(GOODS[:9]).calibrate(GOODS[9:], [BAD])


def test_a_saved_model_judges_the_same_batch_the_same(named_fakes: Path, tmp_path: Path) -> None:
    detector = MuSc(extractor="tiny", size=96, neighbourhoods=(1, 3)).fit(GOODS)
    detector.save(tmp_path / "model.pyimg")
    assert (detector._golden_scores() > 0).all()
    found = load(tmp_path / "model.pyimg")
    np.testing.assert_array_equal(found.decision_function(BATCH), detector.decision_function(BATCH))
    assert found.threshold_ == detector.threshold_
    assert found.certainty_.doubt == detector.certainty_.doubt


QUICK = (*SMALL[:4], "--set", "neighbourhoods=[1]", "--detector", "vision_musc")


def test_fit_and_predict(shared_parts: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model.pyimg", tmp_path / "run"
    fitted = call("fit", shared_parts / "train" / "good", "-o", model, *QUICK)
    assert fitted.code == 0
    assert "nothing can be certified" in " ".join(fitted.out.split())
    judged = call("predict", model, shared_parts / "test", "--out", out, "--json")
    assert judged.code == 0
    assert json.loads(judged.out)["counts"]["images"] == 9
    one = next((shared_parts / "test" / "good").iterdir())
    alone = call("predict", model, one, "--out", tmp_path / "alone")
    assert alone.code == 1
    assert "give two at least" in " ".join(alone.out.split())


def test_evaluate(shared_parts: Path, tmp_path: Path) -> None:
    given = ("--root", shared_parts, "--dataset", "mvtec", "--out", tmp_path / "run")
    found = call("evaluate", *given, *QUICK)
    assert found.code == 0
    assert "nothing certified" in found.out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["metrics"]["auroc"] is not None
    assert facts["metrics"]["errors"] == 0

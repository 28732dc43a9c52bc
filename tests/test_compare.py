"""What is compared, what chance may have done, and what is taken."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from pyimgano.errors import InputError, ParameterError
from pyimgano.inspection import Inspection, Inspections, Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.metrics.delong import delong
from pyimgano.records import Certainty, Sample
from pyimgano.runs.compare_case import Case, make_case, planted_case
from pyimgano.runs.compare_choices import Found, Limits, compare_choices, labels, parse_seconds
from pyimgano.runs.compare_trial import CHOICES, Configuration, Trial, try_choice
from pyimgano.runs.compare_verdict import judge

PADIM, DEFAULT, PATCHCORE = CHOICES[:3]
NONE = Certainty(
    rule="", method="", n=1, dropped=0, rank=1, target=0.05, confidence=0.95, bound=None,
    bound_without_suspects=None, certified=False,
)  # fmt: skip


def quiet(doing, to_judge=0):
    del doing, to_judge
    return nullcontext(lambda _: None)


@pytest.fixture(scope="module")
def images(shared_parts):
    return sorted((shared_parts / "train" / "good").glob("*.png"))


@pytest.fixture(scope="module")
def bad(shared_parts):
    paths = sorted(p for p in (shared_parts / "test").rglob("*.png") if p.parent.name != "good")
    return [Sample(p, split="calibration", defect=p.parent.name, label=1) for p in paths]


@pytest.fixture(scope="module")
def case(images, bad):
    return make_case(images, bad, 0)


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("1h", 3600), ("90", 90), ("0.5 H", 1800)]
)
def test_a_budget_is_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5min", "5 days", "1e3s", "nan"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(ParameterError, match="--budget is a time"):
        parse_seconds(text)


def test_without_time_the_cheapest_is_tried_all_the_same(case):
    found = Found()
    outcome = compare_choices(case, Limits(0.0), found, quiet)
    assert [trial.choice for trial in found.trials] == [PADIM]
    assert outcome.taken.choice == PADIM
    assert outcome.p is None
    runnable = [choice for choice in CHOICES if not choice.missing]
    assert len(found.untried) == len(runnable) - 1
    assert all(why == "0 s were left" for _, why in found.untried)


def test_what_is_no_better_than_chance_is_named(case, images):
    alike = [Sample(path, defect="none", label=1) for path in images[::2]]
    alike = make_case(images[1::2], alike, 0)
    told = []
    for one in (alike, case):
        outcome = compare_choices(one, Limits(0.0), Found(), quiet)
        told.append([text for text in labels(one, outcome, 1) if "no better than chance" in text])
    assert [len(texts) for texts in told] == [1, 0]


def test_what_does_not_fit_is_not_begun(case):
    """A clock that goes on by a second whenever it is asked: no wall clock decides."""
    ticks = itertools.count()
    found = Found()
    plan = Limits(15.0, clock=lambda: float(next(ticks)), choices=(PADIM, DEFAULT))
    compare_choices(case, plan, found, quiet)
    assert [trial.choice for trial in found.trials] == [PADIM]
    ((name, why),) = found.untried
    assert name == DEFAULT.name
    needed, left = map(int, re.findall(r"(\d+) s", why))
    assert why == f"with the model at the end it needs about {needed} s, and {left} s were left"
    assert needed >= left, "what is said is why it was not begun"
    assert found.lacking > 0


def test_what_was_tried_does_not_depend_on_the_budget(case):
    few, all_ = Found(), Found()
    compare_choices(case, Limits(0.0, choices=(PADIM, DEFAULT)), few, quiet)
    compare_choices(case, Limits(1e6, choices=(PADIM, DEFAULT)), all_, quiet)
    assert len(all_.trials) == 2
    a, b = few.trials[0].inspections, all_.trials[0].inspections
    assert np.array_equal(a.scores, b.scores)


# --- judged out of sample -----------------------------------------------------------------------


def test_goods_are_judged_out_of_sample_and_defects_by_the_model(case, images, bad):
    trial = try_choice(PADIM, case, 0.05, 0)
    fitted = PADIM.make(0.05, 0).fit(images)
    paths = [sample.path for sample in bad]
    expected = [*fitted.decision_scores_, *fitted.decision_function(paths)]
    assert np.array_equal(trial.inspections.scores, expected)
    assert trial.certainty.describe() == fitted.certainty_.describe()
    assert trial.aupro is None, "there are no masks"


def test_a_configuration_that_fails_is_a_row(case):
    broken = Configuration("vision_padim", "onnx:/nowhere.onnx")
    found = Found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Configuration, "missing", "")
        outcome = compare_choices(case, Limits(1e6, choices=(broken, PADIM)), found, quiet)
        assert outcome.taken.choice == PADIM
        assert [name for name, _ in found.failed] == [broken.name]
        with pytest.raises(InputError, match="no configuration could be tried"):
            compare_choices(case, Limits(1e6, choices=(broken,)), Found(), quiet)


def test_what_is_good_and_bad_at_once_is_refused(images):
    with pytest.raises(InputError, match="as a defect and as a good image"):
        make_case(images, [Sample(images[3], defect="x", label=1)], 0)


def test_copies_say_one_thing(images, bad, tmp_path):
    shutil.copy(bad[0].path, tmp_path / "copy.png")
    (tmp_path / "no.png").write_bytes(b"no image")
    more = [*bad, *(Sample(tmp_path / n, defect="x", label=1) for n in ("copy.png", "no.png"))]
    groups = make_case(images, more, 0).groups
    assert groups[len(images)] == groups[-2]
    assert len(set(groups.tolist())) == len(groups) - 1


# --- planted ------------------------------------------------------------------------------------


def test_planted_defects_lie_on_images_that_no_model_has_learned_from(images, tmp_path):
    case = planted_case(images, tmp_path, 0)
    assert len(case.learned) == 16
    held = [sample.path for sample in case.goods]
    assert held == images[16:]
    assert set(case.learned).isdisjoint(held)
    assert len(case.bad) == 16
    trial = try_choice(PADIM, case, 0.05, 0)
    assert trial.aupro is not None
    fitted = PADIM.make(0.05, 0).fit(images[:16])
    paths = [sample.path for sample in (*case.goods, *case.bad)]
    assert np.array_equal(trial.inspections.scores, fitted.decision_function(paths))
    bytes_of = {sample.path: sample.path.read_bytes() for sample in case.bad}
    again = planted_case(images, tmp_path, 0)
    assert {sample.path: sample.path.read_bytes() for sample in again.bad} == bytes_of
    with pytest.raises(InputError, match="give images of defects with --bad"):
        planted_case(images[:4], tmp_path, 0)


# --- the verdict --------------------------------------------------------------------------------


def drawn(case, choice, scores):
    """A trial with given scores, NaN for an image that could not be judged."""
    samples = (*case.goods, *case.bad)
    judged = [
        Inspection(source=s, verdict=Verdict.ERROR, error="lost")
        if np.isnan(x)
        else Inspection(
            source=s, score=x, label=int(x > 2), verdict=Verdict("NG" if x > 2 else "OK")
        )
        for s, x in zip(samples, scores, strict=True)
    ]
    return Trial(choice, Inspections(judged), NONE, None, 1.0, 1.0)


def made(n, halved=False):
    """A case of n good and n bad images."""
    good = tuple(Sample(f"{i}.png", label=0) for i in range(n))
    bad = tuple(Sample(f"b{i}.png", label=1, defect="x") for i in range(n))
    choosing = np.arange(2 * n) % 2 == 0 if halved else np.ones(2 * n, bool)
    paths = tuple(sample.path for sample in good)
    return Case(paths, good, bad, paths, np.arange(2 * n), choosing, False, "", False)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_equal_configurations_are_not_really_different(rng):
    case = made(30)
    scores = rng.normal(size=60) + case.labels
    outcome = judge([drawn(case, c, scores) for c in (PADIM, DEFAULT, PATCHCORE)], case)
    assert outcome.p == 1
    assert "no difference is real" in outcome.difference
    assert outcome.taken.choice == DEFAULT
    assert outcome.choice.startswith("the default of those that chance")
    outcome = judge([drawn(case, c, scores) for c in (PADIM, PATCHCORE)], case)
    assert outcome.taken.choice == PADIM
    assert outcome.choice.startswith("the cheapest of those that chance")


def test_a_difference_that_is_no_chance_is_real(rng):
    case = made(60)
    noise = rng.normal(size=120)
    sharp = drawn(case, PATCHCORE, noise + 4 * case.labels)
    dull = [drawn(case, c, rng.normal(size=120)) for c in (PADIM, DEFAULT)]
    outcome = judge([*dull, sharp], case)
    assert outcome.taken is sharp
    assert outcome.standings[0].trial is sharp
    assert "that is real (p < 0.0001" in outcome.difference
    assert "Holm over 3 pairs" in outcome.difference
    assert outcome.choice == "it is better than each of the others beyond chance"
    assert outcome.reported is None


def test_a_few_images_tell_no_difference():
    case = made(9)
    a, b = case.labels + 0.1 * np.arange(18), -1.0 * case.labels
    outcome = judge([drawn(case, PADIM, b), drawn(case, PATCHCORE, a)], case)
    assert outcome.standings[0].trial.choice == PATCHCORE
    assert outcome.taken.choice == PADIM
    assert "9 different good and 9 defective images are too few" in outcome.difference


def test_what_one_alone_cannot_judge_counts_against_it(rng):
    case = made(30)
    scores = rng.normal(size=60) + 3 * case.labels
    whole = drawn(case, PADIM, scores)
    lost = scores.copy()
    lost[-12:] = np.nan
    outcome = judge([drawn(case, DEFAULT, lost), whole], case)
    assert outcome.standings[0].trial is whole
    assert outcome.standings[1].errors == 12
    assert outcome.standings[1].caught.n == 30
    both = [drawn(case, c, lost) for c in (PADIM, DEFAULT)]
    assert judge(both, case).standings[0].caught.n == 18, "what nobody can judge counts nowhere"


def test_one_half_chooses_and_the_other_reports(rng):
    case = made(40, halved=True)
    scores = np.where(case.choosing, case.labels, 1.0 - case.labels) + 0.01 * rng.normal(size=80)
    outcome = judge([drawn(case, PADIM, scores)], case)
    assert outcome.standings[0].auroc == 1
    assert outcome.standings[0].low is None, "nothing varies: there is no interval"
    assert outcome.reported.auroc == 0


def test_a_case_is_halved_where_there_is_enough_kind_by_kind(images, bad, tmp_path):
    assert not make_case(images, bad, 0).halved
    rng, many = np.random.default_rng(0), []
    for i in range(24):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encode_png(rng.integers(0, 255, (96, 96, 3), np.uint8)))
        many.append(Sample(path, defect="ab"[i % 2], label=1))
    case = make_case(images, many, 0)
    assert case.halved
    kinds = np.array([s.defect for s in case.bad])
    for kind in "ab":
        assert case.choosing[len(images) :][kinds == kind].sum() == 6
    assert case.choosing[: len(images)].sum() == 10
    assert np.array_equal(case.choosing, make_case(images, many, 0).choosing)
    assert not np.array_equal(case.choosing, make_case(images, many, 1).choosing)


def test_images_of_one_group_are_one_in_delongs_test(rng):
    labels = np.repeat([0, 1], 20)
    a, b = rng.normal(size=(2, 40)) + labels
    alone = delong(labels, a, b)
    assert delong(labels, a, b, groups=np.arange(40)) == alone
    doubled = delong(*(np.repeat(x, 2) for x in (labels, a, b)), groups=np.arange(80) // 2)
    for name in ("auroc_a", "difference", "low", "high", "p"):
        assert getattr(doubled, name) == pytest.approx(getattr(alone, name), rel=1e-12)
    assert dataclasses.astuple(delong(*(np.repeat(x, 2) for x in (labels, a, b))))[-1] < alone.p

"""Threshold rules by definition, their certainty against scipy and against published figures."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyimgano.calibration import (
    Conformal,
    Fixed,
    Oracle,
    Quantile,
    Tail,
    ThresholdRule,
    calibrate,
    check_contamination,
    false_reject_bound,
    find_suspects,
)
from pyimgano.errors import CalibrationError, ParameterError
from pyimgano.groups import block_folds

if TYPE_CHECKING:
    from collections.abc import Sequence

shares = st.fractions(Fraction(1, 500), Fraction(499, 500), max_denominator=500)


def scores_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.arange(1.0, n + 1))


@given(n=st.integers(1, 300), share=shares, seed=st.integers(0, 9))
def test_conformal_is_the_order_statistic_of_its_definition(
    n: int, share: Fraction, seed: int
) -> None:
    choice = Conformal().choose(scores_of(n, seed), float(share))
    position = math.ceil((n + 1) * (1 - share))
    assert choice.certified == (position <= n)
    assert choice.value == min(position, n)
    assert choice.rank == n + 1 - min(position, n)


@pytest.mark.parametrize("contamination", [1 - 1e-12, 0.999999])
@pytest.mark.parametrize("n", [1, 7])
def test_conformal_takes_the_smallest_score_where_nearly_all_may_be_rejected(
    n: int, contamination: float
) -> None:
    choice = Conformal().choose(scores_of(n), contamination)
    assert (choice.value, choice.rank) == (1, n)


@pytest.mark.parametrize("share", [Fraction(1, 20), Fraction(1, 5), Fraction(1, 2)])
@pytest.mark.parametrize("n", [1, 3, 4, 5, 19, 20, 24])
def test_conformal_covers_exactly_by_counting_all_orders(n: int, share: Fraction) -> None:
    """Each of n + 1 exchangeable images is the new one equally often."""
    pool = np.arange(n + 1.0)
    rejected = 0
    for calibration in combinations(range(n + 1), n):
        (new,) = set(range(n + 1)) - set(calibration)
        choice = Conformal().choose(pool[list(calibration)], float(share))
        rejected += bool(pool[new] > choice.value)
    assert Fraction(rejected, n + 1) == Fraction(choice.rank, n + 1)
    assert not choice.certified or Fraction(rejected, n + 1) <= share


@given(n=st.integers(1, 200), share=shares)
def test_quantile_is_that_of_numpy_and_its_rank_bounds_the_rejects(n: int, share: Fraction) -> None:
    scores = scores_of(n)
    choice = Quantile().choose(scores, float(share))
    assert choice.value == np.quantile(scores, 1 - float(share))
    at_rank = np.sort(scores)[n - choice.rank]
    assert at_rank <= choice.value + 1e-9
    assert choice.rank == 1 or np.sort(scores)[n - choice.rank + 1] > choice.value - 1e-9
    assert choice.certified == (n + 1 >= 1 / share)


@pytest.mark.parametrize("seed", range(3))
def test_tail_is_the_quantile_of_the_fitted_pareto(seed: int) -> None:
    scores = np.random.default_rng(seed).gamma(3, size=200)
    choice = Tail(0.85).choose(scores, 0.002)
    base = np.quantile(scores, 0.85)
    excess = scores[scores > base] - base
    shape, _, scale = stats.genpareto.fit(excess, floc=0)
    beyond = 0.002 * 200 / excess.size
    expected = base + stats.genpareto.isf(beyond, shape, scale=scale)
    assert choice.value == pytest.approx(expected, rel=1e-9)
    assert choice.rank == 1 + (scores > choice.value).sum()
    assert not choice.certified
    assert "model-based" in choice.rule


def test_tail_recovers_a_known_quantile() -> None:
    scores = np.random.default_rng(5).exponential(size=20_000)
    assert Tail().choose(scores, 1e-3).value == pytest.approx(-math.log(1e-3), rel=0.05)


def test_tail_refuses_what_it_cannot_know() -> None:
    with pytest.raises(
        CalibrationError, match=r"at least 5 scores above the 0.8 quantile, got 4 of"
    ):
        Tail().choose(scores_of(20), 0.01)
    with pytest.raises(CalibrationError, match="lower start"):
        Tail().choose(scores_of(100), 0.3)
    for start in (0, 1, 1.5, math.nan):
        with pytest.raises(ParameterError, match="start is a quantile"):
            Tail(start)


@given(n=st.integers(1, 60), value=st.integers(0, 61), share=shares)
def test_fixed_keeps_the_value_and_counts_what_it_rejects(
    n: int, value: int, share: Fraction
) -> None:
    choice = Fixed(value).choose(scores_of(n), float(share))
    assert choice.value == value
    assert choice.rank == max(n - value, 0) + 1
    assert choice.certified == (choice.rank <= float(share) * (n + 1))
    assert "by the user" in choice.rule


def test_one_good_image_certifies_no_fixed_threshold() -> None:
    assert not Fixed(5.0).choose(np.array([1.0]), 0.05).certified


def test_oracle_is_never_certified_and_has_no_bound() -> None:
    found = calibrate(scores_of(500), rule=Oracle(3.5), contamination=0.05, method="m")
    assert found.threshold == 3.5
    assert not found.certainty.certified
    assert found.certainty.bound is found.certainty.bound_without_suspects is None
    assert "tuned on test labels" in found.certainty.describe()


@pytest.mark.parametrize("rule", [Fixed, Oracle])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_thresholds_that_never_decide_are_refused(rule: type, value: float) -> None:
    with pytest.raises(ParameterError, match="finite"):
        rule(value)


def test_rules_follow_the_protocol() -> None:
    rules = (Conformal(), Quantile(), Tail(), Fixed(1.0), Oracle(1.0))
    assert all(isinstance(rule, ThresholdRule) for rule in rules)
    assert not isinstance("conformal", ThresholdRule)


@pytest.mark.parametrize(
    ("rate", "n"), [(0.10, 29), (0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598)]
)
def test_the_maximum_certifies_the_published_rates(rate: float, n: int) -> None:
    assert false_reject_bound(n, 1) <= rate < false_reject_bound(n - 1, 1)


def test_the_maximum_of_twenty_certifies_fourteen_percent() -> None:
    assert false_reject_bound(20, 1) == pytest.approx(0.1391, abs=5e-5)


@given(n=st.integers(1, 400), data=st.data(), confidence=st.sampled_from([0.01, 0.5, 0.95, 0.999]))
def test_the_bound_inverts_the_binomial(n: int, data: st.DataObject, confidence: float) -> None:
    """At the bound, ``rank`` or more of n good scores exceed with just that probability."""
    rank = data.draw(st.integers(1, n))
    bound = false_reject_bound(n, rank, confidence)
    assert stats.binom.sf(rank - 1, n, bound) == pytest.approx(confidence, abs=1e-9)
    assert bound == pytest.approx(stats.beta.ppf(confidence, rank, n + 1 - rank))


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (5, 6), (0, 1)])
def test_there_is_no_bound_beyond_the_images(n: int, rank: int) -> None:
    assert false_reject_bound(n, rank) is None


@pytest.mark.parametrize(("n", "contamination"), [(30, 0.05), (60, 0.1)])
def test_simulated_rates_keep_the_bound_and_the_target(n: int, contamination: float) -> None:
    """Uniform scores: the true false-reject rate of a threshold t is 1 - t."""
    draws = np.random.default_rng(1).uniform(size=(4000, n))
    found = [Conformal().choose(one, contamination) for one in draws]
    rates = 1 - np.array([choice.value for choice in found])
    bound = false_reject_bound(n, found[0].rank)
    assert abs((rates <= bound).mean() - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)
    assert rates.mean() == pytest.approx(found[0].rank / (n + 1), rel=0.05)
    assert found[0].rank / (n + 1) <= contamination


def outliers(n: int, count: int) -> np.ndarray:
    scores = np.random.default_rng(3).normal(10, 0.5, n)
    scores[n // 2 : n // 2 + count] = 40 + np.arange(count)
    return scores


def test_dropped_suspects_count_against_the_bound() -> None:
    """With j of n dropped and the k-th largest of the others: Beta(j + k, n + 1 - j - k)."""
    found = calibrate(outliers(60, 2), rule=Conformal(), contamination=0.05, method="m")
    certainty = found.certainty
    assert found.suspects == (30, 31)
    assert (certainty.n, certainty.dropped, certainty.rank) == (60, 2, 2)
    assert found.threshold == np.sort(np.delete(outliers(60, 2), [30, 31]))[-2]
    assert certainty.bound == pytest.approx(stats.beta.ppf(0.95, 4, 57))
    assert certainty.bound_without_suspects == pytest.approx(stats.beta.ppf(0.95, 2, 57))


def test_suspects_can_be_kept() -> None:
    found = calibrate(
        outliers(60, 2), rule=Conformal(), contamination=0.05, method="m", keep_suspects=True
    )
    assert found.suspects == ()
    assert found.certainty.dropped == 0
    assert found.threshold == np.sort(outliers(60, 2))[-3]
    assert found.certainty.bound == found.certainty.bound_without_suspects


@pytest.mark.parametrize(("n", "most"), [(10, 1), (19, 1), (39, 1), (40, 2), (100, 5)])
def test_suspects_are_few_or_a_second_population(n: int, most: int) -> None:
    suspects, warning = find_suspects(outliers(n, most))
    assert suspects == tuple(range(n // 2, n // 2 + most))
    assert warning == ""
    suspects, warning = find_suspects(outliers(n, most + 1))
    assert suspects == ()
    assert f"{most + 1} of {n}" in warning
    assert "two populations" in warning


@pytest.mark.parametrize(("n", "most"), [(10, 1), (29, 2), (31, 3), (60, 6), (150, 15)])
def test_suspects_that_lie_apart_may_be_twice_as_many(n: int, most: int) -> None:
    scores = np.clip(outliers(n, 0), 9, 11)
    apart = np.linspace(0, n - 1, most + 1).astype(int)
    scores[apart[:most]] = 40
    assert find_suspects(scores) == (tuple(apart[:most].tolist()), "")
    scores[apart] = 40
    suspects, warning = find_suspects(scores)
    assert suspects == ()
    assert f"{most + 1} of {n} good images stand out from the others: " in warning


@pytest.mark.parametrize(
    ("places", "suspected"),
    [
        (range(1, 10), False),  # a session at the start
        ((0, 1, 3, 4, 6, 8, 9, 12, 14), False),  # some of a session
        ((0, 1, 3, 4, 6, 8, 9, 77, 140), False),  # most of a session, and two others
        ((0, 1, 3, 4, 60, 61, 77, 120, 140), True),
        (range(3, 143, 16), True),
        (range(1, 8), True),  # few enough
    ],
)
def test_a_session_is_no_row_of_defects(places: Sequence[int], suspected: bool) -> None:
    scores = outliers(150, 0)
    scores[list(places)] = 40
    suspects, warning = find_suspects(scores)
    assert suspects == (tuple(places) if suspected else ())
    assert ("lie together" in warning) == (not suspected)


def test_below_ten_images_nobody_is_suspected() -> None:
    assert find_suspects(outliers(9, 1)) == ((), "")
    assert find_suspects(outliers(10, 1))[0] == (5,)


def test_suspicion_is_robust_z_of_log_scores_above_four() -> None:
    scores = np.exp(np.array([-2.0, -1, -1, 0, 0, 0, 0, 1, 1, 2, 0]))
    unit = 1.482602218505602  # the median absolute deviation of the logs is 1
    for z, expected in ((3.999, ()), (4.001, (10,))):
        scores[10] = math.exp(z * unit)
        assert find_suspects(scores)[0] == expected


def test_small_scores_are_never_suspected() -> None:
    scores = outliers(40, 1)
    scores[20] = 1e-6
    assert find_suspects(scores) == ((), "")


def test_scores_that_are_not_positive_are_judged_without_the_logarithm() -> None:
    scores = outliers(40, 1) - 10
    assert scores.min() < 0
    assert find_suspects(scores)[0] == (20,)
    assert find_suspects(np.append(np.zeros(30), 5.0)) == ((), "")


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf]])
def test_calibration_needs_finite_scores(scores: list[float]) -> None:
    with pytest.raises(CalibrationError, match="finite"):
        calibrate(np.array(scores), rule=Conformal(), contamination=0.05, method="m")


names = st.one_of(st.none(), st.sampled_from("abcdefghijklmnopqrstuvwxyz"))


@given(
    groups=st.lists(names, min_size=1, max_size=80),
    folds=st.integers(2, 30),
    most=st.one_of(st.none(), st.integers(1, 30)),
)
def test_blocks_are_contiguous_balanced_and_never_split_a_group(
    groups: list[str | None], folds: int, most: int | None
) -> None:
    blocks = block_folds(groups, folds, most)
    owner: dict[str, int] = {}
    first: list[int] = []
    for block, group in zip(blocks.tolist(), groups, strict=True):
        if group is None:
            first.append(block)
            continue
        if group not in owner:
            owner[group] = block
            first.append(block)
        assert block == owner[group]
    assert first == sorted(first)
    parts = len(first)
    folds = folds if most is None else max(folds, math.ceil(parts / most))
    count = parts if parts < max(20, folds) else folds
    sizes = np.bincount(first)
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1
    assert most is None or sizes.max() <= most
    assert blocks.dtype == np.int64


def test_blocks_need_two_folds() -> None:
    with pytest.raises(ParameterError, match="at least 2, got 1"):
        block_folds([None] * 30, 1)


@pytest.mark.parametrize("contamination", [0, 1, -0.1, 1.5, math.nan])
def test_contamination_is_a_share(contamination: float) -> None:
    with pytest.raises(ParameterError, match="contamination is the share"):
        check_contamination(contamination)
    check_contamination(0.05)


@pytest.mark.parametrize(
    ("rank", "text"),
    [
        (1, "the largest of"),
        (2, "the 2nd largest"),
        (3, "the 3rd largest"),
        (4, "the 4th largest"),
        (11, "the 11th largest"),
        (12, "the 12th largest"),
        (13, "the 13th largest"),
        (21, "the 21st largest"),
        (111, "the 111th largest"),
    ],
)
def test_the_rule_says_its_rank_in_words(rank: int, text: str) -> None:
    n = 999
    choice = Conformal().choose(scores_of(n), rank / (n + 1))
    assert choice.rank == rank
    assert choice.rule.startswith(text)


def test_what_is_certain_is_said_in_words() -> None:
    found = calibrate(outliers(60, 1), rule=Conformal(), contamination=0.05, method="5 block folds")
    text = found.certainty.describe()
    assert text == (
        "threshold: the 3rd largest of 59 good images; at most 12.4 % of good parts rejected, "
        "with 95 % confidence (1 suspect was kept out; 10.3 % if really defective); certifying "
        "1 % needs 299 images. Scores out of sample by 5 block folds; holds for images from the "
        "same camera, light and process."
    )

"""Whether two sessions differ: silent by chance, loud where it matters."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from pyimgano.archive import decode, encode
from pyimgano.drift import LEVEL, beta_binomial_cdf, compare, sessions


def session(seed: int, n: int, *, light: float = 1.0, score: float = 0.0):
    rng = np.random.default_rng(seed)
    looks = np.exp(rng.normal(np.log([0.4, 0.2, 0.05]), [0.05, 0.04, 0.1], (n, 3))) * [light, 1, 1]
    return np.exp(rng.normal(2 + score * 0.2, 0.2, n)), looks


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(("n", "m"), [(12, 8), (31, 46), (150, 20), (60, 400)])
def test_false_alarms_are_rare(n, m, limited):
    alarms = 0
    for seed in range(200):
        goods = session(seed, n)
        limit = float(np.quantile(goods[0], 0.95)) if limited else None
        alarms += bool(compare(*session(1000 + seed, m), goods, limit=limit).found)
    assert alarms <= 4 * LEVEL * 200


def test_a_darker_session_is_told_with_its_amount():
    drift = compare(*session(1, 40, light=0.8), session(0, 60))
    assert drift.brightness == pytest.approx(0.8, abs=0.03)
    assert drift.found[0].endswith("% darker")
    text = drift.describe("they")
    assert text.startswith("they differ from the goods: ")
    assert "the stated bound may not hold" in text
    assert "--hold-out" in text


def test_higher_scores_are_told_in_deviations_and_lower_ones_are_not():
    drift = compare(*session(1, 40, score=2), session(0, 60))
    assert drift.found == (f"scores of the lower half {drift.scores:.1f} deviations higher",)
    assert "does not hold" in drift.describe()
    assert compare(*session(1, 40, score=-2), session(0, 60)).found == ()


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_defects_among_unlabelled_images_are_no_drift(share):
    goods = session(0, 100)
    limit = float(np.quantile(goods[0], 0.95))
    scores, looks = session(1, 60)
    scores[: int(60 * share)] *= 4  # seen defects
    assert compare(scores, looks, goods, limit=limit).found == ()
    scores, looks = session(1, 60)
    scores[:15] = limit * 0.98  # missed ones, a quarter
    assert compare(scores, looks, goods, limit=limit).found == ()
    drifted = compare(*session(1, 200, score=1.8), goods, limit=limit)
    assert "scores" in drifted.found[0]


def test_a_small_difference_is_not_worth_a_word():
    drift = compare(*session(1, 5000, light=1.02), session(0, 5000))
    assert drift.found == ()
    assert drift.brightness == pytest.approx(1.02, abs=0.01)


@pytest.mark.parametrize(("n", "m"), [(9, 50), (50, 7), (0, 50), (50, 0)])
def test_too_few_images_are_not_compared(n, m):
    drift = compare(*session(1, m, light=0.2), session(0, n))
    assert not drift.enough
    assert (drift.n, drift.against, drift.describe()) == (m, n, "")


def test_constant_and_negative_scores_are_compared_as_they_are():
    looks = session(0, 30)[1]
    assert compare(np.ones(30), looks, (np.ones(30), looks)).scores is None
    scores = np.random.default_rng(0).normal(size=30)
    assert "scores" in compare(scores + 5, looks, (scores, looks)).found[0]


def test_it_is_kept_in_a_model_file():
    drift = compare(*session(1, 40, light=0.8), session(0, 60))
    again = decode(encode(drift))
    assert again.describe() == drift.describe()


@pytest.mark.parametrize("n", [40, 150])
def test_good_images_of_one_session_are_seldom_told_apart(n):
    assert sum(bool(sessions(*session(seed, n))) for seed in range(200)) <= 4 * LEVEL * 200


@pytest.mark.parametrize("part", range(5))
def test_a_fifth_of_the_good_images_that_differs_is_named(part):
    both = [session(seed, 80, score=3 * seed, light=1 - 0.3 * seed) for seed in (0, 1)]
    other = np.arange(80) // 16 == part
    scores, looks = both[0]
    scores[other], looks[other] = both[1][0][other], both[1][1][other]
    told = sessions(scores, looks)
    named = f"{16 * part + 1} to {16 * part + 16} ("
    assert told.startswith(f"of the 80 good images that set the threshold, {named}")
    assert "% darker, " in told
    assert " scores of the lower half " in told
    assert "it allows for one more" in told


def test_few_good_images_are_not_cut_in_parts():
    scores, looks = session(0, 39, score=0)
    scores[:7] *= 100
    assert sessions(scores, looks) == ""


@given(n=st.integers(0, 400), most=st.integers(0, 400), a=st.integers(1, 90), b=st.integers(1, 90))
def test_the_beta_binomial_is_that_of_scipy(n, most, a, b):
    expected = betabinom(n, a, b).cdf(most)
    assert beta_binomial_cdf(most, n, a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_telling_what_was_learned_loads_no_statistics():
    code = (
        "import sys, numpy; from pyimgano.drift import sessions; "
        "sessions(numpy.arange(1.0, 61), numpy.ones((60, 3)) * numpy.arange(1, 61)[:, None]); "
        "sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

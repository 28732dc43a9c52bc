"""The curve of detection over size: recovered, bounded, and honest where there is no fit."""

from __future__ import annotations

import numpy as np
import pytest

from pyimgano.errors import InputError
from pyimgano.metrics.detection import DetectionCurve, detection_curve

SIZES = np.array([5, 10, 20, 40, 80])


def drawn(rng, n, a90=25.0, slope=3.0, floor=0.0, spread=0.0):
    """Hits of a true curve; ``spread`` moves whole images."""
    exponent = np.log(9) + slope * (np.log(SIZES) - np.log(a90))
    exponent = exponent + spread * rng.standard_normal((n, 1))
    p = 1 / (1 + np.exp(-exponent))
    hits = rng.random((n, len(SIZES))) < p
    return np.where(rng.random((n, 1)) < floor, 1.0, hits)


def test_a_true_curve_is_found_again():
    curve = detection_curve(SIZES, drawn(np.random.default_rng(0), 4000))
    assert curve.a90 == pytest.approx(25, rel=0.04)
    assert curve.slope == pytest.approx(3, rel=0.1)
    assert curve.a90 <= curve.a90_95 == pytest.approx(25, rel=0.1)
    assert curve.at([25.0])[0] == pytest.approx(0.9, abs=0.02)
    assert curve.design < 1.1


def test_the_fit_has_the_likelihood_of_a_maximiser():
    from scipy.optimize import minimize

    hits = drawn(np.random.default_rng(1), 60)
    curve = detection_curve(SIZES, hits)
    found, n = hits.sum(axis=0), len(hits)

    def loss(theta):
        p = 1 / (1 + np.exp(-(theta[0] + theta[1] * np.log(SIZES))))
        return -(found * np.log(p) + (n - found) * np.log1p(-p)).sum()

    best = minimize(loss, [-5.0, 2.0], method="Nelder-Mead", options={"maxiter": 4000})
    a90 = np.exp((np.log(9) - best.x[0]) / best.x[1])
    assert curve.a90 == pytest.approx(a90, rel=0.02)
    assert curve.slope == pytest.approx(best.x[1], rel=0.08)


@pytest.mark.parametrize(("n", "spread"), [(20, 0.0), (40, 1.0)])
def test_the_bound_holds_as_often_as_it_says(n, spread):
    """The true size of 90 % over many studies lies above the bound in about 5 % of them."""
    rng = np.random.default_rng(2)
    truth = 25.0
    if spread:  # where the average over images reaches 90 %
        sizes = np.geomspace(20, 60, 200)
        exponent = np.log(9) + 3 * np.log(sizes / truth) + spread * rng.standard_normal((4000, 1))
        truth = float(np.interp(0.9, (1 / (1 + np.exp(-exponent))).mean(axis=0), sizes))
    curves = [detection_curve(SIZES, drawn(rng, n, spread=spread)) for _ in range(100)]
    missed = [c.a90_95 is not None and c.a90_95 < truth for c in curves]
    assert np.mean(missed) < 0.11


def test_images_that_go_together_widen_the_bound():
    rng = np.random.default_rng(3)
    together = detection_curve(SIZES, drawn(rng, 60, slope=1.5, spread=3.0))
    assert together.design > 1.3


def test_separated_hits_have_an_answer():
    hits = np.tile([0.0, 0.0, 1.0, 1.0, 1.0], (30, 1))
    curve = detection_curve(SIZES, hits)
    assert 10 < curve.a90 <= curve.a90_95 < 24
    few = detection_curve(SIZES, hits[:3])
    assert few.a90_95 > curve.a90_95


def test_nothing_is_said_beyond_the_sizes_that_were_tried():
    none = detection_curve(SIZES, np.zeros((20, 5)))
    assert (none.a90, none.a90_95) == (None, None)
    all_found = detection_curve(SIZES, np.ones((40, 5)))
    assert (all_found.a90, all_found.a90_95) == (5, 5)
    assert detection_curve(SIZES, np.ones((1, 5))).a90_95 is None, "one image proves little"
    falling = detection_curve(SIZES, np.tile([1.0, 1, 0, 0, 0], (20, 1)))
    assert falling.a90 is None, "larger is never harder"


def test_the_floor_is_no_merit_of_the_detector():
    rng = np.random.default_rng(4)
    hits = drawn(rng, 4000, floor=0.3)
    curve = detection_curve(SIZES, hits, floor=0.3)
    p = 0.3 + 0.7 / (1 + np.exp(-(np.log(9) + 3 * (np.log(SIZES) - np.log(25)))))
    np.testing.assert_allclose(curve.at(SIZES), p, atol=0.03)
    assert detection_curve(SIZES, hits, floor=0.95) is None
    flat = detection_curve(SIZES, rng.random((2000, 5)) < 0.3, floor=0.3)
    assert flat.a90 is None


def test_unknown_hits_are_left_out():
    hits = drawn(np.random.default_rng(5), 50)
    hidden = np.vstack([hits, np.full((1, 5), np.nan)])
    assert detection_curve(SIZES, hidden) == detection_curve(SIZES, hits)
    assert detection_curve(SIZES, np.full((2, 5), np.nan)) is None
    assert isinstance(detection_curve(SIZES, hits), DetectionCurve)


@pytest.mark.parametrize(
    ("sizes", "hits"), [([1, 2], [[1]]), ([2, 1], [[0, 1]]), ([0, 1], [[0, 1]]), ([], [[]])]
)
def test_wrong_shapes_are_refused(sizes, hits):
    with pytest.raises(InputError):
        detection_curve(sizes, hits)

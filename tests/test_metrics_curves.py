"""Curves against scikit-learn, against the areas that are counted without a curve, and thinned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as their_roc_curve

from pyimgano.errors import ParameterError
from pyimgano.metrics import aupro, auroc
from pyimgano.metrics.curves import Curve, pro_curve, roc_curve
from pyimgano.metrics.ranks import rank_maps, rank_scores

POINTS = (4, 7, 50, 200)
tied = st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=2, max_size=40)


def area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y, curve.x))


def rising(curve: Curve) -> bool:
    return bool((np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= 0).all())


def some_maps(seed: int, levels: int) -> tuple[list[np.ndarray | None], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    masks: list[np.ndarray | None] = [None]
    maps = [rng.integers(0, levels, (40, 30)).astype(np.float32)]
    for _ in range(4):
        mask = np.zeros((40, 30), bool)
        for _ in range(2):
            top, left = rng.integers(0, 25, 2)
            mask[top : top + rng.integers(1, 12), left : left + 5] = True
        masks.append(mask)
        values = rng.integers(0, levels, mask.shape) + mask * rng.integers(0, levels, mask.shape)
        maps.append(values.astype(np.float32))
    return masks, maps


@given(tied)
def test_roc_is_the_line_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, scores = np.array(pairs).T
    curve = roc_curve(rank_scores(labels, scores))
    if labels.min() == labels.max():
        assert curve is None
        return
    assert curve is not None
    x, y, _ = their_roc_curve(labels, scores, drop_intermediate=False)
    walked, theirs = curve.x + curve.y, x + y  # along both axes no curve stands still
    both = np.union1d(walked, theirs)
    np.testing.assert_allclose(
        np.interp(both, walked, curve.y), np.interp(both, theirs, y), atol=1e-12
    )
    assert rising(curve)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert area(curve) == pytest.approx(auroc(labels, scores))


@pytest.mark.parametrize("levels", [2, 6, 10_000])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_the_area_below_pro_is_aupro(levels: int, limit: float) -> None:
    masks, maps = some_maps(levels, levels)
    curve = pro_curve(rank_maps(masks, maps), limit)
    assert curve is not None
    assert rising(curve)
    assert curve.x[-1] == limit
    assert area(curve) / limit == pytest.approx(aupro(masks, maps, limit), abs=1e-12)


@pytest.mark.parametrize("points", POINTS)
def test_a_thin_curve_keeps_its_area_and_its_ends(points: int) -> None:
    masks, maps = some_maps(3, 10_000)
    curve = pro_curve(rank_maps(masks, maps), 0.3)
    assert curve is not None
    thin = curve.thin(points)
    assert thin.x.size <= points < curve.x.size
    assert rising(thin)
    assert set(thin.x) <= set(curve.x)
    assert [thin.x[0], thin.x[-1], thin.y[-1]] == [curve.x[0], 0.3, curve.y[-1]]
    assert abs(area(thin) - area(curve)) / 0.3 <= 1 / (points - 3)
    assert thin.thin(points) is thin


def test_what_cannot_be_drawn() -> None:
    ranks = rank_maps([None], [np.zeros((2, 2), np.float32)])
    assert pro_curve(ranks) is None
    with pytest.raises(ParameterError, match="above 0"):
        pro_curve(ranks, 0.0)
    with pytest.raises(ParameterError, match="at least 4"):
        Curve(np.arange(9.0), np.arange(9.0)).thin(3)

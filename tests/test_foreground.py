"""The part and its background against slow, obvious code."""

from __future__ import annotations

import numpy as np
import pytest

from pyimgano.models._foreground import first_component, foreground, lies_inside
from token_reference import slow_foreground


@pytest.mark.parametrize("limit", [None, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_foreground(seed, limit):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(0, 6, (14, 11, 5)).astype(np.float32)
    tokens[4:10, 3:8] += rng.normal(0, 20, 5).astype(np.float32)
    assert np.array_equal(foreground(tokens, limit), slow_foreground(tokens, limit))
    assert np.array_equal(foreground(tokens, limit), foreground(-tokens, limit))


def test_a_thin_part_is_the_foreground():
    """Its background covers more of the middle than it does itself."""
    tokens = np.zeros((20, 20, 2), np.float32)
    tokens[5:15, 9:11, 0] = 30
    mask = foreground(tokens)
    assert mask[5:15, 9:11].all()
    assert lies_inside(mask)
    assert not mask[0].any()


def test_where_nothing_stands_out_everything_is_judged():
    assert foreground(np.ones((6, 6, 3), np.float32)).all()
    assert foreground(np.random.default_rng(0).random((6, 6, 3), np.float32), 10.0).all()
    assert foreground(np.random.default_rng(0).random((1, 2, 3), np.float32)).shape == (1, 2)


def test_the_component_has_a_fixed_sign():
    rows = np.random.default_rng(0).normal(size=(40, 4)) * (1, 5, 1, 1)
    component = first_component(rows.astype(np.float32))
    assert np.corrcoef(component, rows[:, 1])[0, 1] > 0.9

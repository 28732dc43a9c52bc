from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.metrics import evaluate_maps
from pyimgano.runs.kept_maps import KeptMaps

SHAPES = [(3, 4), (1, 1), (7, 2), None, (16, 16)]


@given(st.lists(st.sampled_from(SHAPES), max_size=12), st.integers(0, 600))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_what_is_kept_is_what_was_given_wherever_it_lies(shapes, in_memory):
    generator = np.random.default_rng(len(shapes))
    given_maps = [s if s is None else generator.random(s, np.float32) for s in shapes]
    with KeptMaps(in_memory) as kept:
        for one in given_maps:
            kept.append(one)
        assert len(kept) == len(given_maps)
        for found, one in zip(kept, given_maps, strict=True):
            assert (found is None) == (one is None)
            assert one is None or np.array_equal(found, one)
        assert [m is None for m in kept[1:4]] == [m is None for m in given_maps[1:4]]


def test_metrics_do_not_see_where_maps_lie():
    generator = np.random.default_rng(0)
    maps = [generator.random((32, 24), np.float32) for _ in range(6)]
    masks = [None, None, None, *(generator.random((3, 32, 24)) > 0.9)]
    with KeptMaps(3 * maps[0].nbytes) as kept:
        for one in maps:
            kept.append(one)
        assert isinstance(kept[5], np.memmap)
        assert not isinstance(kept[0], np.memmap)
        assert evaluate_maps(masks, list(kept)) == evaluate_maps(masks, maps)

"""Items made ahead, and in batches: in order, and no more at once than fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import TinyExtractor
from pyimgano import ahead
from pyimgano.ahead import batched, prefetch
from pyimgano.models.patchcore import PatchCore

if TYPE_CHECKING:
    from collections.abc import Iterator


def noted(taken: list[int], n: int = 100) -> Iterator[int]:
    for i in range(n):
        taken.append(i)
        yield i


@given(n=st.integers(0, 12), weight=st.integers(0, ahead.ROOM))
def test_prefetch_keeps_the_order(n: int, weight: int) -> None:
    found = prefetch(lambda x: x * x, range(n), lambda _: weight)
    assert list(found) == [x * x for x in range(n)]


def test_prefetch_reads_only_a_few_items_ahead() -> None:
    taken: list[int] = []
    found = prefetch(str, noted(taken))
    assert next(found) == "0"
    assert len(taken) <= 6
    found.close()


def test_of_heavy_items_only_one_waits() -> None:
    taken: list[int] = []
    found = prefetch(str, noted(taken), lambda _: ahead.ROOM)
    for i in range(8):
        assert next(found) == str(i)
        assert len(taken) <= max(5, i + 2)  # four before one was weighed
    found.close()


def test_an_error_is_raised_at_its_turn() -> None:
    found = prefetch(lambda x: 1 // x, [1, 0, 1])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


@given(
    weights=st.lists(st.integers(0, ahead.ROOM), max_size=20),
    most=st.integers(1, 8),
)
def test_batches_hold_everything_in_order_and_no_more_than_fits(
    weights: list[int], most: int
) -> None:
    found = list(batched(weights, most, int))
    assert [weight for batch in found for weight in batch] == weights
    for batch in found:
        assert 1 <= len(batch) <= most
        assert sum(batch[:-1]) < ahead.ROOM
    for batch in found[:-1]:
        assert len(batch) == most or sum(batch) >= ahead.ROOM


def test_a_full_batch_does_not_wait_for_the_next_item() -> None:
    taken: list[int] = []
    batches = batched(noted(taken), 3, lambda _: 1)
    assert next(batches) == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_no_room_for_two_images_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    goods = [generator.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(12)]
    roomy, tight = (PatchCore(extractor=TinyExtractor(), size=64, pad=0) for _ in range(2))
    expected = roomy.fit(goods).decision_function(goods)
    monkeypatch.setattr(ahead, "ROOM", 1)
    np.testing.assert_array_equal(tight.fit(goods).decision_function(goods), expected)
    np.testing.assert_array_equal(tight.decision_scores_, roomy.decision_scores_)

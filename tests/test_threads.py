"""One budget of threads."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from pyimgano import threads
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_budget_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    assert threads.budget() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads.budget() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.budget() == 1


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert threads.budget() == 3


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", " 1", "²"])
def test_other_texts_are_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, given)
    with pytest.raises(ParameterError, match="PYIMGANO_THREADS must be a positive whole number"):
        threads.budget()


def test_set_budget_tells_blas_too(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for name in (threads.VARIABLE, *names):
        monkeypatch.setenv(name, "")
    threads.set_budget(2)
    assert threads.budget() == 2
    assert [os.environ[name] for name in names] == ["2", "2", "2"]
    with pytest.raises(ParameterError, match="at least 1, got 0"):
        threads.set_budget(0)


def test_items_run_side_by_side_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "2")
    both = threading.Barrier(2)

    def met(item: int) -> tuple[int, int]:
        both.wait(60)  # nobody alone comes past this
        return item, threading.get_ident()

    found = threads.side_by_side(met, range(4))
    assert [item for item, _ in found] == [0, 1, 2, 3]
    assert threading.get_ident() not in {thread for _, thread in found}


@pytest.mark.parametrize(("budget", "n"), [("1", 3), ("2", 1), ("2", 0)])
def test_one_item_or_a_budget_of_one_starts_no_thread(
    budget: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(threads.VARIABLE, budget)
    found = threads.side_by_side(lambda _: threading.get_ident(), range(n))
    assert found == [threading.get_ident()] * n


def blas_threads() -> set[int]:
    import threadpoolctl

    found = threadpoolctl.threadpool_info()
    assert np.__name__ in sys.modules  # which brings the BLAS
    own = [each for each in found if each["user_api"] == "blas" and "numpy" in each["filepath"]]
    return {each["num_threads"] for each in own}


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import threadpoolctl

    monkeypatch.setenv(threads.VARIABLE, "2")
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        assert blas_threads() == {3}
        yield
        assert blas_threads() == {3}


@pytest.mark.usefixtures("three")
def test_a_product_has_one_thread_while_somebody_works_side_by_side() -> None:
    def nested(_: int) -> list[set[int]]:
        return [*threads.side_by_side(lambda _: blas_threads(), range(2)), blas_threads()]

    assert threads.side_by_side(nested, range(3)) == [[{1}] * 3] * 3


@pytest.mark.usefixtures("three")
def test_an_error_lifts_the_limit() -> None:
    with pytest.raises(ZeroDivisionError):
        threads.side_by_side(lambda item: 1 // item, range(3))


def test_opencv_has_one_thread_meanwhile_and_its_own_number_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(threads.VARIABLE, "2")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        assert threads.side_by_side(lambda _: cv2.getNumThreads(), range(3)) == [1, 1, 1]
        assert cv2.getNumThreads() == 3
        with pytest.raises(ZeroDivisionError):
            threads.side_by_side(lambda item: 1 // item, range(3))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)

"""One budget of threads."""

from __future__ import annotations

import os

import pytest

from pyimgano import threads
from pyimgano.errors import ParameterError


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

"""One thread budget for BLAS, OpenCV, the runtimes and the workers together."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["budget", "outwait", "set_budget", "side_by_side"]

_BRING_BLAS = {"numpy", "scipy.linalg", "torch", "faiss", "sklearn"}  # each one of its own

_limiting = threading.Lock()

T = TypeVar("T")
R = TypeVar("R")

VARIABLE = "PYIMGANO_THREADS"
_THEIRS = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    "OPENCV_FOR_THREADS_NUM",
)


def budget() -> int:
    """Return how many threads may compute at once: ``PYIMGANO_THREADS``, or the cores we may use.

    Raises
    ------
    ParameterError
        If ``PYIMGANO_THREADS`` is not a positive whole number.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not given.isdecimal() or int(given) < 1:
        raise ParameterError(f"{VARIABLE} must be a positive whole number, got {given!r}")
    return int(given)


def set_budget(threads: int) -> None:
    """Set the budget for this process and its children.

    BLAS and OpenCV read it when they are first imported, so call it before; what has been loaded
    already keeps its own count.
    """
    if threads < 1:
        raise ParameterError(f"threads must be at least 1, got {threads}")
    os.environ[VARIABLE] = str(threads)
    for name in _THEIRS:
        os.environ[name] = str(threads)


def side_by_side(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Map in order, as many items at once as the budget allows.

    Meanwhile a product of matrices and a step of OpenCV have one thread: threads that wait for each
    other keep their cores busy, and wait for long where another program wants one, too. One item,
    or a budget of one, starts no thread.
    """
    count = min(budget(), len(items))
    if count < 2:
        return [function(item) for item in items]
    with _one_thread_a_step(), ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))


def outwait(seconds: float = 5.0) -> None:
    """Wait, not for ever, until the main thread and daemons are alone.

    An interrupt can fall while a thread is being started. Then nobody joins it, not even the
    interpreter at its end, and one that comes back from compiled code after that aborts the
    process.
    """
    end = time.monotonic() + seconds
    main = threading.main_thread()
    while time.monotonic() < end and any(
        thread is not main and not thread.daemon for thread in threading.enumerate()
    ):
        time.sleep(0.01)


@contextmanager
def _one_thread_a_step() -> Iterator[None]:
    """Limit what belongs to the process: one who works side by side does it for all."""
    if not _limiting.acquire(blocking=False):
        yield
        return
    cv2: Any = sys.modules.get("cv2")
    before = cv2.getNumThreads() if cv2 else 1
    try:
        if before != 1:
            cv2.setNumThreads(1)
        loaded = frozenset(_BRING_BLAS.intersection(sys.modules))
        with _controller(loaded).limit(limits=1, user_api="blas"):
            yield
    finally:
        if before != 1:
            cv2.setNumThreads(before)
        _limiting.release()


@lru_cache
def _controller(_loaded: frozenset[str]) -> Any:
    """Find the BLAS that these modules have loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

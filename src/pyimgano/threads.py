"""One thread budget for BLAS, OpenCV, the runtimes and the workers together."""

from __future__ import annotations

import os

from pyimgano.errors import ParameterError

__all__ = ["budget", "set_budget"]

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

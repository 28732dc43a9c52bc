"""Whether what is installed can be loaded: tried in processes of their own, all at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SLOW", "UNTRIED", "trials"]

SLOW = "it is installed, but takes long to load"
UNTRIED = f"not tried: {SLOW}"


@contextmanager
def trials(modules: Sequence[str], seconds: float) -> Iterator[Callable[[], dict[str, str]]]:
    """Begin to import modules; a crash or an endless import harms nobody.

    Parameters
    ----------
    modules : sequence of str
        Import names of installed packages.
    seconds : float
        How long may be waited from the beginning on.

    Yields
    ------
    callable
        To be called once, later: waits, and returns why a module does not load, in one line, for
        those that do not; `UNTRIED` for those that were not done in time.
    """
    until = time.monotonic() + seconds
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = {
        name: subprocess.Popen(  # noqa: S603 - our own interpreter, names from our registries
            [sys.executable, "-c", f"import {name}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for name in modules
    }
    try:
        yield lambda: _collected(running, until)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def _collected(running: dict[str, subprocess.Popen[bytes]], until: float) -> dict[str, str]:
    failed = {}
    for name, process in running.items():
        try:
            _, said = process.communicate(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            failed[name] = UNTRIED
            continue
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            failed[name] = " ".join(last) or f"the process ended with {process.returncode}"
    return failed

"""A process that is killed must leave the old result or the new one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from damage import Tally

import pyimgano

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["kill_fits", "kill_predicts"]

SMALL = ("--extractor", "handcrafted", "--set", "size=96")


def command_line(arguments: Sequence[str]) -> None:
    """Run ``pyimgano`` silently: the body of the processes that are killed."""
    from pyimgano.cli import main

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    main([str(argument) for argument in arguments])


class Victim:
    """A command that is run to its end, or killed at a random moment of its life.

    Every second kill is aimed: it waits until the command begins to put its result in place, and
    strikes at a random moment of what is left, the sooner the likelier: that is a small part of a
    life, and putting files in place is the first part of it.
    """

    def __init__(
        self, arguments: Sequence[object], mark: Callable[[], object], rng: np.random.Generator
    ) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.arguments = [str(argument) for argument in arguments]
        self.mark = mark
        self.rng = rng
        self.life = self.writing = 0.0

    def start(self) -> Any:
        child = self.context.Process(target=command_line, args=(self.arguments,))
        child.start()
        return child

    def run(self) -> None:
        """Run it unharmed, and learn how long it lives and writes."""
        before, start = self.mark(), time.perf_counter()
        child = self.start()
        self._await(child, before)
        written = time.perf_counter()
        child.join()
        self.writing, self.life = time.perf_counter() - written, time.perf_counter() - start
        if child.exitcode != 0:
            raise SystemExit(f"pyimgano {self.arguments[0]} ended with {child.exitcode} unharmed")

    def kill(self, *, aimed: bool) -> bool:
        """Kill it with SIGKILL; return whether that struck before its end."""
        before = self.mark()
        child = self.start()
        if aimed:
            self._await(child, before)
        time.sleep(
            self.writing * self.rng.random() ** 4 if aimed else self.life * self.rng.random()
        )
        child.kill()
        child.join()
        return bool(child.exitcode == -signal.SIGKILL)

    def _await(self, child: Any, before: object) -> None:
        while self.mark() == before and child.exitcode is None:
            time.sleep(1e-4)


def kill_fits(
    work: Path, goods: Sequence[Path], probes: Sequence[Path], kills: int, rng: np.random.Generator
) -> Tally:
    """Kill ``fit`` over an existing model; the old or the new one must load."""
    tally = Tally()
    folder = work / "models"
    folder.mkdir()
    path = folder / "model.pyimg"

    def mark() -> set[str]:
        return {path.name for path in folder.glob(".*.tmp")}

    known: dict[str, tuple[bytes, NDArray[Any]]] = {}
    for name, good in zip(("old", "new"), goods, strict=True):
        victim = Victim(("fit", good, "-o", path, *SMALL), mark, rng)
        victim.run()
        known[name] = path.read_bytes(), pyimgano.load(path).decision_function(probes)
    for i in range(kills):
        path.write_bytes(known["old"][0])
        struck = victim.kill(aimed=i % 2 == 1)
        tally.counts["killed" if struck else "ended first"] += 1
        try:
            scores = pyimgano.load(path).decision_function(probes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is lost
            tally.fault(f"fit {i}: the model does not load: {error!r}")
            continue
        found = [name for name, (_, right) in known.items() if np.array_equal(scores, right)]
        if found and (struck or found == ["new"]):
            tally.counts[found[0]] += 1
        else:
            tally.fault(f"fit {i}: the model is neither the old nor the new one")
    victim.run()
    left(tally, folder)
    return tally


def kill_predicts(
    work: Path, model: Path, images: Sequence[Path], kills: int, rng: np.random.Generator
) -> Tally:
    """Kill ``predict`` over a complete run; its results or the new ones must stand."""
    tally = Tally()
    out = work / "run"

    def mark() -> int:
        facts = out / "run.json"
        return facts.stat().st_mtime_ns if facts.exists() else 0

    def tables() -> dict[str, bytes]:
        return {name: (out / f"results.{name}").read_bytes() for name in ("csv", "jsonl")}

    old, new = (Victim(("predict", model, path, "-o", out), mark, rng) for path in images)
    old.run()
    known = {"old": tables()}
    new.run()
    known["new"] = tables()
    old.run()
    for i in range(kills):
        struck = new.kill(aimed=i % 2 == 1)
        tally.counts["killed" if struck else "ended first"] += 1
        try:
            found, status = tables(), json.loads((out / "run.json").read_bytes())["status"]
        except (OSError, ValueError, LookupError) as error:
            tally.fault(f"predict {i}: {error!r}")
        else:
            judge_run(tally, known, found, status, f"predict {i}")
            if not struck and (found, status) != (known["new"], "complete"):
                tally.fault(f"predict {i}: ended unharmed, but its results do not stand")
            bare = status == "complete" and not (out / "report.html").exists()
            tally.counts["complete without report.html"] += bare
            if bare:
                tally.fault(f"predict {i}: run.json says complete, but there is no report.html")
        old.run()
        if tables() != known["old"] or not (out / "report.html").exists():
            tally.fault(f"predict {i}: the next run did not write its results")
    left(tally, out)
    return tally


def left(tally: Tally, folder: Path) -> None:
    """Count what killed processes left and no later one has removed."""
    found = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    tally.counts["temporary files left"] = len(found)
    if found:
        tally.fault(f"temporary files were left: {', '.join(found)}")


def judge_run(
    tally: Tally,
    known: dict[str, dict[str, bytes]],
    found: dict[str, bytes],
    status: str,
    name: str,
) -> None:
    table = [which for which, right in known.items() if right["csv"] == found["csv"]]
    if not table:
        tally.fault(f"{name}: results.csv is neither the old nor the new one")
    elif found not in known.values() and status == "complete":
        tally.fault(f"{name}: run.json says complete, but its two tables differ")
    else:
        tally.counts[table[0]] += 1
        tally.counts["run.json says running"] += status == "running"

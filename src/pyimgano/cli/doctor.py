"""``pyimgano doctor``: what runs here, on what, and how long a first verdict takes."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyimgano.cli._app import ExitCode, tell
from pyimgano.cli._machine import available_memory, limits, look_at, simd
from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show, count, gathered, to_run
from pyimgano.cli._trial import SLOW, UNTRIED, trials
from pyimgano.errors import PyimganoError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyimgano.registry import Entry

__all__ = ["doctor"]

_SIDE = 96
_GOOD_PARTS = 4
_PATIENCE = 3.0  # seconds for the packages to load, while a first verdict is found
_PLACES: dict[str, tuple[Callable[[], str | Path], str]] = {
    "current": (Path.cwd, "change to a folder that exists, may be written to and has room"),
    "temporary": (
        tempfile.gettempdir,
        "set TMPDIR to a folder that exists, may be written to and has room",
    ),
}


def doctor(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Say what runs here, and what is missing.

    Loads the packages, looks at the processor, the memory and the folders, and measures how long a
    first verdict on generated parts takes. Exits with 1, and says what to do, if nothing can be
    judged or a folder cannot be written.
    """
    began = time.perf_counter()
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    entries = _entries()
    installed = {
        module: None
        for kind in entries.values()
        for entry in kind
        for module in entry.metadata.modules
        if module not in entry.metadata.missing
    }
    with trials(tuple(installed), _PATIENCE) as tried:
        verdict = _judge_first(began)
        from pyimgano.runs.facts import surroundings

        around = surroundings()  # after the verdict: it names the packages that have been loaded
        machine = around["machine"] | {
            "memory_available": available_memory(),
            "limits": limits(),
            "simd": simd(),
        }
        folders = {name: look_at(find) for name, (find, _) in _PLACES.items()}
        # What the verdict has loaded runs, however long it took in a process of its own.
        failed = {k: v for k, v in tried().items() if v != UNTRIED or k not in sys.modules}
    here = {kind: [_facts(one, failed) for one in all_] for kind, all_ in entries.items()}
    to_do = _to_do(verdict, folders)
    found = {
        "ok": not to_do,
        "to_do": to_do,
        "here": here,
        "versions": around["versions"],
        "machine": machine,
        "folders": folders,
        "first_verdict": verdict,
    }
    show.result(found)
    _print(show, found)
    for text in to_do:
        tell(f"error: {text}", style="red")
    raise typer.Exit(ExitCode.SOME_ERROR if to_do else ExitCode.DONE)


def _judge_first(began: float) -> dict[str, Any]:
    """Learn from a few generated parts with the defaults, judge another one, and take the time."""
    try:
        import numpy as np

        from pyimgano.features.base import EXTRACTORS
        from pyimgano.models import DEFAULT, create_detector
        from pyimgano.synthesis import render_part

        *good, new = (
            render_part(np.random.default_rng((0, i)), (_SIDE, _SIDE)).image
            for i in range(_GOOD_PARTS + 1)
        )
        detector: Any = create_detector(DEFAULT, size=_SIDE).fit(good)
        learned = time.perf_counter()
        detector.predict([new])
    except (PyimganoError, ImportError, OSError) as error:
        return {"error": str(error)}
    ended = time.perf_counter()
    return {
        "error": None,
        "detector": DEFAULT,
        "extractor": EXTRACTORS.name_of(type(detector.extractor_)),
        "seconds": ended - began,
        "seconds_to_judge": ended - learned,
    }


def _entries() -> dict[str, tuple[Entry[Any], ...]]:
    from pyimgano.features.base import EXTRACTORS
    from pyimgano.models import list_detectors
    from pyimgano.models.knn_index import INDEXES

    return {
        "detectors": tuple(one for one in list_detectors() if not one.metadata.family),
        "extractors": EXTRACTORS.entries(),
        "indexes": INDEXES.entries(),
    }


def _facts(entry: Entry[Any], failed: Mapping[str, str]) -> dict[str, Any]:
    """Say whether something runs; ``runs_here`` is None where that could not be tried in time."""
    facts = entry.metadata
    broken = {name: failed[name] for name in facts.modules if name in failed}
    untried = all(reason == UNTRIED for reason in broken.values())
    install = facts.pip_line if facts.missing else ""
    if broken and not untried and not facts.missing:
        install = facts.pip_line.replace("install", "install --force-reinstall", 1)
    return {
        "name": entry.name,
        "runs_here": None if broken and untried else not facts.missing and not broken,
        "missing": facts.missing,
        "broken": broken,
        "install": install,
    }


def _to_do(verdict: Mapping[str, Any], folders: Mapping[str, Mapping[str, Any]]) -> list[str]:
    wrong = [
        f"the {name} folder {place['path']} cannot be written ({place['error']}); "
        f"{_PLACES[name][1]}"
        for name, place in folders.items()
        if place["error"] is not None
    ]
    if verdict["error"] is not None:
        wrong.append(f"nothing can be judged: {verdict['error']}")
    return wrong


def _print(show: Show, found: Mapping[str, Any]) -> None:
    for kind, entries in found["here"].items():
        show.fact(kind, ", ".join(one["name"] for one in entries if one["runs_here"]) or "none")
    absent = [one for entries in found["here"].values() for one in entries if not one["runs_here"]]
    show.facts(
        "missing",
        [
            f"{', '.join(names)} need{'' if names[1:] else 's'} {what}"
            for what, names in gathered(
                (x["name"], ", ".join(x["missing"])) for x in absent
            ).items()
        ],
    )
    broken = {module: why for one in absent for module, why in one["broken"].items()}
    show.facts("broken", [f"{name}: {why}" for name, why in broken.items() if why != UNTRIED])
    show.facts("not tried", [f"{name}: {SLOW}" for name, why in broken.items() if why == UNTRIED])
    show.fact("versions", ", ".join(" ".join(pair) for pair in found["versions"].items()))
    show.fact("machine", found["machine"]["platform"])
    show.fact("processor", _processor(found["machine"]))
    show.fact("", f"vector instructions: {', '.join(found['machine']['simd']) or 'none known'}")
    show.fact("memory", _memory(found["machine"]))
    for name, place in found["folders"].items():
        room = place["error"] or f"can be written, {_gigabytes(place['free'])} free"
        show.fact(name, f"{place['path']} ({room})")
    show.fact("verdict", _describe(found["first_verdict"]))
    for line in to_run((one["name"], one["install"]) for one in absent):
        show.line(line)
    if found["ok"]:
        show.line("\nnext: pyimgano demo")


def _processor(machine: Mapping[str, Any]) -> str:
    text = f"{count(machine['cores'], 'core')}, {count(machine['threads'], 'thread')} used"
    allowed = machine["limits"]["processors"]
    if allowed is None:
        return text
    text += f"; this container may use {allowed:.3g} at a time"
    enough = math.ceil(allowed)
    return f"{text}: --threads {enough} may be faster" if enough < machine["threads"] else text


def _memory(machine: Mapping[str, Any]) -> str:
    text = f"{_gigabytes(machine['memory_available'])} available"
    allowed = machine["limits"]
    if allowed["memory"] is None:
        return text
    left = _gigabytes(allowed["memory_left"])
    return f"{text}; this container may use {_gigabytes(allowed['memory'])}, {left} are left"


def _describe(verdict: Mapping[str, Any]) -> str:
    if verdict["error"] is not None:
        return "none"
    return (
        f"the first after {verdict['seconds']:.2f} s, start and learning from {_GOOD_PARTS} parts "
        f"of {_SIDE} x {_SIDE} pixels included; judging took {verdict['seconds_to_judge']:.3f} s "
        f"({verdict['detector']}, {verdict['extractor']})"
    )


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"

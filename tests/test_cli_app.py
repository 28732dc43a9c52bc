"""Global options, help, exit codes, errors, and the lists."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

import pyimgano
from cli_calls import call, spawn
from pyimgano.cli._app import _globals_first, _warnings_told
from pyimgano.errors import PyimganoWarning
from pyimgano.estimator import DETECTORS
from pyimgano.threads import budget

VERBS = ("demo", "fit", "predict", "evaluate", "list", "doctor", "check", "report")


def test_help_names_every_verb_and_exit_code():
    ended = call("--help")
    assert ended.code == 0
    for word in (*VERBS, "Exit codes", "130"):
        assert word in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    assert "..." not in ended.out.split("Commands:")[1], "a summary is cut off"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb):
    ended = call(verb, "--help")
    assert ended.code == 0
    assert "--quiet, --threads N and --debug" in ended.out


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\n"
        "from pyimgano.cli import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print({'numpy', 'cv2', 'scipy', 'rich', 'jinja2'} & set(sys.modules))"
    )
    for option in ("--help", "--version"):
        command = [sys.executable, "-c", code, option]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"


def test_version():
    assert call("--version") == (0, f"pyimgano {pyimgano.__version__}\n", "")


def test_no_arguments_show_the_help():
    ended = call()
    assert "Commands:" in ended.out + ended.err


@pytest.mark.parametrize(
    "wrong", [("fot",), ("fit",), ("list", "colours"), ("list", "--threads", "0")]
)
def test_wrong_usage_is_2(wrong):
    ended = call(*wrong)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert "see: pyimgano " in ended.err


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        (("fti", "good"), "'fit'"),
        (("fit", "good", "--extracter", "x"), "--extractor"),
        (("--qiet", "list"), "--quiet"),
        (("list", "extractor"), "'extractors'"),
        (("fit", "good", "-o", "m", "--detector", "patchcor"), "'vision_patchcore'"),
    ],
)
def test_what_is_misspelt_gets_its_near_match(wrong, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good").mkdir()
    Image.new("L", (8, 8)).save("good/a.png")
    ended = call(*wrong)
    assert (ended.code, ended.out) == (2, "")
    assert near in ended.err


def test_global_options_may_follow_the_verb():
    given = ["fit", "d", "--threads", "2", "-q", "-o", "m", "--threads=3", "--debug", "--", "-q"]
    front = ["--threads", "2", "-q", "--threads=3", "--debug"]
    assert _globals_first(given) == [*front, "fit", "d", "-o", "m", "--", "-q"]
    assert _globals_first(["list", "--threads"]) == ["--threads", "list"]


def test_threads_are_set_before_numpy_is_imported():
    """The verb is replaced by one that looks at what stands when it begins."""
    look = (
        "import os, sys\n"
        "from pyimgano.cli import list as verb\n"
        "verb.registries = lambda: print(os.environ['OMP_NUM_THREADS'], 'numpy' in sys.modules)"
    )
    assert spawn("list", "--threads", 1, before=look).out == "1 False\n"


def test_threads_are_the_budget(monkeypatch):
    for name in ("PYIMGANO_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "7")  # so that they are put back
    assert call("list", "metrics", "-q", "--threads", 3).code == 0
    assert budget() == 3


def test_an_error_is_one_line_and_a_traceback_only_with_debug():
    plain = call("fit", "nowhere", "-o", "x.pyimg")
    told = call("fit", "nowhere", "-o", "x.pyimg", "--debug")
    line = "error: nowhere does not exist; give a folder of images of good parts\n"
    assert plain == (2, "", line)
    assert told.code == 2
    assert told.err.startswith("Traceback")
    assert told.err.endswith(line)


def test_a_bug_is_4_and_says_so(monkeypatch):
    monkeypatch.setattr("pyimgano.cli.list.registries", lambda: {}["nothing"])
    line = "error: KeyError: 'nothing'; this is a bug: run again with --debug\n"
    assert call("list") == (4, "", line)
    told = call("list", "--debug").err
    assert told.startswith("Traceback")
    assert told.endswith(line)


def test_warnings_are_one_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with _warnings_told():
            warnings.warn("look here", PyimganoWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: look here\n"


def test_list_shows_all_tables():
    ended = call("list")
    assert ended.code == 0
    for word in (*DETECTORS, "efficientnet_lite0", "mvtec", "auroc", "installed"):
        assert word in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_list_one_table():
    ended = call("list", "datasets")
    assert "visa" in ended.out
    assert "vision_patchcore" not in ended.out
    assert call("list", "detectors", "-q").out.split() == list(DETECTORS)


def test_list_as_json():
    facts = json.loads(call("list", "detectors", "--json").out)
    assert list(facts) == ["detectors"]
    assert [one["name"] for one in facts["detectors"]] == list(DETECTORS)
    assert all(one["summary"] and one["installed"] for one in facts["detectors"])


def test_list_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = call("list", "extractors")
    assert "needs onnxruntime" in ended.out
    assert 'here: pip install "pyimgano[lite]"' in " ".join(ended.out.split())
    facts = json.loads(call("list", "extractors", "--json").out)
    lite = next(one for one in facts["extractors"] if one["name"] == "efficientnet_lite0")
    assert not lite["installed"]
    assert lite["missing"] == ["onnxruntime"]
    assert lite["install"] == 'pip install "pyimgano[lite]"'

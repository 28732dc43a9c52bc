"""What every verb owes whoever types it, or reads it with a program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys

import pytest

from cli_calls import SMALL, call, write_parts
from pyimgano.cli._app import app

VERBS = ("demo", "fit", "predict", "evaluate", "benchmark", "report", "doctor", "list", "check")
VERBS += ("fetch", "bundle-weights", "explain", "pod", "compare")
TRAIN = "train-anomalib"  # what it does right is tried where anomalib is installed
MODEL, RUN, NET = "model.pyimg", "run", "dinov2_vits14"
RIGHT = {
    "demo": ("--out", "demo"),
    "fit": ("flange/train/good", "-o", "again.pyimg", *SMALL),
    "predict": (MODEL, "flange/test/good", "--out", "results"),
    "explain": (MODEL, "flange/test/good/000.png", "--out", "why"),
    "pod": (MODEL, "flange/test/good", "--kinds", "spot", "--contrasts", "40", "--out", "pod"),
    "compare": ("flange/train/good", "-o", "best.pyimg", "--budget", "0s"),
    "evaluate": ("--root", ".", "--category", "flange", "--out", "measured", *SMALL),
    "benchmark": ("--root", ".", "--category", "flange", "--out", "compared", *SMALL),
    "report": (RUN,),
    "doctor": (),
    "list": (),
    "check": ("flange/train/good",),
    "fetch": (NET, "--to", "weights"),
    "bundle-weights": (NET, "--from", "weights", "--out", "weights.zip"),
}
WRONG = {
    "demo": [("--out", "notes.txt"), ("--out", "flange")],
    "fit": [
        ("nowhere", "-o", "m.pyimg"),
        ("notes.txt", "-o", "m.pyimg"),
        ("empty", "-o", "m.pyimg"),
        ("flange", "-o", "m.pyimg"),
        ("flange/train/good", "-o", "flange"),
        ("flange/train/good", "-o", "m.pyimg", "--detector", "padim"),
        ("flange/train/good", "-o", "m.pyimg", "--extractor", "handcraft"),
        ("flange/train/good", "-o", "m.pyimg", "--set", "corset=1"),
        ("flange/train/good", "-o", "m.pyimg", "--false-reject", "no"),
    ],
    "predict": [
        ("nowhere.pyimg", "flange/test", "--out", "x"),
        ("notes.txt", "flange/test", "--out", "x"),
        (MODEL, "nowhere", "--out", "x"),
        (MODEL, "empty", "--out", "x"),
        (MODEL, "flange/test", "--out", "notes.txt"),
    ],
    "explain": [
        ("nowhere.pyimg", "flange/test/good/000.png"),
        (MODEL, "nowhere.png"),
        (MODEL, "flange"),
        (MODEL, "flange/test/good/000.png", "--goods", "nowhere"),
        (MODEL, "flange/test/good/000.png", "--out", "notes.txt"),
    ],
    "pod": [
        (MODEL, "nowhere", "--out", "x"),
        (MODEL, "flange/train/good", "--out", "x"),
        (MODEL, "flange/test/good", "--kinds", "rust", "--out", "x"),
        (MODEL, "flange/test/good", "--sizes", "few", "--out", "x"),
        (MODEL, "flange/test/good", "--sizes", "500", "--out", "x"),
        (MODEL, "flange/test/good", "--out", "notes.txt"),
    ],
    "compare": [
        ("nowhere", "-o", "m.pyimg"),
        ("flange", "-o", "m.pyimg"),
        ("flange/train/good", "-o", "flange"),
        ("flange/train/good", "-o", "m.pyimg", "--bad", "nowhere"),
        ("flange/train/good", "-o", "m.pyimg", "--bad", "empty"),
        ("flange/train/good", "-o", "m.pyimg", "--bad", "flange/test"),
        ("flange/train/good", "-o", "m.pyimg", "--bad", "flange/train"),
        ("flange/train/good", "-o", "m.pyimg", "--budget", "soon"),
        ("flange/train/good", "-o", "m.pyimg", "--out", "notes.txt"),
        ("flange/train/good", "-o", "m.pyimg", "--false-reject", "no"),
    ],
    "evaluate": [
        ("--root", "nowhere", "--out", "x"),
        ("--root", ".", "--category", "flang", "--out", "x"),
        ("--root", ".", "--dataset", "mvtek", "--out", "x"),
        ("--root", "empty", "--out", "x"),
    ],
    "benchmark": [
        ("--root", "nowhere", "--out", "x"),
        ("--root", ".", "--category", "flang", "--out", "x"),
        ("--root", ".", "--category", "flange", "--detector", "padim", "--out", "x"),
        ("--root", ".", "--category", "flange", "--shots", "none", "--out", "x"),
        ("--root", ".", "--category", "flange", "--out", "notes.txt"),
        ("--root", ".", "--category", "flange", "--out", "flange"),
    ],
    "report": [("nowhere",), ("empty",), ("notes.txt",)],
    "doctor": [("more",)],
    "list": [("detector",)],
    "check": [("nowhere",), ("notes.txt",), ("empty",)],
    "fetch": [(), ("dinov2_vits1",), (NET, "--form", "weights")],
    TRAIN: [
        ("padin", "flange/train/good", "--out", "x"),
        ("dsr", "flange/train/good", "--out", "x"),
        ("padim", "flange", "--out", "x"),
        ("padim", "nowhere", "--out", "x"),
        ("padim", "--out", "x"),
        ("padim", "--root", ".", "--category", "flang", "--out", "x"),
    ],
    "bundle-weights": [
        ("--out", "x.zip"),
        (NET,),
        (NET, "--from", "empty", "--out", "x.zip"),
        (NET, "--from", "weights", "--out", "empty"),
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with parts, a model, a run, an empty folder and a file that is no image."""
    folder = tmp_path_factory.mktemp("place")
    write_parts(folder)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no image")
    (folder / "weights").mkdir()
    (folder / "weights" / f"{NET}_pretrain.pth").write_bytes(b"weights")
    good, test = folder / "flange" / "train" / "good", folder / "flange" / "test" / "good"
    assert call("fit", good, "-o", folder / MODEL, *SMALL).code == 0
    assert call("predict", folder / MODEL, test, "--out", folder / RUN).code == 0
    return folder


@pytest.fixture(autouse=True)
def _small_demo(monkeypatch, place):
    """The demo as it is, on smaller parts."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("pyimgano.synthesis.write_demo", write_parts)


def test_the_verbs_are_all_here():
    named = {command.name for command in app.registered_commands}
    assert named == {*VERBS, TRAIN} == {*RIGHT, TRAIN} == set(WRONG)


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_one_document_and_nothing_else(verb):
    ended = call(verb, *RIGHT[verb], "--json")
    assert ended.code == 0
    assert json.loads(ended.out)


@pytest.mark.parametrize("verb", VERBS)
def test_quiet_leaves_the_answer_alone(verb):
    ended = call(verb, *RIGHT[verb], "--quiet")
    assert ended.code == 0
    assert all(line.startswith("warning: ") for line in ended.err.splitlines())
    said = {"doctor": "", "check": "", "predict": "3 OK, 0 NG\n", "fit": "again.pyimg\n"}
    if verb in said:
        assert ended.out == said[verb]
    elif verb == "list":
        assert "vision_patchcore" in ended.out.splitlines()
    else:
        assert len(ended.out.splitlines()) == 1
    both = call(verb, *RIGHT[verb], "--quiet", "--json")
    assert json.loads(both.out)
    assert both.err == ended.err


@pytest.mark.parametrize(
    ("verb", "given"), [(verb, given) for verb, all_ in WRONG.items() for given in all_]
)
def test_an_error_is_one_line_and_debug_shows_where_it_comes_from(verb, given):
    ended = call(verb, *given, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(
        r"((judging|bundling|planting) [^\n]+ \.\.\.\n)?error: [^\n]{20,}\n", ended.err
    )
    told = call(verb, *given, "--debug")
    assert (told.code, told.out) == (2, "")
    assert "Traceback" in told.err
    assert told.err.endswith(ended.err[ended.err.index("error:") :])


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "demo"])
def test_in_a_narrow_window_without_colours(verb, monkeypatch):
    """Whole processes, since a terminal is asked of the system."""
    environment = {**os.environ, "COLUMNS": "60", "NO_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-c", "from pyimgano.cli import main; main()", verb, *RIGHT[verb]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "…" not in done.stdout, "nothing is cut off"
    whole = ("next:", "to run", "[")  # lines to copy stay whole
    for line in done.stdout.splitlines():
        assert len(line) <= 60 or line.startswith(whole) or re.search(r"/|[0-9a-f]{64}", line)


def in_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a verb in a pseudo-terminal; return the exit code and all that appears there."""
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    command = [sys.executable, "-c", "from pyimgano.cli import main; main()", *arguments]
    settings = {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": "60", **environment}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **settings}
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side has closed
            while part := os.read(mine, 4096):
                shown += part
    os.close(mine)
    return process.returncode, shown.decode()


def test_a_terminal_gets_colours_and_a_bar():
    code, shown = in_a_terminal("check", "nowhere")
    assert (code, shown) == (
        2,
        "\x1b[31m\x1b[1merror:\x1b[0m nowhere does not exist; give a folder of images\r\n",
    )
    code, shown = in_a_terminal("predict", *RIGHT["predict"])
    assert code == 0
    assert "judged 3 of 3" in shown
    assert "\x1b[" in shown


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_none(plain):
    code, shown = in_a_terminal("check", "nowhere", **plain)
    assert (code, shown) == (2, "error: nowhere does not exist; give a folder of images\r\n")
    code, shown = in_a_terminal("predict", *RIGHT["predict"], **plain)
    assert code == 0
    assert "judged 3 of 3" in shown
    assert not re.search(r"\x1b\[\d+(;\d+)*m", shown)

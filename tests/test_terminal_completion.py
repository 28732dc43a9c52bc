"""Completion of names on the command line, asked for as bash, zsh and fish ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pyimgano.cli._parameters import _names
from pyimgano.datasets.base import DATASETS
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS

PROGRAM = "import sys; from pyimgano.cli import main; main()"
LOADED = (
    "import atexit, sys; atexit.register(lambda: print("
    "*({'cv2', 'scipy', 'PIL', 'rich', 'onnxruntime', 'jinja2'} & set(sys.modules)), "
    "file=sys.stderr));"
)


def asked(shell: str, typed: str) -> subprocess.CompletedProcess[str]:
    """Complete the last word of what was typed."""
    words = typed.split(" ")
    said = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    return subprocess.run(
        [sys.executable, "-c", LOADED + PROGRAM],
        env={**os.environ, **said, "_PYIMGANO_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pyimgano f", ["fit", "fetch"]),
        ("pyimgano fit good --detector ", list(DETECTORS)),
        ("pyimgano fit good --threads 2 --detector vision_soft", ["vision_softpatch"]),
        ("pyimgano evaluate --extractor ", ["auto", *EXTRACTORS]),
        ("pyimgano evaluate --dataset ", list(DATASETS)),
        ("pyimgano list e", ["extractors"]),
        ("pyimgano predict m.pyimg x --overlays n", ["ng", "none"]),
        ("pyimgano fit --hold", ["--hold-out"]),
    ],
)
def test_bash_completes(typed, expected):
    done = asked("bash", typed)
    assert done.stdout.split() == expected
    assert done.stderr.strip() == "", "completion must stay light"


def test_names_are_completed_from_the_registries():
    assert _names("detectors")("vision_p") == [one for one in DETECTORS if one[7] == "p"]
    assert _names("extractors", "auto")("au") == ["auto"]
    assert _names("metrics")("nothing") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_complete_too(shell):
    done = asked(shell, "pyimgano fit good --extractor hand")
    assert "handcrafted" in done.stdout
    assert "efficientnet" not in done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "_PYIMGANO_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"complete_{shell}" in done.stdout
    assert "pyimgano" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_bash_itself_completes_with_the_script(tmp_path):
    """The script is read by a real bash, whose completion function is called as readline does."""
    program = tmp_path / "pyimgano"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PROGRAM}' \"$@\"\n")
    program.chmod(0o755)
    script = (
        'eval "$(_PYIMGANO_COMPLETE=source_bash pyimgano)"\n'
        "COMP_WORDS=(pyimgano fit good --extractor h) COMP_CWORD=4\n"
        "_pyimgano_completion pyimgano\n"
        'echo "${COMPREPLY[@]}"; complete -p pyimgano\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "handcrafted"
    assert "-F _pyimgano_completion pyimgano" in done.stdout

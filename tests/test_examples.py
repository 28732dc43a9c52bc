"""The examples run as they stand, offline and without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fakes

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
_NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise OSError("an example must not open a connection")
socket.socket.connect = socket.create_connection = refuse
"""
_CONTRACT = """
from custom_detector import Residual
from pyimgano.testing import check_detector
check_detector(lambda: Residual(extractor="handcrafted", size=96))
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_examples_run(script: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NO_NETWORK, encoding="utf-8")
    done = _python([str(script)], tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"sitecustomize.py", "__pycache__"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_examples_are_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60


def test_the_detector_in_one_file_keeps_the_contract(tmp_path: Path) -> None:
    """Announced by an entry point as the page says, and found by a fresh process."""
    points = {"pyimgano.detectors": {"vision_residual": "custom_detector:Residual"}}
    fakes.distribution(tmp_path, "my-detectors", points)
    done = _python(["-c", _CONTRACT], tmp_path, tmp_path, EXAMPLES)
    assert done.returncode == 0, done.stderr


def _python(
    arguments: list[str], folder: Path, *importable: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, importable))},
        capture_output=True,
        text=True,
        check=False,
    )

"""Calls of the command line, in this process and in one of their own, and small parts for them."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pyimgano.cli import main
from pyimgano.images import read_image
from pyimgano.maps.overlay import encode_png
from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("--extractor", "handcrafted", "--set", "size=96", "--set", "pad=32")
COMMAND = (sys.executable, "-u", "-c", "from pyimgano.cli import main; main()")


class Ended(NamedTuple):
    """How a call ended."""

    code: int
    out: str
    err: str


def call(*arguments: object, stderr: io.StringIO | None = None) -> Ended:
    """Run the command line in this process."""
    out, err = io.StringIO(), stderr or io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def spawn(*arguments: object, before: str = "") -> Ended:
    """Run the command line in a new process, after the statements ``before``."""
    code = f"{before}\nfrom pyimgano.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return Ended(done.returncode, done.stdout, done.stderr)


def write_parts(root: Path) -> Path:
    """Write a few small generated parts and return the folder of the category."""
    return write_demo(root, n_train=20, n_good=3, n_defect=6, size=(96, 96)) / "flange"


def write_defect(good: Path, path: Path) -> Path:
    """Write a good part with a checkerboard on it, which no detector can overlook."""
    image = read_image(good).copy()
    image[32:64, 32:64] = 0
    image[32:64:8, 32:64] = image[32:64, 32:64:8] = 255
    path.write_bytes(encode_png(image))
    return path

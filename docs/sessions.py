"""Run the commands that the pages show, on generated parts, and keep what they print.

``python docs/sessions.py --write`` writes docs/sessions/*.txt; do it on an idle machine. Without it
nothing is written and the differences to what stands there are told, after masking what varies from
run to run. With names, those sessions alone are run: name what they need too, fit with predict.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent / "sessions"
SESSIONS = {
    "demo": "pyimgano demo",
    "doctor": "pyimgano doctor",
    "check": "pyimgano check photos",
    "fit": "pyimgano fit good -o model.pyimg",
    "predict": "pyimgano predict model.pyimg new --out results",
    "explain": "pyimgano explain model.pyimg new/006.png --goods good",
    "pod": "pyimgano pod model.pyimg other-day --kinds scratch --sizes 8,16,32 --out pod",
    "results": "cat results/results.csv",
    "gate": "pyimgano predict model.pyimg new/006.png --out gate --fail-on-ng",
    "hold_out": "pyimgano fit good -o strict.pyimg --hold-out other-day --false-reject 1%",
    "evaluate": (
        "pyimgano evaluate --dataset mvtec --root parts --category flange "
        "--extractor handcrafted --out measured"
    ),
    "few_defects": (
        "pyimgano fit good -o tuned.pyimg --extractor handcrafted "
        "--defects defects --tune --miss-cost 20"
    ),
    "robustness": (
        "pyimgano evaluate --root parts --out disturbed --extractor handcrafted "
        "--corruptions brightness,shift --severity 1,3"
    ),
    "mixed": "pyimgano fit parts/flange -o mixed.pyimg",
    "misspelt": "pyimgano fit good -o other.pyimg --detector vision_patchcor",
}
_NEUTRAL = (
    (re.compile(r"Linux-\S+?-(?=x86_64|aarch64)"), "Linux-"),
    (re.compile(r"^(temporary\s+)\S+", re.MULTILINE), r"\1/tmp"),
)
_VARIES = (
    (re.compile(r"\d+(\.\d+)+(\w+)?"), "#"),  # times, memory, versions, and the last digits
    (re.compile(r"^(versions|machine|processor|memory) .*(\n +.*)*", re.MULTILINE), r"\1"),
    # Where packages load slowly, doctor does not wait for them.
    (
        re.compile(r"^(detectors|extractors|indexes|broken|not tried) .*(\n +.*)*\n", re.MULTILINE),
        "",
    ),
    (re.compile(r"\s+"), " "),  # a longer number wraps a line elsewhere
)


def prepare(home: Path) -> None:
    """Lay out the folders that the pages speak of; ``good`` holds the good parts of the demo."""
    write_demo(home / "same", n_good=0, n_defect=0)
    (home / "same" / "flange" / "train" / "good").rename(home / "good")
    write_demo(home / "parts", seed=1, n_train=24, n_good=8, n_defect=6)
    write_demo(home / "more", seed=3, n_train=30, n_good=6, n_defect=6)
    made = home / "more" / "flange"
    (made / "train" / "good").rename(home / "other-day")
    new = home / "new"
    (made / "test" / "good").rename(new)
    for i, kind in enumerate(("chip", "missing_hole", "scratch")):
        shutil.copy(made / "test" / kind / "000.png", new / f"{6 + i:03d}.png")
    whole = (new / "003.png").read_bytes()
    (new / "009.png").write_bytes(whole[: len(whole) // 2])
    write_demo(home / "marked", seed=4, n_train=0, n_good=0, n_defect=18)
    (home / "marked" / "flange" / "test").rename(home / "defects")
    (home / "marked" / "flange" / "ground_truth").rename(home / "defects" / "masks")
    photos = home / "photos"
    shutil.copytree(home / "parts" / "flange" / "train" / "good", photos)
    shutil.copy(photos / "002.png", photos / "024.png")
    (photos / "025.png").write_bytes((photos / "003.png").read_bytes()[:9000])


def run(home: Path, names: Sequence[str] = tuple(SESSIONS)) -> dict[str, str]:
    """Run sessions in ``home``; what a terminal of 80 columns would show, by name."""
    prepare(home)
    environment = {
        **{key: text for key, text in os.environ.items() if not key.startswith("COV")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "TERM": "dumb",
        "PWD": str(home),
    }
    return {
        name: _session(command, home, environment)
        for name, command in SESSIONS.items()
        if name in names
    }


def masked(text: str) -> str:
    """Return a session without what varies from run to run."""
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return text


def _session(command: str, home: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S602 - our own lines, as a user types them
        command, shell=True, cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(("error", "warning"))]
    lines = [f"$ {command}", *done.stdout.strip("\n").splitlines(), *told]
    if done.returncode:
        lines += ["$ echo $?", str(done.returncode)]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    text = text.replace(str(home), "/home/me/inspection")
    for pattern, instead in _NEUTRAL:
        text = pattern.sub(instead, text)
    return text


def main() -> None:
    """Run sessions, and write or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/sessions/*.txt")
    parser.add_argument("names", nargs="*", default=[*SESSIONS], help="sessions; default: all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = run(Path(temporary).resolve(), asked.names)
    changed = False
    for name, text in found.items():
        path = FOLDER / f"{name}.txt"
        if asked.write:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            continue
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if masked(old) != masked(text):
            changed = True
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, name)
            )
    sys.exit(changed)


if __name__ == "__main__":
    main()

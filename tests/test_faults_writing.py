"""Places that cannot be written, disks that fill up, memory that ends, two who write at once."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyimgano
from cli_calls import COMMAND, SMALL, Ended, call, spawn
from pyimgano.cli._app import _explain
from pyimgano.runs.artifacts import RESERVE
from pyimgano.runs.facts import read_run
from test_atomic import room_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and users of Linux")


@pytest.fixture
def goods(shared_parts: Path) -> Path:
    return shared_parts / "train" / "good"


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of ``size`` bytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


PROGRESS = ("judg", "learn", "warning: ")


def one_line(ended: Ended) -> str:
    """Return the message of a refusal, which is its only line but for progress and warnings."""
    said = [line for line in ended.err.splitlines() if not line.startswith(PROGRESS)]
    assert (ended.code, len(said)) == (2, 1), ended.err
    assert said[0].startswith("error: ")
    return said[0]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- no room ------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_model_and_nothing_else(goods, shared_model, tmp_path):
    size = shared_model.stat().st_size
    with disk(tmp_path / "disk", size + size // 2) as folder:
        model = folder / "model.pyimg"
        shutil.copy(shared_model, model)
        said = one_line(call("fit", goods, "-o", model, *SMALL))
        assert f"cannot write {model}: No space left on device" in said
        assert names(folder) == ["model.pyimg"]
        assert model.read_bytes() == shared_model.read_bytes()


@pytest.mark.parametrize("pictures", ["all", "none"])
def test_a_full_disk_keeps_the_rows_that_were_judged(goods, shared_model, tmp_path, pictures):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20 if pictures == "all" else 240):
        name = f"{number:03d}{'x' * (200 if pictures == 'none' else 0)}.png"
        os.link(goods / f"{number % 20:03d}.png", images / name)
    with disk(tmp_path / "disk", RESERVE + 2**17) as folder:
        out = folder / "run"
        ended = call("predict", shared_model, images, "-o", out, "--overlays", pictures)
        assert "has room" in one_line(ended)
        facts, rows = read_run(out)
        assert facts["status"] == "failed"
        assert "No space left on device" in facts["reason"]
        assert 0 < len(rows) == facts["counts"]["images"] < len(names(images))
        with (out / "results.csv").open(encoding="utf-8") as file:
            assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]
        assert not [name for name in names(out) if name.startswith(".")]
        assert not (out / "report.html").exists()


def test_a_report_without_room_is_a_failed_run_with_all_rows(goods, shared_model, tmp_path):
    out = tmp_path / "run"
    assert call("predict", shared_model, goods, "-o", out, "-q").code == 0
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".html"]
    pages = sum(-(-path.stat().st_size // 4096) for path in files)
    room = 4096 * pages + RESERVE + (out / "report.html").stat().st_size // 2
    with disk(tmp_path / "disk", room) as folder:
        out = folder / "run"
        said = one_line(call("predict", shared_model, goods, "-o", out))
        assert "report.html: No space left on device" in said
        facts, rows = read_run(out)
        assert (facts["status"], len(rows)) == ("failed", 20)
        assert names(out) == ["overlays", "results.csv", "results.jsonl", "run.json"]


def test_a_file_size_limit_leaves_the_old_model(goods, shared_model, tmp_path):
    model = tmp_path / "model.pyimg"
    shutil.copy(shared_model, model)
    with room_for(10_000):
        assert "File too large" in one_line(call("fit", goods, "-o", model, *SMALL))
    assert names(tmp_path) == ["model.pyimg"]
    assert model.read_bytes() == shared_model.read_bytes()


# --- no permission ------------------------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may not write everywhere; root may."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder_and_a_forbidden_image(goods, shared_model):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        images = shutil.copytree(goods, root / "images")
        model = shutil.copy(shared_model, root / "model.pyimg")
        (root / "closed").mkdir()
        (root / "open").mkdir()
        assert call("predict", model, images, "-o", root / "warm", "-q").code == 0
        (images / "000.png").chmod(0)
        (root / "closed").chmod(0o555)
        (root / "open").chmod(0o777)
        root.chmod(0o755)
        with nobody():
            for command in (
                ("fit", images, "-o", root / "closed" / "model.pyimg", *SMALL),
                ("predict", model, images, "-o", root / "closed" / "run"),
                ("predict", model, images, "-o", root / "closed"),
            ):
                ended = call(*command)
                assert "Permission denied" in one_line(ended)
                assert "learning" not in ended.err
            assert call("predict", model, images, "-o", root / "open" / "run", "-q").code == 1
            fitted = call("fit", images, "-o", root / "open" / "new.pyimg", *SMALL)
        assert names(root / "closed") == []
        failed = [row for row in read_run(root / "open" / "run")[1] if row["error"]]
        assert [(Path(row["path"]).name, row["verdict"]) for row in failed] == [
            ("000.png", "ERROR")
        ]
        assert "Permission denied" in failed[0]["error"]
        assert fitted.code == 0
        assert "1 image of 20" in fitted.out


# --- no memory ----------------------------------------------------------------------------------

LIMITED = """
import resource
import pyimgano.cli, pyimgano.runs.evaluate, pyimgano.runs.hygiene, pyimgano.models.patchcore
import simplejpeg, cv2, scipy.ndimage, rich.table, jinja2, numpy as np
cv2.setNumThreads(1)
np.ones((300, 300)) @ np.ones((300, 300))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {room}, used + {room}))
"""


@pytest.mark.parametrize("room", [3_000_000, 80_000_000])
def test_too_little_memory_is_an_error_and_nothing_half_written(
    goods, shared_model, tmp_path, room
):
    model = tmp_path / "model.pyimg"
    shutil.copy(shared_model, model)
    before = LIMITED.format(room=room)
    large = ("--extractor", "handcrafted", "--set", "size=1024", "--threads", 1)
    assert "out of memory" in one_line(spawn("fit", goods, "-o", model, *large, before=before))
    assert names(tmp_path) == ["model.pyimg"]
    assert model.read_bytes() == shared_model.read_bytes()


def test_an_image_that_memory_is_too_small_for_is_an_error_and_the_others_are_judged(
    goods, shared_model, tmp_path
):
    images = shutil.copytree(goods, tmp_path / "images")
    with (images / "huge.bmp").open("wb") as file:  # 13,000 x 13,000 black pixels, no bytes on disk
        head = struct.pack("<IIIIHHIIIIII", 54, 40, 13_000, 13_000, 1, 24, 0, 0, 0, 0, 0, 0)
        file.write(b"BM" + struct.pack("<II", 54 + 13_000**2 * 3, 0) + head)
        file.truncate(54 + 13_000**2 * 3)
    out = tmp_path / "run"
    before = LIMITED.format(room=350_000_000)  # the large one takes 507
    ended = spawn("predict", shared_model, images, "-o", out, "--threads", 1, before=before)
    assert ended.code == 1, ended.err
    facts, rows = read_run(out)
    assert facts["status"] == "complete"
    assert [Path(row["path"]).name for row in rows if row["verdict"] == "ERROR"] == ["huge.bmp"]
    assert "MemoryError" in next(row["error"] for row in rows if row["error"])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 9. TiB"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_however_it_is_said_it_is_one_line(capsys, error):
    code = _explain(error)
    ended = Ended(code, "", capsys.readouterr().err)
    assert "out of memory; take fewer or smaller images" in one_line(ended)


# --- two at once --------------------------------------------------------------------------------


def test_a_second_run_into_one_directory_is_refused_and_the_first_ends_whole(
    goods, shared_model, tmp_path
):
    out = tmp_path / "run"
    images = tmp_path / "images"
    images.mkdir()
    for number in range(60):
        os.link(goods / f"{number % 20:03d}.png", images / f"{number}.png")
    command = [*COMMAND, "predict", str(shared_model), str(images), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert "judging" in first.stderr.readline()
        assert "judged 6 of 60" in first.stderr.readline()
        for verb in (
            ("predict", shared_model, goods),
            ("evaluate", "--root", goods.parents[2], *SMALL),
        ):
            said = one_line(call(*verb, "-o", out))
            assert f"another process is writing a run into {out}" in said
        first.stderr.read()
    assert first.returncode == 0
    facts, rows = read_run(out)
    assert (facts["status"], len(rows)) == ("complete", 60)


def test_two_who_write_one_model_both_end_whole(goods, tmp_path):
    model = tmp_path / "model.pyimg"
    both = [
        subprocess.Popen(
            [*COMMAND, "fit", str(goods), "-o", str(model), *SMALL, "--set", f"seed={seed}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for seed in (0, 1)
    ]
    assert [process.wait(timeout=100) for process in both] == [0, 0]
    assert names(tmp_path) == ["model.pyimg"]
    assert pyimgano.load(model).seed in {0, 1}


def test_a_pipe_as_a_model_or_an_output_is_refused_and_not_waited_for(
    goods, shared_model, tmp_path
):
    os.mkfifo(tmp_path / "pipe")
    refused = one_line(spawn("predict", tmp_path / "pipe", goods, "-o", tmp_path / "run"))
    assert "no regular file" in refused
    assert "is no model file" in one_line(spawn("fit", goods, "-o", tmp_path / "pipe", *SMALL))
    assert "is a file" in one_line(spawn("predict", shared_model, goods, "-o", tmp_path / "pipe"))
    assert json.dumps(names(tmp_path)) == '["pipe"]'

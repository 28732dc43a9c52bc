"""Temporary files: those of the dead are swept, those of the living are never touched."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli_calls import SMALL, call
from pyimgano.atomic import atomic_write, locked, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


@pytest.fixture
def goods(shared_parts: Path) -> Path:
    return shared_parts / "train" / "good"


def hidden(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


WRITER = """
import sys
from pyimgano.atomic import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def writer(target: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_a_killed_writer_left_is_swept_by_the_next_and_a_live_one_is_left_alone(
    tmp_path: Path,
) -> None:
    mine = tmp_path / ".pyimgano.tmp"
    mine.write_bytes(b"of somebody else")
    with writer(tmp_path / "dead") as dead, writer(tmp_path / "live") as live:
        assert len(hidden(tmp_path)) == 3
        dead.kill()
        dead.wait()
        with atomic_write(tmp_path / "next") as file:
            file.write(b"next")
            assert len(hidden(tmp_path)) == 3  # mine, that of the live one, and this one
        sweep(tmp_path)
        assert len(hidden(tmp_path)) == 2
        live.communicate("\n", timeout=30)
        assert live.returncode == 0
    assert (tmp_path / "live").read_bytes() == b"half"
    assert (tmp_path / "next").read_bytes() == b"next"
    assert not (tmp_path / "dead").exists()
    assert hidden(tmp_path) == [".pyimgano.tmp"]


@pytest.mark.parametrize("held", [False, True])
def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """The moment between the two cannot be hit from outside, so the sweeper is called there."""
    swept = []

    @contextlib.contextmanager
    def late(path: Path) -> Iterator[bool]:
        with contextlib.ExitStack() as sweeper:
            if not swept and path.name.startswith(".pyimgano-"):
                swept.append(path)
                if held:
                    sweeper.enter_context(locked(path))
                path.unlink()
            with locked(path) as sure:
                yield sure

    monkeypatch.setattr("pyimgano.atomic.locked", late)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
    assert len(swept) == 1
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert not hidden(tmp_path)


def test_writers_that_sweep_one_folder_never_lose_a_file(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom pyimgano.atomic import write_atomic\n"
        "for i in range(60): write_atomic(Path(sys.argv[1], f'{i % 3}'), sys.argv[2] * 9999)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, letter]) for letter in "abc"]
    assert [process.wait(timeout=60) for process in writers] == [0, 0, 0]
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(found) == ["0", "1", "2"]
    assert set(found.values()) <= {letter * 9999 for letter in "abc"}


def test_the_next_fit_sweeps_what_a_killed_one_left(goods, tmp_path):
    model = tmp_path / "model.pyimg"
    with writer(model):
        pass
    assert len(hidden(tmp_path)) == 1
    assert call("fit", goods, "-o", model, *SMALL, "-q").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.pyimg"]


def test_without_locks_nothing_is_swept_and_everything_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, and on network drives that know no locks."""
    with writer(tmp_path / "dead"):
        pass

    monkeypatch.setitem(sys.modules, "fcntl", None)
    with atomic_write(tmp_path / "next") as file:
        file.write(b"next")
    assert (tmp_path / "next").read_bytes() == b"next"
    assert len(hidden(tmp_path)) == 1
    with locked(tmp_path) as sure:
        assert not sure


def test_a_lock_is_one_for_all_and_ends_with_its_block(tmp_path: Path) -> None:
    with locked(tmp_path) as sure:
        assert sure
        with pytest.raises(BlockingIOError), locked(tmp_path):
            pass
    with locked(tmp_path) as sure:
        assert sure

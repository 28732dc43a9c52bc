"""A file is whole or absent, whatever fails."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pyimgano.atomic import atomic_write, output_errors, write_atomic
from pyimgano.errors import ImageReadError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let the kernel refuse to grow any file beyond ``size`` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"\x00\xff" * 70_000])
def test_bytes_arrive_and_replace_what_was_there(tmp_path: Path, data: bytes) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    write_atomic(target, data)
    assert target.read_bytes() == data
    assert names(tmp_path) == ["a.bin"]


def test_text_is_utf8_and_undecodable_names_are_escaped(tmp_path: Path) -> None:
    write_atomic(str(tmp_path / "naïve 检.txt"), "ü\udcff")
    assert (tmp_path / "naïve 检.txt").read_text("utf-8") == "ü\\udcff"


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("stop"),
        KeyboardInterrupt(),
        ImageReadError("part.png is truncated"),
        FileNotFoundError(2, "No such file", "another.png"),
    ],
)
def test_an_error_in_the_block_passes_and_leaves_no_trace(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail_halfway() -> None:
        with atomic_write(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail_halfway()
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_a_full_disk_is_named_and_the_old_file_stands(tmp_path: Path, size: int) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with room_for(50), pytest.raises(OutputError, match=r"a\.bin.*has room"):
        write_atomic(target, b"x" * size)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_folder_of_that_name_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    worked = False
    with pytest.raises(OutputError, match="give a file name"), atomic_write(tmp_path / "taken"):
        worked = True
    assert not worked
    assert names(tmp_path) == ["taken"]


def test_a_missing_folder_and_a_file_as_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for parent in ("missing", "file"):
        with pytest.raises(OutputError, match=f"{parent}.a.bin.*choose a place that exists"):
            write_atomic(tmp_path / parent / "a.bin", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that even root cannot write to")
def test_a_read_only_folder_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot write /proc/sys/a\.bin"):
        write_atomic("/proc/sys/a.bin", b"")


def test_output_errors_does_not_wrap_twice_and_keeps_the_cause() -> None:
    with pytest.raises(OutputError) as outer, output_errors("outer"), output_errors("inner"):
        os.stat("/nowhere/at/all")  # noqa: PTH116 - any OSError will do
    assert "inner" in str(outer.value)
    assert isinstance(outer.value.__cause__, FileNotFoundError)

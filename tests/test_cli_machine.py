"""What may be used here: memory, processors, vector instructions, folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pyimgano.cli._machine import available_memory, limits, look_at, simd

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
NOTHING = {"processors": None, "memory": None, "memory_left": None}


@linux
def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert look_at(Path.cwd) == {"path": "(not found)", "free": None, "error": os.strerror(2)}


def test_memory_is_read_from_the_system_or_asked_for(tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  4096 kB\nMemAvailable:    2048 kB\nSwapFree:  1 kB\n")
    assert available_memory(told) == 2048 * 1024
    asked = available_memory(tmp_path / "absent")
    known = "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ())
    assert asked > 0 if known else asked is None


def test_memory_that_nobody_tells_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf_names", {}, raising=False)  # as on Windows and macOS
    assert available_memory(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_tile\nflags\t\t: fpu\n",
            ["AVX2", "AVX-512", "AVX-512 VNNI", "AMX"],
        ),
        ("Features\t: fp asimd sve neon\n", ["NEON", "SVE"]),
        ("flags\t\t: fpu sse2 not_avx2\n", []),
    ],
)
def test_vector_instructions_are_read_from_the_flags(tmp_path, text, names):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nvmx flags\t: avx2\n" + text)
    assert sorted(simd(told)) == sorted(names)


def test_without_flags_numpy_is_asked(tmp_path):
    assert simd(tmp_path / "absent")


def group(root: Path, **files: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / name.replace("__", ".")).write_text(f"{value}\n")


def test_the_tightest_limit_of_version_2_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    root = tmp_path / "groups"
    group(root / "outer", cpu__max="150000 100000", memory__max=3000, memory__current=2500)
    group(root / "outer" / "inner", cpu__max="max 100000", memory__max=2000, memory__current=400)
    assert limits(root, own) == {"processors": 1.5, "memory": 2000, "memory_left": 500}


def test_version_1_and_its_way_to_say_none(tmp_path):
    own = tmp_path / "own"
    own.write_text("7:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n")
    root = tmp_path / "groups"
    # Inside a container only its own group is mounted, as the root.
    group(root / "cpu,cpuacct", cpu__cfs_quota_us=50000, cpu__cfs_period_us=100000)
    group(root / "memory", memory__limit_in_bytes=1 << 30, memory__usage_in_bytes=1 << 31)
    found = limits(root, own)
    assert found == {"processors": 0.5, "memory": 1 << 30, "memory_left": 0}
    group(root / "cpu,cpuacct", cpu__cfs_quota_us=-1)
    group(root / "memory", memory__limit_in_bytes=9223372036854771712)
    assert limits(root, own) == NOTHING


def test_nothing_is_limited_where_nobody_says(tmp_path):
    own = tmp_path / "own"
    assert limits(tmp_path, own) == NOTHING
    own.write_text("0::/\n")
    group(tmp_path / "unified", cpu__max="max 100000", memory__max="max")
    assert limits(tmp_path, own) == NOTHING
    group(tmp_path / "unified", cpu__max="200000 100000")
    assert limits(tmp_path, own)["processors"] == 2


@linux
def test_the_limits_here_can_be_read():
    found = limits()
    assert all(value is None or value >= 0 for value in found.values())

"""What a program may use here: memory, processor time, vector instructions, folders."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["available_memory", "limits", "look_at", "simd"]

_MEMORY, _PROCESSOR = Path("/proc/meminfo"), Path("/proc/cpuinfo")
_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a huge number where there is no limit
_SIMD = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_tile": "AMX",
    "neon": "NEON",
    "asimd": "NEON",
    "sve": "SVE",
}


def limits(groups: Path = _GROUPS, own: Path = _OWN) -> dict[str, float | int | None]:
    """Return what a container allows: control groups of version 2 and 1, the tightest of each.

    Parameters
    ----------
    groups : Path
        Where the groups are mounted.
    own : Path
        The file that names the groups of this process.

    Returns
    -------
    dict
        ``processors`` (processor seconds a second), ``memory`` and ``memory_left`` in bytes; None
        where nothing is limited, or nobody says.
    """
    processors: list[float] = []
    memory: list[tuple[int, int]] = []
    for line in _read(own).splitlines():
        _, names, place = line.split(":", 2)
        for group in _upwards(groups, names, place):
            quota = _read(group / "cpu.max").split() or [
                _read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            ]
            if len(quota) == 2 and all(word.isdecimal() for word in quota) and int(quota[1]):
                processors.append(int(quota[0]) / int(quota[1]))
            for most, used in (
                ("memory.max", "memory.current"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ):
                allowed = _number(group / most)
                if allowed is not None and allowed < _UNLIMITED:
                    memory.append((allowed, max(0, allowed - (_number(group / used) or 0))))
    return {
        "processors": min(processors, default=None),
        "memory": min((most for most, _ in memory), default=None),
        "memory_left": min((left for _, left in memory), default=None),
    }


def _upwards(groups: Path, names: str, place: str) -> Iterator[Path]:
    """Yield a group and those above it; inside a container its own path may not be mounted."""
    for mounted in (groups / names, groups / "unified") if not names else (groups / names,):
        inner = mounted / place.strip("/")
        yield from (inner, *(path for path in inner.parents if path.is_relative_to(mounted)))


def available_memory(path: Path = _MEMORY) -> int | None:
    """Return the bytes of memory that can be had without swapping, or None if nobody says."""
    told = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(path), re.MULTILINE)
    if told:
        return int(told[1]) * 1024
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def simd(path: Path = _PROCESSOR) -> list[str]:
    """Return the vector instructions of the processor; without its flags, those numpy found."""
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(path), re.MULTILINE)
    if told:
        flags = set(told[1].split())
        return list(dict.fromkeys(name for flag, name in _SIMD.items() if flag in flags))
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    found = built["SIMD Extensions"]
    return [*found.get("baseline", ()), *found.get("found", ())]


def look_at(find: Callable[[], str | Path]) -> dict[str, Any]:
    """Write to a folder: permissions alone do not tell of full disks and read-only mounts."""
    path = "(not found)"
    try:
        path = str(find())
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(path).free
    except OSError as error:
        return {"path": path, "free": None, "error": error.strerror or str(error)}
    return {"path": path, "free": free, "error": None}


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

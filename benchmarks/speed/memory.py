"""Peak memory of a process."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_mb() -> float:
    """Return the highest resident set of this process; `resource` would count the parent's in."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

"""What ``pyimgano benchmark`` costs beyond the work that it is asked for, and what its cache saves.

    python benchmarks/speed/benchmark_overhead.py [--write]

Generated parts (30 good ones to learn from, 30 to judge, 256 x 256), two detectors, all goods and
four shots. Work is what `pyimgano.evaluate` would do as well: fitting, judging, measuring. All else
is overhead: fingerprints of the data, run directories, the leaderboard. Small images and fast
features are the worst case. One process; both are timed within the same run, so other work on the
machine slows both. With ``--write`` the result stands in ``results/benchmark_overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pyimgano.estimator import versions
from pyimgano.models import create_detector
from pyimgano.runs import jobs as module
from pyimgano.runs.benchmark import benchmark
from pyimgano.runs.jobs import Work
from pyimgano.runs.plan import find_parts, plan
from pyimgano.synthesis import write_demo

EXTRACTORS = ("handcrafted", "efficientnet_lite0")
DETECTORS = ("vision_padim", "vision_patchcore")
SHOTS = (None, 4)
REPEATS = 1
GB = 10**9


def timed(data: Path, extractor: str, limit: int) -> tuple[float, float]:
    """Return the seconds of a benchmark, and those of the work in it."""
    spent = 0.0
    inner = module.measure

    def measure(*given: Any, **named: Any) -> Any:
        nonlocal spent
        start = time.perf_counter()
        try:
            return inner(*given, **named)
        finally:
            spent += time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        module.measure = measure
        start = time.perf_counter()
        made = [create_detector(name, extractor=extractor) for name in DETECTORS]
        todo = plan(made, find_parts("mvtec", data), shots=SHOTS)
        rows = benchmark(todo, Work(out, out / "cache", limit))
        seconds = time.perf_counter() - start
        module.measure = inner
    if any(row["status"] != "complete" for row in rows):
        raise SystemExit(f"a job failed: {rows}")
    return seconds, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        data = write_demo(Path(folder) / "data", n_train=30, n_good=10, n_defect=20)
        timed(data, EXTRACTORS[0], 0)  # imports and page cache
        for extractor in EXTRACTORS:
            plain = [timed(data, extractor, 0) for _ in range(REPEATS)]
            cached = [timed(data, extractor, GB) for _ in range(REPEATS)]
            figures[extractor] = {
                "jobs": len(DETECTORS) * len(SHOTS),
                "seconds_without_cache": round(statistics.median(s for s, _ in plain), 2),
                "seconds_with_cache": round(statistics.median(s for s, _ in cached), 2),
                "overhead_percent": round(
                    statistics.median(100 * (s - w) / w for s, w in plain), 2
                ),
                "overhead_percent_with_cache": round(
                    statistics.median(100 * (s - w) / w for s, w in cached), 2
                ),
            }
    record = {
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "versions": versions(),
        "figures": figures,
    }
    print(json.dumps(record, indent=1))
    if given.write:
        path = Path(__file__).parent / "results" / "benchmark_overhead.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

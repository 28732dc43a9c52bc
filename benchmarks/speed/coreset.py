"""Time of the lazy greedy k-center against the loop of one centre at a time, in one process.

    PYIMGANO_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/speed/coreset.py

The contenders take turns, the loop in the first round only. "gemm" is the float32 product of k x d
and d x n alone, which every greedy selection by products has to do. The loop updates all distances
by one matrix-vector product a centre (norm form, float32, centred); where it would take minutes it
is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pyimgano.models._coreset import cover_radius, greedy_k_center, random_projection

RESULT = Path(__file__).parent / "results" / "coreset.json"
SETS = (
    ("patches", 20000, 512, 200, True),
    ("patches", 20000, 512, 2000, True),
    ("isotropic", 20000, 512, 2000, True),
    ("patches projected to 128", 20000, 512, 2000, True),
    ("flat background", 20000, 512, 2000, True),
    ("patches", 100000, 128, 1000, False),
)


def features(kind: str, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    if kind != "isotropic":
        rows *= 0.3
        mixing = rng.normal(size=(20, d)).astype(np.float32)
        rows += rng.normal(size=(n, 20)).astype(np.float32) @ mixing
    if kind == "flat background":
        rows[rng.random(n) < 0.3] = 1
    return random_projection(rows, 128, 0) if "projected" in kind else rows


def gemm(rows: np.ndarray, k: int) -> None:
    product = np.empty((1024, k), np.float32)
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        np.matmul(part, rows[:k].T, out=product[: len(part)])


def loop(rows: np.ndarray, k: int) -> np.ndarray:
    x = rows - rows.mean(axis=0)
    norms = np.einsum("ij,ij->i", x, x)
    chosen = np.empty(k, np.int64)
    chosen[0] = np.random.default_rng(0).integers(len(x))
    nearest = np.full(len(x), np.inf, np.float32)
    for i in range(1, k):
        last = chosen[i - 1]
        np.minimum(nearest, norms - 2 * (x @ x[last]) + norms[last], out=nearest)
        nearest[last] = -np.inf
        chosen[i] = nearest.argmax()
    return chosen


def measure(rows: np.ndarray, k: int, rounds: int, *, with_loop: bool) -> dict[str, Any]:
    names = ("gemm", "pyimgano", "loop") if with_loop else ("gemm", "pyimgano")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    chosen: dict[str, np.ndarray] = {}
    for turn in range(rounds):
        for name in names:
            start = time.perf_counter()
            if name == "gemm":
                gemm(rows, k)
            elif name == "pyimgano":
                chosen[name] = greedy_k_center(rows, k, 0)
            elif turn == 0:
                chosen[name] = loop(rows, k)
            else:
                continue
            seconds[name].append(time.perf_counter() - start)
    table: dict[str, Any] = {}
    for name in names:
        pairs = zip(seconds[name], seconds["gemm"], strict=False)
        table[name] = {
            "median_seconds": round(statistics.median(seconds[name]), 4),
            "to_gemm": round(statistics.median(own / plain for own, plain in pairs), 2),
        }
        if name in chosen:
            table[name]["cover_radius"] = round(cover_radius(rows, chosen[name]), 6)
    if with_loop:
        equal = float((chosen["pyimgano"] == chosen["loop"]).mean())
        table["pyimgano"]["same_centres_as_loop"] = round(equal, 4)
    return table


def environment() -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": {name: os.environ.get(name) for name in threads},
        "packages": {"numpy": metadata.version("numpy")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(), "sets": {}}
    for kind, n, d, k, with_loop in SETS:
        rows = features(kind, n, d)
        table = measure(rows, k, arguments.rounds, with_loop=with_loop)
        title = f"{kind}, {k} of {n} x {d}"
        results["sets"][title] = table
        print(f"\n{title}\n{'':10}{'seconds':>9}{'to gemm':>9}{'radius':>11}{'same':>8}")
        for name, row in table.items():
            radius, same = row.get("cover_radius", "-"), row.get("same_centres_as_loop", "-")
            print(
                f"{name:10}{row['median_seconds']:9.3f}{row['to_gemm']:9.2f}{radius:>11}{same:>8}"
            )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

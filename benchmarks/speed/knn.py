"""Processor time and error of exact nearest neighbours against their peers, in one process.

    PYIMGANO_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/speed/knn.py

The contenders take turns, so that a busy machine is busy for all of them; fitting is not timed.
Those of torch take part where it is installed: its own ``cdist``, and what the PatchCore of
anomalib 2 does in its place, norms and a product in chunks of 1024 queries.
"gemm" is the matrix product of queries and bank alone, in tiles of 1024 x 2048: no search by
products can be faster. The error is the largest relative one of a distance against float64
differences (0 counts as 1e-12), over 64 of the queries.
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
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.models.knn_index import FaissIndex, NumpyIndex, TorchIndex
from pyimgano.optional import is_available

if TYPE_CHECKING:
    from collections.abc import Callable

    Search = Callable[[], np.ndarray | None]

RESULT = Path(__file__).parent / "results" / "knn.json"
SETS = (
    ("patches", 12000, 784, 68, 1),
    ("patches", 12000, 784, 384, 1),
    ("patches", 12000, 784, 1536, 1),
    ("patches", 20000, 784, 512, 1),
    ("isotropic", 20000, 784, 512, 1),
    ("patches", 100000, 784, 384, 1),
    ("isotropic", 100000, 784, 384, 1),
    ("patches", 12000, 784, 384, 9),
    ("isotropic", 12000, 784, 384, 1),
    ("flat background", 12000, 784, 384, 1),
    ("noisy background", 12000, 784, 384, 1),
    ("offset 1e4", 12000, 784, 384, 1),
    ("leave one image out", 12544, 1568, 384, 1),
    ("patches", 12000, 100, 384, 1),
    ("patches", 12000, 1, 384, 1),
)


def features(kind: str, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bank and queries, float32: a few directions carry most of the variance."""
    rng = np.random.default_rng(0)
    both = rng.normal(size=(n + m, d)).astype(np.float32)
    if kind != "isotropic":
        both *= 0.3
        both += rng.normal(size=(n + m, 20)).astype(np.float32) @ rng.normal(size=(20, d)).astype(
            np.float32
        )
    if "background" in kind:
        flat = rng.random(n + m) < 0.3
        both[flat] = 1
        if kind == "noisy background":
            both[flat] += 1e-4 * rng.normal(size=(flat.sum(), d)).astype(np.float32)
    if kind == "offset 1e4":
        both += 1e4
    return both[:n], both[:m] if kind == "leave one image out" else both[n:]


def contenders(
    bank: np.ndarray, queries: np.ndarray, k: int, *, leave_out: bool
) -> dict[str, Search]:
    import faiss
    from sklearn.neighbors import NearestNeighbors

    groups = np.arange(len(bank)) // 784
    exclude = groups[: len(queries)] if leave_out else None
    product = np.empty((1024, 2048), np.float32)

    def gemm() -> None:
        for i in range(0, len(queries), 1024):
            for j in range(0, len(bank), 2048):
                left, right = queries[i : i + 1024], bank[j : j + 2048]
                size = len(left) * len(right)
                np.matmul(left, right.T, out=product.ravel()[:size].reshape(len(left), -1))

    ours: dict[str, Any] = {"pyimgano numpy": NumpyIndex(), "pyimgano faiss": FaissIndex()}
    if is_available("torch"):
        ours["pyimgano torch"] = TorchIndex()
    entered: dict[str, Search] = {"gemm": gemm}
    for name, index in ours.items():
        index.fit(bank, groups)
        entered[name] = lambda index=index: index.kneighbors(queries, k, exclude)[0]
    if not leave_out:
        flat = faiss.IndexFlatL2(bank.shape[1])
        flat.add(bank)
        brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank)
        entered["faiss flat"] = lambda: np.sqrt(flat.search(queries, k)[0])
        entered["scikit-learn"] = lambda: brute.kneighbors(queries)[0]
        if is_available("torch"):
            entered |= of_torch(bank, queries, k)
    return entered


def of_torch(bank: np.ndarray, queries: np.ndarray, k: int) -> dict[str, Search]:
    import torch

    torch.set_num_threads(1)
    x, y = torch.from_numpy(queries), torch.from_numpy(bank)

    def least(distances: torch.Tensor) -> np.ndarray:
        if k == 1:
            return distances.min(1).values[:, None].numpy()
        return distances.topk(k, largest=False).values.numpy()

    def as_anomalib() -> np.ndarray:
        found = []
        for part in x.split(1024):
            x_norm = part.pow(2).sum(dim=-1, keepdim=True)
            y_norm = y.pow(2).sum(dim=-1, keepdim=True)
            squared = torch.matmul(part, y.transpose(-2, -1))
            squared.mul_(-2).add_(x_norm).add_(y_norm.transpose(-2, -1))
            found.append(least(squared.clamp_min_(0).sqrt_()))
        return np.concatenate(found)

    return {"torch.cdist": lambda: least(torch.cdist(x, y)), "as anomalib": as_anomalib}


def truth(bank: np.ndarray, queries: np.ndarray, k: int, *, leave_out: bool) -> np.ndarray:
    rows = []
    for row, query in enumerate(queries.astype(np.float64)):
        distances = np.concatenate(
            [
                np.sqrt(((bank[start : start + 4096] - query) ** 2).sum(axis=1))
                for start in range(0, len(bank), 4096)
            ]
        )
        if leave_out:
            distances[np.arange(len(bank)) // 784 == row // 784] = np.inf
        rows.append(np.sort(distances)[:k])
    return np.array(rows)


def measure(entered: dict[str, Search], expected: np.ndarray, rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    found: dict[str, np.ndarray | None] = {}
    for _ in range(rounds):
        for name, contender in entered.items():
            start = time.process_time()
            found[name] = contender()
            seconds[name].append(time.process_time() - start)
    rows = {}
    for name, distances in found.items():
        error = None
        if distances is not None:
            gap = np.abs(distances[: len(expected)] - expected)
            error = float(f"{(gap / np.maximum(expected, 1e-12)).max():.2g}")
        rows[name] = {
            "median_seconds": round(statistics.median(seconds[name]), 5),
            "to_gemm": round(
                statistics.median(
                    own / plain for own, plain in zip(seconds[name], seconds["gemm"], strict=True)
                ),
                2,
            ),
            "largest_relative_error": error,
        }
    return rows


def environment() -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    packages = ["numpy", "faiss-cpu", "scikit-learn", *["torch"] * is_available("torch")]
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": {name: os.environ.get(name) for name in threads},
        "packages": {name: metadata.version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(), "sets": {}}
    for kind, n, m, d, k in SETS:
        bank, queries = features(kind, n, m, d)
        leave_out = kind == "leave one image out"
        expected = truth(bank, queries[:64], k, leave_out=leave_out)
        entered = contenders(bank, queries, k, leave_out=leave_out)
        rows = measure(entered, expected, arguments.rounds)
        title = f"{kind}, {m} of {n} x {d}, k={k}"
        results["sets"][title] = rows
        print(f"\n{title}\n{'':16}{'seconds':>9}{'to gemm':>9}{'error':>10}")
        for name, row in rows.items():
            error = row["largest_relative_error"]
            cell = "-" if error is None else f"{error:.1e}"
            print(f"{name:16}{row['median_seconds']:9.4f}{row['to_gemm']:9.2f}{cell:>10}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

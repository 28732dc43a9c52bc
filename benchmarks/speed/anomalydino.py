"""What `vision_anomalydino` costs around its network, step by step, on one thread.

    PYIMGANO_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1 \
        python benchmarks/speed/anomalydino.py --write

A generated part of 448 x 448 pixels against one reference turned eight ways: 1024 tokens of 384
numbers to 8192. The steps take turns with the bare matrix product of all pairs, so that a busy
machine is busy for all; figures are processor time, medians. The tokens are made: a few directions
carry ``carried`` of their variance. A trained network had 99 % of it on 96 axes; "isotropic" is the
worst case, in which nothing can be ruled out early.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.images import read_image
from pyimgano.maps.overlay import encode_png
from pyimgano.maps.upsample import upsample
from pyimgano.models._foreground import foreground
from pyimgano.models._token_detector import shortened, unit
from pyimgano.models.knn_index import NumpyIndex
from pyimgano.synthesis import render_part

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = Path(__file__).parent / "results" / "anomalydino.json"
SIDE, CELL, WIDTH, WAYS = 448, 14, 384, 8
KINDS = {"99 % on 96 axes": 0.99, "95 % on 96 axes": 0.95, "85 % on 96 axes": 0.85, "isotropic": 0}


def tokens(carried: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a bank and queries of length 1, made of the same directions."""
    rng = np.random.default_rng(0)
    shape = WAYS * (SIDE // CELL) ** 2, (SIDE // CELL) ** 2
    both = rng.normal(size=(sum(shape), WIDTH))
    if carried:
        weights = np.exp(-np.arange(96) / 24)
        weights *= np.sqrt(carried / (weights**2).sum())
        axes = np.linalg.qr(rng.normal(size=(WIDTH, 96)))[0]
        both *= np.sqrt((1 - carried) / WIDTH)
        both += (rng.normal(size=(sum(shape), 96)) * weights) @ axes.T
    rows = unit(both.astype(np.float32)[None])
    return rows[: shape[0]], rows[shape[0] :]


def steps(folder: Path) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """Return what to time by name, and the bytes that each index holds beside the bank."""
    part = render_part(np.random.default_rng(0), (SIDE, SIDE)).image
    wide = render_part(np.random.default_rng(0), (2 * SIDE, 2 * SIDE)).image
    path, (bank, queries) = folder / "part.png", tokens(0.99)
    path.write_bytes(encode_png(part))
    raw = queries.reshape(SIDE // CELL, -1, WIDTH) * 40
    product = np.empty((len(queries), len(bank)), np.float32)
    distances = np.random.default_rng(1).random((SIDE // CELL, SIDE // CELL), np.float32)
    timed: dict[str, Callable[[], Any]] = {
        "bare product of all pairs": lambda: np.matmul(queries, bank.T, out=product),
        "decode a PNG of 448 x 448": lambda: read_image(path),
        "resize from 896 x 896": lambda: shortened(wide, SIDE),
        "mask": lambda: foreground(raw, 10.0),
        "length 1": lambda: unit(raw),
        "map of 448 x 448": lambda: upsample(distances, (SIDE, SIDE), sigma=4.0),
    }
    beside = {}
    for name, carried in KINDS.items():
        bank, seen = tokens(carried)
        index = NumpyIndex().fit(bank)
        timed[f"search, {name}"] = lambda index=index, seen=seen: index.kneighbors(seen)
        beside[name] = index._sketch.codes.nbytes if index._sketch else 0
    return timed, beside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timed, beside = steps(Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(given.rounds + 1):
            for name, step in timed.items():
                start = time.process_time()
                step()
                taken[name].append(1000 * (time.process_time() - start))
    found = {name: statistics.median(values[1:]) for name, values in taken.items()}
    around = sum(ms for name, ms in found.items() if "product" not in name and "search" not in name)
    for name in KINDS:
        whole = around + found[f"search, {name}"]
        found[f"all around the network, {name}"] = whole - found["resize from 896 x 896"]
        found[f"all, from 896 x 896, {name}"] = whole
    gemm = found["bare product of all pairs"]
    rows = {
        name: {"ms": round(ms, 1), "to_gemm": round(ms / gemm, 2)} for name, ms in found.items()
    }
    about = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "numpy": np.__version__,
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "not limited"),
        "bank_bytes": WAYS * (SIDE // CELL) ** 2 * WIDTH * 4,
        "bytes_beside_the_bank": beside,
    }
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        told = [
            one for one in lines.read_text(encoding="utf-8").splitlines() if "model name" in one
        ]
        about["cpu"] = told[0].split(":")[1].strip() if told else about["cpu"]
    record = {"environment": about, "sets": {"448 x 448, one reference turned eight ways": rows}}
    print(json.dumps(record, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

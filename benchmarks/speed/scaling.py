"""How time and memory grow: with images, bank rows, image area and pixels.

    PYIMGANO_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/speed/scaling.py

``--write`` keeps the result. One thread, processor time, medians of three. The exponent is the
slope of the logarithms: 1 is in proportion, 2 the square. Peak memory is that of a process that
judges one folder after another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano import create_detector, metrics
from pyimgano.models._coreset import greedy_k_center
from pyimgano.models.knn_index import NumpyIndex
from pyimgano.synthesis import render_part, write_demo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
RESULT = HERE / "results" / "scaling.json"
DETECTORS = ("vision_default", "vision_patchcore", "vision_padim")
CORE = {"extractor": "handcrafted"}
PEAK = """
import sys, pyimgano
from pathlib import Path
from memory import peak_mb
from pyimgano.runs.evaluate import predict
detector = pyimgano.load(sys.argv[1])
predict(detector, sorted(map(str, Path(sys.argv[3]).iterdir())), sys.argv[2])
print(round(peak_mb()))
"""


def seconds(step: Callable[[], Any]) -> float:
    taken = []
    for _ in range(3):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def curve(sizes: Sequence[int], step: Callable[[int], Callable[[], Any]]) -> dict[str, Any]:
    """Time ``step(size)`` for each size; return the seconds and the exponent."""
    found = [seconds(step(size)) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(found), 1)[0]
    told = {f"{size:,}": round(one, 4) for size, one in zip(sizes, found, strict=True)}
    print(told, round(slope, 2), flush=True)
    return {"seconds": ", ".join(f"{k}: {v}" for k, v in told.items()), "exponent": round(slope, 2)}


def parts(n: int, side: int = 256) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [render_part(rng, (side, side)).image for _ in range(n)]


def rows(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(n, 20)) @ rng.normal(size=(20, 384))
    return (few + 0.3 * rng.normal(size=(n, 384))).astype(np.float32)


def scored(side: int) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    maps = rng.random((20, side, side), np.float32)
    masks = [None] * 10 + [np.zeros((side, side), np.uint8) for _ in range(10)]
    for mask in masks[10:]:
        mask[side // 4 : side // 3, side // 4 : side // 2] = 1
    return lambda: metrics.evaluate_maps(masks, list(maps))


def judged(name: str, side: int) -> Callable[[], Any]:
    detector = create_detector(name, size=side, **CORE).fit(parts(20, side))
    image = parts(21, side)[20:]
    return lambda: detector.decision_function(image)


def growth() -> dict[str, dict[str, Any]]:
    images = parts(100)
    found = {
        f"fit {name}, by images": curve(
            (25, 50, 100),
            lambda n, name=name: lambda: create_detector(name, **CORE).fit(images[:n]),
        )
        for name in DETECTORS
    }
    found |= {
        f"judge by {name}, by side of the image": curve(
            (128, 256, 512), lambda side, name=name: judged(name, side)
        )
        for name in DETECTORS
    }
    queries = rows(160_000 + 784)[-784:]
    found["784 nearest neighbours, by rows of the bank"] = curve(
        (10_000, 40_000, 160_000),
        lambda n: partial(NumpyIndex().fit(rows(n)).kneighbors, queries),
    )
    found["k-center of a tenth, by rows"] = curve(
        (5_000, 10_000, 20_000, 40_000),
        lambda n: partial(greedy_k_center, rows(n), n // 10, 0),
    )
    found["all pixel metrics of 20 maps, by side"] = curve((128, 256, 512, 1024), scored)
    return found


def peaks(counts: Sequence[int] = (100, 1_000, 10_000)) -> dict[str, dict[str, str]]:
    """Return the peak memory of judging so many files, 20 images under many names."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_demo(Path(folder) / "data", n_train=30, n_good=10, n_defect=10)
        good = sorted(map(str, data.glob("*/train/good/*")))
        asked = sorted(map(str, data.glob("*/test/*/*")))[:20]
        model = Path(folder) / "model.pyimg"
        create_detector("vision_padim", size=128, **CORE).fit(good).save(model)
        told = {}
        for count in counts:
            images = Path(folder) / f"images{count}"
            images.mkdir()
            for i in range(count):
                os.link(asked[i % len(asked)], images / f"{i:05d}.png")
            given = [str(model), str(Path(folder) / f"run{count}"), str(images)]
            command = [sys.executable, "-c", PEAK, *given]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE)
            told[f"{count:,}"] = f"{done.stdout.split()[-1]} MB"
    print(told, flush=True)
    return {"vision_padim at 128 x 128": {f"{count} images": mb for count, mb in told.items()}}


PARTS = {"growth": growth, "peak memory of predict": peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=PARTS, help="measure this alone, keep the other")
    given = parser.parse_args()
    found = {name: part() for name, part in PARTS.items() if given.only in {None, name}}
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in told if "model name" in line), "unknown")
    record = {"environment": {"cpu": cpu, "cores": os.cpu_count()}, "sets": found}
    if given.write:
        before = json.loads(RESULT.read_text()) if RESULT.exists() else {"sets": {}}
        record["sets"] = {**before["sets"], **found}
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

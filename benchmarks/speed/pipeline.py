"""Whole-program figures: import, help, fit, predict, memory.

    python benchmarks/speed/pipeline.py [--write]

Every figure is taken in processes of their own, on images that the script generates; medians. With
``--write`` the result stands in ``results/pipeline.json``.
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
from pathlib import Path

from pyimgano.estimator import versions
from pyimgano.synthesis import write_demo

N_TRAIN = 150
PAIRS = (
    ("vision_default", "fused_lite0"),
    ("vision_default", "handcrafted"),
    ("vision_patchcore", "efficientnet_lite0"),
    ("vision_patchcore", "handcrafted"),
    ("vision_padim", "efficientnet_lite0"),
)
FIT = """
import sys, time, pyimgano
from memory import peak_mb
data = pyimgano.load_dataset("mvtec", sys.argv[1], category="flange")
detector = pyimgano.create_detector(sys.argv[4], extractor=sys.argv[2])
start = time.perf_counter()
detector.fit(data.train)
print(time.perf_counter() - start, peak_mb())
detector.save(sys.argv[3])
"""
PREDICT = """
import sys, time, pyimgano
from memory import peak_mb
from pyimgano.runs.evaluate import predict
detector = pyimgano.load(sys.argv[1])
data = pyimgano.load_dataset("mvtec", sys.argv[2], category="flange")
paths = [str(sample.path) for sample in data.test] * int(sys.argv[4])
start = time.perf_counter()
predict(detector, paths, sys.argv[3])
seconds = time.perf_counter() - start
peak = peak_mb()
print(1000 * seconds / len(paths), peak, len(paths))
"""


def child(code: str, *given: object) -> list[float]:
    command = [sys.executable, "-c", code, *map(str, given)]
    here = Path(__file__).parent
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here)
    return [float(word) for word in done.stdout.split()]


def seconds(command: list[str], repeats: int = 9) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    bare = seconds([sys.executable, "-c", "pass"])
    imported = seconds([sys.executable, "-c", "import pyimgano"])
    program = str(Path(sys.executable).parent / "pyimgano")
    found: dict[str, object] = {
        "import_seconds": round(imported - bare, 4),
        "help_seconds": round(seconds([program, "--help"]), 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_demo(Path(folder) / "data", n_train=N_TRAIN, n_good=20, n_defect=30)
        for detector, name in PAIRS:
            stem = f"{detector}-{name}"
            model, out = Path(folder) / f"{stem}.pyimg", Path(folder) / f"run-{stem}"
            fit_seconds, fit_mb = child(FIT, data, name, model, detector)
            small = child(PREDICT, model, data, out, 1)
            large = child(PREDICT, model, data, out, 10)
            found[f"{detector}, {name}"] = {
                "fit_seconds_150_images": round(fit_seconds, 1),
                "fit_peak_mb": round(fit_mb),
                "predict_ms_per_image_all_in": round(small[0], 1),
                f"predict_peak_mb_{small[2]:.0f}_images": round(small[1]),
                f"predict_peak_mb_{large[2]:.0f}_images": round(large[1]),
                "model_mb": round(model.stat().st_size / 2**20, 1),
            }
    record = {"cores": os.cpu_count(), "versions": versions(), "figures": found}
    print(json.dumps(record, indent=1))
    if given.write:
        path = Path(__file__).parent / "results" / "pipeline.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

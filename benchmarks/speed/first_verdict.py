"""From a cold shell to the first verdict of a saved model, in whole processes.

    python benchmarks/speed/first_verdict.py [--write]

Each figure is the median of several processes, one after another, on an image and a model that the
script makes: seconds on the clock, and seconds of processor time, which a busy machine disturbs
less. With ``--write`` the result stands in ``results/first_verdict.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pyimgano
from pyimgano.estimator import versions
from pyimgano.synthesis import write_demo

EXTRACTORS = ("fused_lite0", "handcrafted")  # what vision_default takes, with and without lite
N_TRAIN = 60
REPEATS = 9
INSPECT = "import sys, pyimgano; next(pyimgano.load(sys.argv[1]).inspect(sys.argv[2]))"


def measure(command: list[str]) -> dict[str, float]:
    """Run a command several times after once for the file cache; return the medians."""
    # As users run it: modules are compiled once, and kept.
    told = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run = partial(subprocess.run, command, check=True, capture_output=True, env=told)
    run()
    clock, processor = [], []
    for _ in range(REPEATS):
        before, start = _spent(), time.perf_counter()
        run()
        clock.append(time.perf_counter() - start)
        processor.append(_spent() - before)
    return {
        "seconds": round(statistics.median(clock), 3),
        "seconds_least": round(min(clock), 3),
        "processor_seconds": round(statistics.median(processor), 3),
    }


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    program = str(Path(sys.executable).parent / "pyimgano")
    rows = {
        "python, import pyimgano": measure([sys.executable, "-c", "import pyimgano"]),
        "pyimgano --help": measure([program, "--help"]),
        "pyimgano doctor": measure([program, "doctor"]),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_demo(Path(folder) / "data", n_train=N_TRAIN, n_good=1, n_defect=1)
        image = str(data / "flange" / "test" / "good" / "000.png")
        for name in EXTRACTORS:
            model = str(Path(folder) / f"{name}.pyimg")
            pyimgano.fit(data / "flange" / "train" / "good", extractor=name).save(model)
            out = str(Path(folder) / f"run-{name}")
            size = f"{name}, a model of {Path(model).stat().st_size / 2**20:.0f} MB"
            rows |= {
                f"python, load and judge: {size}": measure(
                    [sys.executable, "-c", INSPECT, model, image]
                ),
                f"pyimgano predict, with report: {size}": measure(
                    [program, "predict", model, image, "--out", out]
                ),
            }
    record = {
        "environment": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "using": "each command in a process of its own",
            "load": [round(value, 2) for value in os.getloadavg()],
            "priority": os.nice(0),  # below 0: the machine had other work
            "versions": versions(),
        },
        "sets": {f"vision_default of {N_TRAIN} good images of 256 x 256": rows},
    }
    print(json.dumps(record, indent=1))
    if given.write:
        path = Path(__file__).parent / "results" / "first_verdict.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


def _cpu() -> str:
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":")[1].strip() for line in told if "model name" in line), "unknown")


if __name__ == "__main__":
    main()

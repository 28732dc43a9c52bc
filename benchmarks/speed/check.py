"""How many images a second ``pyimgano check`` looks at.

    python benchmarks/speed/check.py [--write]

JPEG files of one megapixel, generated parts with the noise of a sensor; whole processes; medians.
Every file is decoded completely: what a smaller decode would not see, damage included, is found.
With ``--write`` the result stands in ``results/check.json``.
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
from pathlib import Path

import numpy as np
import simplejpeg

from pyimgano.estimator import versions
from pyimgano.synthesis import render_part

N, KINDS, SIDE, REPEATS = 400, 8, 1000, 5


def write_images(folder: Path) -> None:
    """Write N JPEG files: a few parts, each shot with noise of its own."""
    parts = [render_part(np.random.default_rng((0, i)), (SIDE, SIDE)).image for i in range(KINDS)]
    for i in range(N):
        noise = np.random.default_rng((1, i)).integers(-4, 5, (SIDE, SIDE, 1), np.int16)
        image = np.clip(parts[i % KINDS] + noise, 0, 255).astype(np.uint8)
        (folder / f"{i:03}.jpg").write_bytes(simplejpeg.encode_jpeg(image, 90))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    command = [str(Path(sys.executable).parent / "pyimgano"), "check", "--json"]
    walls, examined, processor = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        megabytes = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        for _ in range(REPEATS):
            before, start = _spent(), time.perf_counter()
            done = subprocess.run([*command, folder], check=True, capture_output=True)
            walls.append(time.perf_counter() - start)
            processor.append(_spent() - before)
            found = json.loads(done.stdout)
            if found["n_distinct"] != N:
                raise SystemExit(f"{found['n_distinct']} distinct images, {N} were written")
            examined.append(found["seconds"])
    record = {
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "priority": os.nice(0),  # below 0: the machine had other work
        "versions": versions(),
        "images": N,
        "pixels": [SIDE, SIDE],
        "mb_per_image": round(megabytes / N, 3),
        "figures": {
            "images_per_second": round(N / statistics.median(examined), 1),
            "images_per_second_with_start": round(N / statistics.median(walls), 1),
            "processor_ms_per_image": round(1000 * statistics.median(processor) / N, 2),
        },
    }
    print(json.dumps(record, indent=1))
    if given.write:
        path = Path(__file__).parent / "results" / "check.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

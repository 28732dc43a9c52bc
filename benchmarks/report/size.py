"""The report of a run of 1,000 images: how long it takes to write, and how large it is.

    python benchmarks/report/size.py [--write]

The images are generated: grainy surfaces, the hardest to shrink, with maps of their own; no
detector takes part. Seconds are medians of three, on the clock and of the processor, all cores
together. With ``--write`` the result stands in ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from pyimgano.estimator import versions
from pyimgano.inspection import Inspection, Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.maps.regions import find_regions
from pyimgano.records import Sample
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.report import write_report

IMAGES = 1000
SURFACES = 50
SHAPE = (768, 1024)
THRESHOLD = 2.0
LIMITS = {"megabytes": 15, "seconds": 30}


def shot(rng: np.random.Generator) -> np.ndarray:
    """A grainy surface, for smooth pictures would flatter the size."""
    coarse = rng.integers(60, 200, (12, 16, 3), dtype=np.uint8)
    surface = cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    grain = rng.normal(0, 12, SHAPE).astype(np.int16)
    return np.clip(surface + grain[..., None], 0, 255).astype(np.uint8)


def judge(path: Path, defect: bool, rng: np.random.Generator) -> Inspection:
    drawn = rng.gamma(4, 0.2, (24, 32)).astype(np.float32)
    if defect:
        drawn[rng.integers(24), rng.integers(32)] += rng.gamma(4, 0.8)
    drawn = cv2.resize(drawn, SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    score = float(drawn.max())
    return Inspection(
        source=Sample(path, defect="spot" if defect else "good", label=int(defect)),
        score=score,
        label=int(score > THRESHOLD),
        verdict=Verdict.NG if score > THRESHOLD else Verdict.OK,
        map=drawn,
        regions=find_regions(drawn, THRESHOLD),
        threshold=THRESHOLD,
        pixel_threshold=THRESHOLD,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        out, images = Path(folder) / "run", Path(folder) / "images"
        images.mkdir()
        surfaces = [shot(rng) for _ in range(SURFACES)]
        files = [encode_png(image) for image in surfaces]
        with RunWriter(out, command="evaluate") as run:
            for i in range(IMAGES):
                path = images / f"{i:04d}.png"
                path.write_bytes(files[i % SURFACES])
                run.add(judge(path, i % 3 == 0, rng), surfaces[i % SURFACES])
        taken = []
        for _ in range(3):
            start = time.perf_counter(), time.process_time()
            report = write_report(out)
            taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        clock, processor = zip(*taken, strict=True)
        figures = {
            "images": IMAGES,
            "image_pixels": list(SHAPE),
            "megabytes": round(report.stat().st_size / 1e6, 2),
            "seconds": round(statistics.median(clock), 1),
            "processor_seconds": round(statistics.median(processor), 1),
        }
    record = {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),  # of all that runs here; ours is about 2
        "versions": versions(),
        "limits": LIMITS,
        "figures": figures,
        "within": all(figures[name] < limit for name, limit in LIMITS.items()),
    }
    print(json.dumps(record, indent=1))
    if given.write:
        (Path(__file__).parent / "results.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

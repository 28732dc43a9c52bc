"""Faults on purpose: damaged images, damaged model files, and processes killed while they write.

    python benchmarks/faults/run.py [--images 2000] [--kills 100] [--seed 0] [--write]

The script ends with 1 if anything was lost or passed wrongly. With ``--write`` the counts stand in
``results.json`` and ``results.md``. The damage is the same for the same seed; the moments of the
kills also depend on how fast the machine is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from damaged_images import damage_images, whole_files
from damaged_models import N_MODELS, damage_models
from kills import kill_fits, kill_predicts
from PIL import Image

import pyimgano
from pyimgano.estimator import versions
from pyimgano.synthesis import write_demo
from report import summary

HERE = Path(__file__).parent


def measure(work: Path, images: int, kills: int, seed: int) -> dict[str, Any]:
    parts = [
        write_demo(work / name, n_train=20, n_good=3, n_defect=3, size=(96, 96), seed=seed + i)
        / "flange"
        for i, name in enumerate(("a", "b"))
    ]
    goods = [part / "train" / "good" for part in parts]
    tests = [part / "test" for part in parts]
    probes = sorted(tests[0].rglob("*.png"))
    model = work / "model.pyimg"
    rng = np.random.default_rng(seed)
    detector = pyimgano.create_detector("vision_patchcore", extractor="handcrafted", size=96).fit(
        sorted(goods[0].iterdir())
    )
    detector.save(model)
    files = whole_files(detector, probes, work / "whole")
    by_format, residual = damage_images(detector, files, work / "damaged", images, rng)
    models = damage_models(model.read_bytes(), probes, work / "damaged.pyimg", rng)
    fits = kill_fits(work, goods, probes, kills, rng)
    predicts = kill_predicts(work, model, tests, kills, rng)
    tallies = {**by_format, "models": models, "fit": fits, "predict": predicts}
    return {
        "seed": seed,
        "images": images,
        "models": N_MODELS,
        "kills_of_each_command": kills,
        "versions": {**versions(), "Pillow": Image.__version__},
        "outcomes": {name: dict(sorted(tally.counts.items())) for name, tally in tallies.items()},
        "residual_risk": dict(sorted(residual.items())),
        "faults": [f"{name}: {text}" for name, tally in tallies.items() for text in tally.faults],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, metavar="N")
    parser.add_argument("--kills", type=int, default=100, metavar="K", help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep results.json and results.md")
    given = parser.parse_args()
    multiprocessing.set_forkserver_preload(
        ["__main__", "pyimgano.cli", "pyimgano.models.patchcore", "pyimgano.runs.evaluate"]
    )
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.images, given.kills, given.seed)
        text = json.dumps(found, indent=1).replace(folder + os.sep, "")
    report = summary(json.loads(text))
    print(report)
    if given.write:
        (HERE / "results.json").write_text(text + "\n", encoding="utf-8")
        (HERE / "results.md").write_text(report, encoding="utf-8")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure two detectors on one category of a data set in the layout of MVTec AD."""

import tempfile
from pathlib import Path

import pyimgano
from pyimgano.synthesis import write_demo

with tempfile.TemporaryDirectory() as temporary:
    # With the real data set: root = Path("mvtec_ad"), category = "screw".
    root = write_demo(Path(temporary) / "parts", n_train=24, n_good=8, n_defect=8, size=(128, 128))
    data = pyimgano.load_dataset("mvtec", root, category="flange")
    print(data.info.n_train, "good images to learn from,", data.info.n_test, "to judge")

    for name in ("vision_patchcore", "vision_padim"):
        detector = pyimgano.create_detector(name, extractor="handcrafted", size=128)
        # The folder gets run.json, results.csv, results.jsonl, overlays/ and report.html.
        found = pyimgano.evaluate(detector, data, Path(temporary) / name)
        figures = found.metrics
        print(f"{name}: image AUROC {figures['auroc']:.3f}, AUPRO 0.3 {figures['aupro_0.3']:.3f}")
        for kind in ("false_rejects", "catches"):
            share = figures["at_threshold"][kind]
            print(
                f"  {kind}: {share['count']} of {share['of']}, "
                f"95 % interval {share['low']:.2f} to {share['high']:.2f}"
            )

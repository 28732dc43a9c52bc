"""Judge a folder with damaged files into a run directory, and read it as another program would."""

import csv
import json
import tempfile
from pathlib import Path

import pyimgano
from pyimgano.runs.evaluate import predict
from pyimgano.synthesis import write_demo

with tempfile.TemporaryDirectory() as temporary:
    home = Path(temporary)
    flange = (
        write_demo(home / "parts", n_train=24, n_good=4, n_defect=4, size=(128, 128)) / "flange"
    )
    detector = pyimgano.fit(flange / "train" / "good", extractor="handcrafted", size=128)

    images = sorted((flange / "test").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:2000])  # a transfer that was cut off
    images[1].write_bytes(b"")

    counts = predict(detector, images, home / "run", overlays="ng")
    print(counts)

    # From here on the standard library is enough.
    facts = json.loads((home / "run" / "run.json").read_text(encoding="utf-8"))
    print("how it ended:", facts["status"], "- judged:", facts["counts"])
    with (home / "run" / "results.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = Path(row["path"]).relative_to(flange)
            print(name, row["verdict"], row["error"] or f"score {float(row['score']):.2f}")
    with (home / "run" / "results.jsonl").open(encoding="utf-8") as file:
        for one in map(json.loads, file):
            for region in one["regions"]:
                print("region in", Path(one["path"]).name, region["bbox"])

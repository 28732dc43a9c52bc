"""Does a memory that also holds brighter, darker and flatter goods help where the light changes?

``python benchmarks/accuracy/augmented.py FOLDER SET`` adds its rows to results/augmented.json: the
`vision_patchcore` with and without the variants, on the test images as they are and disturbed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pyimgano.datasets.base import load_dataset
from pyimgano.images import read_image
from pyimgano.metrics import auroc
from pyimgano.models.patchcore import PatchCore
from pyimgano.synthesis.corruptions import corrupt

TARGET = Path(__file__).parent / "results" / "augmented.json"
SETS = {"cookie": ("visa", "visa"), "ballscrew": ("mvtec", "mvtec"), "screw": ("mvtec", "mvtec")}
SHIFTS = [(None, 0), *((name, grade) for name in ("brightness", "contrast") for grade in (1, 3, 5))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("set", choices=sorted(SETS))
    given = parser.parse_args()
    reader, folder = SETS[given.set]
    data = load_dataset(reader, given.data / folder, category=given.set)
    for light in (False, True):
        fitted = PatchCore(extractor="efficientnet_lite0", light=light).fit(data.train)
        for name, grade in SHIFTS:
            images = (read_image(one.path) for one in data.test)
            seen = [image if name is None else corrupt(image, name, grade)[0] for image in images]
            scores = fitted.decision_function(seen)
            above, bad = scores > fitted.threshold_, data.labels == 1
            row = {
                "set": given.set,
                "learned": "goods and light variants" if light else "goods",
                "disturbed": f"{name} {grade}" if name else "nothing",
                "auroc": round(float(auroc(data.labels, scores)), 4),
                "rejected": [int(above[~bad].sum()), int((~bad).sum())],
                "caught": [int(above[bad].sum()), int(bad.sum())],
            }
            print(json.dumps(row), flush=True)
            rows = json.loads(TARGET.read_text()) if TARGET.exists() else []
            same = ("set", "learned", "disturbed")
            rows = [one for one in rows if any(one[key] != row[key] for key in same)]
            TARGET.write_text(json.dumps([*rows, row], indent=1) + "\n")


if __name__ == "__main__":
    main()

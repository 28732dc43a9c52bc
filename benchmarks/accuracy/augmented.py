"""Does a memory that also holds brighter, darker and flatter goods help where the light changes?

``python benchmarks/accuracy/augmented.py FOLDER SET`` adds its rows to results/augmented.json: the
default detector with and without the variants, on the test images as they are and disturbed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.datasets.base import load_dataset
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import _batches, _Readings
from pyimgano.images import read_image
from pyimgano.metrics import auroc
from pyimgano.models.patchcore import PatchCore
from pyimgano.registry import Metadata
from pyimgano.synthesis.corruptions import corrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.judging import Reading
    from pyimgano.views.intake import Images

TARGET = Path(__file__).parent / "results" / "augmented.json"
SETS = {"cookie": ("visa", "visa"), "ballscrew": ("mvtec", "mvtec"), "screw": ("mvtec", "mvtec")}
LIGHT = ((0.85, 1.0), (1.15, 1.0), (1.0, 0.85), (1.0, 1.15))  # gain, gamma
SHIFTS = [(None, 0), *((name, grade) for name in ("brightness", "contrast") for grade in (1, 3, 5))]


def variant(image: np.ndarray, gain: float, gamma: float) -> np.ndarray:
    values = 255 * np.clip(gain * np.arange(256) / 255, 0, 1) ** gamma
    return np.round(values).astype(np.uint8)[image]


@DETECTORS.register("vision_patchcore_light", Metadata(summary="PatchCore, light variants learned"))
@dataclass(kw_only=True, eq=False)
class LightPatchCore(PatchCore):
    """Variants stay in the block of their image; the originals alone are scored."""

    def _learn(self, images: Images, blocks: np.ndarray) -> Sequence[Reading]:
        features, sizes = self._features_of(images)
        parts, owners = [features], [blocks]
        for gain, gamma in LIGHT:
            drawn = (variant(image, gain, gamma) for image in images)
            parts += [self._standardise(self._embed(batch)) for batch in _batches(drawn)]
            owners.append(blocks)
        self._fit_features(np.concatenate(parts), np.concatenate(owners))
        return _Readings(self, self._held_out(features, blocks), sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("set", choices=sorted(SETS))
    given = parser.parse_args()
    reader, folder = SETS[given.set]
    data = load_dataset(reader, given.data / folder, category=given.set)
    for kind in (PatchCore, LightPatchCore):
        fitted = kind(extractor="efficientnet_lite0").fit(data.train)
        for name, grade in SHIFTS:
            images = (read_image(one.path) for one in data.test)
            seen = [image if name is None else corrupt(image, name, grade)[0] for image in images]
            scores = fitted.decision_function(seen)
            above, bad = scores > fitted.threshold_, data.labels == 1
            row = {
                "set": given.set,
                "learned": "goods" if kind is PatchCore else "goods and light variants",
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

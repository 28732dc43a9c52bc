"""Defects hidden among the goods, and sessions that differ: what is found, and what falsely.

``python benchmarks/accuracy/hygiene.py [--data FOLDER]`` writes results/hygiene.json and hygiene.md
beside this file. Without ``--data``, the folder of the real sets, generated parts alone are used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyimgano import create_detector
from pyimgano.calibration import SUSPECT_Z, suspicion
from pyimgano.datasets.base import load_dataset
from pyimgano.datasets.protocols import contaminated
from pyimgano.synthesis import DEFECTS, SEVERITY, plant, render_part
from pyimgano.synthesis.corruptions import corrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyimgano.detector import Detector

HERE = Path(__file__).parent
EXTRACTORS = ("efficientnet_lite0", "handcrafted")
SETS = {"cookie": ("visa", "visa"), "ballscrew": ("mvtec", "mvtec"), "screw": ("mvtec", "mvtec")}
N, SHARE = 60, 0.05
BATCHES, BATCH, POOL = 10, 40, 60
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "20 % darker": lambda image: np.round(image * 0.8).astype(np.uint8),
    "contrast 3": lambda image: corrupt(image, "contrast", 3)[0],
    "defocus 3": lambda image: corrupt(image, "defocus", 3)[0],
}
CLEAN, HIDDEN, NEW = 10, 11, 12  # streams of random numbers


def part(seed: int, stream: int, i: int, kind: str | None = None) -> np.ndarray:
    rng = np.random.default_rng((seed, stream, i))
    made = render_part(rng)
    if kind is None:
        return made.image
    return plant(made.image, made.mask, kind, rng, severity=SEVERITY)[0]


def hidden_generated(extractor: str, seeds: int) -> list[dict]:
    rows = []
    for seed in range(seeds):
        n_bad = round(SHARE * N)
        goods: list = [part(seed, CLEAN, i) for i in range(N)]
        places = np.random.default_rng((seed, HIDDEN)).permutation(N)[:n_bad].tolist()
        for j, i in enumerate(places):
            goods[i] = part(seed, HIDDEN, j, DEFECTS[(seed * n_bad + j) % len(DEFECTS)])
        fitted = create_detector("vision_patchcore", extractor=extractor).fit(goods)
        rows.append(tally("generated parts", extractor, seed, fitted, places, flagged(fitted)))
        clean = [part(seed, CLEAN, i) for i in range(N)]
        fitted = create_detector("vision_patchcore", extractor=extractor).fit(clean)
        rows.append(tally("generated parts, clean", extractor, seed, fitted, [], flagged(fitted)))
        rows[-1]["drift"] = alarms(fitted, seed)
        print(json.dumps(rows[-2:]), flush=True)
    return rows


def flagged(fitted: Detector, paths: list[str] | None = None) -> set[int]:
    """Return the places of the suspects; arrays have no names, but stand in no group either."""
    if paths is not None:
        return {i for i, path in enumerate(paths) if path in fitted.suspects_}
    far = suspicion(fitted.decision_scores_) > SUSPECT_Z
    return set(np.flatnonzero(far).tolist()) if fitted.suspects_ else set()


def tally(
    name: str, extractor: str, seed: int, fitted: Detector, places: list[int], named: set[int]
) -> dict:
    z = suspicion(fitted.decision_scores_)
    return {
        "set": name,
        "extractor": extractor,
        "seed": seed,
        "images": len(z),
        "hidden": len(places),
        "named": len(named),
        "found": len(named & set(places)),
        "z_of_hidden": np.round(z[places], 2).tolist(),
        "two_populations": bool((z > SUSPECT_Z).any() and not fitted.suspects_),
    }


def alarms(fitted: Detector, seed: int) -> dict[str, list[str]]:
    """What is said of batches of fresh images: good, with defects among them, of another light."""
    good = [part(seed, NEW, i) for i in range(POOL)]
    bad = [part(seed, NEW, POOL + i, DEFECTS[i % len(DEFECTS)]) for i in range(BATCH // 4)]
    pool = list(fitted.inspect([*good, *bad]))
    said: dict[str, list[str]] = {"good": [], "a quarter defective": []}
    for batch in range(BATCHES):
        order = np.random.default_rng((seed, NEW, batch)).permutation(POOL)
        some = [pool[i] for i in order[:BATCH]]
        mixed = [*some[len(bad) :], *pool[POOL:]]
        said["good"].append("; ".join(fitted.drift(some).found))
        said["a quarter defective"].append("; ".join(fitted.drift(mixed).found))
    for name, change in CHANGES.items():
        drift = fitted.drift(fitted.inspect([change(image) for image in good[:20]]))
        said[name] = ["; ".join(drift.found)]
    return said


def hidden_real(data: Path, name: str, extractor: str, seeds: int) -> list[dict]:
    reader, folder = SETS[name]
    whole = load_dataset(reader, data / folder, category=name)
    goods = {one.path for one in whole.train}
    rows = []
    for seed in range(seeds):
        mixed = contaminated(whole, SHARE, seed)
        places = [i for i, one in enumerate(mixed.train) if one.path not in goods]
        fitted = create_detector("vision_patchcore", extractor=extractor).fit(mixed.train)
        named = flagged(fitted, [str(one.path) for one in mixed.train])
        rows.append(tally(name, extractor, seed, fitted, places, named))
        print(json.dumps(rows[-1]), flush=True)
    fitted = create_detector("vision_patchcore", extractor=extractor).fit(whole.train)
    named = flagged(fitted, [str(one.path) for one in whole.train])
    rows.append(tally(f"{name}, clean", extractor, 0, fitted, [], named))
    judged = list(fitted.inspect(whole.test))
    drift = {"good test images, labelled": [fitted.drift(judged).describe()]}
    blind = list(fitted.inspect([one.path for one in whole.test]))
    drift["all test images, unlabelled"] = [fitted.drift(blind).describe()]
    rows[-1]["drift"] = drift
    print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--real-seeds", type=int, default=3)
    parser.add_argument("--extractors", nargs="*", default=EXTRACTORS)
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    target = given.out / "results" / "hygiene.json"
    rows: list[dict] = []
    for extractor in given.extractors:
        rows += hidden_generated(extractor, given.seeds)
        for name in SETS if given.data else ():
            rows += hidden_real(given.data, name, extractor, given.real_seeds)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(rows, indent=1) + "\n")
    (given.out / "hygiene.md").write_text(page(rows))


def page(rows: list[dict]) -> str:
    return ""


if __name__ == "__main__":
    main()

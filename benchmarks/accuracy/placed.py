"""The default on other parts in place, windows and few good images, as it is and plainer.

    python benchmarks/accuracy/placed.py ROOT

ROOT holds ``mvtec/ballscrew`` and ``mvtec/screw``. Cut out of the real images, each window moved by
up to 6 pixels: two places of the ball screws, both ends of the screws (turned to one pose first).
Drawn: flanges of other seeds; large smears on good flanges and ball screws. Learned from 10, 20 and
40 good screws, flanges and ball screws, drawn five times. Writes placed.json and placed.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from default import FLANGE

from pyimgano.datasets.base import load_dataset
from pyimgano.models.default import Default
from pyimgano.runs.evaluate import measure
from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
JITTER = 6
SMALLEST = 60  # pixels of a defect in a window that is called defective
FEW, DRAWS = (10, 20, 40), 5


class Plain(Default):
    """The default that does not hear median cells, with equal votes and five blocks."""

    own: ClassVar[float] = 0.0
    votes: ClassVar[dict[str, float]] = {}
    block_parts: ClassVar[int | None] = None


VARIANTS: dict[str, Any] = {
    "as it is": Default(),
    "plain": Plain(throughout=0.0),
    "as it is, core": Default(extractor="handcrafted"),
    "plain, core": Plain(extractor="handcrafted", throughout=0.0),
}


# Images -------------------------------------------------------------------------------------


def windows(root: Path, name: str, at: tuple[int, int, int, int], turn: bool, to: Path) -> Any:
    """Cut a window (top, left, height, width) out of all images of a set, moved a little."""
    data = load_dataset("mvtec", root / "mvtec", category=name)
    generator = np.random.default_rng(at)
    sight = None
    if turn:
        learner = Default(extractor="handcrafted", size=64).fit([one.path for one in data.train])
        sight = learner.view_
    masks = [None] * len(data.train) + list(data.masks())
    for i, (sample, mask) in enumerate(zip([*data.train, *data.test], masks, strict=True)):
        image, part = cv2.imread(str(sample.path))[..., ::-1].copy(), mask
        if sight is not None:
            try:
                image, back = sight.see(image)
            except ValueError:
                continue
            part = None if mask is None else back.carry(np.asarray(mask, bool))
        top, left = np.array(at[:2]) + generator.integers(-JITTER, JITTER + 1, 2)
        cut = np.s_[max(top, 0) : top + at[2], max(left, 0) : left + at[3]]
        part = None if part is None else np.ascontiguousarray(part[cut]).astype(np.uint8)
        kind = "train" if i < len(data.train) else "defect" if sample.label else "good"
        if kind == "defect" and np.count_nonzero(part) < SMALLEST:
            continue
        write(to, kind, i, np.ascontiguousarray(image[cut][..., ::-1]), part)
    return load_dataset("mvtec", to, category="part")


def write(to: Path, kind: str, i: int, image: Any, mask: Any) -> None:
    where = to / "part" / ("train/good" if kind == "train" else f"test/{kind}")
    where.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(where / f"{i:03}.png"), image)
    if kind == "defect":
        truth = to / "part" / "ground_truth" / kind
        truth.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(truth / f"{i:03}_mask.png"), 255 * mask)


def smeared(data: Any, to: Path) -> Any:
    """Plant smears over a tenth to a third of the image on half of the good test images."""
    generator = np.random.default_rng(7)
    good = [one for one in data.test if not one.label]
    for i, sample in enumerate(data.train):
        write(to, "train", i, cv2.imread(str(sample.path)), None)
    for i, sample in enumerate(good):
        image = cv2.imread(str(sample.path))
        kind, mask = "good", None
        if i % 2:
            kind, mask = "defect", np.zeros(image.shape[:2], np.uint8)
            side = np.sqrt(generator.uniform(0.1, 0.33) * np.array(mask.shape, float) ** 2)
            middle = generator.uniform(side / 2, np.array(mask.shape) - side / 2)
            axes = (int(side[1] / 1.77), int(side[0] / 1.77))
            cv2.ellipse(mask, (int(middle[1]), int(middle[0])), axes, 0, 0, 360, 1, -1)
            share = cv2.GaussianBlur(mask.astype(float), (0, 0), 3)[..., None]
            smooth = cv2.GaussianBlur(image, (0, 0), 0.02 * max(mask.shape))
            image = (image * (1 - share) + smooth * share).round().astype(np.uint8)
        write(to, kind, i, image, mask)
    return load_dataset("mvtec", to, category="part")


class Few:
    """A set of which only some good images, drawn and in their order, are learned from."""

    def __init__(self, data: Any, count: int, draw: int) -> None:
        self.data, train = data, list(data.train)
        drawn = np.random.default_rng((count, draw)).choice(len(train), count, replace=False)
        self.train = [train[i] for i in sorted(drawn)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)


def sets(root: Path, work: Path) -> Iterator[tuple[str, Any]]:
    for place, left in (("left", 240), ("right", 600)):
        at = 60, left, 340, 350
        yield f"ball screws, {place}", windows(root, "ballscrew", at, False, work / place)
    for end, left in (("one end", 10), ("other end", 540)):
        at = 10, left, 410, 510
        yield f"screws, {end}", windows(root, "screw", at, True, work / end)
    flanges = {}
    for seed in (0, 1, 2, 3):
        write_demo(work / f"flange {seed}", **{**FLANGE, "seed": seed})
        flanges[seed] = load_dataset("mvtec", work / f"flange {seed}", category="flange")
        if seed:
            yield f"flanges, seed {seed}", flanges[seed]
    screws = load_dataset("mvtec", root / "mvtec", category="screw")
    balls = load_dataset("mvtec", root / "mvtec", category="ballscrew")
    yield "flanges, large smears", smeared(flanges[0], work / "smeared flanges")
    yield "ball screws, large smears", smeared(balls, work / "smeared balls")
    for name, data in (("screws", screws), ("flanges", flanges[0]), ("ball screws", balls)):
        for count in FEW:
            for draw in range(DRAWS):
                yield f"{name}, from {count}", Few(data, count, draw)


# Figures ------------------------------------------------------------------------------------


def main(root: Path) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for name, data in sets(root, Path(work)):
            for how, detector in VARIANTS.items():
                found = measure(detector.clone(), data)
                at = found.metrics["at_threshold"]
                rows.append(
                    {
                        "set": name,
                        "how": how,
                        "auroc": round(found.metrics["auroc"], 4),
                        "aupro_0.3": round(found.metrics["aupro_0.3"], 4),
                        "caught": [at["catches"]["count"], at["catches"]["of"]],
                        "rejected": [at["false_rejects"]["count"], at["false_rejects"]["of"]],
                        "bound": round(found.detector.certainty_.bound, 4),
                        "map": found.detector.learned().get("map", ""),
                    }
                )
                print({k: v for k, v in rows[-1].items() if k != "map"}, flush=True)
    (HERE / "placed.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "placed.md").write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    hows = list(dict.fromkeys(row["how"] for row in rows))
    names = list(dict.fromkeys(row["set"] for row in rows))
    by = {
        (name, how): total([row for row in rows if (row["set"], row["how"]) == (name, how)])
        for name in names
        for how in hows
    }
    lines = [
        "# Parts in place",
        "",
        "`vision_default` on windows, parts and choices of good images that nothing of it was",
        "chosen with. Most are of the sets that it was: new are the flanges of other seeds alone.",
        "Image AUROC, caught / rejected at the threshold of the good images at 5 %. *Plain*: what",
        "counts of a map is its highest alone, median cells are not heard, all votes count the",
        "same, and good images are scored without a fifth of them, however many there are.",
        f"Windows, flanges and smears are drawn once, few good images {DRAWS} times: of these the",
        "mean and the sums are given.",
        "",
        f"| set | defects, good | {' | '.join(hows)} |",
        "|---|---|" + "---|" * len(hows),
    ]
    for name in names:
        first = by[name, hows[0]]
        shown = [cell(by[name, how]) for how in hows]
        counts = f"{first['caught'][1]}, {first['rejected'][1]}"
        lines.append(f"| {name} | {counts} | {' | '.join(shown)} |")
    of = [sum(by[name, hows[0]][key][1] for name in names) for key in ("caught", "rejected")]
    means = [
        f"{np.mean([by[n, h]['auroc'] for n in names]):.3f}, "
        f"{sum(by[n, h]['caught'][0] for n in names)} / "
        f"{sum(by[n, h]['rejected'][0] for n in names)}"
        for h in hows
    ]
    lines.append(f"| mean, sums | {of[0]}, {of[1]} | {' | '.join(means)} |")
    return "\n".join([*lines, "", "Made by `python benchmarks/accuracy/placed.py ROOT`.", ""])


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean AUROC, and the sums of what was caught and rejected, of some draws."""
    counts = {key: np.sum([row[key] for row in rows], axis=0) for key in ("caught", "rejected")}
    return {"auroc": np.mean([row["auroc"] for row in rows]), **counts}


def cell(row: dict[str, Any]) -> str:
    return f"{row['auroc']:.3f}, {row['caught'][0]} / {row['rejected'][0]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

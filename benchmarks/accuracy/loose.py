"""The default where a place tells nothing: near by, anywhere, and as it decides by itself.

    python benchmarks/accuracy/loose.py ROOT

ROOT holds ``visa/cookie`` and ``mvtec/ballscrew``. Beside the cookies as they are, each seed cuts
windows at random out of both sets (goods of the training part learn, goods and defects of the test
part judge), and draws three surfaces with defects planted in them. What is heard and drawn where a
place tells nothing was chosen with other windows and surfaces, of seeds 0 to 2, and the cookies.
Writes loose.json and loose.md beside this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pyimgano.datasets.base import load_dataset
from pyimgano.models import create_detector
from pyimgano.models.default import Default
from pyimgano.runs.evaluate import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
SEEDS = (3, 4, 5)
SIDE, WINDOW = 256, 224
COUNTS = {"train": 80, "good": 40, "defect": 50}
EXTRACTORS = ("fused_lite0", "handcrafted")
HOW = {"near by": 0.0, "anywhere": 1.0, "as fit decides": None}


class Told(Default):
    """The default whose gate is told what to find."""

    told: float | None = None

    def _share_loose(self, *given: Any) -> float | None:
        share = super()._share_loose(*given)
        return share if self.told is None else self.told


# Images -------------------------------------------------------------------------------------


def windows(root: Path, name: str, category: str, generator: Any, folder: Path) -> None:
    """Cut windows out of a set, at any place; those of defects hold some of them."""
    data = load_dataset(name, root / name, category=category)
    masks = list(data.masks())
    kinds: dict[str, list[tuple[Any, Any]]] = {
        "train": [(sample, None) for sample in data.train],
        "good": [(sample, None) for sample in data.test if not sample.label],
        "defect": [(s, m) for s, m in zip(data.test, masks, strict=True) if s.label],
    }
    for kind, sources in kinds.items():
        for i in range(COUNTS[kind]):
            sample, mask = sources[i * len(sources) // COUNTS[kind]]
            image = cv2.imread(str(sample.path))
            write(folder, kind, i, *window(image, mask, generator))


def window(image: Any, mask: Any, generator: Any) -> tuple[Any, Any]:
    rows, columns = (side - WINDOW for side in image.shape[:2])
    while True:
        y, x = generator.integers(0, rows + 1), generator.integers(0, columns + 1)
        cut = np.s_[y : y + WINDOW, x : x + WINDOW]
        part = None if mask is None else np.ascontiguousarray(mask[cut]).astype(np.uint8)
        if part is None or 2 * np.count_nonzero(part) > min(np.count_nonzero(mask), 400):
            return image[cut], part


def noise(generator: Any, across: float, down: float) -> Any:
    raw = cv2.GaussianBlur(generator.normal(size=(SIDE, SIDE)), (0, 0), across, sigmaY=down)
    return raw / raw.std()


def brushed(generator: Any) -> Any:
    light = 10 * noise(generator, 40, 40)
    return 140 + 14 * noise(generator, 25, 0.8) + light + generator.normal(0, 3, (SIDE, SIDE))


def cast(generator: Any) -> Any:
    return 120 + 12 * noise(generator, 1.5, 1.5) + 8 * noise(generator, 6, 6)


def weave(generator: Any) -> Any:
    angle = np.deg2rad(30 + generator.normal())
    y, x = np.mgrid[:SIDE, :SIDE]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    along = along + noise(generator, 12, 12)
    first, second = generator.uniform(0, 2 * np.pi, 2)
    threads = np.sin(along * 2 * np.pi / 16 + first) * np.sign(
        np.sin(across * 2 * np.pi / 24 + second)
    )
    return 110 + 35 * threads + 5 * noise(generator, 1, 1)


def spoilt(image: Any, generator: Any) -> tuple[Any, Any]:
    """Plant a scratch, a spot or a smear."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = (int(v) for v in generator.integers(30, SIDE - 30, 2))
    kind = generator.integers(3)
    if kind == 0:
        angle, length = generator.uniform(0, np.pi), generator.integers(15, 45)
        end = int(x + length * np.cos(angle)), int(y + length * np.sin(angle))
        cv2.line(mask, (x, y), end, 1, int(generator.integers(1, 4)))
    elif kind == 1:
        cv2.circle(mask, (x, y), int(generator.integers(4, 12)), 1, -1)
    else:
        axes = int(generator.integers(8, 20)), int(generator.integers(5, 12))
        cv2.ellipse(mask, (x, y), axes, generator.uniform(0, 180), 0, 360, 1, -1)
    share = cv2.GaussianBlur(mask.astype(float), (0, 0), 1)
    if kind == 2:
        return image * (1 - share) + cv2.GaussianBlur(image, (0, 0), 5) * share, mask
    return image + share * generator.choice([-1, 1]) * generator.uniform(20, 50), mask


def surface(draw: Callable[[Any], Any], generator: Any, folder: Path) -> None:
    for kind, count in COUNTS.items():
        for i in range(count):
            image, mask = draw(generator), None
            if kind == "defect":
                image, mask = spoilt(image, generator)
            write(folder, kind, i, np.clip(image, 0, 255).astype(np.uint8), mask)


def write(folder: Path, kind: str, i: int, image: Any, mask: Any) -> None:
    where = folder / "part" / ("train/good" if kind == "train" else f"test/{kind}")
    where.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(where / f"{i:03}.png"), image)
    if mask is not None:
        truth = folder / "part" / "ground_truth" / kind
        truth.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(truth / f"{i:03}_mask.png"), 255 * mask)


def sets(root: Path, seed: int, work: Path) -> Iterator[tuple[str, Any]]:
    if seed == SEEDS[0]:
        yield "cookies as they are", load_dataset("visa", root / "visa", category="cookie")
    makers: dict[str, Callable[[Any, Path], None]] = {
        "windows of cookies": lambda g, to: windows(root, "visa", "cookie", g, to),
        "windows of ball screws": lambda g, to: windows(root, "mvtec", "ballscrew", g, to),
        "brushed": lambda g, to: surface(brushed, g, to),
        "cast": lambda g, to: surface(cast, g, to),
        "weave": lambda g, to: surface(weave, g, to),
    }
    for i, (name, make) in enumerate(makers.items()):
        folder = work / f"{name} {seed}"
        make(np.random.default_rng([seed, i]), folder)
        yield name, load_dataset("mvtec", folder, category="part")


# Figures ------------------------------------------------------------------------------------


def main(root: Path) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for seed in SEEDS:
            for name, data in sets(root, seed, Path(work)):
                for detector, told in detectors():
                    rows.append({"set": name, "seed": seed, **told, **figures(detector, data)})
                    print(rows[-1], flush=True)
    (HERE / "loose.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "loose.md").write_text(page(rows))


def detectors() -> Iterator[tuple[Any, dict[str, str]]]:
    for extractor in EXTRACTORS:
        for how, share in HOW.items():
            detector = Told(extractor=extractor)
            detector.told = share
            yield detector, {"detector": f"default, {extractor}", "how": how}
    yield create_detector("vision_patchcore"), {"detector": "vision_patchcore", "how": ""}


def figures(detector: Any, data: Any) -> dict[str, Any]:
    found = measure(detector, data)
    at = found.metrics["at_threshold"]
    share = vars(found.detector).get("loose_share_")
    return {
        "auroc": round(found.metrics["auroc"], 4),
        "aupro_0.3": round(found.metrics["aupro_0.3"], 4),
        "caught": [at["catches"]["count"], at["catches"]["of"]],
        "rejected": [at["false_rejects"]["count"], at["false_rejects"]["of"]],
        "bound": round(found.detector.certainty_.bound, 4),
        "share": None if share is None else round(share, 3),
    }


def page(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Where a place tells nothing",
        "",
        "Cookies that lie loose, windows cut at random out of real images, and drawn surfaces with",
        f"planted defects, each with {len(SEEDS)} seeds (the cookies as they are: one). Means over",
        "seeds, in brackets lowest and highest; caught and rejected are sums. `near by` and",
        "`anywhere` tell the gate what to find; *share* is what it finds by itself, of good images",
        "that lie nearer to patches anywhere: above 50 % it opens. Members and weights were chosen",
        "with other seeds of these sets, and the cookies.",
        "",
        "| set | detector | patches | image AUROC | AUPRO 0.3 | caught | rejected | share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row["set"], row["detector"], row["how"]) for row in rows)
    for key in keys:
        some = [row for row in rows if (row["set"], row["detector"], row["how"]) == key]
        own = [row["share"] for row in some if row["how"] == "as fit decides"]
        share = " to ".join(f"{100 * s:.0f} %" for s in sorted({min(own), max(own)})) if own else ""
        lines.append(
            f"| {' | '.join(key)} | {span(some, 'auroc')} | {span(some, 'aupro_0.3')} | "
            f"{total(some, 'caught')} | {total(some, 'rejected')} | {share} |"
        )
    lines += ["", "Made by `python benchmarks/accuracy/loose.py ROOT`.", ""]
    return "\n".join(lines)


def span(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows]
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def total(rows: list[dict[str, Any]], key: str) -> str:
    return f"{sum(row[key][0] for row in rows)} of {sum(row[key][1] for row in rows)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Alignment on real parts: what `auto` decides, what that gains, and whom it refuses.

    OMP_NUM_THREADS=1 python benchmarks/accuracy/alignment.py ROOT [SET ...]

ROOT holds ``mvtec/screw``, ``mvtec/ballscrew`` and ``visa/cookie``. Writes alignment.json and
alignment.md beside this file, anew after each row: what was interrupted goes on with the sets that
are left, and the rows of sets that are not named stay.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pyimgano.datasets.base import load_dataset
from pyimgano.errors import ImageError, InputError
from pyimgano.images import read_image
from pyimgano.models import create_detector
from pyimgano.runs.evaluate import measure
from pyimgano.views.align import Align
from pyimgano.views.base import Whole
from pyimgano.views.intake import Images, learn

SETS = (("mvtec", "screw"), ("mvtec", "ballscrew"), ("visa", "cookie"))
EXTRACTORS = ("efficientnet_lite0", "handcrafted")
HERE = Path(__file__).parent
FEW, DRAWS = (8, 12, 16, 20, 30, 40), 12
FOREIGN = ((12, 1), (20, 1), (40, 1), (40, 2), (76, 4))  # screws, and rings among them


def main(root: Path, wanted: list[str]) -> None:
    for name, category in SETS:
        if wanted and category not in wanted:
            continue
        data = load_dataset(name, root / name, category=category)
        for how in ("auto", "shift", "rotate"):
            put("refused", {"set": category, "align": how}, refusals(data, how))
        if category == "screw":
            for count in FEW:
                put("few", {"set": category, "goods": count}, turned(data, count))
            for count, foreign in FOREIGN:
                key = {"set": category, "goods": count, "foreign": foreign}
                put("foreign", key, turned(data, count, foreign))
        for extractor in EXTRACTORS:
            for how in ("off", "auto"):
                key = {"set": category, "extractor": extractor, "align": how}
                put("judged", key, figures(data, extractor, how))


def put(table: str, key: dict[str, Any], figures: dict[str, Any]) -> None:
    """Put a row in the place of that of the same key, or at its place in the order of the sets."""
    path = HERE / "alignment.json"
    found: dict[str, list] = {"judged": [], "refused": [], "few": [], "foreign": []}
    if path.exists():
        found |= json.loads(path.read_text())
    keys = [{name: row[name] for name in key} for row in found[table]]
    if key not in keys:
        keys.append(key)
        found[table].append({})
    found[table][keys.index(key)] = {**key, **figures}
    order = [category for _, category in SETS]
    found[table].sort(key=lambda row: order.index(row["set"]))
    path.write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "alignment.md").write_text(page(**found))
    print(key, figures, flush=True)


def figures(data: Any, extractor: str, how: str) -> dict:
    view = Whole() if how == "off" else Align(how)
    made = create_detector("vision_patchcore", extractor=extractor, size=288, view=view)
    found = measure(made, data)
    at = found.metrics["at_threshold"]
    return {
        "auroc": round(found.metrics["auroc"], 4),
        "auroc_interval": [round(end, 3) for end in found.metrics["intervals"]["auroc"]],
        "aupro_0.3": round(found.metrics["aupro_0.3"], 4),
        "caught": [at["catches"]["count"], at["catches"]["of"]],
        "rejected": [at["false_rejects"]["count"], at["false_rejects"]["of"]],
        "errors": found.metrics["errors"],
        "told": found.detector.view_.describe().get("alignment", ""),
    }


def refusals(data: Any, how: str) -> dict:
    goods = learn(data.train, any_size=False, bit_depth=None)
    started = time.process_time()
    sight = Align(how).learn(goods.images)
    row = {"told": sight.describe()["alignment"], "learn_s": time.process_time() - started}
    if isinstance(sight, Whole):
        return {**row, "good": None, "defective": None, "ms": None}
    counts, seconds = Counter(), []
    for sample in data.test:
        image = goods.images.intake.see(sample)
        started = time.process_time()
        try:
            sight.see(image).back.restore(np.zeros(sight.size(image.shape[:2]), np.float32))
        except ImageError:
            counts[sample.label] += 1
        seconds.append(time.process_time() - started)
    try:
        skipped = len(goods.seen(goods.images.intake, sight).skipped)
    except InputError:
        skipped = "more than 5 %"
    size = read_image(data.test[0].path).shape
    ms = round(1000 * float(np.median(seconds)), 1)
    of = Counter(sample.label for sample in data.test)
    both = {"good": [counts[0], of[0]], "defective": [counts[1], of[1]]}
    return {**row, **both, "skipped": skipped, "ms": ms, "px": list(size[:2])}


def turned(data: Any, count: int, foreign: int = 0) -> dict:
    """Learn from good images drawn at random: how often does `auto` turn, and what is left?

    Foreign parts lie at the end; how many of them are refused is told, too.
    """
    intake = learn(data.train, any_size=False, bit_depth=None).images.intake
    generator = np.random.default_rng(count)
    residuals, named, others = [], 0, 0
    for _ in range(DRAWS):
        drawn = np.sort(generator.choice(len(data.train), count, replace=False))
        some = [intake.see(data.train[i]) for i in drawn]
        some += [ring(generator, some[0].shape[:2]) for _ in range(foreign)]
        sight = Align().learn(Images(some, intake))
        if isinstance(sight, Whole):
            continue
        residuals.append(sight.usual)
        wrong = [fails(sight, image) for image in some]
        named, others = named + sum(wrong[count:]), others + sum(wrong[:count])
    row = {"turned": len(residuals), "of": DRAWS, "most": round(max(residuals, default=1.0), 3)}
    return {**row, "named": named, "others": others} if foreign else row


def fails(sight: Any, image: Any) -> bool:
    try:
        sight.see(image)
    except ImageError:
        return True
    return False


def ring(generator: Any, size: tuple[int, int]) -> Any:
    """Draw a ring of any size on a background like that of the screws."""
    radius = int(generator.uniform(0.1, 0.4) * min(size))
    drawn = np.full(size, 195.0)
    cv2.circle(drawn, (size[1] // 2, size[0] // 2), radius, 60, -1)
    cv2.circle(drawn, (size[1] // 2, size[0] // 2), radius // 2, 195, -1)
    noisy = np.clip(drawn + generator.normal(0, 4, size), 0, 255).astype(np.uint8)
    return np.repeat(noisy[..., None], 3, axis=2)


def page(judged: list, refused: list, few: list, foreign: list) -> str:
    lines = [
        "# Alignment on real parts",
        "",
        "PatchCore, `size` 288, `--align off` and `auto`. What a plain background is was fixed on",
        "generated parts and textures; these three sets were seen while the residual, its limit",
        "and the features that are matched were chosen.",
        "",
        "| set | features | align | image AUROC (95 %) | AUPRO 0.3 | caught | rejected | ERROR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in judged:
        low, high = row["auroc_interval"]
        cells = [row["set"], row["extractor"], row["align"]]
        cells += [f"{row['auroc']:.4f} ({low:.3f} to {high:.3f})", f"{row['aupro_0.3']:.4f}"]
        cells += ["{} of {}".format(*row[key]) for key in ("caught", "rejected")]
        lines.append(f"| {' | '.join([*cells, str(row['errors'])])} |")
    lines += [
        "",
        "## Who is refused",
        "",
        "Test images that become ERROR because they do not align, and good images to learn from",
        "that are skipped; also where the alignment is forced on parts that it does not suit.",
        "The times are of two cores that others used as well: an upper estimate.",
        "",
        "| set | align | good | defective | skipped | process time per image, there and back |",
        "|---|---|---|---|---|---|",
    ]
    for row in refused:
        if row["good"] is None:
            lines.append(f"| {row['set']} | {row['align']}: off | - | - | - | - |")
            continue
        cells = [row["set"], row["align"]]
        cells += ["{} of {}".format(*row[key]) for key in ("good", "defective")]
        px = "{1} x {0}".format(*row["px"])
        lines.append(f"| {' | '.join(cells)} | {row['skipped']} | {row['ms']} ms at {px} px |")
    lines += ["", "What `auto` says:", ""]
    lines += [f"- {row['set']}: {row['told']}" for row in refused if row["align"] == "auto"]
    lines += [
        "",
        "## From few good images",
        "",
        f"How often `auto` turns screws, of {DRAWS} draws from all good images, and the largest",
        "residual of a good image that matched.",
        "",
        "| good images | turned | largest residual |",
        "|---|---|---|",
    ]
    for row in sorted(few, key=lambda row: row["goods"]):
        lines.append(f"| {row['goods']} | {row['turned']} of {row['of']} | {row['most']:.2f} |")
    lines += [
        "",
        "## With other parts among the good ones",
        "",
        f"The same with rings of any size drawn among the screws. {DRAWS} draws; what is refused",
        "is summed over those that are turned.",
        "",
        "| screws | rings | turned | rings refused | screws refused |",
        "|---|---|---|---|---|",
    ]
    for row in foreign:
        cells = [f"{row['goods']}", f"{row['foreign']}", f"{row['turned']} of {row['of']}"]
        cells += [f"{row['named']} of {row['turned'] * row['foreign']}"]
        cells += [f"{row['others']} of {row['turned'] * row['goods']}"]
        lines.append(f"| {' | '.join(cells)} |")
    command = "OMP_NUM_THREADS=1 python benchmarks/accuracy/alignment.py ROOT"
    return "\n".join([*lines, "", f"Repeat: `{command}`", ""])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

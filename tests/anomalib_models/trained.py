"""Tiny models that anomalib trains here, without weights from anywhere, in all its formats."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import torch
from pyimgano.detector_contract import texture
from pyimgano.models._anomalib_backbones import local_backbones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIDE = 96
MODELS = ("padim", "patchcore", "stfpm", "fastflow")
FORMATS = ("ckpt", "pt", "onnx", "xml")
NOT_RUN = {
    "efficientad": "downloads a teacher and ImageNette",
    "dsr": "downloads a quantised network",
    "dinomaly": "downloads DINOv2",
}


@dataclass(frozen=True)
class Trained:
    """A model in memory, and its files by format."""

    name: str
    module: Any
    files: dict[str, Path]

    def raw(self, images: list[NDArray[np.uint8]]) -> tuple[Any, Any]:
        """Raw scores (n,) and maps (n, h, w) by anomalib's own network and transform."""
        tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255
        with torch.inference_mode():
            found = self.module.model(self.module.pre_processor.transform(tensor))
        drawn = found.anomaly_map
        maps = None if drawn is None else drawn.reshape(len(images), *drawn.shape[-2:]).numpy()
        scores = found.pred_score
        if scores is None:
            scores = drawn.reshape(len(images), -1).amax(dim=1)
        return scores.reshape(-1).numpy(), maps


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def build(name: str, size: int = SIDE, crop: int | None = None) -> Any:
    """A small untrained model; what it sees is resized to a square, and perhaps cropped."""
    with quiet():
        from anomalib.models import Fastflow, Padim, Patchcore, Stfpm

    resnet = {"backbone": "resnet18", "evaluator": False, "visualizer": False}
    kind, given = {
        "padim": (Padim, {"layers": ["layer1", "layer2"], "n_features": 20}),
        "patchcore": (Patchcore, {"layers": ["layer2", "layer3"], "coreset_sampling_ratio": 0.05}),
        "stfpm": (Stfpm, {"layers": ["layer1", "layer2"]}),
        "fastflow": (Fastflow, {"flow_steps": 2}),
    }[name]
    if name != "stfpm":
        given["pre_trained"] = False
    cut = {"center_crop_size": (crop, crop)} if crop else {}
    transform = kind.configure_pre_processor((size, size), **cut)
    torch.manual_seed(0)
    with quiet(), local_backbones():
        return kind(pre_processor=transform, **resnet, **given)


def train(module: Any, name: str, folder: Path) -> None:
    with quiet():
        from anomalib.data import Folder
        from anomalib.engine import Engine

    data = folder / "data"
    for split, count, first in (("train", 16, 0), ("val", 8, 500)):
        (data / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(data / split / f"{i:02}.png"), texture(first + i)[..., ::-1])
    steps = {"stfpm": {"max_epochs": 1}, "fastflow": {"max_epochs": 2, "max_steps": 4}}
    with quiet():
        images = Folder(
            name="textures",
            root=data,
            normal_dir="train",
            normal_test_dir="val",
            test_split_mode="from_dir",
            val_split_mode="same_as_test",
            train_batch_size=8,
            eval_batch_size=8,
            num_workers=0,
            seed=0,
        )
        engine = Engine(
            default_root_dir=folder / "runs",
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **steps.get(name, {}),
        )
        engine.fit(module, datamodule=images)
        engine.trainer.save_checkpoint(folder / "model.ckpt")
    module.eval()


def to_onnx(module: Any, folder: Path, name: str = "model", **more: Any) -> Path:
    with quiet():
        found = module.to_onnx(folder, model_file_name=name, input_size=(SIDE, SIDE), **more)
    return Path(found)


def to_openvino(onnx: Path) -> Path:
    """As anomalib's own export does it, from its ONNX file."""
    import openvino

    path = onnx.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
    return path


def trained(name: str, folder: Path) -> Trained:
    """Train a model and write it in every format, with raw scores where a format bakes them in."""
    folder.mkdir()
    module = build(name)
    train(module, name, folder)
    with quiet():
        export = Path(module.to_torch(folder))
    module.post_processor.enable_normalization = False
    # The batch of PatchCore cannot be left free: its search for neighbours runs in chunks.
    more = {"dynamic_axes": {}} if name == "patchcore" else {}
    onnx = to_onnx(module, folder, **more)
    files = {"ckpt": folder / "model.ckpt", "pt": export, "onnx": onnx, "xml": to_openvino(onnx)}
    return Trained(name, module, files)


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    """Write what was measured as JSON and as a page of the documentation."""
    path.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    columns = ("model", "format", "scores", "maps", "batch", "threads")
    lines = [
        "# anomalib: formats and models, measured",
        "",
        "Written by `make test-anomalib` with `PYIMGANO_WRITE=1`: models that anomalib 2.7.0 has",
        "trained on generated images, judged through `vision_anomalib_checkpoint` and by its own",
        "network. `scores` and `maps` are the largest difference, relative to the largest value;",
        "`batch` is how many images go in at once; `threads` says whether four threads at once got",
        "what one got.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(str(row[name]) for name in columns)} |" for row in rows),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")

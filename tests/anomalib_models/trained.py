"""Tiny models that anomalib trains here, without weights from anywhere, in all its formats."""

from __future__ import annotations

import contextlib
import inspect
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
FORMATS = ("ckpt", "pt", "onnx", "xml")
BACKBONE = {"backbone": "resnet18"}
ONE = {"layers": ["layer2"], **BACKBONE}
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "padim": ("Padim", {"layers": ["layer1", "layer2"], "n_features": 20, **BACKBONE}),
    "patchcore": (
        "Patchcore",
        {"layers": ["layer2", "layer3"], "coreset_sampling_ratio": 0.05, **BACKBONE},
    ),
    "stfpm": ("Stfpm", {"layers": ["layer1", "layer2"], **BACKBONE}),
    "fastflow": ("Fastflow", {"flow_steps": 2, **BACKBONE}),
    "cfa": ("Cfa", BACKBONE),
    "dfm": ("Dfm", {"layer": "layer2", "pca_level": 0.9, **BACKBONE}),
    "ganomaly": ("Ganomaly", {"batch_size": 8, "n_features": 16, "latent_vec_size": 20}),
    "supersimplenet": ("Supersimplenet", {"layers": ["layer2", "layer3"], **BACKBONE}),
}
"""Trained and run in all formats: class and parameters by our name."""
LOADED: dict[str, tuple[str, dict[str, Any]]] = {
    "dfkde": ("Dfkde", {"n_pca_components": 4, **ONE}),
    "reverse_distillation": ("ReverseDistillation", BACKBONE),
    "cflow": ("Cflow", {"coupling_blocks": 1, **ONE}),
    "csflow": ("Csflow", {"cross_conv_hidden_channels": 16, "n_coupling_blocks": 1}),
    "draem": ("Draem", {}),
    "fre": ("Fre", {"layer": "layer2", "input_dim": 4608, "latent_dim": 20, **BACKBONE}),
    "uflow": ("Uflow", {"flow_steps": 1, **BACKBONE}),
}
"""Trained and run from their checkpoint: what exports them costs more time than it tells."""
MODELS = {**WHOLE, **LOADED}
SIDES = {"csflow": 256}  # its coarsest grid has a 128th of the pixels
ONCE = {"padim", "patchcore", "dfm", "dfkde"}
NOT_RUN = {
    "anomalydino": "its backbone is DINOv2, of 84 MB, here under vision_anomalydino",
    "anomalyvfm": "downloads its adapted foundation model",
    "dinomaly": "its backbone is DINOv2, of 350 MB",
    "dsr": "downloads a quantised network",
    "efficientad": "downloads a teacher and ImageNette",
    "foundad": "its backbone is DINOv2, of 350 MB",
    "generalad": "its backbone is DINOv2, of 1.2 GB",
    "glass": "downloads the textures of DTD",
    "inpformer": "its backbone is DINOv2, of 350 MB",
    "l2bt": "its backbone is DINO, of 350 MB",
    "mhpatchcore": "not tried yet",
    "patchflow": "its backbone is EfficientNet-B5, of 120 MB",
    "rad": "its backbone is DINOv3, of 350 MB",
    "rkde": "anomalib 2 has it no more",
    "superadd": "its backbone is DINOv3, of 3 GB",
    "uninet": "its backbones are two Wide ResNets of 50 layers",
    "vlmad": "asks a vision-language model",
    "winclip": "downloads CLIP",
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
        from anomalib.models import image as models

    kind, given = getattr(models, MODELS[name][0]), dict(MODELS[name][1])
    named = inspect.signature(kind.__init__).parameters
    given |= {"pre_trained": False} if "pre_trained" in named else {}
    given |= {"dtd_dir": Path(__file__).parent} if "dtd_dir" in named else {}
    cut = {"center_crop_size": (crop, crop)} if crop else {}
    size = SIDES.get(name, size)
    seen = kind.configure_pre_processor((size, size), **cut)
    torch.manual_seed(0)
    with quiet(), local_backbones():
        return kind(pre_processor=seen, evaluator=False, visualizer=False, **given)


def train(module: Any, name: str, folder: Path) -> None:
    with quiet():
        from anomalib.data import Folder
        from anomalib.engine import Engine

    data = folder / "data"
    for split, count, first in (("train", 16, 0), ("val", 8, 500)):
        (data / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(data / split / f"{i:02}.png"), texture(first + i)[..., ::-1])
    steps = {} if name in ONCE else {"max_epochs": 2, "max_steps": 4}
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
            **steps,
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
    """Train a model and write it in its formats, with raw scores where a format bakes them in."""
    folder.mkdir()
    module = build(name)
    train(module, name, folder)
    files = {"ckpt": folder / "model.ckpt"}
    if name in LOADED:
        return Trained(name, module, files)
    with quiet():
        files["pt"] = Path(module.to_torch(folder))
    module.post_processor.enable_normalization = False
    # The batch of PatchCore cannot be left free: its search for neighbours runs in chunks.
    more = {"dynamic_axes": {}} if name == "patchcore" else {}
    files["onnx"] = to_onnx(module, folder, **more)
    files["xml"] = to_openvino(files["onnx"])
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

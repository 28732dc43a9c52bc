"""DINOv2 as patch vectors, from a weight file that the user has; run by PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from pyimgano.errors import ArchiveError, ParameterError
from pyimgano.features._catalogue import WEIGHTS
from pyimgano.features._checkpoint import PRECISIONS, load_checkpoint, located, sha256_of
from pyimgano.features._grid import alike, check_image, cropped, normalised, tiled
from pyimgano.features._vit import ViTShape, build_vit, patch_tokens
from pyimgano.features.base import EXTRACTORS
from pyimgano.optional import require
from pyimgano.registry import Metadata
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["DinoV2", "DinoV2B14", "DinoV2B14Reg", "DinoV2G14", "DinoV2G14Reg", "DinoV2L14"]
__all__ += ["DinoV2L14Reg", "DinoV2S14", "DinoV2S14Reg"]

_REGISTERS: dict[str, Any] = {"registers": 4, "offset": 0.0, "antialias": True}


@dataclass(frozen=True, kw_only=True)
class DinoV2:
    """Patch tokens of DINOv2 (Oquab et al., 2304.07193) after its final normalisation.

    The subclasses differ in ``name`` and ``shape`` alone.

    Parameters
    ----------
    path : str
        The checkpoint (``.pth`` or ``.safetensors``; official and timm names are known), or a
        folder of torch.hub that holds it. By default the official file in the folder that
        ``PYIMGANO_WEIGHTS`` names, or where torch.hub keeps its downloads.
    download : bool
        Fetch the official file into torch.hub's folder if it is nowhere. Nothing is fetched unless
        this is set, and a model file does not set it.
    layers : tuple of int
        Blocks whose outputs are averaged, negative ones counted from the end; the last alone by
        default.
    precision : str
        ``"fp32"``, or ``"bf16"``, which is faster where the processor supports it.
    batch_size : int
        Images of one size that run together.

    Notes
    -----
    Pixels are normalised by ImageNet's mean and deviation. What exceeds a multiple of 14 pixels at
    the right and bottom is cut off. A model file records the checksum of the weights and where
    they were; where they are elsewhere, the environment variable ``PYIMGANO_WEIGHTS`` names their
    folder.

    torch.hub serves for its folder and its download alone. The network is the one in this package,
    so no code of a repository is fetched or run, and there is no commit of one to pin.
    """

    name: ClassVar[str]
    shape: ClassVar[ViTShape]

    path: str = ""
    download: bool = field(default=False, metadata={"stored": False})
    layers: tuple[int, ...] = (-1,)
    precision: str = "fp32"
    batch_size: int = 8

    @final
    @property
    def fingerprint(self) -> str:
        """Model, checksum of the weights, layers and precision.

        Raises
        ------
        ParameterError
            If no weights are given.
        ArchiveError
            If there is no such file.
        """
        layers = ",".join(str(layer) for layer in self.layers)
        return f"{self.name} sha256:{sha256_of(self._file())} layers:{layers} {self.precision}"

    @final
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed images.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W, 3)
            RGB, at least 14 pixels a side; sizes may differ.

        Returns
        -------
        list of PatchFeatures
            For each image (H // 14, W // 14, d).

        Raises
        ------
        InputError
            If an image has another type or shape, or is smaller than a patch.
        ParameterError
            If no weights are given, or a parameter cannot be used.
        ArchiveError
            If the weight file is missing, damaged or of another model.
        MissingExtra
            If torch is not installed.
        """
        self._check_parameters()
        patch = self.shape.patch
        for image in images:
            check_image(image, smallest=patch)
        path = self._file()
        shape, given = self.shape, (path, sha256_of(path), self.precision)
        model = _model(self.name, shape, *given, os.getpid())
        found: list[PatchFeatures] = []
        for batch in alike([cropped(image, patch) for image in images], self.batch_size):
            tokens = self._run(model, normalised(np.stack(batch)))
            found.extend(tiled(one, patch) for one in tokens)
        return found

    def _run(self, model: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        torch.set_num_threads(budget())
        with torch.inference_mode():
            given = torch.from_numpy(pixels).to(model.cls_token.dtype)
            tokens = patch_tokens(model, self.shape, given, self.layers)
            return np.ascontiguousarray(tokens.float().numpy())

    def _check_parameters(self) -> None:
        depth = self.shape.depth
        if not self.layers or any(not -depth <= layer < depth for layer in self.layers):
            raise ParameterError(
                f"layers of {self.name} are numbers from {-depth} to {depth - 1}: {self.layers!r}"
            )
        if self.precision not in PRECISIONS or self.batch_size < 1:
            raise ParameterError(
                f"precision must be one of {PRECISIONS} and batch_size at least 1: {self!r}"
            )

    def _file(self) -> Path:
        """Return the weight file, or tell which one to fetch from where."""
        official, url = WEIGHTS[self.name].file, WEIGHTS[self.name].url
        how = (
            f"run pyimgano fetch {self.name}, or "
            f"fetch {url} (Apache-2.0) where there is a network, and give the file: "
            f"--extractor {self.name}:{official}, or {type(self).__name__}(path='{official}')"
        )
        inside = (official, f"checkpoints/{official}", f"hub/checkpoints/{official}")
        found = located(self.path or str(_cache() / official), *inside)
        if found is not None:
            return found
        if self.path:
            raise ArchiveError(f"there are no weights of {self.name} at {self.path}: {how}")
        if self.download:
            return _downloaded(url, official)
        raise ParameterError(
            f"{self.name} needs its weights, and downloads nothing by itself: {how}"
        )


def _variant(name: str, shape: ViTShape) -> Callable[[type[DinoV2]], type[DinoV2]]:
    """Return a decorator that gives a subclass its name and shape, and registers it."""
    registers = ", registers" if shape.registers else ""
    facts = Metadata(
        summary=f"DINOv2 ViT, {shape.dim} wide, {shape.depth} blocks{registers}; your weight file.",
        paper="Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193",
        licence="Apache-2.0 (the weights too; they are not shipped)",
        extra="torch",
        modules=("torch",),
        details=(("file", "a checkpoint (.pth, .safetensors) or a folder of torch.hub"),),
    )

    def finish(kind: type[DinoV2]) -> type[DinoV2]:
        kind.name, kind.shape = name, shape
        EXTRACTORS.register(name, facts)(kind)
        return kind

    return finish


@final
@_variant("dinov2_vits14", ViTShape(dim=384, depth=12, heads=6))
class DinoV2S14(DinoV2):
    """ViT-S/14, 21 million parameters; the paper's AnomalyDINO."""


@final
@_variant("dinov2_vits14_reg", ViTShape(dim=384, depth=12, heads=6, **_REGISTERS))
class DinoV2S14Reg(DinoV2):
    """ViT-S/14 with four registers."""


@final
@_variant("dinov2_vitb14", ViTShape(dim=768, depth=12, heads=12))
class DinoV2B14(DinoV2):
    """ViT-B/14, 86 million parameters."""


@final
@_variant("dinov2_vitb14_reg", ViTShape(dim=768, depth=12, heads=12, **_REGISTERS))
class DinoV2B14Reg(DinoV2):
    """ViT-B/14 with four registers."""


@final
@_variant("dinov2_vitl14", ViTShape(dim=1024, depth=24, heads=16))
class DinoV2L14(DinoV2):
    """ViT-L/14, 300 million parameters."""


@final
@_variant("dinov2_vitl14_reg", ViTShape(dim=1024, depth=24, heads=16, **_REGISTERS))
class DinoV2L14Reg(DinoV2):
    """ViT-L/14 with four registers."""


@final
@_variant("dinov2_vitg14", ViTShape(dim=1536, depth=40, heads=24, gated=True))
class DinoV2G14(DinoV2):
    """ViT-g/14, 1.1 billion parameters: 4.5 GB of memory as fp32, half of it as bf16."""


@final
@_variant("dinov2_vitg14_reg", ViTShape(dim=1536, depth=40, heads=24, gated=True, **_REGISTERS))
class DinoV2G14Reg(DinoV2):
    """ViT-g/14 with four registers."""


def _cache() -> Path:
    """Return the folder in which torch.hub keeps weight files."""
    base = os.environ.get("TORCH_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"
    )
    return Path(base, "hub", "checkpoints").expanduser()


def _downloaded(url: str, official: str) -> Path:
    torch = require("torch", extra="torch", purpose="a download by torch.hub")
    path = _cache() / official
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise ArchiveError(f"{url} cannot be fetched: {error}") from error
    return path


@lru_cache(maxsize=2)
def _model(
    name: str, shape: ViTShape, path: Path, _sha256: str, precision: str, _process: int
) -> Any:
    """Return the network, ready to run; kept until another file or process asks."""
    torch = require("torch", extra="torch", purpose=f"extractor {name!r}")
    with torch.device("meta"):  # the file brings the numbers: none are made to be thrown away
        model = build_vit(shape)
    load_checkpoint(model, path, name)
    return model.eval().to(torch.bfloat16 if precision == "bf16" else torch.float32)

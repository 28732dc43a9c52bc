"""DINOv2 as patch vectors, from a weight file that the user has; run by PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from pyimgano.errors import ArchiveError, ParameterError
from pyimgano.features._catalogue import WEIGHTS
from pyimgano.features._checkpoint import PRECISIONS, absent, load_checkpoint, located, sha256_of
from pyimgano.features._grid import alike, check_image, cropped, normalised, tiled
from pyimgano.features._vit import ViTShape, build_vit, patch_tokens
from pyimgano.features.base import EXTRACTORS
from pyimgano.optional import require
from pyimgano.registry import Metadata
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        """Model, checksum of the weights, layers and precision; errors as of `embed`."""
        layers = ",".join(str(layer) for layer in self.layers)
        return f"{self.name} sha256:{sha256_of(self._file())} layers:{layers} {self.precision}"

    @final
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed RGB images (H, W, 3), at least 14 pixels a side: (H // 14, W // 14, d) each.

        An image that does not fit is an `InputError`, a parameter, or no weights, a
        `ParameterError`; a file that is missing, damaged or of another model is an `ArchiveError`,
        no torch `MissingExtra`.
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
        if self.download and not self.path:
            return _downloaded(url, official)
        raise absent(self.name, self.name, self.path, how)


def _registered(size: str, shape: ViTShape, about: str) -> tuple[type[DinoV2], ...]:
    """Return the registered subclasses of ViT-<size>/14: plain, and with four registers."""
    base = f"dinov2_vit{size.lower()}14"
    kinds = (
        (base, "", shape, f", {about}"),
        (f"{base}_reg", "Reg", replace(shape, **_REGISTERS), " with four registers."),
    )
    made = []
    for name, ending, own, told in kinds:
        what = f"{own.dim} wide, {own.depth} blocks{', registers' if ending else ''}"
        parts = {"name": name, "shape": own, "__module__": __name__}
        parts["__doc__"] = f"ViT-{size}/14{told}"
        kind = type(f"DinoV2{size.upper()}14{ending}", (DinoV2,), parts)
        facts = Metadata(
            summary=f"DINOv2 ViT, {what}; your weight file.",
            paper="Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193",
            licence="Apache-2.0 (the weights too; they are not shipped)",
            extra="torch",
            modules=("torch",),
            details=(("file", "a checkpoint (.pth, .safetensors) or a folder of torch.hub"),),
        )
        EXTRACTORS.register(name, facts)(kind)
        made.append(kind)
    return tuple(made)


DinoV2S14, DinoV2S14Reg = _registered(
    "S", ViTShape(dim=384, depth=12, heads=6), "21 million parameters; the paper's AnomalyDINO."
)
DinoV2B14, DinoV2B14Reg = _registered(
    "B", ViTShape(dim=768, depth=12, heads=12), "86 million parameters."
)
DinoV2L14, DinoV2L14Reg = _registered(
    "L", ViTShape(dim=1024, depth=24, heads=16), "300 million parameters."
)
DinoV2G14, DinoV2G14Reg = _registered(
    "g",
    ViTShape(dim=1536, depth=40, heads=24, gated=True),
    "1.1 billion parameters: 4.5 GB of memory as fp32, half of it as bf16.",
)


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

"""Any model of timm by its name as an extractor: patch tokens, or feature maps."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyimgano.errors import ArchiveError, InputError, ParameterError
from pyimgano.features._checkpoint import PRECISIONS, absent, located, read_checkpoint, sha256_of
from pyimgano.features._grid import alike, check_image, covering, cropped, normalised, squeezed
from pyimgano.features.base import EXTRACTORS
from pyimgano.optional import require
from pyimgano.registry import Metadata
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["TimmModel"]

_FINE, _COARSE = 8, 16  # cells of the stages that are taken of a pyramid unless told
_REFUSALS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class _Network(NamedTuple):
    """A model, ready to run; its layers; the side of their cells; its input size if it is fixed."""

    model: Any
    layers: tuple[int, ...]
    cells: tuple[int, ...]
    size: tuple[int, int] | None


@EXTRACTORS.register(
    "timm",
    Metadata(
        summary="Any timm model by name, DINOv3 among them; your weight file.",
        licence="that of the weights (DINOv3: its own)",
        extra="timm",
        modules=("timm",),
        details=(("file", "a checkpoint for the model"), ("model", "a name of timm")),
    ),
)
@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """Features of a model that timm knows by name (Wightman, github.com/huggingface/timm).

    Parameters
    ----------
    model : str
        Its name, with or without the tag of its weights: ``"vit_small_patch16_dinov3"``.
    path : str
        Its weights: ``.safetensors``, or what ``torch.save`` wrote of a state dict, under the names
        of timm or those that timm converts.
    download : bool
        Let timm fetch its own weights. Nothing is fetched unless this is set.
    random : bool
        Take untrained weights, always the same ones: for tests, and as a floor to compare with.
    layers : tuple of int
        Blocks or stages, negative ones counted from the end. Those on one grid are averaged, others
        are concatenated on the finest. By default the last block of a transformer, and the
        stages with cells of 8 and 16 pixels of a pyramid.
    precision : str
        ``"fp32"``, or ``"bf16"``, which is faster where the processor supports it.
    batch_size : int
        Images of one size that run together.

    Notes
    -----
    A transformer gives its patch tokens after its final normalisation; class and register tokens
    are left out. Mean and deviation of the pixels are those that timm states for the model. What
    exceeds a multiple of the largest cell at the right and bottom is cut off; a model of fixed
    input size has every image squeezed into it. A missing file is looked for under its name in the
    folder that ``PYIMGANO_WEIGHTS`` names.
    """

    model: str = ""
    path: str = ""
    download: bool = field(default=False, metadata={"stored": False})
    random: bool = False
    layers: tuple[int, ...] = ()
    precision: str = "fp32"
    batch_size: int = 8

    @property
    def fingerprint(self) -> str:
        """Model, checksum of the weights, layers and precision; errors as of `embed`."""
        file = self._file()
        digest = sha256_of(file) if file else _digest(self._network().model)
        layers = ",".join(map(str, self.layers)) or "default"
        return f"timm {self.model} sha256:{digest} layers:{layers} {self.precision}"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed RGB images (H, W, 3), at least one cell a side: one grid (h, w, d) each.

        An image that does not fit, or that the model does not take, is an `InputError`; a model
        that timm lacks, a parameter, or no weights a `ParameterError`; weights that cannot be read
        or fetched, or of another model, an `ArchiveError`; no timm `MissingExtra`.
        """
        if self.precision not in PRECISIONS or self.batch_size < 1:
            raise ParameterError(
                f"precision must be one of {PRECISIONS} and batch_size at least 1: {self!r}"
            )
        network = self._network()
        coarse = max(network.cells)
        for image in images:
            check_image(image, smallest=1 if network.size else coarse)
        seen = [cropped(image, coarse) for image in images]
        if network.size:
            seen = [squeezed(image, network.size) for image in images]
        grids = [one for batch in alike(seen, self.batch_size) for one in _run(network, batch)]
        whole = zip(grids, images if network.size else seen, strict=True)
        return [covering(values, image, layers) for (values, layers), image in whole]

    def _network(self) -> _Network:
        file = self._file()
        digest = sha256_of(file) if file else ""
        given = (self.model, file, digest, self.random, self.layers, self.precision)
        return _network(*given, os.getpid())

    def _file(self) -> Path | None:
        """Return the weight file; None if timm fetches it, or makes numbers up, as was asked."""
        timm = require("timm", extra="timm", purpose="extractor 'timm'")
        if not timm.is_model(self.model):
            names = ", ".join(timm.list_models(f"*{self.model}*")[:5]) if self.model else ""
            hint = f"; it has {names}" if names else "; timm.list_models() lists them"
            raise ParameterError(f"timm has no model {self.model!r}{hint}")
        try:
            about = timm.get_pretrained_cfg(self.model, allow_unregistered=False)
        except RuntimeError as error:
            raise ParameterError(f"timm has no model {self.model!r}: {error}") from error
        how = (
            f"fetch model.safetensors of https://huggingface.co/{about.hf_hub_id} (licence: "
            f"{about.license or 'see there'}) where there is a network, and give the file: "
            f"--extractor timm:{self.model}:model.safetensors, or TimmModel(model=..., path=...)"
        )
        found = located(self.path) if self.path else None
        if found is not None or (not self.path and (self.download or self.random)):
            return found
        how += "" if self.path else "; random=True takes untrained ones"
        raise absent(f"timm:{self.model}", self.model, self.path, how)


def _run(
    network: _Network, images: list[NDArray[np.uint8]]
) -> list[tuple[NDArray[np.float32], tuple[tuple[int, int], ...]]]:
    """Return the grid of each image of one size, and what `PatchFeatures` says of its layers."""
    import torch

    model, about = network.model, network.model.pretrained_cfg
    pixels = normalised(np.stack(images), tuple(about["mean"]), tuple(about["std"]))
    torch.set_num_threads(budget())
    with torch.inference_mode():
        given = torch.from_numpy(pixels).to(next(model.parameters()).dtype)
        try:
            maps = model.forward_intermediates(
                given, indices=list(network.layers), norm=True, intermediates_only=True
            )
        except _REFUSALS as error:
            told = str(error).strip().partition("\n")[0]
            raise InputError(
                f"timm's model does not take images of {images[0].shape[:2]}: {told}"
            ) from error
        sizes = [one.shape[2:] for one in maps]
        if len(set(sizes)) == 1:
            joined, layers = torch.stack([one.float() for one in maps]).mean(dim=0), ()
        else:
            joined, layers = _stacked(maps, max(sizes))
        grids = joined.permute(0, 2, 3, 1).contiguous().numpy()
    return [(one, layers) for one in grids]


def _stacked(maps: list[Any], finest: Any) -> tuple[Any, Any]:
    """Put maps of several cell sizes on the finest grid, the finest first."""
    from torch.nn import functional

    import torch

    maps = sorted(maps, key=lambda one: -one.shape[2])
    enlarged = [functional.interpolate(one.float(), finest, mode="bilinear") for one in maps]
    layers = tuple((one.shape[1], round(finest[0] / one.shape[2])) for one in maps)
    return torch.cat(enlarged, dim=1), layers


@lru_cache(maxsize=2)
def _network(
    name: str,
    path: Path | None,
    _sha256: str,
    random: bool,
    layers: tuple[int, ...],
    precision: str,
    _process: int,
) -> _Network:
    """Return the model, ready to run; kept until another one or another process asks."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, free = _made(name, path, random=random)
    about = model.pretrained_cfg
    about["state_dict"] = None  # it would stay in memory
    cells = [one["reduction"] for one in model.feature_info]
    count = len(cells)
    if not layers:
        middle = tuple(i for i, cell in enumerate(cells) if cell in {_FINE, _COARSE})
        layers = middle if len(set(cells)) > 1 and middle else (-1,)
    if any(not -count <= layer < count for layer in layers):
        raise ParameterError(
            f"layers of {name} are numbers from {-count} to {count - 1}: {layers!r}"
        )
    chosen = tuple(sorted({layer % count for layer in layers}))
    size = None if free or not about["fixed_input_size"] else tuple(about["input_size"][1:])
    model = model.eval().to(torch.bfloat16 if precision == "bf16" else torch.float32)
    return _Network(model, chosen, tuple(cells[i] for i in chosen), size)


def _made(name: str, path: Path | None, *, random: bool) -> tuple[Any, bool]:
    """Return the model with its weights, and whether it takes images of any size."""
    import timm

    given: dict[str, Any] = {"pretrained": path is not None or not random}
    if path is not None:  # timm converts the names, and refuses what is missing or left over
        given["pretrained_cfg_overlay"] = {"state_dict": read_checkpoint(path)}
    try:
        try:
            return timm.create_model(name, dynamic_img_size=True, **given), True
        except TypeError:  # no transformer: it knows no such parameter
            model = timm.create_model(name, **given)
            return model, not model.pretrained_cfg["fixed_input_size"]
    except (OSError, *_REFUSALS) as error:
        told = str(error).strip().replace("\n\t", " ").partition("\n")[0][:300]
        what = f"{path} holds no weights of {name}" if path else f"timm cannot make {name}"
        raise ArchiveError(f"{what}: {told}") from error


def _digest(model: Any) -> str:
    """Return the checksum of the weights themselves: names, types, shapes and numbers."""
    import torch

    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

"""A CLIP of open_clip by its name, from a weight file that the user has: images, windows, texts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ArchiveError, ParameterError
from pyimgano.features._checkpoint import PRECISIONS, absent, located, read_checkpoint, sha256_of
from pyimgano.features._grid import check_image, covering, normalised, squeezed
from pyimgano.features.base import EXTRACTORS
from pyimgano.features.text_image import CLIP_PIXELS
from pyimgano.optional import require
from pyimgano.registry import Metadata
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["OpenClip"]

_TOGETHER = 64  # texts, or windows, that run at once
_FILE = "open_clip_model.safetensors"  # its name on the hub


@EXTRACTORS.register(
    "open_clip",
    Metadata(
        summary="A CLIP of open_clip with its own ViT, images and texts; your weight file.",
        paper="Cherti et al., CVPR 2023, arXiv 2212.07143",
        licence="MIT; that of the weights",
        extra="clip",
        modules=("open_clip", "torch"),
        details=(("file", "a checkpoint for the model"), ("model", "a name of open_clip")),
    ),
)
@dataclass(frozen=True, kw_only=True)
class OpenClip:
    """Image, window, patch and text vectors of a CLIP that open_clip knows by name.

    Parameters
    ----------
    model : str
        Its name, such as ``"ViT-B-16-plus-240"``; that of weights of OpenAI ends in
        ``-quickgelu``.
    path : str
        Its weights: ``.safetensors``, or what ``torch.save`` wrote of a state dict, under the names
        of open_clip.
    precision : str
        ``"fp32"``, or ``"bf16"``, which is faster where the processor supports it.

    Notes
    -----
    Nothing is fetched: models whose tower or tokenizer open_clip takes from elsewhere (timm,
    transformers) are refused. An image is squeezed into the model's size, where open_clip would cut
    off what is not in the middle. Patch tokens come after the final normalisation. A missing file
    is looked for under its name in the folder that ``PYIMGANO_WEIGHTS`` names.
    """

    model: str = "ViT-B-16-plus-240"
    path: str = ""
    precision: str = "fp32"

    @property
    def fingerprint(self) -> str:
        """Model, checksum of the weights and precision; errors as of `embed`."""
        return f"open_clip {self.model} sha256:{sha256_of(self._file())} {self.precision}"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Return the patch tokens of RGB images (H, W, 3): one grid (h, w, d) an image.

        An image that does not fit is an `InputError`; no weights, or a model that open_clip lacks
        or that cannot be used here, a `ParameterError`; a file that is missing, damaged or of
        another model an `ArchiveError`; no open_clip `MissingExtra`.
        """
        visual = self._network().visual

        def see(x: Any) -> Any:
            return visual._pool(visual.transformer(x))[1]

        size = (*visual.grid_size, -1)
        return [covering(self._seen(one, see).reshape(size), one) for one in images]

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of images; for parameters and errors see `embed`."""
        visual = self._network().visual
        return np.concatenate([self._seen(one, lambda x: _pooled(visual, x)) for one in images])

    def embed_windows(self, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        """Embed every window of ``side`` x ``side`` patches; shape (rows, columns, d).

        The transformer sees the class token and the patches of the window alone, where they are.
        So it is done in WinCLIP (arXiv 2303.14814, section 4.2).
        """
        import torch

        visual = self._network().visual
        height, width = visual.grid_size
        down, across = height - side + 1, width - side + 1
        if min(down, across) < 1:
            raise ParameterError(
                f"{self.model} has {height} x {width} patches: windows of {side} are too large"
            )
        places = torch.arange(1, height * width + 1).reshape(height, width)
        windows = places.unfold(0, side, 1).unfold(1, side, 1).reshape(down * across, side**2)
        chosen = torch.cat([torch.zeros(len(windows), 1, dtype=torch.long), windows], dim=1)

        def see(x: Any) -> Any:
            return torch.cat([_pooled(visual, x[0, part]) for part in chosen.split(_TOGETHER)])

        return self._seen(image, see).reshape(down, across, -1)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings (m, d) of texts, in the space of those of images."""
        import open_clip

        import torch

        network = self._network()
        torch.set_num_threads(budget())
        tokens = open_clip.get_tokenizer(self.model)(list(texts))
        with torch.inference_mode():
            parts = [network.encode_text(part).float() for part in tokens.split(_TOGETHER)]
            return np.ascontiguousarray(torch.cat(parts).numpy())

    def _seen(self, image: NDArray[np.uint8], see: Callable[[Any], Any]) -> NDArray[np.float32]:
        """Return what ``see`` makes of the tokens (1, 1 + h * w, d) before the transformer."""
        import torch

        check_image(image, smallest=1)
        visual = self._network().visual
        pixels = normalised(squeezed(image, visual.image_size)[None], *CLIP_PIXELS)
        torch.set_num_threads(budget())
        with torch.inference_mode():
            given = torch.from_numpy(pixels).to(visual.proj.dtype)
            return np.ascontiguousarray(see(visual._embeds(given)).float().numpy())

    def _network(self) -> Any:
        if self.precision not in PRECISIONS:
            raise ParameterError(f"precision must be one of {PRECISIONS}: {self.precision!r}")
        file = self._file()
        return _network(self.model, file, sha256_of(file), self.precision, os.getpid())

    def _file(self) -> Path:
        """Return the weight file, or tell which one to fetch from where."""
        open_clip = require("open_clip", extra="clip", purpose="extractor 'open_clip'")
        _config(self.model)
        found = located(self.path, _FILE) if self.path else None
        if found is not None:
            return found
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        about = open_clip.get_pretrained_cfg(self.model, tags[0]) if tags else {}
        hub = about.get("hf_hub", "").strip("/")
        source = f"{_FILE} of https://huggingface.co/{hub}" if hub else "its checkpoint"
        how = (
            f"fetch {source} where there is a network, and give the file: "
            f"--extractor open_clip:{self.model}:{_FILE}, or OpenClip(model=..., path=...)"
        )
        raise absent(f"open_clip:{self.model}", self.model, self.path, how)


def _pooled(visual: Any, tokens: Any) -> Any:
    """Return embeddings (n, d) of tokens (n, 1 + patches, width)."""
    return visual._pool(visual.transformer(tokens))[0] @ visual.proj


def _config(name: str) -> dict[str, Any]:
    """Return what open_clip makes a model of, if all of it is in open_clip itself."""
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        near = ", ".join([one for one in known if name and name.lower() in one.lower()][:5])
        raise ParameterError(
            f"open_clip has no model {name!r}; "
            f"{f'it has {near}' if near else 'open_clip.list_models() lists them'}"
        )
    config: dict[str, Any] = open_clip.get_model_config(name)
    parts = (config["vision_cfg"], config["text_cfg"])
    foreign = sorted(config.keys() - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"})
    foreign += [key for part in parts for key in part if key.startswith(("timm_", "hf_"))]
    if foreign or not isinstance(parts[0]["layers"], int):
        raise ParameterError(
            f"{name} is no plain ViT of open_clip ({', '.join(foreign) or 'a ResNet'}): take one "
            "such as ViT-B-16-plus-240, or export its image half for clip_onnx"
        )
    return config


@lru_cache(maxsize=2)
def _network(name: str, path: Path, _sha256: str, precision: str, _process: int) -> Any:
    """Return the network, ready to run; kept until another one or another process asks."""
    import open_clip

    import torch

    state = {key.removeprefix("module."): one for key, one in read_checkpoint(path).items()}
    with torch.random.fork_rng(devices=[]):  # numbers are made, to be replaced
        network = open_clip.CLIP(**_config(name))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise ArchiveError(f"{path} holds no weights of {name}: {told}") from error
    return network.eval().to(torch.bfloat16 if precision == "bf16" else torch.float32)

"""Weight files by name: which file it is, where it is published, under which licence."""

from __future__ import annotations

from dataclasses import dataclass

from pyimgano.registry import Metadata, Registry

__all__ = ["WEIGHTS", "Weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A published weight file; ``sha256`` is empty where none is stated, as of DINOv2."""

    file: str  # its name, there and here
    url: str  # where it is published
    megabytes: int  # about how large it is: what has another size is something else
    licence: str  # its licence, by the SPDX identifier
    sha256: str = ""


WEIGHTS: Registry[Weights] = Registry("weights")
"""All that ``pyimgano fetch`` knows by name."""

_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"
_MEGABYTES = {"s": 88, "b": 346, "l": 1217, "g": 4546}  # four bytes a parameter

for _size, _megabytes in _MEGABYTES.items():
    for _kind, _mark in (("", ""), ("_reg", "_reg4")):
        _base = f"dinov2_vit{_size}14"
        _file = f"{_base}{_mark}_pretrain.pth"
        _about = Metadata(summary=f"DINOv2, the extractor {_base}{_kind}.")
        _url = f"{_DINOV2}/{_base}/{_file}"
        WEIGHTS.register(f"{_base}{_kind}", _about)(
            Weights(file=_file, url=_url, megabytes=_megabytes, licence="Apache-2.0")
        )

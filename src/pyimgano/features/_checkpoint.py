"""Reads a checkpoint of a vision transformer that the user names; nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyimgano.errors import ArchiveError
from pyimgano.features._weights import DAMAGE
from pyimgano.optional import require

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_checkpoint", "sha256_of"]

_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MAX_HEADER = 100 * 2**20
_DAMAGE: tuple[type[Exception], ...] = (OSError, RuntimeError, *DAMAGE)


def sha256_of(path: Path) -> str:
    """Return the checksum of a file; one that has not changed since is not read again.

    Raises
    ------
    ArchiveError
        If it cannot be read.
    """
    try:
        facts = path.stat()
        return _sha256(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise ArchiveError(f"the weight file {path} cannot be read: {error}") from error


@lru_cache(maxsize=16)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_checkpoint(model: Any, path: Path, name: str) -> None:
    """Fill a network of `build_vit` with the weights of a file.

    Parameters
    ----------
    model : nn.Module
        What to fill.
    path : Path
        A ``.safetensors`` file, or what ``torch.save`` wrote of a state dict. Names of the
        official DINOv2 files and of timm are known.
    name : str
        What the file should be, for messages.

    Raises
    ------
    ArchiveError
        If it cannot be read, holds anything but tensors, or another network.
    """
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    except _DAMAGE as error:
        first = str(error).strip().partition("\n")[0]
        raise ArchiveError(
            f"{path} is damaged or no plain state dict, and nothing in it was run "
            f"({type(error).__name__}: {first})"
        ) from error
    expected = model.state_dict()
    found = _official(state, expected["pos_embed"])
    wrong = _difference(found, expected)
    if wrong:
        raise ArchiveError(f"{path} holds no weights of {name}: {wrong}")
    model.load_state_dict(found)


def _saved(path: Path) -> dict[str, Any]:
    torch = require("torch", extra="torch", purpose="a DINOv2 extractor")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(torch.is_tensor(one) for one in state.values()):
        raise ValueError("it holds something else than a flat dictionary of tensors")
    return state


def _safetensors(path: Path) -> dict[str, Any]:
    """Read the format of safetensors: length of a JSON header, the header, raw numbers."""
    torch = require("torch", extra="torch", purpose="a DINOv2 extractor")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(file.read(length))
        numbers = bytearray(file.read())
    header.pop("__metadata__", None)
    state = {}
    for name, facts in header.items():
        kind = getattr(torch, _TYPES[facts["dtype"]])
        first, last = facts["data_offsets"]
        raw = numbers[first:last]
        if not 0 <= first < last == first + len(raw):
            raise ValueError(f"it ends inside {name}")
        state[name] = torch.frombuffer(raw, dtype=kind).reshape(facts["shape"])
    return state


def _official(state: dict[str, Any], positions: Any) -> dict[str, Any]:
    """Return a state under the names of the official files.

    timm calls the registers otherwise, and adds the class token's position to the token itself.
    """
    found = {_CHUNKED.sub(r"blocks.\1.", name): tensor for name, tensor in state.items()}
    found.pop("mask_token", None)
    if "reg_token" in found:
        found["register_tokens"] = found.pop("reg_token")
    given = found.get("pos_embed")
    if given is not None and given.ndim == 3 and given.shape[1] == positions.shape[1] - 1:
        padded = given.new_zeros((1, positions.shape[1], given.shape[2]))
        padded[:, 1:] = given
        found["pos_embed"] = padded
    return found


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Say in a few words how two states differ; nothing if they do not."""
    for name, tensor in expected.items():
        if name not in found:
            return f"{name!r} is missing"
        if found[name].shape != tensor.shape:
            return f"{name!r} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
    surplus = sorted(found.keys() - expected.keys())
    return f"{surplus[0]!r} is not part of it" if surplus else ""

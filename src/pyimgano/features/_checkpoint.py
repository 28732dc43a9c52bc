"""Finds and reads a checkpoint that the user names; nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyimgano.errors import ArchiveError, ParameterError
from pyimgano.features._weights import DAMAGE
from pyimgano.features.base import FP32
from pyimgano.files import cache_folder
from pyimgano.optional import require

__all__ = ["PRECISIONS", "VARIABLE", "absent", "found_at", "load_checkpoint", "located"]
__all__ += ["read_checkpoint", "sha256_of", "weights_folder"]

VARIABLE = "PYIMGANO_WEIGHTS"
"""Environment variable: a folder in which a weight file is looked for that is not where it was."""

PRECISIONS = (FP32, "bf16")

_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_LAYER = re.compile(r"\.mlp\.(fc\d)\.")
_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MAX_HEADER = 100 * 2**20
_DAMAGE: tuple[type[Exception], ...] = (OSError, RuntimeError, *DAMAGE)


def located(given: str, *inside: str) -> Path | None:
    """Return the file ``given``, one of the names ``inside`` it if it is a folder, or None.

    What is not there is looked for under its name in the `weights_folder`.
    """
    first = Path(given).expanduser()
    places = [first, *(first / name for name in inside), weights_folder() / first.name]
    return next((place.resolve() for place in places if place.is_file()), None)


def found_at(given: str, unset: str) -> Path:
    """Return a file that must be there; ``unset`` says what is wrong if none is given."""
    if not given:
        raise ParameterError(unset)
    path = located(given)
    if path is None:
        raise ArchiveError(f"the weight file {given} cannot be read: there is none")
    return path


def absent(extractor: str, name: str, path: str, how: str) -> ArchiveError | ParameterError:
    """Return the error of weights that are not at ``path``, or not given; ``how`` to get them."""
    if path:
        return ArchiveError(f"there are no weights of {name} at {path}: {how}")
    return ParameterError(f"{extractor} needs its weights, and downloads nothing by itself: {how}")


def weights_folder() -> Path:
    """Return the folder of `VARIABLE`, else the one into which ``pyimgano fetch`` puts weights."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else cache_folder() / "weights"


def sha256_of(path: Path) -> str:
    """Return the checksum of a file; one that has not changed since is not read again."""
    try:
        facts = path.stat()
        return _sha256(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise ArchiveError(f"the weight file {path} cannot be read: {error}") from error


@lru_cache(maxsize=16)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors of a ``.safetensors`` file, or of what ``torch.save`` wrote, by name."""
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    except _DAMAGE as error:
        first = str(error).strip().partition("\n")[0]
        raise ArchiveError(
            f"{path} is damaged or no plain state dict, and nothing in it was run "
            f"({type(error).__name__}: {first})"
        ) from error


def load_checkpoint(model: Any, path: Path, name: str) -> None:
    """Fill a network of `build_vit` with the weights of a file, in the precision of the file.

    It may be one on torch's device ``meta``, which holds no numbers yet. Names of the official
    DINOv2 files and of timm are known; another network, or anything but tensors, is an
    `ArchiveError`.
    """
    state = read_checkpoint(path)
    expected = model.state_dict()
    found = _official(state, expected)
    wrong = _difference(found, expected)
    if wrong:
        raise ArchiveError(f"{path} holds no weights of {name}: {wrong}")
    model.load_state_dict(found, assign=True)


def _saved(path: Path) -> dict[str, Any]:
    torch = require("torch", extra="torch", purpose="a checkpoint")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # as open_clip's training leaves it, beside its epoch
    if not (isinstance(state, dict) and state) or not all(
        torch.is_tensor(one) for one in state.values()
    ):
        raise ValueError("it holds something else than a flat dictionary of tensors")
    return state


def _safetensors(path: Path) -> dict[str, Any]:
    """Read the format of safetensors: length of a JSON header, the header, raw numbers."""
    torch = require("torch", extra="torch", purpose="a checkpoint")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(file.read(length))
        numbers = memoryview(bytearray(path.stat().st_size - file.tell()))
        file.readinto(numbers)
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


def _official(state: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Return a state under the names of the official files.

    timm calls the registers and the layers of a SwiGLU otherwise, and adds the class token's
    position to the token itself.
    """
    gated = {"fc1": "w12", "fc2": "w3"} if "blocks.0.mlp.w12.weight" in expected else {}

    def official(name: str) -> str:
        plain = _CHUNKED.sub(r"blocks.\1.", name)
        return _LAYER.sub(lambda found: f".mlp.{gated.get(found[1], found[1])}.", plain)

    found = {official(name): tensor for name, tensor in state.items()}
    found.pop("mask_token", None)
    if "reg_token" in found:
        found["register_tokens"] = found.pop("reg_token")
    given, positions = found.get("pos_embed"), expected["pos_embed"]
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

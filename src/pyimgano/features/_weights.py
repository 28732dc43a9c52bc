"""Reads a PyTorch weight file without PyTorch, and without running anything that is in it.

Only the legacy layout of ``torch.save`` is read, and of it only what a plain state dict holds: five
pickles (magic number, protocol, machine, tensors, storage keys), then each storage as its length
and its raw little-endian numbers.
"""

from __future__ import annotations

import hashlib
import io
import pickle  # noqa: TID251 - the one restricted reader: only three inert globals resolve
import pickletools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DAMAGE", "read_state_dict"]

DAMAGE: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a parser raises where a weight file is damaged or no weight file."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_BYTES = 256 * 2**20
_MAX_MEMO = 2**20
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_state_dict(path: Path, *, sha256: str) -> dict[str, NDArray[Any]]:
    """Read the tensors (float32 or int64) of a weight file whose content is known, by their names.

    The checksum is compared before anything is parsed; the parser then resolves no names but those
    of a state dict. Either alone would be enough, and neither trusts the other. What does not fit
    is an `ArchiveError`.
    """
    data = _read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ArchiveError(
            f"{path} is not the weight file that is known: its sha256 should be {sha256}, but is "
            f"{found}. Reinstall the package that it came with."
        )
    try:
        return _parse(data)
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise ArchiveError(
            f"{path} is damaged or no weight file of PyTorch's legacy layout "
            f"({type(error).__name__}: {error})"
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ArchiveError(f"the weight file {path} cannot be read: {error}") from error
    if len(data) > _MAX_BYTES:
        raise ArchiveError(f"{path} is larger than the {_MAX_BYTES} bytes allowed for weights")
    return data


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: np.dtype[Any]
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view on a storage whose numbers come later in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, numbers: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)
        )
        if (
            min((self.offset, *self.shape, *self.strides)) < 0
            or last >= len(numbers)
            or np.prod(self.shape, dtype=object) > len(numbers)
        ):
            raise ArchiveError(f"a tensor of shape {self.shape} lies outside of its storage")
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, [step * numbers.itemsize for step in self.strides]
        )
        return np.array(view, order="C")


class _Rebuild:
    """Stands for ``torch._utils._rebuild_tensor_v2``; without slots to write to, it stays inert."""

    __slots__ = ()

    def __call__(self, storage: _Storage, offset: int, *layout: Any) -> _Tensor:
        shape, strides = layout[:2]
        return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise ArchiveError(
            f"it asks for {module}.{name}, which a file of weights does not need; it was not run"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, length, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise ArchiveError(f"it refers to something that is no plain storage: {kind!r}")
        return _Storage(dtype, str(key), int(length))


def _load(file: io.BytesIO) -> Any:
    """Load one pickle, after a look at its memo: as much is allocated as an index asks for."""
    start = file.tell()
    for opcode, number, _ in pickletools.genops(file):
        if opcode.name in {"PUT", "LONG_BINPUT"} and (number or 0) > _MAX_MEMO:
            raise ArchiveError(f"it numbers an object {number}, more than a state dict can hold")
    file.seek(start)
    return _Unpickler(file).load()


def _parse(data: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(data)
    magic, protocol, machine = (_load(file) for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not machine["little_endian"]:
        raise ArchiveError("its head is not that of PyTorch's legacy layout, little-endian")
    tensors, keys = _load(file), _load(file)
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        raise ArchiveError("it holds something else than a flat dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if sorted(keys) != sorted(storages):
        raise ArchiveError("its storages are not those that its tensors refer to")
    numbers = {key: _numbers(file, storages[key]) for key in keys}
    if file.read(1):
        raise ArchiveError("it goes on after the last storage")
    return {str(name): t.read(numbers[t.storage.key]) for name, t in tensors.items()}


def _numbers(file: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    length = int.from_bytes(file.read(8), "little", signed=True)
    if length != storage.length:
        raise ArchiveError(f"storage {storage.key} has {length} numbers, not {storage.length}")
    raw = file.read(length * storage.dtype.itemsize)
    if len(raw) != length * storage.dtype.itemsize:
        raise ArchiveError(f"it ends inside storage {storage.key}")
    return np.frombuffer(raw, storage.dtype)

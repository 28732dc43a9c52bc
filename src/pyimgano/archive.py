"""The one-file model format: a zip of ``manifest.json`` and ``.npy`` arrays. No pickle, no code.

Every array's SHA-256, type and shape stand in the manifest, and the manifest's own SHA-256 beside
it. Members are stored uncompressed, so that no member can grow beyond the file that holds it, and
sizes are checked before anything is allocated. Checksums find damage; they are not signatures:
load models that you trust.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.atomic import atomic_write
from pyimgano.errors import ArchiveError, ParameterError, UnknownNameError
from pyimgano.registry import VALUES
from pyimgano.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["FORMAT", "decode", "encode", "read_archive", "write_archive"]

FORMAT = 1
"""Number of the format that is written; this and the one before it are read."""

_KIND = "pyimgano model"
_MANIFEST = "manifest.json"
_DIGEST = "manifest.sha256"
_MANIFEST_LIMIT = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_KINDS = "biuf"
# What numpy writes before an array (version 1.0, C order). Not read by numpy: it asks Python's
# parser, which is not safe among threads before 3.12 ("AST constructor recursion depth mismatch").
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<>|][biuf]\d{1,2})', "
    rb"'fortran_order': False, 'shape': \((?P<shape>(?:\d{1,18}(?:, ?|(?=\))))*)\), \} *\n",
    re.DOTALL,
)
_FACTS = {"sha256", "dtype", "shape"}


def write_archive(
    path: str | Path, manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a model file atomically: a file under this name is either the old one or complete.

    Parameters
    ----------
    path : str or Path
        Target; its folder must exist.
    manifest : mapping
        JSON values (see `encode`).
    arrays : mapping of str to ndarray
        Arrays of booleans, integers or floats.

    Raises
    ------
    ArchiveError
        If an array has another type or a name that cannot be stored, or the manifest is not JSON.
    OutputError
        If the file cannot be written.
    """
    members = {name: _npy(name, array) for name, array in arrays.items()}
    index = {
        name: {
            "sha256": _sha256(data),
            "dtype": arrays[name].dtype.str,
            "shape": arrays[name].shape,
        }
        for name, data in members.items()
    }
    head = {"kind": _KIND, "format": FORMAT, "arrays": index, **manifest}
    try:
        text = json.dumps(head, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"this manifest cannot be stored in {path}: {error}") from error
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        archive.writestr(zipfile.ZipInfo(_MANIFEST, _EPOCH), text)
        archive.writestr(zipfile.ZipInfo(_DIGEST, _EPOCH), _sha256(text).encode())
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), data)


def read_archive(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read and check a model file.

    Returns
    -------
    manifest : dict
        As written, with ``kind``, ``format`` and ``arrays``.
    arrays : dict of str to ndarray
        Read-only.

    Raises
    ------
    ArchiveError
        If the file is missing, damaged, of a future format or not a model file; the message names
        the part that is wrong.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe could block for ever
        raise ArchiveError(f"{path} is not a readable model file: it is no regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            manifest = _read_manifest(archive, path)
            facts = manifest["arrays"]
            arrays = side_by_side(
                lambda name: _read_array(archive, path, name, facts[name]), [*facts]
            )
    except FileNotFoundError as error:
        raise ArchiveError(f"there is no model file {path}; pyimgano fit writes one") from error
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{path} is not a readable model file: {error}") from error
    return manifest, dict(zip(facts, arrays, strict=True))


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse whatever `write_archive` would not have written, before anything is read."""
    seen: set[str] = set()
    left = path.stat().st_size
    for info in archive.infolist():
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & 0x1:
            raise ArchiveError(f"{path}: member {info.filename!r} is compressed or encrypted")
        left -= info.file_size
        if left < 0:
            raise ArchiveError(f"{path}: member {info.filename!r} claims more bytes than the file")
        if info.filename in seen or not _NAME.fullmatch(info.filename):
            raise ArchiveError(f"{path}: unexpected member name {info.filename!r}")
        seen.add(info.filename)


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    text = _member(archive, path, _MANIFEST)
    if len(text) > _MANIFEST_LIMIT or _member(archive, path, _DIGEST) != _sha256(text).encode():
        raise ArchiveError(f"{path}: {_MANIFEST} is damaged: its checksum does not match")
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ArchiveError(f"{path}: {_MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise ArchiveError(f"{path} is a zip file but not a pyimgano model")
    number = manifest.get("format")
    if number not in (FORMAT - 1, FORMAT):
        raise ArchiveError(
            f"{path} has the model format {number}; this version reads {FORMAT - 1} and {FORMAT}: "
            "load it with the pyimgano version that wrote it, or fit it again"
        )
    index = manifest.get("arrays")
    if not isinstance(index, dict) or any(
        not isinstance(facts, dict) or facts.keys() != _FACTS for facts in index.values()
    ):
        raise ArchiveError(f"{path}: {_MANIFEST} does not list the arrays with {sorted(_FACTS)}")
    expected = {f"{name}.npy" for name in index} | {_MANIFEST, _DIGEST}
    if expected != set(archive.namelist()):
        odd = ", ".join(sorted(expected ^ set(archive.namelist())))
        raise ArchiveError(f"{path}: members do not match the manifest: {odd}")
    return manifest


def _read_array(
    archive: zipfile.ZipFile, path: Path, name: str, facts: dict[str, Any]
) -> NDArray[Any]:
    data = _member(archive, path, f"{name}.npy")
    if _sha256(data) != facts["sha256"]:
        raise ArchiveError(f"{path}: the array {name!r} is damaged: its checksum does not match")
    head = _HEADER.match(data)
    if head is None or int.from_bytes(head["length"], "little") != head.end() - 10:
        raise ArchiveError(f"{path}: the array {name!r} has a damaged header")
    dtype, shape = head["dtype"].decode(), [int(n) for n in re.findall(rb"\d+", head["shape"])]
    if dtype != facts["dtype"] or shape != facts["shape"]:
        raise ArchiveError(f"{path}: the array {name!r} is not the one that the manifest names")
    try:
        return np.frombuffer(data, dtype, offset=head.end()).reshape(shape)
    except (TypeError, ValueError) as error:
        body = f"{len(data) - head.end()} bytes"
        raise ArchiveError(f"{path}: the array {name!r} is {dtype} {shape} in {body}") from error


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise ArchiveError(f"{path}: the member {name} is missing") from error
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{path}: the member {name} is damaged: {error}") from error


def _npy(name: str, array: NDArray[Any]) -> bytes:
    if array.dtype.kind not in _KINDS or not _NAME.fullmatch(f"{name}.npy"):
        raise ArchiveError(f"cannot store the array {name!r} of type {array.dtype}")
    stream = io.BytesIO()
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    np.lib.format.write_array(stream, contiguous, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode(value: Any, arrays: dict[str, NDArray[Any]] | None = None, name: str = "") -> Any:
    """Turn a parameter into JSON: scalars as they are; tuples and registered records marked.

    Parameters
    ----------
    value : object
        What is stored.
    arrays : dict, optional
        Gets the arrays in records, under names that begin with ``name`` and a point.

    Raises
    ------
    ParameterError
        If the value is neither a JSON scalar, a list, a mapping, a tuple nor a dataclass that is
        registered in ``pyimgano.registry.VALUES``.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        items = [encode(item, arrays, f"{name}.{i}") for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {"mapping": [[encode(k), encode(v)] for k, v in value.items()]}
    if arrays is not None and isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    kind = VALUES.name_of(type(value))
    if kind is None:
        raise ParameterError(
            f"cannot store {value!r} in a model file: a parameter is a number, a text, a tuple, or "
            "a frozen dataclass registered in pyimgano.registry.VALUES"
        )
    fields = {
        f.name: encode(getattr(value, f.name), arrays, f"{name}.{f.name}")
        for f in dataclasses.fields(value)
    }
    return {"value": kind, "params": fields}


def decode(stored: Any, arrays: Mapping[str, NDArray[Any]] = MappingProxyType({})) -> Any:
    """Turn what `encode` made back into the parameter, with the arrays of its records.

    Raises
    ------
    ArchiveError
        If it names a value object that is not registered here, or has an unknown form.
    """
    if isinstance(stored, list):
        return [decode(item, arrays) for item in stored]
    if not isinstance(stored, dict):
        return stored
    try:
        return _decoded(stored, arrays)
    except ArchiveError:
        raise
    except (UnknownNameError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArchiveError(f"cannot restore the parameter {stored!r}: {error}") from error


def _decoded(stored: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    if stored.keys() == {"float"}:
        return float(stored["float"])
    if stored.keys() == {"tuple"}:
        return tuple(decode(item, arrays) for item in stored["tuple"])
    if stored.keys() == {"array"}:
        return arrays[stored["array"]]
    if stored.keys() == {"mapping"}:
        return {decode(key): decode(item) for key, item in stored["mapping"]}
    if stored.keys() != {"value", "params"}:
        raise ArchiveError(f"cannot read the parameter {stored!r}")
    kind = VALUES[stored["value"]]
    return kind(**{name: decode(item, arrays) for name, item in stored["params"].items()})

"""Which artefact of anomalib a file is, told from its bytes; nothing in it is executed."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyimgano.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = [
    "CHECKPOINT",
    "ONNX",
    "OPENVINO",
    "OUTPUTS",
    "TORCH",
    "Artefact",
    "Node",
    "ir_nodes",
    "onnx_nodes",
    "recognise",
]

OUTPUTS = ("pred_score", "anomaly_map")
CHECKPOINT, TORCH, ONNX, OPENVINO = "checkpoint", "torch export", "ONNX export", "OpenVINO IR"

_MODEL = re.compile(rb"anomalib\.models\.(?:image\.)?(\w+)\.(?:lightning_model|torch_model)")
_LAYER = re.compile(rb'<layer id="(\d+)"[^>]*? type="(\w+)"')
_EDGE = re.compile(rb'<edge from-layer="(\d+)"[^>]*? to-layer="(\d+)"')
_NAMED = re.compile(rb'<layer id="(\d+)"(?:(?!</layer>).)*? names="([^"]*)"', re.DOTALL)
_FIRST = re.compile(r"image_threshold\.|pixel_threshold\.|normalization_metrics\.|image_metrics\.")
_ADVICE = {
    CHECKPOINT: "export it to OpenVINO or ONNX with the anomalib 1.x that wrote it; that runs here",
    TORCH: "export its .ckpt to OpenVINO or ONNX with the anomalib 1.x that wrote it; that runs "
    "here",
}
_DIGITS, _GROUP = 0x7F, 0x80


Node = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Operator, names of inputs, names of outputs."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a file holds.

    Attributes
    ----------
    path : Path
        The file to load; of an IR the ``.xml``.
    kind : str
        `CHECKPOINT`, `TORCH`, `ONNX` or `OPENVINO`.
    version : int
        Major version of the anomalib that wrote it: 1 or 2.
    model : str
        Its module in anomalib, such as ``"efficient_ad"``; empty where the format does not say.
    files : tuple of Path
        All files that belong to it.
    globals : tuple of str
        What a pickle in it would import.
    """

    path: Path
    kind: str
    version: int
    model: str
    files: tuple[Path, ...]
    globals: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return in words what it is."""
        return f"{self.kind} of {self.model or 'a model'}, written by anomalib {self.version}.x"


def recognise(path: Path) -> Artefact:
    """Tell what a file is.

    Raises
    ------
    ArchiveError
        If it is missing, damaged or none of anomalib's, or of a version that cannot be read.
    """
    try:
        return _recognise(path)
    except (OSError, zipfile.BadZipFile, EOFError, IndexError, ValueError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"the checkpoint {path} is truncated or damaged: {error}") from error


def _recognise(path: Path) -> Artefact:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        path = path.with_suffix(".xml")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return _saved(path)
    if b"<net" in head:
        return _representation(path)
    if head.startswith(b"\x80"):
        raise ArchiveError(f"{path} is a bare pickle, which anomalib does not write: export again")
    if path.suffix == ".onnx":
        return _onnx(path)
    raise ArchiveError(
        f"{path} is none of anomalib's artefacts, or is damaged: give a .ckpt, an exported .pt, "
        ".onnx, or an OpenVINO .xml"
    )


def _saved(path: Path) -> Artefact:
    """Look at what torch.save wrote: a zip with one pickle, of which only the words are read."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not names or any("/code/" in name for name in archive.namelist()):
            raise ArchiveError(f"{path} holds no pickle of anomalib (a TorchScript file, a zip?)")
        words, imported = _words(archive.read(names[0]))
    lightning = "pytorch-lightning_version" in words
    if not lightning and "model" not in words:
        raise ArchiveError(f"{path} holds tensors, but neither a checkpoint nor a model")
    kind = CHECKPOINT if lightning else TORCH
    old = any(_FIRST.match(word) for word in words) if lightning else "metadata" in words
    if old:
        raise ArchiveError(
            f"{path} is a {kind} of anomalib 1.x, unreadable for 2.x: {_ADVICE[kind]}"
        )
    found = _MODEL.search("\n".join(imported).encode())
    return Artefact(path, kind, 2, found[1].decode() if found else "", (path,), imported)


def _words(data: bytes) -> tuple[set[str], tuple[str, ...]]:
    """Return the texts in a pickle, and what it would import."""
    words: set[str] = set()
    imported: set[str] = set()
    recent: list[str] = []
    for code, given, _ in pickletools.genops(data):
        if code.name == "GLOBAL":
            imported.add(str(given).replace(" ", "."))
        elif code.name == "STACK_GLOBAL":
            imported.add(".".join(recent[-2:]))
        elif isinstance(given, str):
            words.add(given)
            recent.append(given)
    return words, tuple(sorted(imported))


def _representation(path: Path) -> Artefact:
    """Look at an IR: 1.x has one output and metadata.json beside it, 2.x names its outputs."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArchiveError(f"{path} needs its weights {weights.name} beside it")
    text = path.read_bytes()
    if not text.rstrip().endswith(b"</net>"):
        raise ArchiveError(f"{path} is truncated")
    nodes = ir_nodes(text)
    last = {name for kind, inputs, _ in nodes if kind == "Result" for name in inputs}
    results = {name for _, _, names in nodes if last.intersection(names) for name in names}
    version = _version(path, named=bool(results.intersection(OUTPUTS)))
    return Artefact(path, OPENVINO, version, "", (path, weights))


def _onnx(path: Path) -> Artefact:
    data = path.read_bytes()
    outputs = {name for node in onnx_nodes(data) for name in node[2]}
    if not outputs:
        raise ArchiveError(f"{path} is no ONNX file, or is damaged")
    found = _MODEL.search(data)
    version = _version(path, named=bool(outputs.intersection(OUTPUTS)))
    beside = path.with_name(f"{path.name}.data")
    files = (path, beside) if beside.is_file() else (path,)
    return Artefact(path, ONNX, version, found[1].decode() if found else "", files)


def _version(path: Path, *, named: bool) -> int:
    if named:
        return 2
    beside = path.with_name("metadata.json")
    if not beside.is_file() or not isinstance(json.loads(beside.read_bytes()), dict):
        raise ArchiveError(
            f"{path} has no output pred_score or anomaly_map, as anomalib 2.x names them, and no "
            "metadata.json beside it, as 1.x writes: it is not anomalib's"
        )
    return 1


def onnx_nodes(data: bytes) -> list[Node]:
    """Return the nodes of an ONNX file; the package onnx is not needed for it.

    Fields of protocol buffers: ModelProto.graph = 7, GraphProto.node = 1, NodeProto.input = 1,
    output = 2, op_type = 4.
    """
    nodes: list[Node] = []
    for graph in (value for key, value in _fields(memoryview(data)) if key == 7):
        for raw in (value for key, value in _fields(graph) if key == 1):
            parts = list(_fields(raw))
            texts = {
                wanted: tuple(bytes(v).decode() for k, v in parts if k == wanted)
                for wanted in (1, 2, 4)
            }
            nodes.append(("".join(texts[4]), texts[1], texts[2]))
    return nodes


def ir_nodes(data: bytes) -> list[Node]:
    """Return the layers of an IR as nodes: outputs by the number of their layer, and by name."""
    inputs: dict[bytes, list[str]] = {}
    for source, target in _EDGE.findall(data):
        inputs.setdefault(target, []).append(source.decode())
    names: Mapping[bytes, bytes] = dict(_NAMED.findall(data))
    return [
        (
            kind.decode(),
            tuple(inputs.get(number, ())),
            (number.decode(), *names.get(number, b"").decode().split(",")),
        )
        for number, kind in _LAYER.findall(data)
    ]


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Walk over the fields of one message: (number, bytes); numbers are passed by."""
    place = 0
    while place < len(data):
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == 0:
            _, place = _number(data, place)
            continue
        if kind not in {1, 2, 5}:
            raise ValueError("this is no ONNX file")
        length = 8 if kind == 1 else 4
        if kind == 2:
            length, place = _number(data, place)
        if place + length > len(data):
            raise ValueError("it ends too early")
        if kind == 2:
            yield tag >> 3, data[place : place + length]
        place += length


def _number(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & _DIGITS) << shift
        shift += 7
        if not byte & _GROUP:
            return value, place

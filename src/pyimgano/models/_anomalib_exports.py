"""Exported files of anomalib, run by ONNX Runtime or OpenVINO: neither anomalib nor torch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ArchiveError, InputError, ParameterError
from pyimgano.models._anomalib_formats import ONNX, OUTPUTS, ir_nodes, onnx_nodes
from pyimgano.models._anomalib_outputs import Answer, read_answers
from pyimgano.optional import require
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.models._anomalib_formats import Artefact, Node

__all__ = ["Export", "open_export"]

_PROBE = 256
_PASSED = {"Where", "Select", "Cast", "Convert", "Identity", "Squeeze", "Unsqueeze", "Reshape"}
_CLAMPS = {"Clip", "Clamp"}
_CUTS = {"Slice", "StridedSlice", "Crop"}
_LEARNED = {"Conv", "Convolution", "MatMul", "Gemm"}


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A compiled file: the shape that its input takes, None where free, and how to run it."""

    shape: tuple[int | None, ...]
    call: Callable[[NDArray[np.float32]], list[tuple[str, NDArray[Any]]]]
    failures: tuple[type[Exception], ...]


class Export:
    """An exported file that runs.

    Images are resized as its input demands, with antialiasing as in training; where its input
    takes any size, they go in as they are. Batches are cut, or padded, to what it was exported for.

    Attributes
    ----------
    clamped : bool
        Whether its scores were normalised and cut to 0..1 when it was exported.
    crops : bool
        Whether it cuts the image before it looks: its maps then do not say where they lie.
    """

    def __init__(self, artefact: Artefact, network: _Network) -> None:
        self._artefact, self._network = artefact, network
        self.clamped, self.crops = _read_graph(artefact)
        shape = network.shape
        if len(shape) != 4 or shape[1] not in {3, None}:
            raise ArchiveError(f"{artefact.path} takes {shape}, not RGB images (n, 3, H, W)")
        height, width = shape[2:]
        self._size = None if height is None or width is None else (height, width)
        self._batch = shape[0] or 0
        self._batch = self._batch or self._frozen_batch()

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Answer]:
        """Return what the file says of RGB images (H, W, 3)."""
        given = [_scaled(image, self._size) for image in images]
        answers: list[Answer] = []
        while len(answers) < len(given):
            rest = given[len(answers) :]
            most = next((i for i, one in enumerate(rest) if one.shape != rest[0].shape), len(rest))
            part = rest[: min(most, self._batch or most)]
            answers += self._run(np.stack(part))
        return answers

    def _run(self, batch: NDArray[np.float32]) -> list[Answer]:
        count = len(batch)
        if self._batch and count < self._batch:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._batch - count, axis=0)])
        try:
            found = self._network.call(batch)
        except self._network.failures as error:
            first = str(error).strip().partition("\n")[0]
            raise InputError(
                f"{self._artefact.path} does not take {batch.shape}: {first}"
            ) from error
        if self._artefact.version == 1:  # a score, a map whose highest value is it, or both
            found = [(OUTPUTS[values.size != len(batch)], values) for _, values in found]
        return read_answers(dict(found), len(batch))[:count]

    def _frozen_batch(self) -> int:
        """Return how many images go in at once, 0 for any: what is declared free need not be."""
        size = self._size or (_PROBE, _PROBE)
        noise = np.random.default_rng(0).random((3, 3, *size), np.float32)
        try:
            together, alone = self._run(noise), [self._run(noise[i : i + 1])[0] for i in range(3)]
        except InputError:
            return self._works(noise[:1]) or self._works(noise[:2], say=True)
        first, second = ([one.score for one in found] for found in (together, alone))
        return 0 if np.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True) else 1

    def _works(self, noise: NDArray[np.float32], *, say: bool = False) -> int:
        self._batch = len(noise)
        try:
            self._run(noise)
        except InputError:
            if say:
                raise
            return 0
        return len(noise)


def open_export(artefact: Artefact, device: str) -> Export:
    """Open an ONNX file or an OpenVINO IR; nothing is written, not even a cache.

    Raises
    ------
    MissingExtra
        If the runtime is not installed.
    ParameterError
        If there is no such device.
    ArchiveError
        If the file cannot be opened.
    """
    opened = _by_onnxruntime if artefact.kind == ONNX else _by_openvino
    return Export(artefact, opened(artefact, device))


def _by_onnxruntime(artefact: Artefact, device: str) -> _Network:
    runtime = require("onnxruntime", extra="onnx", purpose="an ONNX export of anomalib")
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # Its classes share no base but Exception.
    names = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented"
    failures = tuple(getattr(state, name) for name in (*names.split(), "RuntimeException"))
    offered = {
        name.removesuffix("ExecutionProvider").lower(): name
        for name in runtime.get_available_providers()
    }
    provider = offered.get("cpu" if device == "auto" else device.lower().partition(":")[0])
    if provider is None:
        raise _no_device(device, offered)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = budget(), 1
    try:
        session = runtime.InferenceSession(str(artefact.path), options, providers=[provider])
    except failures as error:
        raise _damaged(artefact, error) from error
    first = session.get_inputs()[0]
    outputs = [one.name for one in session.get_outputs()]
    shape = tuple(side if isinstance(side, int) else None for side in first.shape)

    def call(batch: NDArray[np.float32]) -> list[tuple[str, NDArray[Any]]]:
        return list(zip(outputs, session.run(outputs, {first.name: batch}), strict=True))

    return _Network(shape, call, failures)


def _by_openvino(artefact: Artefact, device: str) -> _Network:
    openvino = require("openvino", extra="openvino", purpose="an OpenVINO IR of anomalib")
    core = openvino.Core()
    wanted = "CPU" if device == "auto" else device.upper()
    if wanted.partition(".")[0] not in {name.partition(".")[0] for name in core.available_devices}:
        raise _no_device(device, dict.fromkeys(core.available_devices))
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # not bf16 where there is AMX
    if wanted == "CPU":
        settings |= {"INFERENCE_NUM_THREADS": budget(), "NUM_STREAMS": 1}
    try:
        model = core.compile_model(str(artefact.path), wanted, settings)
    except RuntimeError as error:
        raise _damaged(artefact, error) from error
    sides = model.inputs[0].partial_shape
    shape = tuple(None if side.is_dynamic else side.get_length() for side in sides)
    outputs = [(one.get_any_name() if one.get_names() else "", one) for one in model.outputs]

    def call(batch: NDArray[np.float32]) -> list[tuple[str, NDArray[Any]]]:
        request = model.create_infer_request()  # one a call: two threads must not share it
        request.infer([batch])
        return [(name, np.array(request.get_tensor(one).data)) for name, one in outputs]

    return _Network(shape, call, (RuntimeError, ValueError))


def _scaled(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.float32]:
    """Return an image (3, H, W) from 0 to 1, resized in floating point with antialiasing."""
    from PIL import Image

    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
    if size is None or image.shape[:2] == size:
        return planes
    shape = (size[1], size[0])
    how = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(plane).resize(shape, how)) for plane in planes])


def _read_graph(artefact: Artefact) -> tuple[bool, bool]:
    """Tell whether the score is cut to 0..1 at the end, and the image at the beginning."""
    data = artefact.path.read_bytes()
    nodes = onnx_nodes(data) if artefact.kind == ONNX else ir_nodes(data)
    makers = {name: node for node in nodes for name in node[2]}
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node[1]:
            users.setdefault(name, []).append(node)

    def before(node: Node) -> list[Node]:
        return [makers[name] for name in node[1] if name in makers]

    def after(node: Node) -> list[Node]:
        return [user for name in node[2] for user in users.get(name, ())]

    last = [makers[name] for name in OUTPUTS if name in makers][:1]
    clamped = _reaches(last, before, _CLAMPS, lambda kind: kind in _PASSED)
    produced = set(makers)
    first = [n for n in nodes if n[0] == "Parameter" or (n[1] and not produced & set(n[1]))]
    crops = _reaches(first, after, _CUTS, lambda kind: kind not in _LEARNED)
    return clamped, crops


def _reaches(
    start: Sequence[Node],
    following: Callable[[Node], list[Node]],
    wanted: set[str],
    passes: Callable[[str], bool],
) -> bool:
    """Tell whether one of the wanted operators comes, through operators that are passed."""
    waiting, seen = deque(start), set[int]()
    while waiting:
        node = waiting.popleft()
        if node[0] in wanted:
            return True
        if id(node) not in seen and passes(node[0]):
            seen.add(id(node))
            waiting.extend(following(node))
    return False


def _no_device(device: str, offered: Mapping[str, Any]) -> ParameterError:
    return ParameterError(f"there is no device {device!r} here; there are {', '.join(offered)}")


def _damaged(artefact: Artefact, error: Exception) -> ArchiveError:
    first = str(error).strip().partition("\n")[0]
    return ArchiveError(f"{artefact.path} is truncated or damaged: {first}")

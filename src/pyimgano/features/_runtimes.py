"""An ONNX file, opened by ONNX Runtime or by OpenVINO: the same questions, the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyimgano.errors import ArchiveError, InputError, ParameterError
from pyimgano.features.base import FP32
from pyimgano.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RUNTIMES", "Graph", "open_graph"]

_HINTS = {FP32: "f32", "bf16": "bf16"}
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "f32": np.float32,
    "f16": np.float16,
    "u8": np.uint8,
}


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network, ready to run from several threads at once.

    ``inputs`` are name, type and shape of each, None where a side is free; ``call`` takes the name
    of an output and of the input, and the input's array.
    """

    inputs: tuple[tuple[str, str, tuple[int | None, ...]], ...]
    outputs: tuple[str, ...]  # names of the outputs
    call: Callable[[str, str, NDArray[Any]], Any]
    failures: tuple[type[Exception], ...]  # what the runtime raises

    @property
    def dtype(self) -> Any:
        """The type of the first input's numbers; None if it is not one of ours."""
        return _TYPES.get(self.inputs[0][1])

    def run(self, output: str, given: NDArray[Any]) -> NDArray[Any]:
        """Return an output for an array given to the first input."""
        try:
            values = self.call(output, self.inputs[0][0], np.ascontiguousarray(given))
        except self.failures as error:
            told = f"the ONNX file does not take {given.shape}: {_first_line(error)}"
            raise InputError(told) from error
        return cast("NDArray[Any]", values)


def open_graph(path: Path, runtime: str, threads: int, precision: str = FP32) -> Graph:
    """Open a file for so many threads."""
    if runtime not in RUNTIMES:
        one = ", ".join(map(repr, RUNTIMES))
        raise ParameterError(f"the runtime of an ONNX file is one of {one}, got {runtime!r}")
    if path.suffix == ".xml":  # its numbers stand in another file, which no checksum here covers
        raise ArchiveError(f"{path} is no ONNX file: give the one that it was made from")
    if precision not in _HINTS or (precision != FP32 and runtime != "openvino"):
        raise ParameterError(
            "an ONNX file runs in fp32, and with runtime=openvino also in bf16; got "
            f"{precision!r} with {runtime!r}"
        )
    return RUNTIMES[runtime](path, threads, precision)


def _by_onnxruntime(path: Path, threads: int, _precision: str) -> Graph:
    runtime = require("onnxruntime", extra="onnx", purpose="extractor 'onnx'")
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # Its classes share no base but Exception.
    names = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented"
    failures = tuple(getattr(state, name) for name in (*names.split(), "RuntimeException"))
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise _damaged(path, error) from error
    inputs = tuple((one.name, one.type, _sides(one.shape)) for one in session.get_inputs())
    outputs = tuple(one.name for one in session.get_outputs())
    return Graph(inputs, outputs, lambda out, name, x: session.run([out], {name: x})[0], failures)


def _by_openvino(path: Path, threads: int, precision: str) -> Graph:
    openvino = require("openvino", extra="openvino", purpose="extractor 'onnx' on OpenVINO")
    settings = {
        # It would take bf16 by itself where there is AMX.
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    try:
        model = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise _damaged(path, error) from error
    inputs = tuple(
        (
            one.get_any_name(),
            one.element_type.get_type_name(),
            tuple(None if side.is_dynamic else side.get_length() for side in one.partial_shape),
        )
        for one in model.inputs
    )
    outputs = tuple(one.get_any_name() for one in model.outputs)

    def call(output: str, name: str, given: NDArray[Any]) -> NDArray[Any]:
        request = model.create_infer_request()  # one a call: two threads must not share it
        request.infer({name: given}, share_inputs=True)
        return np.array(request.get_tensor(output).data)

    return Graph(inputs, outputs, call, (RuntimeError, ValueError))


RUNTIMES: dict[str, Callable[[Path, int, str], Graph]] = {
    "onnxruntime": _by_onnxruntime,
    "openvino": _by_openvino,
}
"""What opens a file, by the name of the package that it needs."""


def _sides(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _damaged(path: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{path} is damaged or no ONNX file: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

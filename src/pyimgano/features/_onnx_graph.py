"""EfficientNet-Lite0, cut after its deepest tap, as an ONNX model (Tan and Le, arXiv 1905.11946).

The graph takes one RGB uint8 image and gives all taps on the grid of the finest one: normalising,
resizing and concatenating run where the convolutions run. Batch norms are folded into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.optional import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["BLOCKS", "GRAPH_VERSION", "stride_of", "trunk"]

GRAPH_VERSION = 1
"""Changes whenever the arithmetic of the graph does: it is a part of the fingerprint."""

_STEM_STRIDE = 2
CHANNELS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
"""Channels of the output of each block."""

_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
BLOCKS = len(_STRIDES)
"""Number of blocks that can be tapped."""

_EPSILON = 1e-3
_OPSET = 17
_IR_VERSION = 8  # what the oldest ONNX Runtime that we allow reads


def stride_of(block: int) -> int:
    """Return the number of image pixels between two cells of the output of ``block``."""
    return int(_STEM_STRIDE * np.prod(_STRIDES[: block + 1]))


def trunk(weights: Mapping[str, NDArray[Any]], taps: tuple[int, ...]) -> bytes:
    """Build the network up to the last of the ascending taps, from the tensors of its package.

    Returns a serialised ONNX model. Input ``image``: uint8 (1, H, W, 3), RGB, H and W multiples of
    ``stride_of(taps[-1])``. Output ``features``: float32 (1, h, w, d) on the grid of the first
    tap; coarser taps are resized bilinearly with half-pixel centres, edges clamped.

    Pixels become ``(x - 127) / 128``, as in the training of the Lite models: it separated defects
    better than the mean and deviation of ImageNet. With sides that divide evenly, the padding
    "same" of the original is ``stride - 1`` fewer zeros at the top left than at the bottom right.
    """
    graph = _Graph(weights)
    x = graph.add("Cast", ["image"], to=1)
    x = graph.add("Sub", [x, graph.constant(np.float32(127))])
    x = graph.add("Mul", [x, graph.constant(np.float32(1 / 128))])
    x = graph.add("Transpose", [x], perm=[0, 3, 1, 2])
    x = graph.convolve(x, "_conv_stem", "_bn0", stride=_STEM_STRIDE)
    outputs = []
    for block in range(taps[-1] + 1):
        x = graph.block(x, block)
        if block in taps:
            outputs.append(graph.enlarge(x, stride_of(block) // stride_of(taps[0])))
    x = graph.add("Concat", outputs, axis=1) if len(outputs) > 1 else outputs[0]
    graph.add("Transpose", [x], output="features", perm=[0, 2, 3, 1])
    return graph.serialise()


@dataclass(eq=False)
class _Graph:
    """Nodes and constants while they are gathered; every method returns the name of its output."""

    weights: Mapping[str, NDArray[Any]]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.onnx = require("onnx", extra="lite", purpose="extractor 'efficientnet_lite0'")

    def add(self, kind: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        output = output or f"x{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def block(self, x: str, number: int) -> str:
        """Add an inverted bottleneck: expand, filter each channel, project, and pass by."""
        prefix, stride = f"_blocks.{number}.", _STRIDES[number]
        y = x
        if f"{prefix}_expand_conv.weight" in self.weights:
            y = self.convolve(y, f"{prefix}_expand_conv", f"{prefix}_bn0")
        y = self.convolve(y, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride)
        y = self.convolve(y, f"{prefix}_project_conv", f"{prefix}_bn2", clip=False)
        before, after = (
            self.weights[f"_blocks.{n}._project_conv.weight"].shape[0]
            for n in (max(number - 1, 0), number)
        )
        by_pass = number > 0 and stride == 1 and before == after
        return self.add("Add", [y, x]) if by_pass else y

    def convolve(self, x: str, name: str, norm: str, *, stride: int = 1, clip: bool = True) -> str:
        """Add a convolution with its batch norm folded in (float64), and ReLU6 unless told."""
        weight = self.weights[f"{name}.weight"].astype(np.float64)
        scale, shift, mean, variance = (
            self.weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / np.sqrt(variance + _EPSILON)
        kernel = self.constant((weight * gain[:, None, None, None]).astype(np.float32))
        bias = self.constant((shift - mean * gain).astype(np.float32))
        size = weight.shape[2]
        first = (size - stride) // 2
        x = self.add(
            "Conv",
            [x, kernel, bias],
            strides=[stride, stride],
            group=len(weight) if "depthwise" in name else 1,
            pads=[first, first, size - stride - first, size - stride - first]
            if size > 1
            else [0] * 4,
        )
        if not clip:
            return x
        return self.add("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(6))])

    def enlarge(self, x: str, factor: int) -> str:
        if factor == 1:
            return x
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.add(
            "Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def serialise(self) -> bytes:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        image = helper.make_tensor_value_info("image", kinds.UINT8, [1, "height", "width", 3])
        features = helper.make_tensor_value_info("features", kinds.FLOAT, [1, "h", "w", "d"])
        graph = helper.make_graph(
            self.nodes, "efficientnet_lite0", [image], [features], self.constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="pyimgano",
        )
        self.onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

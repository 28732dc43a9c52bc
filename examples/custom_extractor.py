"""An extractor of one's own: here the colours and their spread in cells of eight pixels."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pyimgano
from pyimgano.features.base import PatchFeatures
from pyimgano.synthesis import render_part
from pyimgano.testing import check_extractor


@dataclass(frozen=True)
class ColourCells:
    """Any object with ``fingerprint`` and ``embed`` is an extractor."""

    cell: int = 8

    @property
    def fingerprint(self):
        """Changes with the arithmetic: a model refuses an extractor with another one."""
        return f"colour cells {self.cell}, version 1"

    def embed(self, images):
        """RGB uint8 (H, W, 3) in, one grid of vectors an image out; each image by itself."""
        return [self._one(image) for image in images]

    def _one(self, image):
        rows, columns = image.shape[0] // self.cell, image.shape[1] // self.cell
        height, width = rows * self.cell, columns * self.cell
        cells = image[:height, :width].reshape(rows, self.cell, columns, self.cell, 3)
        cells = cells.swapaxes(1, 2).astype(np.float32)
        values = np.concatenate([cells.mean(axis=(2, 3)), cells.std(axis=(2, 3))], axis=-1)
        # The rectangle that the grid covers, in pixels: top, left, bottom, right.
        return PatchFeatures(values, (0.0, 0.0, float(height), float(width)))


check_extractor(ColourCells())  # raises AssertionError with one sentence if something is wrong

good = [render_part(np.random.default_rng(i), (128, 128)).image for i in range(24)]
detector = pyimgano.fit(good, extractor=ColourCells())
with tempfile.TemporaryDirectory() as temporary:
    path = Path(temporary) / "model.pyimg"
    detector.save(path)
    # A file never names code to import: an object that is in no registry is given again.
    again = pyimgano.load(path, extractor=ColourCells())
new = [render_part(np.random.default_rng(99), (128, 128)).image]
print(
    "equal scores after loading:", detector.decision_function(new) == again.decision_function(new)
)

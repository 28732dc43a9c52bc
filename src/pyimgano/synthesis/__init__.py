"""Generated parts, defects planted on them, and the demo's data set: no download needed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import DatasetError, ParameterError
from pyimgano.maps.overlay import encode_png
from pyimgano.synthesis.defects import DEFECTS, plant
from pyimgano.synthesis.golden import golden_image
from pyimgano.synthesis.parts import Part, render_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFECTS", "Part", "golden_image", "plant", "render_part", "write_demo"]

_CATEGORY = "flange"
SEVERITY = 1.5  # of the planted defects: most are seen at a look, some are not
_TRAIN, _GOOD, _DEFECT = 0, 1, 2  # streams of random numbers


def write_demo(
    root: str | Path,
    *,
    seed: int = 0,
    n_train: int = 60,
    n_good: int = 30,
    n_defect: int = 40,
    size: tuple[int, int] = (256, 256),
) -> Path:
    """Write a generated data set in the layout of MVTec AD to ``root``, and return that.

    Parameters
    ----------
    root : str or Path
        Directory to create, complete or not at all, with one category, ``flange``; it may exist if
        it is empty, else a `DatasetError`.
    seed : int
        An image depends on the seed and its own number only, not on the counts.
    n_train, n_good, n_defect : int
        Good parts to learn from, good and defective ones to test; the kinds of `DEFECTS` take
        turns. Below 0, or a size too small, is a `ParameterError`.
    size : (int, int)
        Height and width of the images.
    """
    root = Path(root)
    if min(seed, n_train, n_good, n_defect) < 0:
        raise ParameterError(
            "seed, n_train, n_good and n_defect must be 0 or more, "
            f"got {seed}, {n_train}, {n_good} and {n_defect}"
        )
    if root.exists() and not (root.is_dir() and next(root.iterdir(), None) is None):
        raise DatasetError(
            f"{root} exists and is not an empty directory: choose another place or remove it"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as temporary:
        complete = Path(temporary) / root.name
        category = complete / _CATEGORY
        category.mkdir(parents=True)
        for folder, stream, count in (("train", _TRAIN, n_train), ("test", _GOOD, n_good)):
            for i in range(count):
                part = render_part(np.random.default_rng((seed, stream, i)), size)
                _write(category / folder / "good" / f"{i:03d}.png", part.image)
        for i in range(n_defect):
            _write_defect(category, np.random.default_rng((seed, _DEFECT, i)), i, size)
        if root.exists():
            root.rmdir()
        complete.replace(root)
    return root


def _write_defect(category: Path, rng: np.random.Generator, i: int, size: tuple[int, int]) -> None:
    kind, number = DEFECTS[i % len(DEFECTS)], i // len(DEFECTS)
    part = render_part(rng, size)
    image, mask = plant(part.image, part.mask, kind, rng, severity=SEVERITY)
    _write(category / "test" / kind / f"{number:03d}.png", image)
    truth = mask.astype(np.uint8) * np.uint8(255)
    _write(category / "ground_truth" / kind / f"{number:03d}_mask.png", truth)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))

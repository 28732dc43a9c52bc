"""Magnetic tile defects."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from pyimgano.datasets._files import found, is_folder, list_images, sub_folders
from pyimgano.datasets._layout import Layout, LayoutDataset, pair_masks, reader
from pyimgano.errors import DatasetError, ParameterError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["MTDDataset"]

FREE = "MT_Free"

LAYOUT = Layout(
    """\
  <root>/MT_Free/Imgs/*.jpg                       good tiles
  <root>/MT_{Blowhole,Break,Crack,Fray,Uneven}/Imgs/*.jpg
  <root>/MT_{Blowhole,Break,Crack,Fray,Uneven}/Imgs/*.png   mask, same stem""",
    is_category=lambda folder: is_folder(folder / FREE),
)


@reader(
    "mtd",
    LAYOUT,
    summary="Magnetic Tile Defects: five kinds of defects on tiles of many sizes.",
    paper="Huang et al., The Visual Computer 2020",
    licence="none stated in its README; see the data set's page",
    source=(
        "https://github.com/abin24/Magnetic-tile-defect-datasets.; "
        "layout from: public code that reads it, its README describes none"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class MTDDataset(LayoutDataset):
    """Magnetic tile defects, split here because the set itself has no split.

    All defective tiles are for the test. Of the good ones, the last ``test_fraction`` of each
    series in natural order: a series is what stands before ``_num_`` in the name
    (``exp3_num_1234.jpg``). So both splits have every series, and near numbers stay together.
    Figures are comparable only with those on the same split. The sizes of the images differ.
    Attributes and errors are those of `Dataset`. No public description of the folders was found but
    in code that reads them.

    Parameters
    ----------
    root, category
        The folder of the kinds, or the one above it and the name of the folder.
    test_fraction : float
        Share of the good images held out for the test, in (0, 1); at least one of a series that
        has two or more.
    """

    test_fraction: float = field(default=0.2, kw_only=True)

    def _read(self) -> tuple[Sample, ...]:
        if not 0 < self.test_fraction < 1:
            raise ParameterError(f"test_fraction must lie in (0, 1), got {self.test_fraction}")
        return tuple(self._samples(self._folder()))

    def _samples(self, folder: Path) -> Iterator[Sample]:
        kinds = [path for path in sub_folders(folder) if path.name.startswith("MT_")]
        for kind in kinds:
            images = _images(kind)
            if kind.name == FREE:
                for _, series in groupby(images, key=_series):
                    tiles = list(series)
                    held = min(max(1, round(len(tiles) * self.test_fraction)), len(tiles) - 1)
                    for number, path in enumerate(tiles):
                        split = "train" if number < len(tiles) - held else "test"
                        yield Sample(path, split=split, category=folder.name, label=0)
                continue
            for path, mask in zip(images, pair_masks(images, kind / "Imgs"), strict=True):
                yield Sample(path, "test", folder.name, kind.name.removeprefix("MT_"), 1, mask)


def _images(kind: Path) -> list[Path]:
    """Return the photographs of one kind, which are JPEG files; the PNG files are masks."""
    folder = kind / "Imgs"
    files = list_images(folder) if is_folder(folder) else []
    images = [path for path in files if path.suffix.lower() in {".jpg", ".jpeg"}]
    if not images:
        raise DatasetError(
            f"no *.jpg in {folder}; found in {kind}: {found(kind)}. Expected:\n{LAYOUT.text}"
        )
    return images


def _series(path: Path) -> str:
    series, numbered, _ = path.stem.partition("_num_")
    return series if numbered else ""

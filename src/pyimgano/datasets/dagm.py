"""DAGM 2007: generated textures with weakly labelled defects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pyimgano.datasets._files import found, is_file, is_folder, list_images
from pyimgano.datasets._layout import (
    Layout,
    LayoutDataset,
    judged,
    pair_masks,
    reader,
    require,
    unwrapped,
)
from pyimgano.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyimgano.records import Sample

__all__ = ["DAGMDataset"]

LAYOUT = Layout(
    """\
  <root>/Class<number>/{Train,Test}/<number>.PNG  also <root>/Class1/Class1/...
  <root>/Class<number>/{Train,Test}/Label/<number>_label.PNG   defective images only
  <root>/Class<number>/{Train,Test}/Label/Labels.txt""",
    is_category=lambda folder: is_folder(unwrapped(folder) / "Train"),
)


@reader(
    "dagm",
    LAYOUT,
    summary="DAGM 2007: ten generated textures; the masks are ellipses around the defects.",
    paper="Wieler and Hahn, DAGM symposium 2007",
    licence="see the data set's page",
    source=(
        "https://zenodo.org/records/12750201; layout from: README and reader of "
        "github.com/vicoslab/mixed-segdec-net-comind2021"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class DAGMDataset(LayoutDataset):
    """A class of DAGM 2007, in its published split.

    An image is defective if ``Label/Labels.txt`` says so, whose lines are number, 0 or 1, file
    name and more, apart by tabs; without that file, if it has a mask. The defective training
    images are `train_defects`. The masks are ellipses around the defects, larger than these: read
    pixel figures with that in mind. Parameters, attributes and errors are those of `Dataset`.
    """

    def _read(self) -> tuple[Sample, ...]:
        folder = self._folder()
        return tuple(
            sample
            for split in ("train", "test")
            for sample in _samples(unwrapped(folder) / split.capitalize(), folder.name, split)
        )


def _samples(folder: Path, category: str, split: str) -> Iterator[Sample]:
    images = list_images(require(folder, LAYOUT))
    if not images:
        raise DatasetError(f"the folder {folder} holds no images; found: {found(folder)}")
    labels = require(folder / "Label", LAYOUT)
    defective = _defective(labels)
    gone = sorted(defective - {path.stem for path in images})
    if gone:
        raise DatasetError(f"{labels} calls {gone[0]} defective, which is not in {folder}")
    bad = [path for path in images if path.stem in defective]
    masks = dict(zip(bad, pair_masks(bad, labels, ending="_label"), strict=True))
    for path in images:
        yield judged(path, masks.get(path), split=split, category=category)


def _defective(labels: Path) -> set[str]:
    """Return the stems of the defective images of one split."""
    table = labels / "Labels.txt"
    if not is_file(table):
        masks = [path.stem for path in list_images(labels)]
        return {stem.removesuffix("_label") for stem in masks if stem.endswith("_label")}
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{table} cannot be read: {error}") from error
    defective = set()
    # The first line is a heading.
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split()
        if cells and (len(cells) < 3 or cells[1] not in {"0", "1"}):
            raise DatasetError(f"{table}, line {number}: expected number, 0 or 1, name: {line!r}")
        if cells and cells[1] == "1":
            defective.add(PurePath(cells[2]).stem)
    return defective

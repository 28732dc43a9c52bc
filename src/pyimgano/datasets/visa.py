"""VisA, in the layout of its archive or converted to train, test and ground_truth folders."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyimgano.datasets._files import entries, is_file, is_folder, near, sub_folders
from pyimgano.datasets._layout import GOOD, Layout, below, read_tree, reader
from pyimgano.datasets.base import Dataset
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["VisADataset"]

COLUMNS = ("object", "split", "label", "image", "mask")
SPLITS = ("1cls", "2cls_fewshot", "2cls_highshot")
SETS = ("train", "test")
NORMAL = "normal"
LABELS = (NORMAL, "anomaly")

_TEXT = """\
  <root>/split_csv/1cls.csv                       columns object,split,label,image,mask
  <root>/<category>/Data/Images/Normal/*.JPG
  <root>/<category>/Data/Images/Anomaly/*.JPG
  <root>/<category>/Data/Masks/Anomaly/*.png
or, converted:
  <root>[/visa_pytorch][/<split>]/<category>/train/good/*.JPG
  <root>[/visa_pytorch][/<split>]/<category>/test/{good,bad}/*.JPG
  <root>[/visa_pytorch][/<split>]/<category>/ground_truth/bad/*.png"""

NATIVE = Layout(_TEXT, is_category=lambda folder: is_folder(folder / "Data" / "Images"))
CONVERTED = Layout(_TEXT)


@reader(
    "visa",
    NATIVE,
    summary="VisA: 12 objects from circuit boards to macaroni, with pixel masks.",
    paper="Zou et al., ECCV 2022, arXiv 2207.14315",
    licence="CC BY 4.0",
    source="https://github.com/amazon-science/spot-diff",
    verified="real data: a further category in VisA's native layout; else miniature",
)
@dataclass(frozen=True, slots=True, eq=False)
class VisADataset(Dataset):
    """A category of VisA; attributes and errors are those of `Dataset`.

    The archive is read as it is unpacked, by its split files; so is what its own script makes of
    it (a folder a split), and the same without the folder of the split. In the archive each
    defective image is of the one kind ``"anomaly"``, after conversion ``"bad"``. Mask values are
    kinds of defects there: everything above zero is defective.

    Parameters
    ----------
    root, category
        As of `Dataset`.
    split : str
        A split by its name in ``split_csv``: ``"1cls"`` trains on good images only;
        ``"2cls_fewshot"`` and ``"2cls_highshot"`` also give `train_defects`.
    """

    split: str = field(default="1cls", kw_only=True)

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""
        NATIVE.require_root(root)
        if NATIVE.holds(root):
            return NATIVE.categories(root)
        return CONVERTED.categories(next(iter(_converted(root).values()), root))

    def _read(self) -> tuple[Sample, ...]:
        NATIVE.require_root(self.root)
        if NATIVE.holds(self.root):
            return self._read_native()
        bases = _converted(self.root)
        if bases and self.split not in bases:
            raise DatasetNotFoundError(
                f"no split {self.split!r} in {self.root}; {near(self.split, list(bases))}"
            )
        folder = CONVERTED.find(bases.get(self.split, self.root), self.category)
        return read_tree(folder, good=GOOD, layout=CONVERTED)

    def _read_native(self) -> tuple[Sample, ...]:
        folder = NATIVE.find(self.root, self.category)
        table = folder.parent / "split_csv" / f"{self.split}.csv"
        names = [path.stem for path in _tables(table.parent)]
        if self.split not in names:
            raise DatasetNotFoundError(
                f"no split {self.split!r}: {table} does not exist; {near(self.split, names)}. "
                f"Expected:\n{_TEXT}"
            )
        rows = [row for row in _rows(table) if row.cells["object"] == folder.name]
        if not rows:
            raise DatasetNotFoundError(f"the split file {table} does not list {folder.name!r}")
        masked = any(row.cells["mask"] for row in rows)
        return tuple(row.sample(folder.parent, masked=masked) for row in rows)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a split file, and where it stands."""

    where: str
    cells: dict[str, str]

    def sample(self, root: Path, *, masked: bool) -> Sample:
        """Check the line and return its sample; ``masked`` demands a mask of each anomaly."""
        split, label = self.cells["split"], self.cells["label"]
        if split not in SETS or label not in LABELS:
            raise DatasetError(
                f"{self.where}: split must be {' or '.join(SETS)} and label {' or '.join(LABELS)}, "
                f"got {split!r} and {label!r}"
            )
        defective = label != NORMAL
        if bool(self.cells["mask"]) != (defective and masked):
            wrong = "has no mask" if defective else "must not have a mask"
            raise MaskError(f"{self.where}: the {label} image {self.cells['image']} {wrong}")
        image = self._file(root, "image")
        mask = self._file(root, "mask") if defective and masked else None
        kind = label if defective else GOOD
        return Sample(image, split, self.cells["object"], kind, int(defective), mask)

    def _file(self, root: Path, column: str) -> Path:
        """Return the file a cell names: below the root, by either separator, and there."""
        cell = self.cells[column]
        path = below(root, cell)
        if path is None:
            raise DatasetError(
                f"{self.where}: {column} must be a path below the data set folder, got {cell!r}"
            )
        if not is_file(path):
            error = MaskError if column == "mask" else DatasetError
            raise error(f"{self.where}: the {column} {path} does not exist")
        return path


def _rows(table: Path) -> Iterator[_Row]:
    """Parse a split file; the columns may stand in any order."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the split file {table} cannot be read: {error}") from error
    header = [cell.strip() for cell in lines[0].split(",")] if lines else []
    if sorted(header) != sorted(COLUMNS):
        raise DatasetError(
            f"{table}, line 1: the columns must be {','.join(COLUMNS)}, got {','.join(header)!r}"
        )
    for number, line in enumerate(lines[1:], start=2):
        where = f"{table}, line {number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        except csv.Error as error:
            raise DatasetError(f"{where}: {error}") from error
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise DatasetError(f"{where}: expected {len(header)} cells, got {len(cells)}: {line!r}")
        yield _Row(where, dict(zip(header, cells, strict=True)))


def _tables(folder: Path) -> list[Path]:
    """Return the split files, none if there is no such folder."""
    if not is_folder(folder):
        return []
    return sorted(path for path in entries(folder) if path.suffix == ".csv" and is_file(path))


def _converted(root: Path) -> dict[str, Path]:
    """Return the folder of the converted categories for each split that is there."""
    insides = [root, *(path for path in sub_folders(root) if path.name.lower() == "visa_pytorch")]
    bases: dict[str, Path] = {}
    for inside in insides:
        for split in SPLITS:
            if CONVERTED.holds(inside / split):
                bases.setdefault(split, inside / split)
        if CONVERTED.holds(inside):
            # What is not in the folder of a split is of the common one.
            around = inside.resolve()
            name = around.parent.name if CONVERTED.is_category(inside) else around.name
            bases.setdefault(name if name in SPLITS else SPLITS[0], inside)
    return bases

"""A table that lists one's own images: CSV, or one JSON object a line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any, ClassVar

from pyimgano.datasets._checks import split_groups
from pyimgano.datasets._files import is_file, is_folder, natural_key, near
from pyimgano.datasets._layout import GOOD, Layout, chosen, reader
from pyimgano.datasets.base import Dataset
from pyimgano.datasets.folder import BAD_NAMES, GOOD_NAMES
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ManifestDataset"]

COLUMNS = ("path", "label", "split", "mask", "defect", "category", "group")
NEEDED = COLUMNS[:3]
LABELS = {"0": 0, "1": 1, **dict.fromkeys(GOOD_NAMES, 0), **dict.fromkeys(BAD_NAMES, 1)}
SPLITS = ("train", "test", "validation")

_TEXT = f"""\
  <root> is the table: *.csv with a heading, or *.jsonl with one object a line
  columns: {",".join(COLUMNS)}; needed: {", ".join(NEEDED)}
  label {", ".join(LABELS)}; split {", ".join(SPLITS)}
  paths relative to the table; columns that start with _ are yours"""


@reader(
    "manifest",
    Layout(_TEXT),
    summary="A table of one's own images: path, label, split, mask, kind of defect, group.",
    licence="yours",
    source="one's own table",
)
@dataclass(frozen=True, slots=True, eq=False)
class ManifestDataset(Dataset):
    """The images that a table lists; attributes and errors are those of `Dataset`.

    Paths are relative to the table or absolute, with separators of any system. An unknown column
    is an error, because a misspelt ``mask`` would otherwise be left out in silence; a column of
    your own starts with ``_``. A group, such as one part seen by several cameras, must not stand
    in train and in test. ``part("validation")`` gives the images of that split.

    Parameters
    ----------
    root : Path or str
        The table: ``*.csv`` or ``*.jsonl``, UTF-8.
    category : str, optional
        Which of the categories in the table; None if there is but one.
    """

    SPLITS: ClassVar[tuple[str, ...]] = SPLITS[2:]

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories that the table names; empty if there is but one."""
        names = {row.category for row in _rows(root)}
        return tuple(sorted(names, key=natural_key)) if len(names) > 1 else ()

    def _read(self) -> tuple[Sample, ...]:
        rows = list(_rows(self.root))
        names = sorted({row.category for row in rows}, key=natural_key)
        if self.category is not None or len(names) > 1:
            chosen(self.category, names, self.root)
        samples = [row.sample() for row in rows if self.category in (None, row.category)]
        _refuse_gaps(self.root, samples)
        return tuple(samples)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table, and where it stands."""

    table: Path
    line: int
    cells: dict[str, str]

    @property
    def category(self) -> str:
        return self.cells.get("category") or self.table.stem

    def sample(self) -> Sample:
        """Check the line and return its sample."""
        label, split = self.cells["label"].casefold(), self.cells["split"].casefold()
        if label not in LABELS or split not in SPLITS:
            raise DatasetError(
                f"{self.table}, line {self.line}: label must be one of {', '.join(LABELS)} and "
                f"split one of {', '.join(SPLITS)}, got {label!r} and {split!r}"
            )
        defect = self.cells.get("defect") or ("defect" if LABELS[label] else GOOD)
        return Sample(
            self._file("path"),
            split=split,
            category=self.category,
            defect=defect if LABELS[label] else GOOD,
            label=LABELS[label],
            mask_path=self._file("mask") if self.cells.get("mask") else None,
            group=self.cells.get("group") or None,
        )

    def _file(self, column: str) -> Path:
        cell = self.cells[column]
        # A backslash may be part of a name on this system.
        for path in (self.table.parent / cell, self.table.parent.joinpath(*_parts(cell))):
            if cell and is_file(path):
                return path
        error = MaskError if column == "mask" else DatasetError
        raise error(f"{self.table}, line {self.line}: the {column} {cell!r} does not exist")


def _parts(cell: str) -> tuple[str, ...]:
    return PureWindowsPath(cell).parts


def _refuse_gaps(table: Path, samples: list[Sample]) -> None:
    """Refuse a group in both splits, and masks of some defective images only."""
    parts = [[one for one in samples if one.split == split] for split in SPLITS[:2]]
    for problem in split_groups(*parts):
        raise DatasetError(f"{table}: {problem}")
    bare = [one.path for one in parts[1] if one.label and one.mask_path is None]
    if bare and any(one.label and one.mask_path for one in parts[1]):
        raise MaskError(f"{table}: {bare[0]} is defective and has no mask, others have one")


def _rows(table: Path) -> Iterator[_Row]:
    """Parse the table; the columns may stand in any order."""
    if not is_file(table):
        what = "is a folder; give the table" if is_folder(table) else "does not exist"
        raise DatasetNotFoundError(f"the manifest {table} {what}. Expected:\n{_TEXT}")
    try:
        text = table.read_text(encoding="utf-8-sig")
        read = _objects if table.suffix.lower() in {".jsonl", ".ndjson"} else _records
        for line, cells in read(text):
            unknown = [name for name in cells if name not in COLUMNS and not name.startswith("_")]
            if unknown:
                raise DatasetError(
                    f"{table}, line {line}: unknown column {unknown[0]!r}; "
                    f"{near(unknown[0], COLUMNS)}. Columns of your own start with _"
                )
            missing = [name for name in NEEDED if name not in cells]
            if missing:
                raise DatasetError(f"{table}, line {line}: the column {missing[0]} is missing")
            yield _Row(table, line, cells)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"the manifest {table} cannot be read: {error}") from error


def _records(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    for cells in reader:
        if not any(map(str.strip, cells)):
            continue
        if len(cells) != len(header):
            raise DatasetError(
                f"line {reader.line_num} of the manifest has {len(cells)} cells, its heading "
                f"{len(header)}: {','.join(header)}"
            )
        yield reader.line_num, {k: v.strip() for k, v in zip(header, cells, strict=True)}


def _objects(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        found: Any = json.loads(line)
        if not isinstance(found, dict):
            raise DatasetError(f"line {number} of the manifest must be a JSON object: {line!r}")
        yield number, {k: "" if v is None else str(v).strip() for k, v in found.items()}

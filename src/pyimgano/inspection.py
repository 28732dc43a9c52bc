"""What a detector says of one image, and of a batch."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, overload

import numpy as np

from pyimgano.atomic import write_atomic
from pyimgano.errors import ImageError, InputError
from pyimgano.images import read_image
from pyimgano.maps.overlay import encode_png, overlay, side_by_side
from pyimgano.optional import require
from pyimgano.records import Region, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from pandas import DataFrame

    from pyimgano.images import ImageSource, Pixels

__all__ = ["COLUMNS", "Inspection", "Inspections", "Verdict"]

COLUMNS = (
    "path",
    "category",
    "split",
    "defect",
    "label",
    "score",
    "threshold",
    "verdict",
    "n_regions",
    "area_fraction",
    "error",
)
"""Columns of ``results.csv``, in order. ``label`` is the ground truth; empty where unknown."""

_NUMBERS = {
    "label": "Int64",
    "score": "Float64",
    "threshold": "Float64",
    "n_regions": "Int64",
    "area_fraction": "Float64",
}
UNJUDGED = -1
_SHOWN_SIDE = 320
_FORMULA = ("=", "+", "-", "@", "\t")


class Verdict(StrEnum):
    """OK, NG (not good), or ERROR: the image could not be judged."""

    OK = "OK"
    NG = "NG"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inspection:
    """The judgement of one image.

    Parameters
    ----------
    source : Sample or str
        The sample or path that was judged, or a description of an array.
    score : float
        Higher is more anomalous; NaN for an ERROR.
    label : int
        0 for OK, 1 for NG, -1 for an ERROR or where no threshold was calibrated.
    verdict : Verdict or None
        None where no threshold was calibrated.
    map : ndarray of float32, shape (H, W), or None
        Anomaly map in original pixels, where the detector gives one.
    seen : ndarray of bool, shape (H, W), or None
        Which of its pixels were judged, where a view leaves some out; None is all of them.
    regions : tuple of Region
        Connected regions above ``pixel_threshold``, highest peak first. An NG without a region is
        a whole-image deviation.
    threshold, pixel_threshold : float or None
        What score and map were compared with.
    error : str or None
        Why the image could not be judged.
    look : ndarray of float64, shape (3,), or None
        Brightness, contrast and sharpness of the image.
    """

    source: Sample | str
    score: float = math.nan
    label: int = UNJUDGED
    verdict: Verdict | None = None
    map: NDArray[np.float32] | None = None
    seen: NDArray[np.bool_] | None = None
    regions: tuple[Region, ...] = ()
    threshold: float | None = None
    pixel_threshold: float | None = None
    error: str | None = None
    look: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.ERROR) != (self.error is not None):
            raise InputError(f"an ERROR needs a reason, and only an ERROR has one: {self.path}")
        if self.verdict is Verdict.ERROR and not (
            math.isnan(self.score) and self.label == UNJUDGED
        ):
            raise InputError(f"an ERROR has the score NaN and the label -1: {self.path}")
        if self.verdict is not Verdict.ERROR and math.isnan(self.score):
            raise InputError(f"a judged image has a score: {self.path}")
        for drawn in (self.map, self.seen):
            if drawn is not None:
                drawn.setflags(write=False)

    @property
    def path(self) -> str:
        """Path of the image, or the description of an array."""
        return str(self.source.path) if isinstance(self.source, Sample) else self.source

    @property
    def reason(self) -> str:
        """The verdict in words."""
        if self.error is not None:
            return self.error
        if self.threshold is None:
            return f"score {self.score:.4g}; no threshold was calibrated"
        side = "above" if self.label else "not above"
        text = f"score {self.score:.4g} is {side} the threshold {self.threshold:.4g}"
        if not self.label:
            return text
        if not self.regions:
            return f"{text}: whole-image deviation"
        noun = "region" if len(self.regions) == 1 else "regions"
        return f"{text}: {len(self.regions)} {noun}, the strongest at {self.regions[0].bbox}"

    def picture(self, image: Pixels, side: int) -> NDArray[np.uint8]:
        """Return image, map and both with the regions side by side; without a map the image.

        Parameters
        ----------
        image : ndarray of uint8 or uint16, shape (H, W, 3)
            What was judged, of which a record has no copy.
        side : int
            Pixels that the longer side of each has at most.

        Raises
        ------
        InputError
            If image and map differ in size.
        """
        if self.map is None:
            flat = np.zeros(image.shape[:2], np.float32)
            return overlay(image, flat, 1.0, max_side=side, seen=self.seen)
        return side_by_side(
            image, self.map, self.pixel_threshold, self.regions, max_side=side, seen=self.seen
        )

    def row(self) -> dict[str, object]:
        """Return the record as a mapping with the keys `COLUMNS` and JSON values."""
        sample = self.source if isinstance(self.source, Sample) else None
        judged = self.error is None
        return {
            "path": self.path,
            "category": sample.category if sample else "",
            "split": sample.split if sample else "",
            "defect": sample.defect if sample and sample.label is not None else "",
            "label": sample.label if sample else None,
            "score": float(self.score) if judged else None,
            "threshold": self.threshold,
            "verdict": str(self.verdict) if self.verdict is not None else "",
            "n_regions": len(self.regions) if judged else None,
            "area_fraction": sum(r.area_fraction for r in self.regions) if judged else None,
            "error": self.error or "",
        }

    def _repr_html_(self) -> str:
        """Show the verdict, its reason and, if the file is still there, the picture."""
        return as_html(self, self.source)


class Inspections(Sequence[Inspection]):
    """An immutable batch of judgements, in the order of the input."""

    def __init__(self, items: Iterable[Inspection]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> Inspection: ...
    @overload
    def __getitem__(self, index: slice) -> Inspections: ...
    def __getitem__(self, index: int | slice) -> Inspection | Inspections:
        if isinstance(index, slice):
            return Inspections(self._items[index])
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Inspections: {self.summary()}>"

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores, shape (n,); NaN where an image could not be judged."""
        return np.array([item.score for item in self._items], dtype=np.float64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Predicted labels, shape (n,): 0, 1, or -1 where an image could not be judged."""
        return np.array([item.label for item in self._items], dtype=np.int64)

    @property
    def maps(self) -> tuple[NDArray[np.float32] | None, ...]:
        """Anomaly maps in original pixels."""
        return tuple(item.map for item in self._items)

    @property
    def errors(self) -> Inspections:
        """Those that could not be judged."""
        return Inspections(item for item in self._items if item.error is not None)

    def count(self, value: object) -> int:
        """Count the records with a verdict (or equal to a record)."""
        return sum(item.verdict == value or item is value for item in self._items)

    def summary(self) -> str:
        """Return the counts in words: ``"2 of 46 could not be judged; 30 OK, 14 NG"``."""
        text = f"{self.count(Verdict.OK)} OK, {self.count(Verdict.NG)} NG"
        failed = self.count(Verdict.ERROR)
        return f"{failed} of {len(self)} could not be judged; {text}" if failed else text

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the table as CSV (RFC 4180), and write it to ``path`` if one is given.

        Text cells that a spreadsheet would run as a formula are prefixed with an apostrophe.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(csv_cells(item.row()) for item in self._items)
        text = buffer.getvalue()
        if path is not None:
            write_atomic(path, text)
        return text

    def to_frame(self) -> DataFrame:
        """Return the table as a pandas data frame; what is missing or unknown is ``NA``.

        Returns
        -------
        pandas.DataFrame
            The columns `COLUMNS`: text as ``string``, counts and labels as ``Int64``, the rest as
            ``Float64``. Text stands as it is: no formula is disarmed.

        Raises
        ------
        MissingExtra
            If pandas is not installed; the message holds the pip line.
        """
        pandas = require("pandas", extra="pandas", purpose="Inspections.to_frame")
        rows = [item.row() for item in self._items]
        kinds = {**dict.fromkeys(COLUMNS, "string"), **_NUMBERS}
        frame: DataFrame = pandas.DataFrame(
            {
                name: pandas.array([_known(row[name]) for row in rows], dtype=kind)
                for name, kind in kinds.items()
            }
        )
        return frame

    def _repr_html_(self) -> str:
        columns = ("path", "score", "threshold", "verdict", "n_regions", "error")
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(row[c]))}</td>" for c in columns) + "</tr>"
            for row in (item.row() for item in self._items[:100])
        )
        return f"<p>{html.escape(self.summary())}</p><table><tr>{head}</tr>{rows}</table>"


def as_html(one: Inspection, source: ImageSource) -> str:
    """Show verdict, reason and picture; ``source`` is the image, of which a record has no copy."""
    verdict = str(one.verdict) if one.verdict is not None else "no threshold"
    text = f"<p><b>{verdict}</b> {html.escape(one.path)}: {html.escape(one.reason)}</p>"
    if one.map is None:
        return text
    try:
        row = one.picture(read_image(source), _SHOWN_SIDE)
    except (ImageError, InputError):
        return text
    data = base64.b64encode(encode_png(row)).decode("ascii")
    return f'{text}<img alt="image, map and regions" src="data:image/png;base64,{data}">'


def csv_cells(row: dict[str, object], columns: Sequence[str] = COLUMNS) -> list[str]:
    """Return the cells of a row in the order of the columns; floats keep all their digits."""
    return [_cell(row[name]) for name in columns]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))
    text = str(value).replace("\r", r"\r")  # the csv writer leaves it bare, which breaks the row
    dangerous = isinstance(value, str) and text.startswith(_FORMULA)
    return f"'{text}" if dangerous else text


def _known(value: object) -> object:
    """Return None for what is empty; the bytes of an undecodable name become escapes."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8") or None


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

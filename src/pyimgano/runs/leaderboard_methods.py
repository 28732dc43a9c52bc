"""The rows of a leaderboard: one for each detector, its settings, protocol and number of shots."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from pyimgano.errors import InputError
from pyimgano.metrics.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Figure", "Method", "Row", "category_of", "has_failed", "methods_of", "read_rows"]

Row = dict[str, str]
"""A line of ``leaderboard.csv``: a result of one category and seed."""

_NAMES = ("detector", "extractor", "settings", "protocol", "shots")
_NEEDED = {*_NAMES, "dataset", "category", "seed", "error"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a method: mean over categories of the mean over seeds.

    The interval of 95 % is there where every category has one (MOVER: Zou and Donner, Statistics in
    Medicine 2008). It says how far other test images of these categories could move it; seeds share
    their test images, so they do not narrow it. ``deviation`` is that over seeds, of two or more.
    """

    value: float
    low: float | None
    high: float | None
    deviation: float | None
    categories: int  # how many have the figure


@dataclass(frozen=True, slots=True)
class Method:
    """What stands in one row of a leaderboard; without shots, all good images were learned."""

    detector: str
    settings: str
    protocol: str
    shots: str
    rows: list[Row]
    setting: str  # what tells it from other methods with this detector

    @property
    def name(self) -> str:
        """In one line."""
        return " · ".join(filter(None, (self.detector, self.setting)))

    def cell(self, column: str, category: str) -> Figure | None:
        """Return a figure in one category, over its seeds."""
        return _figure([row for row in self.rows if category_of(row) == category], column)

    def figure(self, column: str) -> Figure | None:
        """Return a figure over all categories."""
        return _figure(self.rows, column)

    def mean(self, column: str) -> float | None:
        """Return the mean over all rows that have the column."""
        found = _present(value(row, column) for row in self.rows)
        return fmean(found) if found else None

    def worst(self, column: str) -> float | None:
        """Return the largest of all rows."""
        return max(_present(value(row, column) for row in self.rows), default=None)

    def rate(self, column: str, of: str) -> Rate:
        """Count images over all rows that have both columns."""
        counted = [(value(row, column), value(row, of)) for row in self.rows]
        known = [(k, n) for k, n in counted if k is not None and n is not None]
        return Rate(int(sum(k for k, _ in known)), int(sum(n for _, n in known)))

    @property
    def commands(self) -> list[str]:
        """What repeats each result; those of one model share a line."""
        return list(dict.fromkeys(row["command"] for row in self.rows if row.get("command")))

    def covered(self, column: str) -> int:
        """Return how many categories have a figure."""
        figure = self.figure(column)
        return figure.categories if figure else 0

    @property
    def licences(self) -> str:
        """What its parts may be used under."""
        return ", ".join(sorted({row.get("licence", "") for row in self.rows} - {""}))


def read_rows(path: Path) -> list[Row]:
    """Read ``leaderboard.csv``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, restval="")
            missing = sorted(_NEEDED - set(table.fieldnames or ()))
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); give a directory that benchmark wrote"
        ) from error
    if missing:
        raise InputError(f"{path} is no leaderboard: it lacks the columns {', '.join(missing)}")
    return rows


def methods_of(rows: Iterable[Row], first: str) -> list[Method]:
    """Group rows into methods; those that have all categories first, the best figure on top."""
    grouped: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[tuple(row[name] for name in _NAMES)].append(row)
    kinds = {key[-2:] for key in grouped}  # a protocol that shots tell is not repeated
    shots = {one for _, one in kinds}
    differ = {
        "settings": len({key[2] for key in grouped}) > 1,
        "protocol": len(kinds) > len(shots),
        "shots": len(shots) > 1,
    }
    methods = [
        Method(detector, settings, protocol, number, found, _setting_of(found[0], differ))
        for (detector, _, settings, protocol, number), found in grouped.items()
    ]

    def best_first(method: Method) -> tuple[float, float, str]:
        figure = method.figure(first)
        return (-figure.categories, -figure.value, method.name) if figure else (0, 0, method.name)

    return sorted(methods, key=best_first)


def _setting_of(row: Row, differ: Mapping[str, bool]) -> str:
    """Return the parts of a method's name that differ, but the detector, and the extractor."""
    many = "" if row["shots"] == "1" else "s"
    shots = f"{row['shots']} shot{many}" if row["shots"] else "all goods"
    kept = (
        row["extractor"],
        *(row[name] for name in ("settings", "protocol") if differ[name]),
        shots if differ["shots"] else "",
    )
    return " · ".join(filter(None, kept))


def has_failed(row: Row) -> bool:
    """Tell whether a row is there for its error alone."""
    return bool(row["error"]) or row.get("status") == "failed"


def category_of(row: Row) -> str:
    """Return data set and category."""
    return "/".join(filter(None, (row["dataset"], row["category"])))


def value(row: Row, column: str) -> float | None:
    """Return a number, or None of an empty cell, or one that holds no finite number."""
    try:
        found = float(row.get(column) or "nan")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _figure(rows: list[Row], column: str) -> Figure | None:
    known = [row for row in rows if value(row, column) is not None]
    if not known:
        return None
    means = _means(known, column)
    mean = fmean(means.values())
    by_seed: dict[str, list[Row]] = defaultdict(list)
    for row in known:
        by_seed[row["seed"]].append(row)
    seeds = [_means(rows, column) for rows in by_seed.values()]
    width = max(map(len, seeds))
    whole = [fmean(found.values()) for found in seeds if len(found) == width]
    low, high = (_end(known, column, side) for side in ("low", "high"))
    return Figure(
        mean,
        None if low is None else mean - low,
        None if high is None else mean + high,
        stdev(whole) if len(whole) > 1 else None,
        len(means),
    )


def _means(rows: list[Row], column: str) -> dict[str, float]:
    """Return the mean of a column, which all the rows have, for each category."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[category_of(row)].append(float(row[column]))
    return {name: fmean(numbers) for name, numbers in found.items()}


def _end(rows: list[Row], column: str, side: str) -> float | None:
    """Return how far one end of the interval lies from the mean; None where an end is missing."""
    if any(value(row, f"{column}_{side}") is None for row in rows):
        return None
    ends, means = _means(rows, f"{column}_{side}"), _means(rows, column)
    return math.hypot(*(ends[name] - mean for name, mean in means.items())) / len(means)


def _present(values: Iterable[float | None]) -> list[float]:
    return [found for found in values if found is not None]

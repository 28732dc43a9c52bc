"""Judgements to write a run of, and its ``results.csv`` read without the package."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.inspection import Inspection, Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.maps.regions import find_regions
from pyimgano.records import DEFECT, GOOD, Sample

if TYPE_CHECKING:
    from pathlib import Path

THRESHOLD = 2.0
HOSTILE = (
    "<script>alert(1)</script>.png",  # the slash makes it a folder and a file
    "x\u2028</script><script>alert(2)</script>.png",
    "\"' onmouseover='alert(3)' x=\".png",
    "<img src=x onerror=alert(4)>.png",
    "{{ 7*7 }}${alert(5)}.png",
    "javascript:alert(6).png",
)


@dataclass(frozen=True)
class Judged:
    """What ``results.csv`` says, read without the package."""

    rows: list[dict[str, str]]

    @classmethod
    def of(cls, run: Path) -> Judged:
        with (run / "results.csv").open(newline="", encoding="utf-8") as file:
            return cls([row for row in csv.DictReader(file) if row["score"]])

    @property
    def scores(self) -> list[float]:
        return sorted({float(row["score"]) for row in self.rows})

    def at(self, threshold: float) -> dict[str, int]:
        above = [row for row in self.rows if float(row["score"]) > threshold]
        below = [row for row in self.rows if float(row["score"]) <= threshold]
        return {
            "rejects": sum(row["label"] == str(GOOD) for row in above),
            "escapes": sum(row["label"] == str(DEFECT) for row in below),
            "ng": len(above),
            "ok": len(below),
        }


def judge(path: Path, score: float, label: int | None, threshold: float | None) -> Inspection:
    """Write an image and say that it has this score."""
    image = np.random.default_rng(round(score * 1000)).integers(
        60, 200, (48, 64, 3), dtype=np.uint8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))
    drawn = np.full((48, 64), score / 2, np.float32)
    drawn[10:20, 10:30] = score
    flagged = threshold is not None and score > threshold
    return Inspection(
        source=Sample(path, defect=("good", "cut")[label or 0], label=label),
        score=score,
        label=-1 if threshold is None else int(flagged),
        verdict=None if threshold is None else Verdict.NG if flagged else Verdict.OK,
        map=drawn,
        regions=find_regions(drawn, threshold) if flagged else (),
        threshold=threshold,
        pixel_threshold=threshold,
    )

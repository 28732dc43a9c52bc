"""Tables of a benchmark that never ran, for what is made of them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from pyimgano.runs.rows import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"command": "pyimgano benchmark --all", "versions": {"pyimgano": "1.2.3"}}


def job(detector: str, category: str, auroc: float | None, **more: Any) -> dict[str, Any]:
    """Return a row; without an AUROC, of a job that failed."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"detector": detector, "extractor": "tiny", "dataset": "parts", "category": category}
    row |= {"protocol": "one-class", "seed": 0, "status": "complete", "licence": "MIT"}
    row["command"] = f"pyimgano benchmark --detector {detector} --category {category}"
    if auroc is None:
        return row | {"status": "failed", "error": "MaskError: x.png: no mask"} | more
    row |= {"auroc": auroc, "auroc_low": auroc - 0.03, "auroc_high": auroc + 0.04, "ap": auroc}
    row |= {"f1max_oracle": auroc, "n_good": 20, "n_defect": 10, "false_rejects": 1, "escapes": 2}
    row |= {"fit_seconds": 3.0, "ms_per_image": 10.0, "peak_mb": 500, "model_mb": 2.5}
    return row | {"certified_bound": 0.1} | more


def write_board(out: Path, rows: list[dict[str, Any]], facts: object = FACTS) -> Path:
    """Write the two files that a leaderboard is made of."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    (out / "benchmark.json").write_text(json.dumps(facts), "utf-8")
    return out

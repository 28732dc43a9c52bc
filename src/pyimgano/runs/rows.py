"""The lines of ``leaderboard.csv``: what a job found, by its columns."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pyimgano.runs.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COLUMNS", "COSTS", "is_row", "rows_of"]

COSTS = ("fit_seconds", "ms_per_image", "peak_mb", "model_mb")
COLUMNS = (
    *("detector", "extractor", "settings", "dataset", "category", "protocol", "shots", "seed"),
    *("status", "error", "n_train", "n_good", "n_defect"),
    *("auroc", "auroc_low", "auroc_high", "ap", "f1max_oracle", "pixel_auroc", "pixel_ap"),
    *("aupro_0.3", "aupro_0.3_low", "aupro_0.3_high", "aupro_0.05", "aupimo"),
    *("auroc_mean_of_kinds", "aspro_0.05_mean_of_kinds"),
    *("false_rejects", "escapes", "certified_bound", *COSTS, "licence", "command"),
)
"""Of ``leaderboard.csv``; two runs of one job differ in `COSTS` alone."""


def rows_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of a job in the leaderboard, from the facts of its run: one a category.

    None stands where nothing is known. Rejects and escapes are numbers of images; of one shot there
    is no threshold, hence none.
    """
    job, found = Job(**facts["job"]), facts.get("by_category") or {}
    if not job.categories:
        return [_row(job, facts)]
    failed = {name: {"data": {"category": name}, "metrics": {}} for name in job.categories}
    return [_row(job, {**facts, **own}) for own in ({**failed, **found}).values()]


def _row(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    data, metrics = facts.get("data") or {}, facts.get("metrics") or {}
    at = metrics.get("at_threshold") or {}
    intervals = {**(metrics.get("intervals") or {}), **(facts.get("map_intervals") or {})}
    failed = facts["status"] != "complete"
    row: dict[str, Any] = {
        **{name: getattr(job, name) for name in COLUMNS[:8] if name != "category"},
        "category": data.get("category", job.category),
        "status": "failed" if failed else "complete",
        "error": " ".join(str(facts["reason"]).split()) if failed else None,
        "n_train": data.get("n_train"),
        "n_good": (at.get("false_rejects") or {}).get("of", data.get("n_test_good")),
        "n_defect": (at.get("escapes") or {}).get("of", data.get("n_test_defect")),
        "f1max_oracle": metrics.get("f1max"),
        **{name: (at.get(name) or {}).get("count") for name in ("false_rejects", "escapes")},
        **(facts.get("timing") or {}),
        "licence": job.licence(),
        "command": job.command,
    }
    for name in ("auroc", "aupro_0.3"):
        row[f"{name}_low"], row[f"{name}_high"] = intervals.get(name) or (None, None)
    known = {**metrics, **facts, **row}
    return {name: known.get(name) for name in COLUMNS}


def is_row(facts: Mapping[str, Any]) -> bool:
    """Tell whether a run is that of a job of this version, and has come to an end."""
    names = {each.name for each in fields(Job)}
    job = facts.get("job") or {}
    return job.keys() == names and facts["status"] in {"complete", "failed"}

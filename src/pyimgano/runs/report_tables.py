"""The numbers of a report: rates with their intervals, verdicts by kind, metrics, facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyimgano.inspection import Verdict
from pyimgano.metrics.rates import Rate
from pyimgano.records import DEFECT, GOOD

__all__ = ["Row", "Tally", "flat", "metrics_table", "number", "percent", "tallies"]

Row = dict[str, Any]
"""A line of ``results.jsonl``."""

_METRICS = {
    "auroc": ("AUROC", "a random defect scores above a random good part; 0.5 is chance"),
    "ap": ("Average precision", "area under precision over recall"),
    "f1max": ("F1 max", "best F1 of any threshold"),
    "f1max_threshold": ("F1 max threshold", "where that F1 is reached"),
    "pixel_auroc": ("Pixel AUROC", "a random defective pixel is above a random good one"),
    "pixel_ap": ("Pixel average precision", "area under precision over recall of pixels"),
    "pixel_f1max": ("Pixel F1 max", "best pixel F1 of any threshold"),
    "pixel_f1max_threshold": ("Pixel F1 max threshold", "where that F1 is reached"),
    "aupro_0.3": ("AUPRO 0.3", "overlap with each defect, up to 30 % false-positive pixels"),
    "aupro_0.05": ("AUPRO 0.05", "overlap with each defect, up to 5 % false-positive pixels"),
    "aspro_0.05": ("AU-sPRO 0.05", "overlap until saturated, up to 5 % false-positive pixels"),
    "aupimo": ("AUPIMO", "recall of an image where good ones show almost nothing"),
    "n_regions": ("Defect regions", "connected regions in the ground truth"),
}
_COUNTED = {"undefined", "at_threshold", "errors"}  # told elsewhere, from the rows themselves
_COUNTED |= {"oracle", "intervals", "at_pixel_threshold"}  # in run.json


@dataclass(frozen=True, slots=True)
class Tally:
    """How images of one kind were judged."""

    name: str
    ok: int
    ng: int
    error: int
    undecided: int

    @property
    def total(self) -> int:
        """All images of the kind."""
        return self.ok + self.ng + self.error + self.undecided

    @property
    def flagged(self) -> Rate:
        """NG among those that could be judged."""
        return Rate(self.ng, self.ok + self.ng)

    @property
    def passed(self) -> Rate:
        """OK among those that could be judged."""
        return Rate(self.ok, self.ok + self.ng)


def tallies(rows: Iterable[Row]) -> dict[str, Any]:
    """Count verdicts: of all images, by label, and (``kinds``) by kind of defect."""
    counts = Counter((row["label"], row["defect"], row["verdict"]) for row in rows)

    def tally(name: str, labels: Container[int | None], kind: str | None = None) -> Tally:
        verdicts = Counter[str]()
        for (label, defect, verdict), n in counts.items():
            if label in labels and kind in {None, defect}:
                verdicts[verdict] += n
        return Tally(name, *(verdicts[verdict] for verdict in (*Verdict, "")))

    return {
        "all": tally("all", {GOOD, DEFECT, None}),
        "good": tally("good", {GOOD}),
        "defect": tally("defective", {DEFECT}),
        "unlabelled": tally("unlabelled", {None}),
        "kinds": [
            tally(kind, {DEFECT}, kind)
            for kind in sorted({defect for label, defect, _ in counts if label == DEFECT})
        ],
    }


def metrics_table(metrics: Mapping[str, Any]) -> list[tuple[str, object, str, bool]]:
    """Return (name, value, meaning, oracle) of each metric; an undefined one says why."""
    reasons, intervals = metrics.get("undefined") or {}, metrics.get("intervals") or {}
    order = {name: place for place, name in enumerate(_METRICS)}
    told = sorted(
        metrics.keys() - _COUNTED, key=lambda name: (order.get(_base(name), len(order)), name)
    )
    table = []
    for key, value in flat({name: metrics[name] for name in told}):
        name, meaning = _named(key)
        if None not in (ends := intervals.get(key) or (None,)):
            meaning += "; 95 % interval {:.3f} to {:.3f}".format(*ends)
        oracle = "f1max" in key or "oracle" in key
        table.append((name, value, reasons.get(key, meaning), oracle))
    known = {key for key, _ in flat(metrics)}
    table += [
        (_named(key)[0], None, why, False) for key, why in reasons.items() if key not in known
    ]
    return table


def _base(key: str) -> str:
    """Return the metric of which this is a part: that of one kind of defect."""
    return next((one for one in ("aspro_0.05", "auroc") if key.startswith(f"{one}_")), key)


def _named(key: str) -> tuple[str, str]:
    """Return name and meaning of a metric."""
    base = _base(key)
    if base == key:
        return _METRICS.get(key, (key, ""))
    kind = key.removeprefix(f"{base}_").replace("_", " ")
    mean = kind == "mean of kinds"
    meaning = "as MVTec LOCO is compared" if mean else "this kind of defect among all good images"
    return f"{_METRICS[base][0]}, {kind}", meaning


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested mappings as one list of dotted names."""
    table: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            table += flat(value, f"{prefix}{name}.")
        else:
            table.append((f"{prefix}{name}", value))
    return table


def number(value: object) -> str:
    """Return four digits of a float, a list with commas, and a dash for nothing."""
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    if value is None or value == "":
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """Return a share in percent; what is not nothing never reads as nothing."""
    if value is None:
        return "—"
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.{0 if value in {0.0, 1.0} else 1}f} %"

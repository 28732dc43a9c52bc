"""The images on which two runs disagree, with what each of them saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.inspection import Verdict
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.gallery import SHOWN, pictures

if TYPE_CHECKING:
    from pyimgano.runs.comparison import Run
    from pyimgano.runs.report_tables import Row

__all__ = ["Disagreement", "disagreements", "shots"]

Both = tuple["Row", ...]
"""One image in both runs."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One way to disagree, and the images shown, with their labels: farthest apart first."""

    title: str
    text: str
    total: int
    rows: list[tuple[int | None, Both]]


def disagreements(runs: list[Run], differing: list[tuple[int | None, Both]]) -> list[Disagreement]:
    """Group images that two runs judge differently; no group is empty."""
    a, b = (run.letter for run in runs)
    ok, ng = Verdict.OK, Verdict.NG
    plans = (
        (DEFECT, (ok, ng), f"Misses of {a} that {b} catches", f"Defects: {a} says OK, {b} NG."),
        (DEFECT, (ng, ok), f"Misses of {b} that {a} catches", f"Defects: {b} says OK, {a} NG."),
        (GOOD, (ng, ok), f"False alarms of {a} alone", f"Good parts: {a} says NG, {b} OK."),
        (GOOD, (ok, ng), f"False alarms of {b} alone", f"Good parts: {b} says NG, {a} OK."),
        (None, (ng, ok), f"NG in {a} alone", f"Images without a label: {a} says NG, {b} OK."),
        (None, (ok, ng), f"NG in {b} alone", f"Images without a label: {b} says NG, {a} OK."),
    )
    found = []
    for label, verdicts, title, text in plans:
        rows = [
            (known, both)
            for known, both in differing
            if known == label and tuple(row["verdict"] for row in both) == verdicts
        ]
        if rows:
            shown = sorted(rows, key=lambda one: -_apart(one[1]))[:SHOWN]
            found.append(Disagreement(title, text, len(rows), shown))
    return found


def shots(runs: list[Run], sections: list[Disagreement]) -> dict[str, list[str | None]]:
    """Return, by the path in the first run, the image and what each run drew on it.

    A picture that a run did not keep is None; without any, the image is left out.
    """
    shown = [both for section in sections for _, both in section.rows]
    drawn = [
        pictures(run.folder, [both[i] for both in shown], len(runs)) for i, run in enumerate(runs)
    ]
    found: dict[str, list[str | None]] = {}
    for both in shown:
        panels = [kept.get(row["overlay"]) for row, kept in zip(both, drawn, strict=True)]
        image = next((several[0] for several in panels if several), None)
        if image is not None:
            seen = [several[-1] if several else None for several in panels]
            found[both[0]["path"]] = [image, *seen]
    return found


def _apart(both: Both) -> float:
    """Return how far the scores are apart, in thresholds where there are any above zero."""
    first, second = (
        row["score"] / row["threshold"] if (row["threshold"] or 0) > 0 else row["score"]
        for row in both
    )
    return abs(float(first - second))

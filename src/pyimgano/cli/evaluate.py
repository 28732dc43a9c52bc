"""``pyimgano evaluate``: how well a detector does on a data set with known defects."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import (
    CategoryName,
    DataOptions,
    DatasetName,
    DetectorName,
    ExtractorName,
    FalseReject,
    Json,
    Root,
    RunDir,
    Set,
    describe_extractor,
    load_category,
    make_detector,
)
from pyimgano.cli._show import Show, judging_table, named, new_table
from pyimgano.cli._views import (
    Alignment,
    HowForeground,
    IgnoreFile,
    LeaveBackground,
    RoiFile,
    TileSize,
    print_view,
    seen_by,
)
from pyimgano.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.table import Table

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.drift import Drift
    from pyimgano.runs.evaluate import Evaluation

__all__ = ["evaluate"]


def evaluate(
    ctx: typer.Context,
    root: Root,
    out: RunDir,
    *,
    dataset: DatasetName = "mvtec",
    category: CategoryName = None,
    data_options: DataOptions = None,
    detector: DetectorName = "vision_default",
    extractor: ExtractorName = "auto",
    false_reject: FalseReject = "5%",
    align: Alignment = None,
    roi: RoiFile = None,
    ignore: IgnoreFile = None,
    foreground: LeaveBackground = HowForeground.OFF,
    tile: TileSize = None,
    settings: Set = None,
    corruptions: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Judge the test images again, disturbed: all, or names such as noise,shift.",
        ),
    ] = None,
    severity: Annotated[
        str, typer.Option(metavar="LIST", help="How much they are disturbed: 1 to 5.")
    ] = "1,3,5",
    as_json: Json = False,
) -> None:
    """Measure a detector on a data set.

    Learns from the good training images, judges the test images, and writes results.csv,
    overlays/ and report.html into the folder --out; with --corruptions robustness.csv, too.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    shifts = None if corruptions is None else _shifts(corruptions, severity)
    data = load_category(dataset, root, category, data_options)
    if not data.test:
        raise DatasetError(
            f"{root} holds no test images, so there is nothing to measure; "
            "to learn from its images type: pyimgano fit"
        )
    seen = seen_by(align, data.train, roi=roi, ignore=ignore, foreground=foreground, tile=tile)
    unfitted = make_detector(detector, extractor, false_reject, settings or (), **seen)
    from pyimgano.runs import evaluate as runs

    with show.progress(
        f"learning from {len(data.train)} good images", to_judge=len(data.test)
    ) as step:
        found = runs.evaluate(unfitted, data, out, progress=step)
    stands = None if shifts is None else _disturb(show, found.detector, data, shifts, out)
    facts = data.info
    show.fact(
        "data",
        f"{facts.name} {facts.category}{_told(facts.options)}: {facts.n_train} good images to "
        f"learn from, {facts.n_test_good} good and {facts.n_test_defect} defective ones to judge",
    )
    print_view(show, found.detector)
    show.facts("extractor", describe_extractor(found.detector, extractor))
    show.table(_metrics_table(found.metrics))
    if "at_threshold" in found.metrics:
        show.table(judging_table(found.metrics, found.detector.certainty_))
    if stands is not None:
        show.table(_robustness_table(stands))
    show.line()
    drift = _print_threshold(show, found)
    show.facts("skipped", [named(*each) for each in found.detector.skipped_])
    show.facts("errors", [named(one.path, one.error or "") for one in found.inspections.errors])
    show.fact("report", str(out / "report.html"))
    show.answer(_headline(found.metrics))
    show.result(
        {
            "run": out,
            "report": out / "report.html",
            "data": facts,
            "metrics": found.metrics,
            "drift": drift,
            **({} if stands is None else {"robustness": stands}),
            **runs.describe_detector(found.detector),
        }
    )
    raise typer.Exit(ExitCode.SOME_ERROR if found.metrics["errors"] else ExitCode.DONE)


def _print_threshold(show: Show, found: Evaluation) -> Drift | None:
    if found.detector.is_calibrated:
        show.fact("threshold", found.detector.certainty_.describe().removeprefix("threshold: "))
    drift = found.detector.drift(found.inspections)
    if drift is not None and drift.found:
        show.fact("session", drift.describe("the good test images"))
    return drift


def _told(options: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name}={value}' for name, value in options.items())})" * bool(options)


def _shifts(names: str, severity: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read the words of --corruptions and --severity before any image is read."""
    from pyimgano.synthesis.corruptions import choose_corruptions

    grades = [part.strip() for part in severity.split(",")]
    severities = tuple(int(part) if part.isdecimal() else 0 for part in grades)
    return choose_corruptions([name.strip() for name in names.split(",")], severities), severities


def _disturb(
    show: Show,
    detector: Detector,
    data: Dataset,
    shifts: tuple[tuple[str, ...], tuple[int, ...]],
    out: Path,
) -> dict[str, Any]:
    from pyimgano.runs.robustness import robustness, write_robustness

    names, severities = shifts
    rounds = 1 + len(names) * len(set(severities))
    with show.progress("judging disturbed images", to_judge=rounds * len(data.test)) as step:
        found = robustness(detector, data, corruptions=names, severities=severities, progress=step)
    write_robustness(out, found)
    return found


def _robustness_table(found: Mapping[str, Any]) -> Table:
    numbers = ("severity", "AUROC", "rejected", "escapes", "errors")
    table = new_table("disturbed by", *numbers, numbers=numbers)
    for row in found["rows"]:
        shares = [
            "-" if row[of] is None else f"{row[key]} of {row[of]}"
            for key, of in (("false_rejects", "good"), ("escapes", "defective"))
        ]
        area = "-" if row["auroc"] is None else f"{row['auroc']:.4f}"
        grade = str(row["severity"] or "")
        table.add_row(row["corruption"], grade, area, *shares, str(row["errors"]))
    return table


def _headline(measured: Mapping[str, Any]) -> str:
    """Return the figures that matter most, in one line."""
    figures = [
        f"{name} {measured[name]:.4f}"
        for name in ("auroc", "aupro_0.3")
        if measured.get(name) is not None
    ]
    if "at_threshold" in measured:
        judged = measured["at_threshold"]
        for name, key in (("caught", "catches"), ("rejected", "false_rejects")):
            figures.append(f"{name} {judged[key]['count']} of {judged[key]['of']}")
    return ", ".join([*figures, f"errors {measured['errors']}"])


def _metrics_table(measured: Mapping[str, Any]) -> Table:
    from pyimgano.runs.report_tables import metrics_table

    table = new_table("figure", "value", "meaning", numbers=("value",))
    for name, value, meaning, oracle in metrics_table(measured):
        shown = f"{value:.4f}" if isinstance(value, float) else str("-" if value is None else value)
        table.add_row(f"{name} (oracle)" if oracle else name, shown, meaning)
    return table

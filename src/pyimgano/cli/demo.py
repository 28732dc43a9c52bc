"""``pyimgano demo``: generated parts, learned, judged and measured in a minute."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._parameters import Json, describe_extractor
from pyimgano.cli._show import Show, judging_table, new_table
from pyimgano.errors import OutputError

if TYPE_CHECKING:
    from pyimgano.runs.evaluate import Evaluation

__all__ = ["demo"]

_PLACES = {"data", "run", "model.pyimg"}


def demo(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="New folder, or that of an older demo."),
    ] = Path("pyimgano-demo"),
    *,
    as_json: Json = False,
) -> None:
    """See it work on generated parts.

    Generates good and defective parts, learns from good ones, judges the others and writes a
    report: in a minute, without a download.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    data = _claim(out)
    from pyimgano.datasets.base import load_dataset
    from pyimgano.models import DEFAULT, create_detector
    from pyimgano.runs.evaluate import evaluate
    from pyimgano.synthesis import write_demo

    if not data.exists():
        with show.progress("generating parts"):
            write_demo(data)
    parts = load_dataset("mvtec", data, category="flange")
    doing = f"learning from {len(parts.train)} good parts"
    with show.progress(doing, to_judge=len(parts.test)) as step:
        found = evaluate(create_detector(DEFAULT), parts, out / "run", progress=step)
    found.detector.save(out / "model.pyimg")
    show.fact(
        "data",
        f"{data}: {parts.info.n_train} good parts to learn from, {parts.info.n_test_good} good and "
        f"{parts.info.n_test_defect} defective ones to judge",
    )
    show.facts("extractor", describe_extractor(found.detector, "auto"))
    _print(show, found)
    model, report = out / "model.pyimg", out / "run" / "report.html"
    show.fact("report", f"{report} (open it in a browser)")
    show.fact("pictures", str(out / "run" / "overlays"))
    show.fact("model", str(model))
    given = shlex.join([str(model), str(data / "flange" / "test")])
    show.line(f"\nnext: pyimgano predict {given} --out results")
    show.line("then, with images of your own: pyimgano fit GOOD_DIR -o model.pyimg")
    show.answer(str(report))
    show.result({"data": data, "model": model, "report": report, "metrics": found.metrics})


def _claim(out: Path) -> Path:
    """Return where the parts lie or shall lie; a folder that is no demo's is left alone."""
    from pyimgano.atomic import output_errors
    from pyimgano.datasets._files import entries, found

    data = out / "data"
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    strange = {path.name for path in entries(out)} - _PLACES
    if strange or (data.exists() and not (data / "flange" / "train" / "good").is_dir()):
        raise OutputError(
            f"{out} holds something else than a demo (found: {found(out)}); "
            "give a new or empty folder with --out"
        )
    return data


def _print(show: Show, found: Evaluation) -> None:
    table = new_table("how well defects stand out", "value", "perfect", numbers=("value",))
    for key, name in (("auroc", "images: AUROC"), ("aupro_0.3", "pixels: AUPRO 0.3")):
        table.add_row(name, f"{found.metrics[key]:.3f}", "1.000")
    show.table(table)
    show.table(judging_table(found.metrics, found.detector.certainty_))
    show.line()

"""``pyimgano pod``: which sizes of a defect a model finds."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._parameters import Json, images_of
from pyimgano.cli._show import Show, count, new_table, rate
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.detector import Detector
    from pyimgano.runs.pod import Detection
    from pyimgano.synthesis.graded import Plan

__all__ = ["make_folder", "pod", "study"]


def pod(
    ctx: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The file that pyimgano fit wrote.")
    ],
    good_dir: Annotated[
        Path,
        typer.Argument(metavar="GOOD_DIR", help="Good images that the model has not learned from."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for pod.html and pod.json.")
    ],
    *,
    kinds: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Some of scratch,spot,stain,chip; default: all."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Pixels, such as 5,10,20,40; default: six."),
    ] = None,
    contrasts: Annotated[
        str, typer.Option(metavar="LIST", help="Grey levels; 0 plants nothing.")
    ] = "20,40,80",
    seed: Annotated[int, typer.Option(metavar="N", help="Decides where the defects are.")] = 0,
    as_json: Json = False,
) -> None:
    """Find out which defects are found.

    Plants scratches, spots, stains and chips of graded size and contrast in good images, and says
    which sizes are found 90 % of the time, with intervals. They are drawn, not real.
    """
    from pyimgano.models import load
    from pyimgano.synthesis.graded import GRADED, Plan

    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    images = images_of(good_dir, "images of good parts")
    plan = Plan(
        tuple(_words(kinds)) if kinds else tuple(GRADED),
        _numbers("--sizes", sizes or ""),
        _numbers("--contrasts", contrasts),
        seed,
    )
    make_folder(out)
    facts = study(show, load(model), images, out, plan)
    for text in facts["sentences"]:
        show.answer(text)
    show.result(facts)


def make_folder(out: Path) -> None:
    """Make the folder of a study before there is work that could be lost."""
    from pyimgano.atomic import output_errors

    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)


def study(
    show: Show,
    detector: Detector,
    images: Sequence[Path],
    out: Path,
    plan: Plan | None = None,
    *,
    note: str = "",
) -> dict[str, Any]:
    """Plant, judge, write the page, say what was found, and return it."""
    from pyimgano.runs.pod import detection
    from pyimgano.runs.pod_page import write_detection
    from pyimgano.synthesis.graded import Plan

    plan = plan or Plan()
    judged = len(images) * (1 + len(plan.jobs()))
    doing = f"planting defects in {count(len(images), 'good image')}"
    with show.progress(doing, to_judge=judged, did="judged {} of about {}") as step:
        found = detection(detector, images, plan, notes=(note,) if note else (), progress=step)
    page = write_detection(out, detector, found)
    _print(show, found)
    show.fact("page", str(page))
    return {
        "page": page,
        "sentences": found.sentences,
        "false_rejects": found.false_rejects.describe(),
        "curves": [curve.facts() for curve in found.curves],
    }


def _print(show: Show, found: Detection) -> None:
    sizes = [f"{size} px" for size in found.plan.sizes]
    table = new_table(
        "defect", "contrast", *sizes, "a90", "a90/95", numbers=("contrast", *sizes, "a90", "a90/95")
    )
    for curve in found.curves:
        hits = [str(share.k) for share in curve.found]
        table.add_row(curve.kind, str(curve.contrast), *hits, curve.least, curve.sure)
    show.table(table)
    show.line()
    n, share, between = rate(found.false_rejects.describe())
    show.fact(
        "planted", f"each of them in {count(len(found.images), 'good image')}; found of these"
    )
    show.fact("no defect", f"{n} are NG all the same ({share}, 95 % interval {between})")
    for text in found.sentences:
        show.fact("", text)
    show.facts("note", [*found.notes, "planted defects are not real ones: confirm on real defects"])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(word) for word in _words(text)}))
    except ValueError:
        raise ParameterError(
            f"{option} takes whole numbers with commas, such as 5,10,20; got {text!r}"
        ) from None

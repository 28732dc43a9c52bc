"""``pyimgano compare``: try what there is on one's own images, and keep what does best."""

from __future__ import annotations

import math
import shlex
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import FalseReject, Json, images_of, parse_share
from pyimgano.cli._show import Show, count, in_lines, named, new_table, rate, to_run
from pyimgano.cli._views import print_view
from pyimgano.cli.fit import check_writable, good_images
from pyimgano.cli.pod import make_folder
from pyimgano.errors import InputError, was_interrupted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from rich.table import Table

    from pyimgano.detector import Detector
    from pyimgano.inspection import Inspection
    from pyimgano.records import Sample
    from pyimgano.runs.compare_case import Case
    from pyimgano.runs.compare_choices import Found
    from pyimgano.runs.compare_verdict import Outcome, Standing

__all__ = ["compare"]

_GOOD = {"good", "ok", "normal"}


def compare(
    ctx: typer.Context,
    good_dir: Annotated[
        Path, typer.Argument(metavar="GOOD_DIR", help="A folder of images of good parts.")
    ],
    model: Annotated[
        Path,
        typer.Option("-o", "--model", metavar="FILE", help="The model file, such as model.pyimg."),
    ],
    *,
    bad: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images of defects, perhaps with masks/; without them defects are planted.",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="90s, 5min, 1h; one is tried in any case.")
    ] = "5min",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for comparison.html and all judgements."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides which images choose.")] = 0,
    false_reject: FalseReject = "5%",
    as_json: Json = False,
) -> None:
    """Try detectors on your images, and keep the best.

    Each is judged on images that it has not learned from, ranked by AUROC, and tested against
    chance; where chance may be the reason, the default or the cheapest is taken. Exit code 1: some
    images could not be judged.
    """
    from pyimgano.runs.compare_choices import (
        Found,
        Limits,
        compare_choices,
        parse_seconds,
        write_found,
    )

    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    plan = Limits(parse_seconds(budget), parse_share(false_reject), seed, out)
    images = good_images(good_dir)
    defects = None if bad is None else _defects(bad)
    check_writable(model)
    found = Found()
    with ExitStack() as stack:
        home = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_folder(home)
        case = _case(show, images, defects, home / "planted", seed)
        stack.enter_context(_kept(found, out))
        outcome = compare_choices(case, plan, found, show.progress)
        facts = write_found(case, found, outcome, out)
        with show.progress(
            f"learning from {count(len(images), 'good image')} with {facts['taken']}"
        ):
            fitted = outcome.taken.choice.make(plan.contamination, seed).fit(case.everything)
        fitted.save(model)
    _print(show, case, found, outcome, plan.budget)
    wrong = outcome.taken.inspections.errors
    _print_model(show, fitted, facts, wrong)
    if out is not None:
        show.fact("report", str(facts.get("report", "none: one configuration is no comparison")))
    show.fact("model", f"{model} ({model.stat().st_size / 1e6:.1f} MB)")
    show.line(f"\n{in_lines(fitted.summary())}")
    show.line(f"\nnext: pyimgano predict {shlex.quote(str(model))} NEW_IMAGES --out results")
    show.answer(str(model))
    show.result({"model": model, **facts})
    raise typer.Exit(ExitCode.SOME_ERROR if wrong else ExitCode.DONE)


def _print_model(
    show: Show, fitted: Detector, facts: Mapping[str, Any], wrong: Iterable[Inspection]
) -> None:
    for text in facts["labels"]:
        show.fact("note", text)
    print_view(show, fitted)
    show.facts("skipped", [named(*each) for each in fitted.skipped_])
    lost = {name for name, _ in fitted.skipped_}
    show.facts("errors", [named(x.path, x.error or "") for x in wrong if x.path not in lost])


def _defects(folder: Path) -> tuple[Sample, ...]:
    """List the images of defects, after a look whether good ones are among them."""
    from pyimgano.datasets.defects import read_defects

    images_of(folder, "images of defects")
    samples = read_defects(folder)
    for sample in samples:
        for above in list(sample.path.relative_to(folder).parents)[-2::-1]:
            if above.name.casefold() in _GOOD:
                raise InputError(
                    f"{folder} should hold images of defects alone, but it holds {above}/ too; "
                    "give a folder without good images"
                )
    return samples


def _case(
    show: Show,
    images: Sequence[Path],
    defects: Sequence[Sample] | None,
    planted: Path,
    seed: int,
) -> Case:
    from pyimgano.runs.compare_case import make_case, planted_case

    if defects is None:
        with show.progress(f"planting defects in the last of {count(len(images), 'good image')}"):
            return planted_case(images, planted, seed)
    with show.progress(f"looking at {count(len(images) + len(defects), 'image')}"):
        return make_case(images, defects, seed)


@contextmanager
def _kept(found: Found, out: Path | None) -> Iterator[None]:
    """Let an interrupt say what is finished, and where it is."""
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as interrupt:
        if not was_interrupted(interrupt):
            raise
        done = count(len(found.trials), "configuration")
        told = "was finished" if len(found.trials) == 1 else "were finished"
        where = f", see {out}" if out is not None and found.trials else ""
        raise KeyboardInterrupt(f"{done} {told}{where}; no model was written") from None


def _print(show: Show, case: Case, found: Found, outcome: Outcome, budget: float) -> None:
    if case.planted:
        n = len(case.goods)
        show.fact(
            "images",
            f"{count(len(case.learned), 'good image')} to learn from; the other {n} to judge, as "
            f"they are and with {count(len(case.bad), 'planted defect')}",
        )
    else:
        show.fact(
            "images",
            f"{count(len(case.goods), 'good image')}, {len(case.bad)} of defects",
        )
    if case.halved:
        mine = case.labels[case.choosing]
        show.fact(
            "split",
            f"{int((mine == 0).sum())} good and {int(mine.sum())} defective images choose, the "
            f"other {int((~case.choosing).sum())} report",
        )
    if not case.aligns and case.pose:
        show.fact("alignment", f"{case.pose}; so it was not tried")
    names = [each.trial.choice.name for each in outcome.standings]
    show.facts("tried", [f"{i}  {name}" for i, name in enumerate(names, 1)], most=len(names))
    show.table(_table(outcome))
    show.line()
    for label, rows in (("not tried", found.untried), ("failed", found.failed)):
        show.facts(label, [f"{name}: {why}" for name, why in rows], most=len(rows))
    if found.lacking > 0:
        minutes = math.ceil((found.lacking + budget) / 60)
        show.fact("advice", f"to try all of them, add: --budget {minutes}min")
    show.facts("not here", to_run(found.absent))
    show.fact("difference", outcome.difference)
    show.fact("taken", f"{outcome.taken.choice.name}: {outcome.choice}")
    if outcome.reported is not None:
        show.fact("reported", f"{_figures(outcome.reported)}, on the images that did not choose")


def _figures(standing: Standing) -> str:
    n, share, between = rate(standing.caught.describe())
    area = "-" if standing.auroc is None else f"{standing.auroc:.4f}"
    return f"AUROC {area} ({_ends(standing)}), caught {n} ({share}; {between})"


def _ends(standing: Standing) -> str:
    if standing.auroc is None:
        return "too few images"
    if standing.low is None:
        return "no interval"
    return f"{standing.low:.3f} to {standing.high:.3f}"


def _table(outcome: Outcome) -> Table:
    drawn = any(each.trial.aupro is not None for each in outcome.standings)
    failed = any(each.errors for each in outcome.standings)
    numbers = ["AUROC", "caught", *["AUPRO"] * drawn, "rejected", "s", *["errors"] * failed]
    heads = [*numbers[:1], "95 % interval", *numbers[1:2], "95 % interval", *numbers[2:]]
    table = new_table("", *heads, numbers=numbers)
    for place, each in enumerate(outcome.standings, 1):
        bound, found = each.trial.certainty.bound, each.trial.aupro
        table.add_row(
            str(place),
            "-" if each.auroc is None else f"{each.auroc:.3f}",
            _ends(each),
            f"{each.caught.k} of {each.caught.n}",
            "-" if not each.caught.n else "{:.0%} to {:.0%}".format(*each.caught.interval),
            *["-" if found is None else f"{found:.3f}"] * drawn,
            "?" if bound is None else f"<= {100 * bound:.0f} %",
            f"{each.trial.seconds:.2f}",
            *[str(each.errors)] * failed,
        )
    return table

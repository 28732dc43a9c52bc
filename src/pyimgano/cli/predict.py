"""``pyimgano predict``: a model and new images in, verdicts and a report out."""

from __future__ import annotations

import os
import shlex
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import Json, Overlays, RunDir
from pyimgano.cli._show import Show, count, named
from pyimgano.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.inspection import Inspection

__all__ = ["predict"]


class _Tally:
    """Counts judgements and keeps the reasons of those that are no OK."""

    def __init__(self) -> None:
        self.counts = {"OK": 0, "NG": 0, "ERROR": 0, "undecided": 0}
        self.defective: list[tuple[str, str]] = []
        self.errors: list[tuple[str, str]] = []

    def add(self, one: Inspection) -> None:
        self.counts["undecided" if one.verdict is None else str(one.verdict)] += 1
        if one.label == 1:
            self.defective.append((one.path, one.reason))
        if one.error is not None:
            self.errors.append((one.path, one.error))

    @property
    def images(self) -> int:
        return sum(self.counts.values())

    def summary(self) -> str:
        """Return the counts in words: ``2 of 46 could not be judged; 30 OK, 14 NG``."""
        if self.counts["undecided"]:
            text = (
                f"{self.counts['undecided']} scored, without verdicts: the model has no threshold"
            )
        else:
            text = f"{self.counts['OK']} OK, {self.counts['NG']} NG"
        failed = self.counts["ERROR"]
        return f"{failed} of {self.images} could not be judged; {text}" if failed else text

    def exit_code(self, *, fail_on_ng: bool) -> ExitCode:
        if self.counts["ERROR"]:
            return ExitCode.SOME_ERROR
        return ExitCode.FOUND_NG if fail_on_ng and self.counts["NG"] else ExitCode.DONE


def predict(
    ctx: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The file that pyimgano fit wrote.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Images, or folders of images.")
    ],
    out: RunDir,
    *,
    maps: Annotated[
        bool, typer.Option("--maps", help="Keep the anomaly maps, as maps/*.npy.")
    ] = False,
    overlays: Annotated[
        Overlays, typer.Option(help="Which pictures with marked regions to keep.")
    ] = Overlays.ALL,
    fail_on_ng: Annotated[
        bool, typer.Option("--fail-on-ng", help="Exit with 3 if any image is NG.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge images with a model.

    Writes results.csv, results.jsonl, overlays/ and report.html into the folder --out. An image
    that cannot be judged is an ERROR there, never OK and never NG.
    """
    from pyimgano.runs.facts import read_facts

    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    sources = _images(paths)
    tally = _judge(show, model, sources, out, overlays=overlays, maps=maps)
    code = tally.exit_code(fail_on_ng=fail_on_ng)
    show.fact("judged", tally.summary())
    show.answer(tally.summary())
    told = read_facts(out).get("drift", {})
    if told.get("text"):
        show.fact("session", told["text"])
    show.facts("NG", [named(*each) for each in tally.defective])
    show.facts("errors", [named(*each) for each in tally.errors])
    show.fact("table", str(out / "results.csv"))
    show.fact("report", str(out / "report.html"))
    show.result(
        {
            "run": out,
            "table": out / "results.csv",
            "report": out / "report.html",
            "counts": {"images": tally.images, **tally.counts},
            "drift": told or None,
            "errors": [{"path": path, "reason": reason} for path, reason in tally.errors],
            "exit_code": int(code),
        }
    )
    raise typer.Exit(code)


def _images(paths: Sequence[Path]) -> list[Path]:
    """Return the images that are meant, each once; a name that is not there is refused."""
    from pyimgano.datasets._sources import as_sources

    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise InputError(f"{missing[0]} does not exist; give images or folders of images")
    return list(dict.fromkeys(image for path in paths for image in as_sources(path)))


def _judge(
    show: Show, model: Path, sources: Sequence[Path], out: Path, *, overlays: str, maps: bool
) -> _Tally:
    from pyimgano.models import load
    from pyimgano.runs import evaluate as runs

    tally = _Tally()
    detector = load(model)
    try:
        with show.progress(
            f"judging {count(len(sources), 'image')}", to_judge=len(sources)
        ) as step:

            def seen(one: Inspection) -> None:
                tally.add(one)
                step(one)

            runs.predict(detector, sources, out, overlays=overlays, maps=maps, progress=seen)
    except KeyboardInterrupt:
        if not tally.images:
            raise
        raise KeyboardInterrupt(
            f"{tally.images} of {len(sources)} images were judged; "
            f"they stand in {shlex.quote(str(out / 'results.csv'))}"
        ) from None
    return tally

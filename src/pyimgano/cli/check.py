"""``pyimgano check``: what a folder of images holds, before anything is learned from it."""

from __future__ import annotations

import os
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import CategoryName, DataOptions, Json, images_of, load_category
from pyimgano.cli._show import Show, count
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyimgano.runs.doubts import Doubts
    from pyimgano.runs.hygiene import Hygiene

__all__ = ["check"]

_SHOWN = 5


def check(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of images, with all folders below it.")
    ],
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Read DIR as a data set: masks and splits too. See: pyimgano list datasets.",
        ),
    ] = None,
    category: CategoryName = None,
    data_options: DataOptions = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for report.html; looks for probable defects among the images, too.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for damage, copies and odd shots.

    Reads every image of a folder; of a data set the good training images, and all others for wrong
    masks and leaks into the test. Exit code 1: some files cannot be read, are blank, or would
    flatter or spoil a figure.
    """
    from pyimgano.runs.hygiene import examine

    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    if dataset is None and (category or data_options):
        raise ParameterError("--category and --data-option are for a data set; add --dataset NAME")
    data = None if dataset is None else load_category(dataset, folder, category, data_options)
    images = images_of(folder) if data is None else [sample.path for sample in data.train]
    started = time.perf_counter()
    with show.progress(f"checking {count(len(images), 'image')}"):
        found = examine(images)
        problems = None if data is None else data.audit()
        doubts = None if out is None else _doubts(found, images)
    seconds = time.perf_counter() - started
    show.fact("checked", f"{count(found.n, 'image')} in {seconds:.1f} s")
    _print(show, found, folder)
    facts = {"folder": folder, "seconds": round(seconds, 3), **_facts(found)}
    if data is not None and problems is not None:
        show.facts("data set", problems or ["none"], most=_SHOWN)
        for text in problems:
            show.answer(text)
        facts |= {"data": data.info, "problems": problems}
    if out is not None and doubts is not None:
        facts |= _report(show, found, doubts, folder, out)
    show.result(facts)
    if found.unreadable or found.blank or problems:
        raise typer.Exit(ExitCode.SOME_ERROR)


def _doubts(found: Hygiene, images: Sequence[Path]) -> Doubts:
    from pyimgano.cli._parameters import make_detector
    from pyimgano.models import DEFAULT
    from pyimgano.runs.doubts import find_doubts

    known = (*found.unreadable, *found.blurred, *found.exposure, *found.odd_sizes)
    named = {*found.blank, *(name for name, _ in known)}
    usable = [path for path in images if str(path) not in named]
    firsts = found.firsts()
    groups = [firsts.get(str(path), str(path)) for path in usable]
    return find_doubts(make_detector(DEFAULT, "auto", "5%", ()), usable, groups)


def _report(
    show: Show, found: Hygiene, doubts: Doubts, folder: Path, out: Path
) -> dict[str, object]:
    from pyimgano.runs.doubts import write_check

    show.fact("defects", doubts.text)
    show.facts("", [f"{_short(name, folder)}: z = {z:.1f}" for name, z in doubts.suspects])
    show.facts("refused", _explained(doubts.refused, folder))
    report = write_check(found, doubts, folder, out)
    show.fact("report", str(report))
    return {"suspects": doubts.suspects, "refused": doubts.refused, "report": report}


def _print(show: Show, found: Hygiene, folder: Path) -> None:
    show.fact(
        "distinct",
        f"{count(found.n_distinct, 'image')}, readable and not blank; "
        f"{found.n_independent} of them independent",
    )
    for label, counts in (
        ("sizes", found.sizes),
        ("modes", found.modes),
        ("bits", found.bits),
        ("formats", found.formats),
    ):
        show.facts(label, _counts(counts), most=_SHOWN)

    def explained(findings: Sequence[tuple[str, str]]) -> list[str]:
        return _explained(findings, folder)

    def grouped(groups: Sequence[Sequence[str]]) -> list[str]:
        return [_listed([_short(name, folder) for name in group]) for group in groups]

    for label, texts in (
        ("unreadable", explained(found.unreadable)),
        ("blank", [_short(name, folder) for name in found.blank]),
        ("duplicates", grouped(found.duplicates)),
        ("near copies", grouped(found.near_duplicates)),
        ("blurred", explained(found.blurred)),
        ("exposure", explained(found.exposure)),
        ("odd sizes", explained(found.odd_sizes)),
    ):
        show.facts(label, texts or ["none"], most=_SHOWN)
    for text in (
        *explained(found.unreadable),
        *(f"{_short(x, folder)}: blank" for x in found.blank),
    ):
        show.answer(text)
    for text in found.suggestions:
        show.fact("advice", text)


def _short(name: str, folder: Path) -> str:
    return name.removeprefix(f"{folder}{os.sep}")


def _explained(findings: Sequence[tuple[str, str]], folder: Path) -> list[str]:
    return [f"{_short(name, folder)}: {reason}" for name, reason in findings]


def _counts(counts: Mapping[str, int]) -> list[str]:
    return [f"{name} ({count(number, 'image')})" for name, number in counts.items()] or ["none"]


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more])


def _facts(found: Hygiene) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__slots__}

"""``pyimgano explain``: why a model judged one image as it did."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import Json, images_of
from pyimgano.cli._show import Show
from pyimgano.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyimgano.records import Evidence
    from pyimgano.runs.explain import Explanation
    from pyimgano.runs.explain_page import GoodPatch

__all__ = ["explain"]


def explain(
    ctx: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The file that pyimgano fit wrote.")
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="One image.")],
    *,
    goods: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The good images that the model learned from: it holds none, and shows the "
            "nearest good patch from there.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for explanation.html and .json."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why an image is OK or NG.

    Verdict and score beside those of the good images; where the image deviates, and by how much;
    for the strongest regions the most similar good patch. Exit code 1: it could not be judged.
    """
    from pyimgano.models import load
    from pyimgano.runs import explain as runs
    from pyimgano.runs.explain_page import good_patches, write_explanation

    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    if not os.path.lexists(image) or image.is_dir():
        what = "is a folder" if image.is_dir() else "does not exist"
        raise InputError(f"{image} {what}; give one image, or use pyimgano predict for many")
    given = [] if goods is None else images_of(goods, "the good images of the model")
    detector = load(model)
    explained = runs.explain(detector, image)
    patches = good_patches(detector, explained.places, given)
    page = None if out is None else write_explanation(out, detector, image, explained, patches)
    _print(show, explained, patches)
    show.answer(explained.verdict)
    absent = [patch.name for patch in patches.values() if given and patch.image is None]
    if absent:
        show.fact("goods", f"{goods} does not hold {', '.join(dict.fromkeys(absent))}")
    if page is not None:
        show.fact("page", str(page))
    nearest = {i: patch.words for i, patch in patches.items()}
    show.result({**explained.facts(), "nearest_good": nearest, "page": page})
    if explained.inspection.error is not None:
        raise typer.Exit(ExitCode.SOME_ERROR)


def _print(show: Show, explained: Explanation, patches: Mapping[int, GoodPatch]) -> None:
    show.fact("verdict", explained.verdict)
    if explained.inspection.error is not None:
        return
    if explained.standing:
        show.fact("score", explained.standing)
    show.fact("regions", explained.extent)
    for i, place in enumerate(explained.places):
        show.fact(f"region {i + 1}" if place.region else "strongest", explained.where(place))
        if place.evidence is not None:
            show.fact("", _why(place.evidence, patches.get(i)))


def _why(said: Evidence, patch: GoodPatch | None) -> str:
    from pyimgano.runs.explain import ranked

    texts = []
    if patch is not None:
        texts.append(f"nearest good patch: {patch.words}, at a distance of {said.distance:.4g}")
    if said.shares:
        differs = ", ".join(f"{name} {100 * share:.0f} %" for name, share in ranked(said.shares))
        texts.append(f"it differs in {differs}")
    if said.parts:
        texts.append(
            "unusual to " + ", ".join(f"{name} by {z:.1f} sigmas" for name, z in ranked(said.parts))
        )
    return "; ".join(texts)

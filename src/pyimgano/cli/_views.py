"""The options of verbs that fit: what a detector sees of an image."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.cli._show import Show
    from pyimgano.detector import Detector
    from pyimgano.views.roi import Roi
    from pyimgano.views.tile import Tiles

__all__ = [
    "AlignHow",
    "Alignment",
    "HowForeground",
    "IgnoreFile",
    "LeaveBackground",
    "RoiFile",
    "TileSize",
    "print_view",
    "seen_by",
]


class AlignHow(StrEnum):
    """How parts are brought to one pose."""

    AUTO = "auto"
    OFF = "off"
    SHIFT = "shift"
    ROTATE = "rotate"


Alignment = Annotated[
    AlignHow | None,
    typer.Option(
        "--align",
        help="Bring the parts to one pose first: moved ones (shift), one part at any angle on a "
        "plain background (rotate), or the latter if it makes the good images alike (auto). "
        "Default: auto with vision_default where no region is given, else off.",
        show_default=False,
    ),
]


class HowForeground(StrEnum):
    """Whether the background is left out."""

    AUTO = "auto"
    OFF = "off"


RoiFile = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="FILE",
        help="Judge only what lies inside: a mask image, or polygons (JSON, LabelMe, COCO).",
    ),
]
IgnoreFile = Annotated[
    Path | None,
    typer.Option("--ignore", metavar="FILE", help="Leave out what lies inside; files as --roi."),
]
LeaveBackground = Annotated[
    HowForeground,
    typer.Option("--foreground", help="auto: judge only the part in front of a plain background."),
]
TileSize = Annotated[
    str | None,
    typer.Option(
        "--tile",
        metavar="SIZE[:OVERLAP]",
        help="Judge a large image in tiles of so many pixels, which overlap by an eighth unless "
        "you say otherwise.",
    ),
]


def seen_by(
    align: AlignHow | None,
    images: Sequence[Any] = (),
    *,
    roi: Path | None = None,
    ignore: Path | None = None,
    foreground: HowForeground = HowForeground.OFF,
    tile: str | None = None,
) -> dict[str, Any]:
    """Return the view that was asked for, as a parameter of a detector; none keeps its own.

    Raises
    ------
    InputError
        If a region cannot be read, is for images of another size, or leaves nothing to judge.
    ParameterError
        If the tiles are not two numbers that fit.
    """
    from pyimgano.views.align import Align
    from pyimgano.views.base import Views, Whole
    from pyimgano.views.roi import Segment

    steps: list[Any] = []
    if roi or ignore:
        steps.append(_region(roi, ignore, _size(images)))
    if foreground is HowForeground.AUTO:
        steps.append(Segment())
    if align not in {None, AlignHow.OFF}:
        steps.append(Align(str(align)))
    if tile is not None:
        steps.append(_tiles(tile))
    if not steps:
        return {} if align is None else {"view": Whole()}
    return {"view": steps[0] if len(steps) == 1 else Views(tuple(steps))}


def _tiles(given: str) -> Tiles:
    from pyimgano.errors import ParameterError
    from pyimgano.views.tile import Tiles

    size, _, overlap = given.partition(":")
    try:
        return Tiles(int(size), int(overlap) if overlap else int(size) // 8)
    except ValueError as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"--tile takes SIZE or SIZE:OVERLAP in pixels: {given!r}") from error


def _region(roi: Path | None, ignore: Path | None, size: tuple[int, int]) -> Roi:
    import numpy as np

    from pyimgano.views.regions_file import read_region
    from pyimgano.views.roi import Roi

    inside = read_region(roi, size) if roi else np.ones(size, np.bool_)
    if ignore:
        inside &= ~read_region(ignore, size)
    names = [path.name for path in (roi,) if path]
    if ignore:
        names.append(f"without {ignore.name}")
    return Roi.of(inside, ", ".join(names))


def _size(images: Sequence[Any]) -> tuple[int, int]:
    """Return height and width of the first image that can be read."""
    from pyimgano.errors import ImageError, InputError
    from pyimgano.images import read_image

    for each in images:
        try:
            shape = read_image(each).shape
        except ImageError:
            continue
        return shape[0], shape[1]
    raise InputError("no image can be read, so the size of the region is not known")


def print_view(show: Show, fitted: Detector) -> None:
    """Say what is seen, and why."""
    for subject, text in fitted.view_.describe().items():
        show.fact(subject, text)

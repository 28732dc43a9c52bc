"""What becomes of good images that are copies, or unlike the others: nothing in silence."""

from __future__ import annotations

import math
import sys
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from pyimgano.cli._show import count, named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyimgano.cli._show import Show
    from pyimgano.detector import Detector

    Learn = Callable[[Sequence[Path], Sequence[tuple[str, str]]], Detector]

__all__ = ["Clean", "learn_clean", "show_odd"]

SHARE = 0.05  # of the images: more of one kind are no outliers but a second kind of images
_COPY = "copy of"
_APART = (_COPY, "score")  # copies may be many; scores have a rule of their own


class Clean(StrEnum):
    """What to do with good images that stand out."""

    ASK = "ask"
    DROP = "drop"
    KEEP = "keep"


def learn_clean(show: Show, images: Sequence[Path], learn: Learn, clean: Clean | None) -> Detector:
    """Learn from all images and, if that is wished, again without those that stand out.

    Without a wish a terminal is asked, and everything is kept elsewhere.
    """
    if clean is None:
        asks = sys.stdin.isatty() and sys.stderr.isatty() and not show.silent
        clean = Clean.ASK if asks else Clean.KEEP
    fitted, dropped = learn(images, ()), list[tuple[str, str]]()
    while clean is not Clean.KEEP and (odd := _odd(fitted, images, dropped)):
        if clean is Clean.ASK and not _agreed(odd):
            break
        dropped += odd
        out = {name for name, _ in dropped}
        fitted = learn([path for path in images if str(path) not in out], dropped)
    return fitted


def _agreed(odd: Sequence[tuple[str, str]]) -> bool:
    several = "s stand" if len(odd) > 1 else " stands"
    typer.echo(f"{len(odd)} good image{several} out:", err=True)
    for each in odd:
        typer.echo(f"  {named(*each)}", err=True)
    return typer.confirm("Learn again without?", err=True)


def _odd(
    fitted: Detector, images: Sequence[Path], dropped: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return what may be taken out of the images learned from, with the reasons.

    What is gone lets others stand out, so this is asked again, within one limit for each kind.
    """
    names = {str(path) for path in images}
    suspects = [
        (name, f"score: z = {z:.1f}")
        for name, z in zip(fitted.suspects_, fitted.suspects_z_, strict=True)
    ]
    found = [each for each in (*fitted.odd_, *suspects) if each[0] in names]
    kinds = Counter(_kind(reason) for _, reason in (*dropped, *found))
    most = max(1, math.floor(SHARE * len(images)))
    few = [each for each in found if _kind(each[1]) in _APART or kinds[_kind(each[1])] <= most]
    return list({name: (name, reason) for name, reason in reversed(few)}.values())[::-1]


def _kind(reason: str) -> str:
    return _COPY if reason.startswith(_COPY) else reason.partition(":")[0]


def show_odd(show: Show, fitted: Detector) -> None:
    """Say what stands out, and what was taken out."""
    if fitted.dropped_:
        show.fact(
            "dropped",
            f"{count(len(fitted.dropped_), 'good image')}, not learned from; in the bound they "
            "count as rejected, copies do not:",
        )
        show.facts("", [named(*each) for each in fitted.dropped_])
    names = {name for name, _ in fitted.odd_}
    if names:
        several = f"{count(len(names), 'image')} {'are' if len(names) > 1 else 'is'}"
        advice = (
            f"more than {SHARE:.0%} of one kind are no outliers and were kept"
            if fitted.dropped_
            else "look at them: pyimgano check GOOD_DIR --out DIR; take them out: --clean drop"
        )
        show.fact("odd", f"{several} unlike the other good ones, and learned from; {advice}")
        show.facts("", [named(*each) for each in fitted.odd_])

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


class Clean(StrEnum):
    """What to do with good images that stand out."""

    ASK = "ask"
    DROP = "drop"
    KEEP = "keep"


def learn_clean(show: Show, images: Sequence[Path], learn: Learn, clean: Clean | None) -> Detector:
    """Learn from all images and, if that is wished, again without those that stand out.

    Without a wish a terminal is asked, and everything is kept elsewhere.
    """
    fitted = learn(images, ())
    odd = _odd(fitted, images)
    if clean is None:
        asks = sys.stdin.isatty() and sys.stderr.isatty() and not show.silent
        clean = Clean.ASK if asks else Clean.KEEP
    if not odd or clean is Clean.KEEP:
        return fitted
    if clean is Clean.ASK:
        typer.echo(f"{count(len(odd), 'good image')} stand out:", err=True)
        for each in odd:
            typer.echo(f"  {named(*each)}", err=True)
        if not typer.confirm("Learn again without them?", err=True):
            return fitted
    out = {name for name, _ in odd}
    return learn([path for path in images if str(path) not in out], odd)


def _odd(fitted: Detector, images: Sequence[Path]) -> list[tuple[str, str]]:
    """Return what may be taken out of the images learned from, with the reasons."""
    names = {str(path) for path in images}
    suspects = [
        (name, f"score: z = {z:.1f}")
        for name, z in zip(fitted.suspects_, fitted.suspects_z_, strict=True)
    ]
    found = [each for each in (*fitted.odd_, *suspects) if each[0] in names]
    kinds = Counter(_kind(reason) for _, reason in found)
    most = max(1, math.floor(SHARE * len(images)))
    few = [each for each in found if _kind(each[1]) == _COPY or kinds[_kind(each[1])] <= most]
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

"""What a folder of images holds, before anything is learned from it: damage, copies, odd shots."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyimgano.ahead import prefetch
from pyimgano.errors import ImageError
from pyimgano.images import describe, probe
from pyimgano.records import images_needed
from pyimgano.views.looks import FULL_16_BIT, OUTLIER_SHARE, measure, near_groups, odd

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from pyimgano.header import ImageInfo
    from pyimgano.views.looks import Look

    Path = str | os.PathLike[str]

__all__ = ["Hygiene", "examine"]


@dataclass(frozen=True, slots=True, eq=False)
class Hygiene:
    """What was found in a set of images.

    Attributes
    ----------
    n : int
        Files examined.
    n_distinct : int
        Images that are readable, not blank, and no exact copy of one before.
    n_independent : int
        Those of which no two are near duplicates: what a bound on false rejects can count.
    sizes, modes, bits, formats : mapping of str to int
        How many readable images have each size (``"640 x 480"``, width first), pixel layout
        (Pillow's name), number of bits per channel and file format; most frequent first.
    unreadable : tuple of (str, str)
        Name and reason of the files that cannot be decoded completely.
    blank : tuple of str
        Images of one colour.
    duplicates : tuple of tuple of str
        Groups of images with equal pixels.
    near_duplicates : tuple of tuple of str
        Groups of images that look the same; of exact copies only the first takes part.
    blurred, exposure, odd_sizes : tuple of (str, str)
        Name and reason of the images that are much less sharp than the others, of those that
        are much brighter, darker or more clipped, and of the few that have another size.
    suggestions : tuple of str
        What to do, in sentences; empty if there is nothing to do.
    """

    n: int
    n_distinct: int
    n_independent: int
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    bits: Mapping[str, int]
    formats: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    blank: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, ...], ...]
    blurred: tuple[tuple[str, str], ...]
    exposure: tuple[tuple[str, str], ...]
    odd_sizes: tuple[tuple[str, str], ...]
    suggestions: tuple[str, ...]

    def firsts(self) -> dict[str, str]:
        """Return, by the name of each image that is equal to or looks like others, their first."""
        near = {name: group[0] for group in self.near_duplicates for name in group}
        copies = {name: near.get(group[0], group[0]) for group in self.duplicates for name in group}
        return near | copies


def examine(paths: Sequence[Path]) -> Hygiene:
    """Read images once and say what would harm a detector that learns from them.

    What near duplicates are, and what stands out: see ``pyimgano.views.looks``. Of near duplicates
    one counts as independent.

    Parameters
    ----------
    paths : sequence of str or os.PathLike
        Image files.

    Returns
    -------
    Hygiene
        The findings, each in the order of ``paths``.
    """
    readable: list[tuple[Look, ImageInfo]] = []
    unreadable = []
    for path, (look, info) in zip(paths, prefetch(_read, paths), strict=True):
        if isinstance(look, ImageError) or info is None:
            name = describe(path)
            unreadable.append((name, str(look).removeprefix(f"{name}: ")))
        else:
            readable.append((look, info))
    white = max((int(x.extremes.max()) for x, _ in readable if x.deep), default=FULL_16_BIT) or 1
    seen = [look for look, _ in readable if not look.is_blank(white)]
    first: dict[str, Look] = {}
    for look in seen:
        first.setdefault(look.digest, look)
    distinct = list(first.values())
    near = near_groups(distinct, white).tolist()
    stands_out = {
        kind: tuple((seen[i].name, reason.removeprefix(f"{kind}: ")) for i, reason in reasons)
        for kind, reasons in odd(seen, white).items()
    }
    infos = [info for _, info in readable]
    found = Hygiene(
        n=len(paths),
        n_distinct=len(distinct),
        n_independent=len(set(near)),
        sizes=_counted(f"{info.width} x {info.height}" for info in infos),
        modes=_counted(info.mode for info in infos),
        bits=_counted(str(info.bits) for info in infos),
        formats=_counted(info.format for info in infos),
        unreadable=tuple(unreadable),
        blank=tuple(look.name for look, _ in readable if look.is_blank(white)),
        duplicates=_groups(seen, [look.digest for look in seen]),
        near_duplicates=_groups(distinct, near),
        blurred=stands_out["blurred"],
        exposure=stands_out["exposure"],
        odd_sizes=stands_out["size"],
        suggestions=(),
    )
    return _advised(found)


def _read(path: Path) -> tuple[Look | ImageError, ImageInfo | None]:
    look = measure(path)
    return look, None if isinstance(look, ImageError) else probe(path)


def _groups(looks: Sequence[Look], numbers: Iterable[int | str]) -> tuple[tuple[str, ...], ...]:
    """Return the names of those that share a number, where more than one does."""
    members = defaultdict(list)
    for look, number in zip(looks, numbers, strict=True):
        members[number].append(look.name)
    return tuple(tuple(names) for names in members.values() if len(names) > 1)


def _advised(found: Hygiene) -> Hygiene:
    rare = max(1, math.floor(OUTLIER_SHARE * found.n))
    several = "That many are no outliers but a second kind of images: learn each kind by itself."
    odd = ((found.blurred, "focus, motion and lens"), (found.exposure, "light and shutter"))
    needed = images_needed(OUTLIER_SHARE)
    advice = [
        (found.unreadable, "Save the unreadable files again or remove them: fit skips them."),
        (found.blank, "Remove the blank images: check lens, light and shutter."),
        (
            found.duplicates,
            "Keep one of each group of duplicates: copies make a threshold look too certain.",
        ),
        (
            found.near_duplicates,
            "Near duplicates count as one image, and stay in one block: add other parts.",
        ),
        *((kind, f"Look at the images that stand out: check {what}.") for kind, what in odd),
        (any(len(kind) > rare for kind, _ in odd), several),
        (
            len(found.sizes) > 1,
            "The sizes differ: a detector that learns from several sizes accepts any size.",
        ),
        (
            len({mode in {"1", "L", "LA"} or mode[0] in "IF" for mode in found.modes}) > 1,
            "Grey and colour images are mixed: a detector takes the difference for a defect.",
        ),
        (len(found.bits) > 1, "Bit depths are mixed: save all images from one camera alike."),
        (
            found.n_independent < needed,
            f"To certify 5 % of false rejects takes {needed} independent good images.",
        ),
    ]
    return replace(found, suggestions=tuple(text for applies, text in advice if applies))


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())

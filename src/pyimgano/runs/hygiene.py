"""What a folder of images holds, before anything is learned from it: damage, copies, odd shots."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ImageError
from pyimgano.images import describe, probe, read_image, to_uint8
from pyimgano.records import images_needed
from pyimgano.views.intake import FLAT, FULL_16_BIT, prefetch

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.header import ImageInfo
    from pyimgano.images import Pixels

    Path = str | os.PathLike[str]

__all__ = ["Hygiene", "examine"]

THUMBNAIL = 512  # side on which sharpness is measured
COARSE = 64  # on the way to what is compared; whole steps are quick
SMALL = 16  # side on which near duplicates are compared
NEAR_BITS = 6  # of the 64 of the difference hash
NEAR_LEVELS = 1.0  # root mean square difference of small thumbnails, of 255
OUTLIER_Z = 4.0
OUTLIER_MINIMUM = 10
OUTLIER_SHARE = 0.05
_MAD_TO_SIGMA = 1.4826
# A fixed camera repeats itself so well that a spread without a floor would flag every difference.
_SPREAD_OF_LOG_SHARPNESS = 0.05
_SPREAD_OF_MEAN = 0.01
_SPREAD_OF_CLIPPED = 0.005
_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Hygiene:
    """What was found in a set of images.

    Attributes
    ----------
    n : int
        Files examined.
    n_distinct : int
        Images that are readable, not blank, and no exact copy of one before.
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
    blurred, exposure : tuple of (str, str)
        Name and reason of the images that are much less sharp than the others, and of those that
        are much brighter, darker or more clipped.
    suggestions : tuple of str
        What to do, in sentences; empty if there is nothing to do.
    """

    n: int
    n_distinct: int
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
    suggestions: tuple[str, ...]


def examine(paths: Sequence[Path]) -> Hygiene:
    """Read images once and say what would harm a detector that learns from them.

    Near duplicates have 64-bit difference hashes (of 9 x 8 grey values, neighbours compared) that
    differ in at most 6 bits, and grey thumbnails of 16 x 16 that differ by at most 1 of 255 levels
    (root mean square): a hash alone takes all parts under a fixed camera for copies. Sharpness is
    the variance of the Laplacian of a grey thumbnail of 512 x 512; blurred is an image whose
    logarithm lies 4 robust standard deviations (1.4826 median absolute deviations) below the
    median. Exposure stands out by as many, by its mean grey value to either side, or by its share
    of clipped pixels (black or full scale) above. Among fewer than ten images none stands out.

    Parameters
    ----------
    paths : sequence of str or os.PathLike
        Image files.

    Returns
    -------
    Hygiene
        The findings, each in the order of ``paths``.
    """
    readable, unreadable = [], []
    for path, shot in zip(paths, prefetch(_measure, paths), strict=True):
        if isinstance(shot, ImageError):
            name = describe(path)
            unreadable.append((name, str(shot).removeprefix(f"{name}: ")))
        else:
            readable.append(shot)
    white = max((s.brightest for s in readable if s.deep), default=FULL_16_BIT) or 1
    seen = [shot for shot in readable if not shot.is_blank(white)]
    copies = defaultdict(list)
    for shot in seen:
        copies[shot.digest].append(shot)
    distinct = [group[0] for group in copies.values()]
    found = Hygiene(
        n=len(paths),
        n_distinct=len(distinct),
        sizes=_counted(f"{shot.info.width} x {shot.info.height}" for shot in readable),
        modes=_counted(shot.info.mode for shot in readable),
        bits=_counted(str(shot.info.bits) for shot in readable),
        formats=_counted(shot.info.format for shot in readable),
        unreadable=tuple(unreadable),
        blank=tuple(shot.name for shot in readable if shot.is_blank(white)),
        duplicates=tuple(_names(group) for group in copies.values() if len(group) > 1),
        near_duplicates=tuple(_names(group) for group in _near(distinct, white)),
        blurred=tuple(_blurred(seen, white)),
        exposure=tuple(_badly_exposed(seen, white)),
        suggestions=(),
    )
    return _advised(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """What is kept of one image."""

    name: str
    info: ImageInfo
    digest: str
    extremes: Pixels  # (1, 2, 3): darkest and brightest of each channel
    mean: float  # grey, like all that follows, on the scale of the file
    clipped: float
    sharpness: float
    bits: NDArray[np.bool_]  # (64,) difference hash
    small: NDArray[np.float32]  # (SMALL * SMALL,)

    @property
    def deep(self) -> bool:
        return self.extremes.dtype == np.uint16

    @property
    def brightest(self) -> int:
        return int(self.extremes.max())

    def is_blank(self, white: int) -> bool:
        """Tell whether `fit` would call it blank."""
        dark, bright = to_uint8(self.extremes, white)[0][0].astype(int)
        return bool(np.all(bright - dark <= FLAT))

    def full(self, white: int) -> int:
        return white if self.deep else 255


def _measure(path: Path) -> _Shot | ImageError:
    import cv2

    try:
        image, info = read_image(path), probe(path)
    except ImageError as error:
        return error
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    thumbnail = thumbnail.astype(np.float32)
    coarse = cv2.resize(thumbnail, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    tiny = cv2.resize(coarse, (9, 8), interpolation=cv2.INTER_AREA)
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(image.data)
    # A camera of 12 bits in 16 clips at 4095: the next power of two tells its full scale.
    full = 255 if grey.dtype == np.uint8 else 2 ** int(grey.max()).bit_length() - 1
    return _Shot(
        name=describe(path),
        info=info,
        digest=digest.hexdigest(),
        extremes=np.stack([image.min(axis=0).min(axis=0), image.max(axis=0).max(axis=0)])[None],
        mean=float(cv2.mean(grey)[0]),
        clipped=(np.count_nonzero(grey == 0) + np.count_nonzero(grey >= full)) / grey.size,
        sharpness=float(cv2.Laplacian(thumbnail, cv2.CV_32F).var()),
        bits=(tiny[:, 1:] > tiny[:, :-1]).ravel(),
        small=cv2.resize(coarse, (SMALL, SMALL), interpolation=cv2.INTER_AREA).ravel(),
    )


def _near(shots: Sequence[_Shot], white: int) -> Iterator[list[_Shot]]:
    """Yield the groups that look the same, linked by their nearest members."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(shots) < 2:
        return
    pairs = _near_pairs(
        np.stack([shot.bits for shot in shots]),
        np.stack([shot.small * (255 / shot.full(white)) for shot in shots]),
    )
    links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(shots), len(shots)))
    _, groups = connected_components(links, directed=False)
    members = defaultdict(list)
    for group, shot in zip(groups.tolist(), shots, strict=True):
        members[group].append(shot)
    yield from (group for group in members.values() if len(group) > 1)


def _near_pairs(bits: NDArray[np.bool_], small: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the pairs (m, 2), i < j, near in both; blocks of matrix products, exact for bits."""
    signs = bits.astype(np.float32) * 2 - 1
    small -= small.mean(axis=0)  # smaller numbers round less
    squares = np.square(small).sum(axis=1)
    found = [np.empty((0, 2), np.intp)]
    for start in range(0, len(bits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = signs[rows] @ signs[start:].T >= bits.shape[1] - 2 * NEAR_BITS
        apart = squares[rows, None] + squares[start:] - 2 * (small[rows] @ small[start:].T)
        near &= apart <= small.shape[1] * NEAR_LEVELS**2
        found.append(np.argwhere(np.triu(near, 1)) + start)
    return np.concatenate(found)


def _blurred(shots: Sequence[_Shot], white: int) -> Iterator[tuple[str, str]]:
    # A flat thumbnail of a picture that is not blank: as blurred as can be.
    sharpness = np.array([max(s.sharpness / s.full(white) ** 2, 1e-12) for s in shots])
    z = _robust_z(np.log(sharpness), _SPREAD_OF_LOG_SHARPNESS)
    for i in np.flatnonzero(z < -OUTLIER_Z).tolist():
        share = sharpness[i] / np.median(sharpness)
        yield shots[i].name, f"{100 * share:.2g} % of the usual sharpness"


def _badly_exposed(shots: Sequence[_Shot], white: int) -> Iterator[tuple[str, str]]:
    mean = np.array([shot.mean / shot.full(white) for shot in shots])
    clipped = np.array([shot.clipped for shot in shots])
    z_mean = _robust_z(mean, _SPREAD_OF_MEAN)
    z_clipped = _robust_z(clipped, _SPREAD_OF_CLIPPED)
    stands_out = (np.abs(z_mean) > OUTLIER_Z) | (z_clipped > OUTLIER_Z)
    for i in np.flatnonzero(stands_out).tolist():
        usual = f"usually {100 * np.median(mean):.0f} %, {100 * np.median(clipped):.2g} %"
        yield (
            shots[i].name,
            f"mean {100 * mean[i]:.0f} % of white, {100 * clipped[i]:.2g} % clipped ({usual})",
        )


def _robust_z(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return robust z scores with a spread of at least ``least``; zeros if there are too few."""
    if values.size < OUTLIER_MINIMUM:
        return np.zeros(values.size)
    away = values - np.median(values)
    return away / max(_MAD_TO_SIGMA * float(np.median(np.abs(away))), least)


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
            "Near duplicates may be one part taken twice: then keep one of each group.",
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
            found.n_distinct < needed,
            f"To certify 5 % of false rejects takes {needed} distinct good images.",
        ),
    ]
    return replace(found, suggestions=tuple(text for applies, text in advice if applies))


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _names(group: Sequence[_Shot]) -> tuple[str, ...]:
    return tuple(shot.name for shot in group)

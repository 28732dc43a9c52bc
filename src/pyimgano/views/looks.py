"""What is kept of an image to compare it with others: light, sharpness and a small thumbnail."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ImageError
from pyimgano.images import describe, read_image, to_uint8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.images import Pixels

__all__ = ["Look", "figures", "fingerprint", "measure", "near_groups", "odd"]

FLAT = 2
FULL_16_BIT = 65535
THUMBNAIL = 512  # side on which sharpness is measured
COARSE = 64  # on the way to what is compared; whole steps are quick
SMALL = 32  # side on which near duplicates are compared
NEAR_BITS = 6  # of the 64 of the difference hash
NEAR_LEVELS = 1.0  # root mean square difference of small thumbnails halved once more, of 255
NEAR_SHARE = 0.2  # of the usual difference of two images
OUTLIER_Z = 4.0
OUTLIER_MINIMUM = 10
OUTLIER_SHARE = 0.05
_MAD_TO_SIGMA = 1.4826
# A fixed camera repeats itself so well that a spread without a floor would flag every difference.
_SPREAD_OF_LOG_SHARPNESS = 0.05
_SPREAD_OF_MEAN = 0.01
_SPREAD_OF_CLIPPED = 0.005
_BLOCK = 1024

Reasons = list[tuple[int, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is kept of one image; all numbers on the scale of the file."""

    name: str
    size: tuple[int, int]
    digest: str
    extremes: Pixels  # (1, 2, 3): darkest and brightest of each channel
    clipped: float
    figures: NDArray[np.float64]  # (3,): see the function `figures`
    bits: NDArray[np.bool_]  # (64,) difference hash
    small: NDArray[np.float32]  # (SMALL, SMALL), grey

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits."""
        return self.extremes.dtype == np.uint16

    def is_blank(self, white: int) -> bool:
        """Tell whether every channel is constant up to the noise of lossy coding."""
        dark, bright = to_uint8(self.extremes, white)[0][0].astype(int)
        return bool(np.all(bright - dark <= FLAT))

    def full(self, white: int) -> int:
        """Return its full scale, where that of 16 bits is ``white``."""
        return white if self.deep else 255


def fingerprint(image: Pixels) -> str:
    """Return a digest of the pixels."""
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


def measure(source: Any) -> Look | ImageError:
    """Read an image, or return why that cannot be done."""
    import cv2

    try:
        image = read_image(source)
    except ImageError as error:
        return error
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    thumbnail = _thumbnail(grey)
    coarse = cv2.resize(thumbnail, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    tiny = cv2.resize(coarse, (9, 8), interpolation=cv2.INTER_AREA)
    # A camera of 12 bits in 16 clips at 4095: the next power of two tells its full scale.
    full = 255 if grey.dtype == np.uint8 else 2 ** int(grey.max()).bit_length() - 1
    return Look(
        name=describe(source),
        size=(image.shape[0], image.shape[1]),
        digest=fingerprint(image),
        extremes=np.stack([image.min(axis=0).min(axis=0), image.max(axis=0).max(axis=0)])[None],
        clipped=(np.count_nonzero(grey == 0) + np.count_nonzero(grey >= full)) / grey.size,
        figures=_figures(grey, thumbnail),
        bits=(tiny[:, 1:] > tiny[:, :-1]).ravel(),
        small=cv2.resize(coarse, (SMALL, SMALL), interpolation=cv2.INTER_AREA),
    )


def figures(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return brightness, contrast and sharpness of RGB pixels (H, W, 3), as shares of white.

    Mean and standard deviation of the grey values, and the root mean square of the Laplacian of
    their thumbnail of 512 x 512.
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return _figures(grey, _thumbnail(grey)) / 255


def _thumbnail(grey: Any) -> Any:
    import cv2

    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def _figures(grey: Any, thumbnail: Any) -> NDArray[np.float64]:
    import cv2

    mean, deviation = cv2.meanStdDev(grey)
    sharpness = math.sqrt(cv2.Laplacian(thumbnail, cv2.CV_32F).var())
    return np.array([mean[0, 0], deviation[0, 0], sharpness])


def near_groups(looks: Sequence[Look], white: int) -> NDArray[np.int64]:
    """Return for each image the place of the first one that it looks the same as; its own if none.

    Near are two images whose 64-bit difference hashes (of 9 x 8 grey values, neighbours compared)
    differ in at most 6 bits, and whose grey thumbnails differ (root mean square) by at most 1 of
    255 levels at 16 x 16, and at 32 x 32 by at most a fifth of what two images of the set usually
    do: parts that a fixed camera sees alike are no copies of each other. An image is near to the
    first of a group, not by links: a lamp that warms up would make one group of all. Among fewer
    than ten images nothing is usual, and only equal pixels are near.
    """
    first: dict[str, int] = {}
    same = np.array([first.setdefault(look.digest, i) for i, look in enumerate(looks)], np.int64)
    alone = np.array(list(first.values()))
    leader = np.arange(len(looks))
    if len(alone) >= OUTLIER_MINIMUM:
        small = np.stack([looks[i].small * (255 / looks[i].full(white)) for i in alone])
        near = alone[_near_pairs(np.stack([looks[i].bits for i in alone]), small)]
        for i, j in sorted(near.tolist(), key=lambda pair: (pair[1], pair[0])):
            if leader[i] == i and leader[j] == j:
                leader[j] = i
    return np.asarray(leader[same], dtype=np.int64)


def _near_pairs(bits: NDArray[np.bool_], small: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the pairs (m, 2), i < j, near in all; blocks of matrix products, exact for bits."""
    signs = bits.astype(np.float32) * 2 - 1
    small = small - small.mean(axis=0)  # smaller numbers round less
    half = small.reshape(len(small), SMALL // 2, 2, SMALL // 2, 2).mean(axis=(2, 4))
    usual = np.median(_squares(small, np.roll(small, len(small) // 2, axis=0)).mean(axis=1))
    limits = ((half, NEAR_LEVELS**2), (small, NEAR_SHARE**2 * float(usual)))
    found = [np.empty((0, 2), np.intp)]
    for start in range(0, len(bits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = signs[rows] @ signs[start:].T >= bits.shape[1] - 2 * NEAR_BITS
        for images, limit in limits:
            flat = images.reshape(len(images), -1)
            squares = np.square(flat).sum(axis=1)
            apart = squares[rows, None] + squares[start:] - 2 * (flat[rows] @ flat[start:].T)
            near &= apart <= flat.shape[1] * limit
        found.append(np.argwhere(np.triu(near, 1)) + start)
    return np.concatenate(found)


def _squares(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.square(a - b).reshape(len(a), -1))


def odd(looks: Sequence[Look], white: int) -> dict[str, Reasons]:
    """Return places and reasons of images that are unlike the others, by kind.

    Sharpness is the variance of the Laplacian; ``blurred`` is an image whose logarithm lies 4
    robust standard deviations (1.4826 median absolute deviations) below the median. ``exposure``
    stands out by as many, by its mean grey value to either side, or by its share of clipped
    pixels (black or full scale) above. Among fewer than ten images none stands out. ``size``: not
    that of the others, which at least 95 % of the images, or all but one, share.
    """
    return {
        "blurred": list(_blurred(looks, white)),
        "exposure": list(_badly_exposed(looks, white)),
        "size": list(_of_another_size(looks)),
    }


def _blurred(looks: Sequence[Look], white: int) -> Iterator[tuple[int, str]]:
    # A flat thumbnail of a picture that is not blank: as blurred as can be.
    sharpness = np.array([max((x.figures[2] / x.full(white)) ** 2, 1e-12) for x in looks])
    z = _robust_z(np.log(sharpness), _SPREAD_OF_LOG_SHARPNESS)
    for i in np.flatnonzero(z < -OUTLIER_Z).tolist():
        yield (
            i,
            f"blurred: {100 * sharpness[i] / np.median(sharpness):.2g} % of the usual sharpness",
        )


def _badly_exposed(looks: Sequence[Look], white: int) -> Iterator[tuple[int, str]]:
    mean = np.array([look.figures[0] / look.full(white) for look in looks])
    clipped = np.array([look.clipped for look in looks])
    z_mean = _robust_z(mean, _SPREAD_OF_MEAN)
    z_clipped = _robust_z(clipped, _SPREAD_OF_CLIPPED)
    stands_out = (np.abs(z_mean) > OUTLIER_Z) | (z_clipped > OUTLIER_Z)
    for i in np.flatnonzero(stands_out).tolist():
        usual = f"usually {100 * np.median(mean):.0f} %, {100 * np.median(clipped):.2g} %"
        light = f"mean {100 * mean[i]:.0f} % of white, {100 * clipped[i]:.2g} % clipped"
        yield i, f"exposure: {light} ({usual})"


def _of_another_size(looks: Sequence[Look]) -> Iterator[tuple[int, str]]:
    counted = Counter(look.size for look in looks)
    if len(looks) < OUTLIER_MINIMUM:
        return
    (height, width), most = counted.most_common(1)[0]
    if len(looks) - most <= max(1, math.floor(OUTLIER_SHARE * len(looks))):
        for i, look in enumerate(looks):
            if look.size != (height, width):
                yield i, f"size: {look.size[1]} x {look.size[0]} px, usually {width} x {height}"


def _robust_z(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return robust z scores with a spread of at least ``least``; zeros if there are too few."""
    if values.size < OUTLIER_MINIMUM:
        return np.zeros(values.size)
    away = values - np.median(values)
    return away / max(_MAD_TO_SIGMA * float(np.median(np.abs(away))), least)

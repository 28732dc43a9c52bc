"""A learned pose: an image is brought to it, or refused; its map finds the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from pyimgano.errors import ImageError
from pyimgano.registry import VALUES, Metadata
from pyimgano.views.base import Seen, lowest
from pyimgano.views.foreground import Foreground, find_foreground
from pyimgano.views.registration import (
    Level,
    corners,
    correlation,
    mismatch,
    move,
    pyramid,
    refine,
    turned,
    warp,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.views.base import Map, Mask, Size
    from pyimgano.views.registration import Grey, Pose

__all__ = ["Aligned", "Look"]

_GAIN = 12.0  # brings the edges of 8-bit images to 0 ... 255
_TURNS = 72
_RIVALS, _CLOSE = 6, 0.2  # turns that are tried further, and how far their correlation may be below
_SMALL_TURNS = range(-12, 13, 4)  # degrees, of parts that are shifted
_OFF = 0.25  # of the side that a shift may have
_CLIPPED = 0.5  # of the values of an image that says nothing of its part
_ASIDE = 0.15  # of the longer side that a part's centre may be off, by what touches it


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """An image at the resolution in which poses are found.

    Attributes
    ----------
    edges : ndarray of float32, shape (h, w)
        Root of the gradient: light moves with the lamp, edges with the part.
    part : Foreground
    """

    edges: Grey
    part: Foreground

    @classmethod
    def of(cls, image: NDArray[np.uint8], scale: float) -> Look:
        """Reduce an image, find its edges and its part."""
        import cv2

        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        small = cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, i, 1 - i, scale=0.25) for i in (1, 0))
        edges = _GAIN * np.sqrt(np.hypot(across, down))
        return cls(cast("Grey", edges), find_foreground(small))


@VALUES.register("aligned", Metadata(summary="A learned pose."))
@dataclass(frozen=True, eq=False)
class Aligned:
    """A learned pose: the template, and how far from it an image may be.

    Parameters
    ----------
    how, why : str
        ``shift`` or ``rotate``, and the reason for it.
    scale : float
        Pixels of the template in one of an image.
    template : ndarray of uint8, shape (h, w)
        Mean edges of the aligned good images.
    weight : ndarray of bool, shape (h, w)
        Where it counts.
    centre : (float, float)
        x and y in the template of the part's centre; of an unmoved image's origin, if shifted.
    limit : float
        An image whose mismatch exceeds it is refused.
    usual : float
        Largest mismatch of the good images that does not exceed it.
    room : float
        How far a shifted image may reach out of what is seen, in pixels of the template.
    """

    how: str
    why: str
    scale: float
    template: NDArray[np.uint8]
    weight: NDArray[np.bool_]
    centre: tuple[float, float]
    limit: float = 0.0
    usual: float = 0.0
    room: float = 0.0

    @cached_property
    def levels(self) -> list[Level]:
        """The template, coarsest first."""
        return pyramid(self.template.astype(np.float32), self.weight.astype(np.float32))

    def size(self, size: Size) -> Size:  # noqa: ARG002
        """Return the size of what is seen, whatever that of the image."""
        height, width = self.template.shape
        return math.ceil(height / self.scale), math.ceil(width / self.scale)

    def describe(self) -> dict[str, str]:
        """Say how it is aligned, and why."""
        height, width = self.size((0, 0))
        return {
            "alignment": f"{self.why}; sees {width} x {height} px; good images match up to a "
            f"residual of {self.usual:.2f}, beyond {self.limit:.2f} an image is not judged"
        }

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """Find the part, and bring it to the pose of the template.

        Raises
        ------
        ImageError
            If it does not align, or is moved so far that its border would not be seen.
        """
        look = Look.of(image, self.scale)
        pose, wrong = self.find(look)
        if wrong > self.limit:
            raise ImageError(
                f"does not align: residual {wrong:.2f}, good images up to {self.usual:.2f}; "
                f"{_question(image)}"
            )
        moved = self.beyond(look, pose)
        if self.how == "shift" and moved > self.room:
            raise ImageError(
                f"does not align: {moved / self.scale:.0f} px of its border would not be seen, "
                f"more than the {self.room / self.scale:.0f} px by which good images are moved"
            )
        to_template = move((self.scale - 1) / 2, (self.scale - 1) / 2) @ turned(0, self.scale)
        wide, high = (
            big / small for big, small in zip(image.shape, look.edges.shape, strict=False)
        )
        half, to_image = move(0.5, 0.5), np.diag([high, wide, 1.0])
        where = np.linalg.inv(half) @ to_image @ half @ pose @ to_template
        size = (image.shape[0], image.shape[1])
        seen = warp(image, where, self.size(size), mirror=self.how == "shift")
        return Seen(seen, _Warped(where, size, self.size(size)))

    def find(self, look: Look) -> tuple[Pose, float]:
        """Return the pose of an image, and its mismatch."""
        levels = self.levels
        images = pyramid(look.edges, count=len(levels))
        starts = self._turns(look, images[0]) if self.how == "rotate" else self._shifts(images[0])
        at = 0
        while len(starts) > 1 and at < min(2, len(levels)):
            both = levels[at : at + 1], images[at : at + 1]
            starts = [refine(*both, pose) for pose in starts]
            at += 1
        last = max(at - 1, 0)
        pose = max(starts, key=lambda pose: _fit(levels[last], images[last], pose))
        pose = refine(levels[last:], images[last:], pose)
        return pose, mismatch(levels[-1], warp(look.edges, pose, self.template.shape))

    def _turns(self, look: Look, image: Level) -> list[Pose]:
        """Return poses of the most promising turns, each also moved to where it fits best.

        The centre may be off: what touches the part, such as a neighbour's shadow, belongs to it.
        """
        middle, part = move(-self.centre[0], -self.centre[1]), move(*look.part.centre)
        poses = [part @ turned(2 * math.pi * k / _TURNS) @ middle for k in range(_TURNS)]
        first = self.levels[0]
        found = [
            refine([first], [image], each) for each in _best(poses, first, image, circular=True)
        ]
        return [*found, *(_slid(pose, first, image) for pose in found)]

    def _shifts(self, image: Level) -> list[Pose]:
        """Return the rest, and phase correlation's shift, if it is near, with a small turn."""
        import cv2

        level, rest = self.levels[0], move(-self.centre[0], -self.centre[1])
        height, width = level.image.shape
        window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        seen = warp(image.image, level.local(rest), (height, width))
        (x, y), _ = cv2.phaseCorrelate(level.image.copy(), seen, window)  # it overwrites both
        pose = rest
        if max(abs(x) / width, abs(y) / height) < _OFF:
            pose = rest @ move(x * level.step, y * level.step)
        middle = turned(0, level.step) @ level.middle @ turned(0, 1 / level.step)
        turns = [middle @ turned(math.radians(k)) @ np.linalg.inv(middle) for k in _SMALL_TURNS]
        return [rest, *_best([pose @ turn for turn in turns], level, image, circular=False)]

    def beyond(self, look: Look, pose: Pose) -> float:
        """Return how far an image reaches out of what is seen, in pixels of the template."""
        height, width = self.template.shape
        ends = (np.linalg.inv(pose) @ corners(*look.edges.shape))[:2]
        return float(np.maximum(-ends, ends - np.array([[width - 1], [height - 1]])).max())


@dataclass(frozen=True, slots=True, eq=False)
class _Warped:
    where: Pose
    image: Size
    seen: Size

    def restore(self, drawn: Map) -> Map:
        import cv2

        return cast(
            "Map",
            cv2.warpAffine(
                drawn,
                np.ascontiguousarray(self.where[:2]),
                self.image[::-1],
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=lowest(drawn),
            ),
        )

    def carry(self, mask: Mask) -> Mask:
        return warp(mask.astype(np.float32), self.where, self.seen) >= 0.5


def _question(image: NDArray[np.uint8]) -> str:
    """Return what to look at in an image that does not align."""
    clipped = float(((image == 0) | (image == 255)).mean())
    if clipped > _CLIPPED:
        return f"{100 * clipped:.0f} % of it is black or white: is the exposure right?"
    return "is it the same part, complete in the image?"


def _best(poses: list[Pose], level: Level, image: Level, *, circular: bool) -> list[Pose]:
    """Return the poses of a sequence that fit better than their neighbours, the best first."""
    fits = np.array([_fit(level, image, pose) for pose in poses])
    around = np.pad(fits, 1, mode="wrap" if circular else "edge")
    peaks = np.flatnonzero((fits >= around[:-2]) & (fits >= around[2:]))
    kept = peaks[fits[peaks] >= fits.max() - _CLOSE]
    return [poses[k] for k in kept[np.argsort(-fits[kept], kind="stable")][:_RIVALS].tolist()]


def _slid(pose: Pose, level: Level, image: Level) -> Pose:
    """Return the pose near by, of the same turn, in which the template fits best."""
    import cv2

    height, width = level.image.shape
    reach = round(_ASIDE * max(height, width))
    size = (height + 2 * reach, width + 2 * reach)
    seen = warp(image.image, level.local(pose) @ move(-reach, -reach), size)
    fits = cv2.matchTemplate(seen, level.image, cv2.TM_CCOEFF_NORMED, mask=level.weight)
    y, x = np.unravel_index(int(fits.argmax()), fits.shape)
    return pose @ move(level.step * (int(x) - reach), level.step * (int(y) - reach))


def _fit(level: Level, image: Level, pose: Pose) -> float:
    seen = warp(image.image, level.local(pose), level.image.shape)
    return correlation(seen, level.image, level.weight)

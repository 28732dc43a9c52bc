"""Regions: only what lies inside is judged; nothing outside can change a score, a map, a threshold.

Pixels outside are painted over in one colour before a detector sees them, in the good images as in
all others: whatever they showed, the detector sees the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from pyimgano.errors import ImageError, ImageSizeError, InputError, ParameterError
from pyimgano.registry import VALUES, Metadata
from pyimgano.views.base import Seen, Whole, lowest
from pyimgano.views.foreground import PLAIN, find_foreground

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.views.base import Map, Mask, Sight, Size
    from pyimgano.views.intake import Images

__all__ = ["Roi", "Segment"]

LOOKED = 20  # good images from which a colour is learned
WORK = 256
_VARIED, _TOUCH = 0.5, 0.02  # area CV and border share up to which a foreground is believed
_RIM = 0.03  # around a foreground, of the root of the image's area
_SMALL, _LARGE = 0.25, 4.0  # a foreground so far from those of good images is none


@VALUES.register("roi", Metadata(summary="Only a region of the image is judged."))
@dataclass(frozen=True, slots=True)
class Roi:
    """Only a region of the image is judged.

    Parameters
    ----------
    size_of_image : (int, int)
        Height and width.
    runs : tuple of int
        Lengths of runs of pixels in reading order, outside and inside by turns; see `of`.
    name : str
        Where it comes from, for people.
    """

    size_of_image: Size
    runs: tuple[int, ...] = field(repr=False)
    name: str = ""

    @classmethod
    def of(cls, mask: Mask, name: str = "") -> Roi:
        """Make it of a mask (H, W), true where pixels are judged.

        Raises
        ------
        InputError
            If the mask is not (H, W) or nothing is left to judge.
        """
        if mask.ndim != 2 or not mask.any():
            raise InputError(f"the region {name or 'given'} is empty: nothing is left to judge")
        flat = np.concatenate([[False], mask.ravel().astype(np.bool_)])
        ends = np.flatnonzero(np.diff(flat, append=not flat[-1]))
        size = (int(mask.shape[0]), int(mask.shape[1]))
        return cls(size, tuple(np.diff(ends, prepend=0).tolist()), name)

    def mask(self) -> Mask:
        """Return the mask (H, W).

        Raises
        ------
        ParameterError
            If the runs do not fill the image.
        """
        runs = np.array(self.runs, np.int64)
        if runs.sum() != self.size_of_image[0] * self.size_of_image[1] or (runs < 0).any():
            raise ParameterError(f"the runs of a region do not fill {self.size_of_image}")
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return cast("Mask", inside.reshape(self.size_of_image))

    def learn(self, images: Images) -> Sight:
        """Learn the colour that pixels outside are painted in.

        Raises
        ------
        InputError
            If a good image has another size.
        """
        mask = self.mask()
        medians = []
        for image in images.take(_spread(len(images))):
            if image.shape[:2] != mask.shape:
                raise InputError(_other_size(image, mask))
            medians.append(np.median(image[mask], axis=0))
        share = 100 * float(mask.mean())
        told = f"{share:.1f} % of the image is judged{f' ({self.name})' if self.name else ''}"
        return Framed(mask, _colour(medians), told)


@VALUES.register("framed", Metadata(summary="A learned region."))
@dataclass(frozen=True, slots=True, eq=False)
class Framed:
    """A region of all images: its frame is seen, painted in ``colour`` where it is not judged."""

    mask: Mask
    colour: tuple[int, int, int]
    told: str

    def box(self) -> tuple[slice, slice]:
        """Return the rows and columns that hold it."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """Cut the frame, and paint over what is not judged."""
        if image.shape[:2] != self.mask.shape:
            raise ImageSizeError(_other_size(image, self.mask))
        box = self.box()
        cut = image[box].copy()
        cut[~self.mask[box]] = self.colour
        return Seen(cut, _Cut(self.mask, box))

    def size(self, size: Size) -> Size:  # noqa: ARG002
        """Return the size of the frame."""
        rows, columns = self.box()
        return rows.stop - rows.start, columns.stop - columns.start

    def describe(self) -> dict[str, str]:
        """Say how much is judged."""
        return {"region": self.told}


@VALUES.register("segment", Metadata(summary="Only the part in front of a background is judged."))
@dataclass(frozen=True, slots=True)
class Segment:
    """Only the part in front of a plain background is judged, wherever it lies in an image."""

    def learn(self, images: Images) -> Sight:
        """Look whether a part stands out in the good images; if not, everything is judged."""
        areas, touches, contrasts, colours = [], [], [], []
        for image in images.take(_spread(len(images))):
            small = _reduced(image)
            part = find_foreground(small)
            areas.append(part.area)
            touches.append(part.touch)
            contrasts.append(part.contrast)
            colours.append(np.median(small[~part.mask], axis=0))
        found, touch = np.array(areas), float(np.mean(touches))
        varied = float(found.std() / max(found.mean(), 1e-9))
        contrast = float(np.median(contrasts))
        facts = (
            f"area {100 * found.mean():.1f} % (CV {varied:.2f}), border touch {touch:.2f}, "
            f"contrast {contrast:.1f}"
        )
        if contrast < PLAIN or varied > _VARIED or touch > _TOUCH:
            why = f"all is judged, because no part stands out from a plain background: {facts}"
            return Whole(why, "foreground")
        limits = (float(found.min()) * _SMALL, min(1.0, float(found.max()) * _LARGE))
        return Segmented(_colour(colours), limits, f"only the part is judged: {facts}")


@VALUES.register("segmented", Metadata(summary="A learned background."))
@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """A learned background: its colour, and between which shares of the image a part covers."""

    colour: tuple[int, int, int]
    limits: tuple[float, float]
    told: str

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """Find the part, and paint over the background.

        Raises
        ------
        ImageError
            If what stands out is far smaller or larger than the good parts.
        """
        import cv2

        small = _reduced(image)
        part = find_foreground(small)
        if part.contrast < PLAIN / 2 or not self.limits[0] <= part.area <= self.limits[1]:
            raise ImageError(
                f"no part is found: what stands out most (contrast {part.contrast:.1f}) covers "
                f"{100 * part.area:.1f} % of the image, parts {100 * self.limits[0]:.1f} to "
                f"{100 * self.limits[1]:.1f} %"
            )
        reach = 2 * max(1, round(_RIM * float(np.sqrt(part.mask.size)))) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        wide = cv2.dilate(part.mask.astype(np.uint8), kernel)
        high = cv2.resize(wide, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        mask = cast("Mask", high > 0)
        seen = image.copy()
        seen[~mask] = self.colour
        return Seen(seen, _Cut(mask, (slice(None), slice(None))))

    def size(self, size: Size) -> Size:
        """Keep the size."""
        return size

    def describe(self) -> dict[str, str]:
        """Say what the good images showed."""
        return {"foreground": self.told}


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    mask: Mask
    box: tuple[slice, slice]

    def restore(self, drawn: Map) -> Map:
        low = lowest(drawn)
        whole = np.full(self.mask.shape, low, np.float32)
        whole[self.box] = np.where(self.mask[self.box], drawn, np.float32(low))
        return whole

    def carry(self, mask: Mask) -> Mask:
        return mask[self.box] & self.mask[self.box]


def _spread(count: int) -> range:
    return range(0, count, -(-count // LOOKED))


def _colour(medians: list[NDArray[np.floating]]) -> tuple[int, int, int]:
    red, green, blue = np.rint(np.median(medians, axis=0)).astype(int).tolist()
    return red, green, blue


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    scale = min(1.0, WORK / max(image.shape))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cast("NDArray[np.uint8]", cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _other_size(image: NDArray[np.uint8], mask: Mask) -> str:
    return (
        f"the image is {image.shape[1]} x {image.shape[0]} px, the region is for "
        f"{mask.shape[1]} x {mask.shape[0]} px"
    )

"""The gate: which images a fitted detector accepts, and how they become RGB uint8.

Sizes, and the scale of 16-bit images, are learned from the good images once; afterwards an image
that does not fit is refused by name and never guessed into shape.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from pyimgano import images
from pyimgano.ahead import prefetch
from pyimgano.errors import ImageError, ImageSizeError, InputError, ParameterError
from pyimgano.images import describe
from pyimgano.records import DEFECT, Sample
from pyimgano.registry import VALUES, Metadata
from pyimgano.views.base import Crop, Whole
from pyimgano.views.looks import FLAT, FULL_16_BIT, Look, fingerprint, measure, near_groups, odd

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from pyimgano.views.base import Seen, Sight

__all__ = ["Goods", "Images", "Intake", "find_learned", "learn"]

SKIP_LIMIT = 0.05
CLIP_LIMIT = 0.001
_log = logging.getLogger(__name__)


@VALUES.register("intake", Metadata(summary="Sizes and 16-bit scale that a detector accepts."))
@dataclass(frozen=True, slots=True)
class Intake:
    """What is accepted.

    Parameters
    ----------
    sizes : tuple of (int, int)
        Sizes (height, width) of the good images, most frequent first. One size: any other is
        refused. Several: any size is accepted.
    white : int
        Value of a 16-bit image that is shown as 255.
    any_size : bool
        Accept any size even if all good images had one.
    """

    sizes: tuple[tuple[int, int], ...]
    white: int = FULL_16_BIT
    any_size: bool = False

    def see(self, source: Any) -> NDArray[np.uint8]:
        """Read, check and scale one image.

        Parameters
        ----------
        source : str, Path, Sample, ndarray or PIL image
            See `pyimgano.images.read_image`.

        Returns
        -------
        ndarray of uint8, shape (H, W, 3)
            RGB.

        Raises
        ------
        ImageError
            If it cannot be read, is blank, or has a size that is not accepted.
        """
        image = images.read_image(source)
        height, width = image.shape[:2]
        if len(self.sizes) == 1 and not self.any_size and (height, width) != self.sizes[0]:
            expected = f"{self.sizes[0][1]} x {self.sizes[0][0]}"
            raise ImageSizeError(
                f"{describe(source)} is {width} x {height} px, but all good images were "
                f"{expected}: check camera and crop, or fit with any_size=True"
            )
        pixels, clipped = images.to_uint8(image, self.white)
        if clipped > CLIP_LIMIT:
            _log.warning(
                "%s: %.1f %% of the values exceed the scale learned from the good images (%d) and "
                "are clipped",
                describe(source),
                100 * clipped,
                self.white,
            )
        if _is_blank(pixels):
            raise ImageError(
                f"{describe(source)} is blank (one colour): nothing can be judged; "
                "check lens, light and shutter"
            )
        return pixels


class Images(Sequence["NDArray[np.uint8]"]):
    """Accepted images as they are seen, decoded each time they are asked for: (h, w, 3) uint8."""

    def __init__(self, sources: Sequence[Any], intake: Intake, sight: Sight | None = None) -> None:
        self.sources = sources
        self.intake = intake
        self.sight = sight or Whole()

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Images: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Images:
        if isinstance(index, slice):
            return Images(self.sources[index], self.intake, self.sight)
        return self.look(self.sources[index]).image

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        seen = prefetch(self.look, self.sources, lambda one: one.image.nbytes)
        return (one.image for one in seen)

    def look(self, source: Any) -> Seen:
        """Read one image, and look at it."""
        if isinstance(source, Crop):
            return source.seen()
        return self.sight.see(self.intake.see(source))

    def take(self, indices: Iterable[int]) -> Images:
        """Return the images at ``indices``."""
        return Images([self.sources[i] for i in indices], self.intake, self.sight)

    def through(self, sight: Sight) -> Images:
        """Return the same images, seen otherwise."""
        return Images(self.sources, self.intake, sight)


@dataclass(frozen=True, slots=True, eq=False)
class Goods:
    """Good images that can be learned from.

    Attributes
    ----------
    images : Images
        The readable ones.
    skipped : tuple of (str, str)
        Name and reason of those that could not be read.
    groups : tuple of str
        Group of each readable image; copies, near ones too, and views of one part share it.
    hashes : tuple of str
        Fingerprint of each readable image's pixels.
    looks : ndarray of float64, shape (n, 3)
        Brightness, contrast and sharpness of each readable image; see `pyimgano.views.looks`.
    odd : tuple of (str, str)
        Name and reason of readable images that are copies, or unlike the others.
    """

    images: Images
    skipped: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]
    hashes: tuple[str, ...]
    looks: NDArray[np.float64]
    odd: tuple[tuple[str, str], ...]

    def take(self, indices: Sequence[int]) -> Goods:
        """Return those at ``indices``."""
        return replace(
            self,
            images=self.images.take(indices),
            groups=tuple(self.groups[i] for i in indices),
            hashes=tuple(self.hashes[i] for i in indices),
            looks=self.looks[list(indices)],
        )

    def seen(self, intake: Intake, sight: Sight, kind: str = "good images") -> Goods:
        """Return those that can be seen so; the others are skipped.

        Raises
        ------
        InputError
            If these are more than 5 %, and more than one.
        """
        images = Images(self.images.sources, intake, sight)
        if isinstance(sight, Whole):
            return replace(self, images=images)

        def look(source: Any) -> str | None:
            try:
                images.look(source)
            except ImageError as error:
                return str(error)
            return None

        faults = list(prefetch(look, images.sources))
        kept = [i for i, fault in enumerate(faults) if fault is None]
        lost = [(describe(images.sources[i]), fault) for i, fault in enumerate(faults) if fault]
        if len(lost) > 1:
            _refuse_many(lost, len(faults), kind)
        names = {name for name, _ in lost}
        odd = tuple(each for each in self.odd if each[0] not in names)
        return replace(self, images=images, skipped=(*self.skipped, *lost), odd=odd).take(kept)


def learn(
    sources: Sequence[Any], *, any_size: bool, bit_depth: int | None, kind: str = "good images"
) -> Goods:
    """Read all good images once: learn the intake, list what cannot be read.

    Parameters
    ----------
    sources : sequence
        Whatever `Intake.see` reads.
    any_size : bool
        See `Intake`.
    bit_depth : int or None
        Bits used in 16-bit images (12 for a 12-bit camera); None takes the largest value seen.
    kind : str
        What they are, for a message.

    Raises
    ------
    ParameterError
        If ``bit_depth`` is not between 9 and 16.
    InputError
        If more than 5 % of the images cannot be read, if none can, or if a sample is labelled
        defective.
    """
    if bit_depth is not None and not 9 <= bit_depth <= 16:
        raise ParameterError(f"bit_depth must lie between 9 and 16, got {bit_depth}")
    _refuse_defects(sources)
    measured = list(prefetch(measure, sources))
    white = 2**bit_depth - 1 if bit_depth else _brightest(measured)
    kept: list[Any] = []
    looks: list[Look] = []
    skipped: list[tuple[str, str]] = []
    for source, look in zip(sources, measured, strict=True):
        if isinstance(look, ImageError):
            name = describe(source)
            skipped.append((name, str(look).removeprefix(f"{name}: ")))
        elif look.is_blank(white):
            skipped.append((look.name, "blank (one colour)"))
        else:
            kept.append(source)
            looks.append(look)
    _refuse_many(skipped, len(sources), kind)
    sizes = Counter(look.size for look in looks)
    ordered = tuple(sorted(sizes, key=lambda size: (-sizes[size], size)))
    return Goods(
        images=Images(kept, Intake(ordered, white, any_size)),
        skipped=tuple(skipped),
        groups=_groups(kept, looks, white),
        hashes=tuple(look.digest for look in looks),
        looks=np.array([look.figures / look.full(white) for look in looks]),
        odd=_odd(looks, white),
    )


def _groups(sources: Sequence[Any], looks: Sequence[Look], white: int) -> tuple[str, ...]:
    """Return a name for each image that it shares with its part, its copies and theirs."""
    given = [source.group if isinstance(source, Sample) else None for source in sources]
    names = [group or look.digest for group, look in zip(given, looks, strict=True)]
    near = near_groups(looks, white).tolist()
    leader: dict[str | int, str] = {}

    def find(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    for name, number in zip(names, near, strict=True):
        leader[find(name)] = find(leader.setdefault(number, name))
    return tuple(find(name) for name in names)


def _odd(looks: Sequence[Look], white: int) -> tuple[tuple[str, str], ...]:
    first: dict[str, int] = {}
    found = [
        (i, f"copy of {looks[first[look.digest]].name}")
        for i, look in enumerate(looks)
        if first.setdefault(look.digest, i) != i
    ]
    found += [each for reasons in odd(looks, white).values() for each in reasons]
    return tuple((looks[i].name, reason) for i, reason in sorted(found))


def find_learned(sources: Sequence[Any], hashes: Collection[str]) -> dict[str, Any]:
    """Return by fingerprint the sources that are meant; reads no further than it must."""
    wanted, found = set(hashes), {}
    for source in sources:
        if not wanted:
            break
        try:
            digest = fingerprint(images.read_image(source))
        except ImageError:
            continue
        if digest in wanted:
            found[digest] = source
            wanted.remove(digest)
    return found


def _brightest(measured: Iterable[Look | ImageError]) -> int:
    """Return the largest value of the 16-bit images; the full range if there is none."""
    deep = [int(x.extremes.max()) for x in measured if isinstance(x, Look) and x.deep]
    return max(deep, default=FULL_16_BIT) or 1


def _is_blank(image: NDArray[np.uint8]) -> bool:
    """Tell whether every channel is constant up to the noise of lossy coding."""
    flat = image.reshape(-1, 3)
    return bool(np.all(flat.max(axis=0) - flat.min(axis=0) <= FLAT))


def _refuse_defects(sources: Sequence[Any]) -> None:
    bad = [s for s in sources if isinstance(s, Sample) and s.label == DEFECT]
    if bad:
        raise InputError(
            f"good images only are learned from, but {len(bad)} samples are labelled defective, "
            f"the first is {bad[0].path}"
        )


def _refuse_many(skipped: list[tuple[str, str]], n: int, kind: str) -> None:
    if len(skipped) > SKIP_LIMIT * n:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        raise InputError(
            f"{len(skipped)} of {n} {kind} cannot be used (more than {SKIP_LIMIT:.0%}): "
            f"{listed}{' ...' if len(skipped) > 3 else ''}"
        )

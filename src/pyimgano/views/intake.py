"""The gate: which images a fitted detector accepts, and how they become RGB uint8.

Sizes, and the scale of 16-bit images, are learned from the good images once; afterwards an image
that does not fit is refused by name and never guessed into shape.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from pyimgano import images, threads
from pyimgano.errors import ImageError, ImageSizeError, InputError, ParameterError
from pyimgano.records import DEFECT, Sample
from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Goods", "Images", "Intake", "learn", "prefetch"]

T = TypeVar("T")
R = TypeVar("R")

FULL_16_BIT = 65535
FLAT = 2
SKIP_LIMIT = 0.05
CLIP_LIMIT = 0.001
_AHEAD = 4
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
                f"{images.describe(source)} is {width} x {height} px, but all good images were "
                f"{expected}: check camera and crop, or fit with any_size=True"
            )
        pixels, clipped = images.to_uint8(image, self.white)
        if clipped > CLIP_LIMIT:
            _log.warning(
                "%s: %.1f %% of the values exceed the scale learned from the good images (%d) and "
                "are clipped",
                images.describe(source),
                100 * clipped,
                self.white,
            )
        if _is_blank(pixels):
            raise ImageError(
                f"{images.describe(source)} is blank (one colour): nothing can be judged; "
                "check lens, light and shutter"
            )
        return pixels


class Images(Sequence["NDArray[np.uint8]"]):
    """Accepted images, decoded each time they are asked for: (H, W, 3) RGB uint8."""

    def __init__(self, sources: Sequence[Any], intake: Intake) -> None:
        self.sources = sources
        self.intake = intake

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Images: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Images:
        if isinstance(index, slice):
            return Images(self.sources[index], self.intake)
        return self.intake.see(self.sources[index])

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return prefetch(self.intake.see, self.sources)

    def take(self, indices: Iterable[int]) -> Images:
        """Return the images at ``indices``."""
        return Images([self.sources[i] for i in indices], self.intake)


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
        Group of each readable image; its hash if it has none, so that copies stay together.
    hashes : tuple of str
        Fingerprint of each readable image's pixels.
    """

    images: Images
    skipped: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]
    hashes: tuple[str, ...]

    def take(self, indices: Sequence[int]) -> Goods:
        """Return those at ``indices``."""
        groups, hashes = (tuple(each[i] for i in indices) for each in (self.groups, self.hashes))
        return replace(self, images=self.images.take(indices), groups=groups, hashes=hashes)


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
    measured = list(prefetch(_measure, sources))
    white = 2**bit_depth - 1 if bit_depth else _brightest(measured)
    kept, skipped, facts = [], [], []
    for source, fact in zip(sources, measured, strict=True):
        if isinstance(fact, ImageError):
            name = images.describe(source)
            skipped.append((name, str(fact).removeprefix(f"{name}: ")))
        elif _is_blank(images.to_uint8(fact.extremes, white)[0]):
            skipped.append((images.describe(source), "blank (one colour)"))
        else:
            kept.append(source)
            facts.append(fact)
    _refuse_many(skipped, len(sources), kind)
    sizes = Counter(fact.size for fact in facts)
    ordered = tuple(sorted(sizes, key=lambda size: (-sizes[size], size)))
    groups = [s.group if isinstance(s, Sample) else None for s in kept]
    return Goods(
        images=Images(kept, Intake(ordered, white, any_size)),
        skipped=tuple(skipped),
        groups=tuple(g or f.digest for g, f in zip(groups, facts, strict=True)),
        hashes=tuple(fact.digest for fact in facts),
    )


def prefetch(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map in order, a few items ahead in threads; constant memory.

    An exception of ``function`` is raised when its item's turn comes.
    """
    with ThreadPoolExecutor(threads.budget()) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True, slots=True)
class _Fact:
    size: tuple[int, int]
    extremes: NDArray[np.uint8 | np.uint16]  # (1, 2, 3): darkest and brightest of each channel
    digest: str


def _measure(source: Any) -> _Fact | ImageError:
    try:
        image = images.read_image(source)
    except ImageError as error:
        return error
    flat = image.reshape(-1, 3)
    extremes = np.stack([flat.min(axis=0), flat.max(axis=0)])[None]
    digest = hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:32]
    return _Fact((image.shape[0], image.shape[1]), extremes, digest)


def _brightest(measured: Iterable[_Fact | ImageError]) -> int:
    """Return the largest value of the 16-bit images; the full range if there is none."""
    facts = [fact for fact in measured if isinstance(fact, _Fact)]
    deep = [int(f.extremes.max()) for f in facts if f.extremes.dtype == np.uint16]
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

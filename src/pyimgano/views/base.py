"""What a view is: how an image becomes what a detector sees, and how a map finds its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

    Size = tuple[int, int]
    Map = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["Back", "Crop", "Seen", "Sight", "View", "Views", "Whole", "lowest"]


class Back(Protocol):
    """The way back from what was seen of one image."""

    def restore(self, drawn: Map) -> Map:
        """Carry a map to the pixels of the image; what was not seen gets the lowest value."""
        ...

    def carry(self, mask: Mask) -> Mask:
        """Carry a mask of the image to the pixels of what was seen."""
        ...


class Seen(NamedTuple):
    """What a detector sees of an image, RGB uint8 (h, w, 3), and the way back."""

    image: NDArray[np.uint8]
    back: Back


class Sight(Protocol):
    """A view as it was learned from good images."""

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """Look at an image, RGB uint8 (H, W, 3); `ImageError` if it cannot be seen so."""
        ...

    def size(self, size: Size) -> Size:
        """Return the size of what is seen of an image of a size."""
        ...

    def describe(self) -> dict[str, str]:
        """Say by subject, in words, what was decided and why."""
        ...


@runtime_checkable
class View(Protocol):
    """A parameter of a detector: a frozen dataclass, registered in ``VALUES``."""

    def learn(self, images: Images) -> Sight:
        """Learn from good images; `InputError` if it cannot."""
        ...


class _AsItIs:
    def restore(self, drawn: Map) -> Map:
        return drawn

    def carry(self, mask: Mask) -> Mask:
        return mask


_AS_IT_IS = _AsItIs()


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A source that is a part of what is seen of an image; ``whole`` gives that by a number."""

    whole: Callable[[int], NDArray[np.uint8]]
    number: int
    place: tuple[slice, slice]

    def seen(self) -> Seen:
        """Return the part."""
        return Seen(self.whole(self.number)[self.place].copy(), _AS_IT_IS)


@VALUES.register("whole", Metadata(summary="The image as it is."))
@dataclass(frozen=True, slots=True)
class Whole:
    """The image as it is.

    Parameters
    ----------
    why : str
        Why something that was looked for is left out.
    of : str
        What was looked for.
    """

    why: str = ""
    of: str = "alignment"

    def learn(self, images: Images) -> Whole:  # noqa: ARG002
        """Learn nothing."""
        return self

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """See the image itself."""
        return Seen(image, _AS_IT_IS)

    def size(self, size: Size) -> Size:
        """Keep the size."""
        return size

    def describe(self) -> dict[str, str]:
        """Say why, if that was a decision."""
        return {self.of: self.why} if self.why else {}


@VALUES.register("views", Metadata(summary="One view after another."))
@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """One view after another, each learned from what those before it see."""

    steps: tuple[View, ...]

    def learn(self, images: Images) -> Sights:
        """Learn step by step."""
        learned: list[Sight] = []
        for step in self.steps:
            learned.append(step.learn(images.through(Sights(tuple(learned)))))
        return Sights(tuple(learned))


@VALUES.register("sights", Metadata(summary="Learned views, one after another."))
@dataclass(frozen=True, slots=True, eq=False)
class Sights:
    """Learned views, one after another."""

    steps: tuple[Sight, ...]

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """Look through all of them."""
        backs: list[Back] = []
        for step in self.steps:
            image, back = step.see(image)
            backs.append(back)
        return Seen(image, _Backs(tuple(backs)))

    def size(self, size: Size) -> Size:
        """Return the size behind the last."""
        for step in self.steps:
            size = step.size(size)
        return size

    def describe(self) -> dict[str, str]:
        """Say it of each."""
        return {name: text for step in self.steps for name, text in step.describe().items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Backs:
    backs: tuple[Back, ...]

    def restore(self, drawn: Map) -> Map:
        for back in self.backs[::-1]:
            drawn = back.restore(drawn)
        return drawn

    def carry(self, mask: Mask) -> Mask:
        for back in self.backs:
            mask = back.carry(mask)
        return mask


def lowest(drawn: Map) -> float:
    """Return the value of what was not seen: 0, or less where a map goes below it."""
    return min(0.0, float(drawn.min()))

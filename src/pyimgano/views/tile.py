"""Tiles: a large image is judged piece by piece, each at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.errors import ImageError, ParameterError
from pyimgano.maps.tiling import starts
from pyimgano.registry import VALUES, Metadata
from pyimgano.views.base import Seen, Sights, Views, Whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.views.base import Sight, Size, View
    from pyimgano.views.intake import Images

__all__ = ["Tiled", "Tiles", "asks_for_tiles", "tiles_of"]

SMALLEST = 32


@VALUES.register("tiles", Metadata(summary="Overlapping tiles of a large image."))
@dataclass(frozen=True, slots=True)
class Tiles:
    """Overlapping tiles of a large image; of several views the last.

    Parameters
    ----------
    size : int
        Side of a tile in pixels; of an image that is smaller, the side of the image.
    overlap : int
        Pixels that neighbours share at least.
    """

    size: int = 288
    overlap: int = 36

    def __post_init__(self) -> None:
        if self.size < SMALLEST or not 0 <= self.overlap <= self.size // 2:
            raise ParameterError(
                f"a tile has {SMALLEST} px at least, and an overlap of half of it at most: "
                f"size={self.size}, overlap={self.overlap}"
            )

    def learn(self, images: Images) -> Tiled:
        """Learn the shape of a tile: all have the same."""
        seen = [images.sight.size(size) for size in images.intake.sizes]
        height, width = (min(self.size, *sides) for sides in zip(*seen, strict=True))
        return Tiled((height, width), min(self.overlap, height // 2, width // 2), seen[0])


@VALUES.register("tiled", Metadata(summary="The shape of tiles."))
@dataclass(frozen=True, slots=True)
class Tiled:
    """The shape of tiles, their overlap, and the most frequent size of the good images."""

    tile: Size
    overlap: int
    image: Size

    def see(self, image: NDArray[np.uint8]) -> Seen:
        """See the image, of which a detector is shown tile after tile.

        Raises
        ------
        ImageError
            If it is smaller than a tile.
        """
        if image.shape[0] < self.tile[0] or image.shape[1] < self.tile[1]:
            raise ImageError(
                f"{image.shape[1]} x {image.shape[0]} px are seen of the image, which is less than "
                f"a tile of {self.tile[1]} x {self.tile[0]} px"
            )
        return Whole().see(image)

    def size(self, size: Size) -> Size:  # noqa: ARG002
        """Return the size of a tile."""
        return self.tile

    def describe(self) -> dict[str, str]:
        """Say how many tiles of which size there are."""
        down, across = (
            len(starts(*side, self.overlap)) for side in zip(self.image, self.tile, strict=True)
        )
        return {
            "tiles": f"{across} x {down} of {self.tile[1]} x {self.tile[0]} px, which overlap by "
            f"{self.overlap} px at least; the score is that of the worst tile"
        }


def tiles_of(sight: Sight) -> Tiled | None:
    """Return the tiles that are shown through a learned view, if there are any."""
    last = sight.steps[-1] if isinstance(sight, Sights) and sight.steps else sight
    return last if isinstance(last, Tiled) else None


def asks_for_tiles(view: View) -> bool:
    """Tell whether a view shows tiles; `ParameterError` if another comes after them."""
    steps = view.steps if isinstance(view, Views) else (view,)
    if any(isinstance(step, Tiles) for step in steps[:-1]):
        raise ParameterError("tiles are cut last: no view may come after Tiles()")
    return bool(steps) and isinstance(steps[-1], Tiles)

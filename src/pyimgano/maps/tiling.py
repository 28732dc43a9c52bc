"""Overlapping tiles that cover an image, and one map of the maps of its tiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Mosaic", "starts"]


def starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Return where tiles begin along a side; the last is moved inward, so that it ends with it.

    Neighbours share at least ``overlap`` pixels.

    Raises
    ------
    ParameterError
        If the side is shorter than a tile, or the overlap does not fit into it.

    Examples
    --------
    >>> starts(10, 4, 1)
    (0, 3, 6)
    >>> starts(11, 4, 1)
    (0, 3, 6, 7)
    """
    if not 0 <= overlap < tile <= length:
        raise ParameterError(f"no tiles of {tile} px with an overlap of {overlap} in {length} px")
    return (*range(0, length - tile, tile - overlap), length - tile)


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The map of an image, (H, W), as those of its tiles are added one by one.

    In an overlap the maps are blended: a tile's weight falls off linearly towards its border, and
    the weights at a pixel add up to 1. So no seam is seen, and where tiles agree nothing changes.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int
    drawn: NDArray[np.float32] = field(init=False)
    shares: tuple[tuple[NDArray[np.float32], ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        sides = zip(self.size, self.tile, strict=True)
        object.__setattr__(self, "drawn", np.zeros(self.size, np.float32))
        object.__setattr__(self, "shares", tuple(_shares(*side, self.overlap) for side in sides))

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Give rows and columns of each tile, in reading order."""
        across = [starts(*side, self.overlap) for side in zip(self.size, self.tile, strict=True)]
        for top, left in product(*across):
            yield slice(top, top + self.tile[0]), slice(left, left + self.tile[1])

    def add(self, number: int, drawn: NDArray[np.float32]) -> None:
        """Add the map of the tile with a number, counted in reading order from 0."""
        down, across = self.shares
        row, column = divmod(number, len(across))
        top, left = (
            starts(*side, self.overlap)[k]
            for side, k in zip(zip(self.size, self.tile, strict=True), (row, column), strict=True)
        )
        part = self.drawn[top : top + self.tile[0], left : left + self.tile[1]]
        part += drawn * (down[row][:, None] * across[column])


def _shares(length: int, tile: int, overlap: int) -> tuple[NDArray[np.float32], ...]:
    """Return the weight of each tile along a side, (tile,); at each pixel they add up to 1."""
    within = np.arange(1, tile + 1)
    weight = np.minimum(np.minimum(within, within[::-1]), overlap + 1).astype(np.float64)
    total, begins = np.zeros(length), starts(length, tile, overlap)
    for start in begins:
        total[start : start + tile] += weight
    return tuple((weight / total[at : at + tile]).astype(np.float32) for at in begins)

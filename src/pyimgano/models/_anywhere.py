"""Nearest good patch from anywhere: what images are compared with where a place tells nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from pyimgano.models._coreset import covering_of_blocks
from pyimgano.models._exact_search import NOBODY
from pyimgano.models.knn_index import create_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimgano.models.knn_index import NearestNeighborIndex

__all__ = ["Anywhere"]

_SHARE = 0.1
_ROWS = 60_000


@dataclass(frozen=True, slots=True, eq=False)
class Anywhere:
    """A tenth of the patches of good images, chosen to cover the others, wherever they lie.

    Parameters
    ----------
    bank : ndarray of float32, shape (m, d)
        The chosen patches; greedy k-center block by block, so that a block can be left out.
    origins : ndarray of int32, shape (m, 2)
        Image and cell of its grid of each.
    index : NearestNeighborIndex
        Searches the bank; knows the block of each patch.
    """

    bank: NDArray[np.float32]
    origins: NDArray[np.int32]
    index: NearestNeighborIndex

    @classmethod
    def of(cls, features: NDArray[np.float32], blocks: NDArray[np.int64], seed: int) -> Self:
        """Choose from the features (n, h, w, d) of images that belong to blocks (n,)."""
        rows = features.reshape(len(features), -1, features.shape[-1])
        cells = max(1, _ROWS // len(rows))
        chosen = covering_of_blocks(rows.__getitem__, rows.shape[1:], blocks, cells, _SHARE, seed)
        bank, origins = chosen.rows.astype(np.float16), chosen.origins.astype(np.int32)
        return cls.again(bank, origins, blocks)

    @classmethod
    def again(
        cls,
        bank: NDArray[np.float16],
        origins: NDArray[np.int32],
        blocks: NDArray[np.int64] | None = None,
    ) -> Self:
        """Take patches that were chosen, rounded as the model file holds them."""
        rows = bank.astype(np.float32)
        of_images = np.full(len(rows), NOBODY) if blocks is None else blocks[origins[:, 0]]
        return cls(rows, origins, create_index("numpy").fit(rows, of_images))

    def distances(
        self, queries: NDArray[np.float32], without: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return the distance of each patch to the nearest of the bank.

        Parameters
        ----------
        queries : ndarray of float32, shape (m, h, w, d)
        without : ndarray of int64, shape (m,), optional
            The block that each image may not see.

        Returns
        -------
        ndarray of float32, shape (m, h, w)
        """
        m, height, width, depth = queries.shape
        hidden = None if without is None else np.repeat(without, height * width)
        found = self.index.kneighbors(queries.reshape(-1, depth), 1, hidden)[0]
        return found.astype(np.float32).reshape(m, height, width)

    def nearest(self, query: NDArray[np.float32]) -> tuple[int, int]:
        """Return image and cell of the nearest patch to one (d,)."""
        row = int(self.index.kneighbors(query[None], 1)[1][0, 0])
        image, cell = self.origins[row].tolist()
        return image, cell

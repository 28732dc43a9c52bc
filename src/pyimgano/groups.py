"""Images that say one thing together: views of one part, copies and near copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["block_folds", "one_a_group"]

LEAVE_ONE_OUT_BELOW = 20


def block_folds(
    groups: Sequence[str | None], folds: int, most: int | None = None
) -> NDArray[np.int64]:
    """Assign images to contiguous blocks in file order; a group is never split.

    Parameters
    ----------
    groups : sequence of str or None, length n
        Images of one part share a name; None stands alone.
    folds : int
        Number of blocks. Below 20 separate parts each part is a block (leave one out).
    most : int, optional
        Parts that a block holds at most: where ``folds`` blocks would hold more, there are more.

    Returns
    -------
    ndarray of int64, shape (n,)
        The block of each image, from 0.

    Raises
    ------
    ParameterError
        If ``folds`` is below 2.
    """
    if folds < 2:
        raise ParameterError(f"folds must be at least 2, got {folds}")
    part_of: dict[str | int, int] = {}
    parts = np.array(
        [part_of.setdefault(i if g is None else g, len(part_of)) for i, g in enumerate(groups)],
        dtype=np.int64,
    )
    count = len(part_of)
    if most is not None:
        folds = max(folds, -(-count // most))
    if count < max(LEAVE_ONE_OUT_BELOW, folds):
        return parts
    return parts * folds // count


def one_a_group(scores: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.int64]:
    """Return the places of the highest score of each group, ascending.

    Views of one part, copies and near copies say one thing together. What holds for the highest
    score of a group holds for every image in it.
    """
    highest: dict[str, int] = {}
    for i, group in enumerate(groups):
        if scores[i] > scores[highest.setdefault(group, i)]:
            highest[group] = i
    return np.array(sorted(highest.values()), dtype=np.int64)

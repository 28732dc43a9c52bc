"""Counting normal scores above, and at or above, each of some scores: exact, without sorting them.

A monotone table has slots of equal width. A normal score that falls into a slot without any of the
scores asked for needs only to be counted there, for it stands to all of them as its slot does. What
shares a slot with one, a small part if there are more slots than scores, is sorted and searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["count_normals"]

_CHUNK_BYTES = 1 << 25
_BLOCK = 1 << 20
_FEW = 1 << 15
_MOST_BITS = 22
_IN_CACHE = 1 << 16
_PENDING = 1 << 18


def count_normals(
    scores: NDArray[Any],
    normals: Iterable[NDArray[Any]],
    n_normal: int,
    chunk_bytes: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the normal scores above, and at or above, each of ``scores``, ascending of shape (d,).

    The normals, ``n_normal`` in all, come in arrays of any order and the same dtype, without NaN,
    such as one array an image. ``chunk_bytes`` is how much is sorted at once, by default 32 MiB, or
    four times ``scores`` where that is more: it changes time and memory, never the result. Types of
    at most two bytes are counted in a table of all their values instead.
    """
    if not (scores.size and n_normal):
        return np.zeros(scores.size, np.int64), np.zeros(scores.size, np.int64)
    if scores.dtype.itemsize <= 2:
        grid, totals = _histogram(normals, scores.dtype)
        below = totals[np.searchsorted(grid, scores, "left")]
        return n_normal - totals[np.searchsorted(grid, scores, "right")], n_normal - below
    below, tied = np.zeros(scores.size, np.int64), np.zeros(scores.size, np.int64)
    room = chunk_bytes or max(_CHUNK_BYTES, 4 * scores.nbytes)
    sieve = _Sieve.made_for(scores, n_normal)
    unclear = normals if sieve is None else sieve.sift(normals)
    buffer = np.empty(min(n_normal, max(1, room // scores.dtype.itemsize)), scores.dtype)
    for chunk in _chunks(unclear, buffer):
        chunk.sort()
        for start in range(0, scores.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            left = chunk.searchsorted(scores[block])
            below[block] += left
            # Ties are rare in float maps: only where there is one is the second search worth it.
            same = np.flatnonzero(chunk.take(left, mode="clip") == scores[block])
            right = chunk.searchsorted(scores[block][same], "right")
            tied[block][same] += right - left[same]
    at_or_above = n_normal - (below if sieve is None else below + sieve.below)
    return at_or_above - tied, at_or_above


class _Sieve:
    """A table of slots: counts what is clear, lets through what shares a slot with a score.

    A score's slot is ``scale`` times it less ``offset``, clipped. Rounding keeps the order, so that
    the slots never contradict the scores, and only the speed depends on their width.
    """

    def __init__(self, scores: NDArray[Any], scale: Any, offset: Any, n_slots: int) -> None:
        self._scale, self._offset, self._n_slots = scale, offset, n_slots
        self._slots = np.empty(scores.size, np.intp)
        self._find(scores, self._slots)
        self._taken = np.zeros(n_slots + 1, np.bool_)
        self._taken[self._slots] = True
        self._counts = np.zeros(n_slots + 1, np.int64)

    @classmethod
    def made_for(cls, scores: NDArray[Any], n_normal: int) -> Self | None:
        """Return a sieve, or None where sorting alone is as fast or no slots can be laid out."""
        finite = scores[np.isfinite(scores)]
        if n_normal < _FEW or not finite.size:
            return None
        # A few scores far above the others would leave all of them in few slots.
        low, high = finite[0], finite[-1 - finite.size // 1000]
        n_slots = 1 << min(_MOST_BITS, (4 * scores.size).bit_length(), n_normal.bit_length())
        dtype = np.dtype(np.float32 if scores.dtype == np.float32 else np.float64).type
        with np.errstate(all="ignore"):
            scale = dtype((n_slots - 2) / (np.float64(high) - np.float64(low)))
            offset = dtype(low) * scale - 2  # the lowest score is well above slot 0
        usable = np.isfinite(scale) and scale > 0 and np.isfinite(offset)
        return cls(scores, scale, offset, n_slots) if usable else None

    def sift(self, normals: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Count all normals by slot; give those whose slot holds a score."""
        pending = np.empty(max(_PENDING, 2 * self._n_slots), np.intp)
        filled = 0
        for values in normals:
            for start in range(0, values.size, _IN_CACHE):
                part = values[start : start + _IN_CACHE]
                if filled + part.size > pending.size:
                    self._count(pending[:filled])
                    filled = 0
                slots = pending[filled : filled + part.size]
                self._find(part, slots)
                filled += part.size
                yield part[self._taken.take(slots, mode="clip")]  # they are in range
        self._count(pending[:filled])

    @property
    def below(self) -> NDArray[np.int64]:
        """How many normals that were not let through lie below each score, shape (d,)."""
        self._counts[self._taken] = 0
        return np.asarray(np.cumsum(self._counts)[self._slots])

    def _count(self, slots: NDArray[np.intp]) -> None:
        self._counts += np.bincount(slots, minlength=self._counts.size)

    def _find(self, values: NDArray[Any], slots: NDArray[np.intp]) -> None:
        """Write the slot of each value: 0 below all scores, the last for what is far above."""
        with np.errstate(over="ignore"):
            place = np.multiply(values, self._scale, dtype=self._scale.dtype, casting="unsafe")
            place -= self._offset
        np.clip(place, 0, self._n_slots, out=place)
        np.copyto(slots, place, casting="unsafe")


def _chunks(normals: Iterable[NDArray[Any]], buffer: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Fill the buffer again and again; what comes out is valid until the next one is asked for."""
    filled = 0
    for values in normals:
        taken = 0
        while taken < values.size:
            part = values[taken : taken + buffer.size - filled]
            buffer[filled : filled + part.size] = part
            taken += part.size
            filled += part.size
            if filled == buffer.size:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def _histogram(
    normals: Iterable[NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return all values of a small dtype, ascending, and how many normals lie before each."""
    size = 1 << (8 * dtype.itemsize)
    bits = np.dtype(f"u{dtype.itemsize}")
    totals = np.zeros(size, np.int64)
    for values in normals:
        totals += np.bincount(values.view(bits), minlength=size)
    grid = np.arange(size).astype(bits).view(dtype)
    order = np.argsort(grid, kind="stable")
    return grid[order], np.concatenate(([0], np.cumsum(totals[order])))

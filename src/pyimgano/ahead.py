"""Items made ahead in threads, and in batches: as many as fit, whatever one weighs."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pyimgano import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["batched", "prefetch"]

ROOM = 1 << 27  # bytes of what waits: 8 images of 5.5 megapixels
_AHEAD = 4

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R], items: Iterable[T], weigh: Callable[[R], int] | None = None
) -> Iterator[R]:
    """Map in order, a few items ahead in threads; constant memory.

    An exception of ``function`` is raised when its item's turn comes. With ``weigh``, the bytes of
    a result, fewer are made ahead where they are large, at least one.
    """
    ahead = _AHEAD
    with ThreadPoolExecutor(threads.budget()) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) > ahead:
                result = waiting.popleft().result()
                if weigh is not None:
                    ahead = min(_AHEAD, max(1, ROOM // max(1, weigh(result))))
                yield result
        while waiting:
            yield waiting.popleft().result()


def batched(items: Iterable[T], most: int, weigh: Callable[[T], int]) -> Iterator[list[T]]:
    """Group in order, at most so many, and no more once they weigh 128 MB together.

    A batch is handed out as soon as it is full, before the next item is asked for.
    """
    batch: list[T] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += weigh(item)
        if len(batch) == most or weight >= ROOM:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch

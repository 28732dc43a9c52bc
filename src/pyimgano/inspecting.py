"""Judgements on their way: a stream that a notebook can show without judging anything twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, final

from pyimgano.inspection import Inspection, as_html

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["Inspecting"]

SHOWN = 3


@final
class Inspecting(Iterator[Inspection]):
    """What `Detector.inspect` returns: each judgement once, in order, in constant memory.

    It is an iterator: a loop or ``next`` takes judgements from it, and nothing is kept. A notebook
    that shows it judges the next few images, shows them with their pictures, and keeps only these
    until a loop takes them, so that no image is judged twice. Of a single image the judgement is
    kept, and is shown again and again. ``repr`` judges nothing.

    Parameters
    ----------
    stream : generator of Inspection
        Judges while it is iterated.
    sources : sequence
        The images, one a judgement, in order.
    """

    def __init__(self, stream: Generator[Inspection, None, None], sources: Sequence[Any]) -> None:
        self._stream, self._sources = stream, sources
        self._ahead: deque[Inspection] = deque()
        self._taken = 0
        self._only: Inspection | None = None

    def __next__(self) -> Inspection:
        one = self._ahead.popleft() if self._ahead else next(self._stream)
        self._taken += 1
        if len(self._sources) == 1:
            self._only = one
        return one

    def close(self) -> None:
        """End it early; what reads ahead stops."""
        self._ahead.clear()
        self._stream.close()

    def __repr__(self) -> str:
        return f"<Inspecting: {self._taken} of {len(self._sources)} taken; a loop takes the next>"

    def _repr_html_(self) -> str:
        if self._only is not None:
            return as_html(self._only, self._sources[0])
        self._ahead.extend(islice(self._stream, SHOWN - len(self._ahead)))
        shown = "".join(
            as_html(one, self._sources[self._taken + i]) for i, one in enumerate(self._ahead)
        )
        left = len(self._sources) - self._taken - len(self._ahead)
        if left > 0 and self._ahead:
            return f"{shown}<p>... and {left} more: a loop takes them, these first.</p>"
        return shown or "<p>All judgements were taken; call inspect again to see them.</p>"

"""The maps of an evaluation, until the metrics have seen them all."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Self, final

import numpy as np

from pyimgano.lazy import Lazy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32] | None

__all__ = ["KeptMaps"]

IN_MEMORY = 1 << 30


@final
class KeptMaps(Lazy["Map"]):
    """A growing sequence of float32 maps; beyond a limit they lie in an unnamed temporary file.

    They are not shortened to float16: that would merge scores, and the metrics are exact.

    Parameters
    ----------
    in_memory : int
        Bytes of maps that are kept in memory.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._left = in_memory
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._maps: list[Map | tuple[int, tuple[int, ...]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, drawn: Map) -> None:
        """Keep one more map, or None where an image has none."""
        if drawn is None or drawn.nbytes <= self._left:
            self._left -= 0 if drawn is None else drawn.nbytes
            self._maps.append(drawn)
            return
        start = self._file.seek(0, 2)
        self._file.write(drawn.tobytes())
        self._file.flush()
        self._maps.append((start, drawn.shape))

    def __len__(self) -> int:
        return len(self._maps)

    def _item(self, index: int) -> Map:
        kept = self._maps[index]
        if not isinstance(kept, tuple):
            return kept
        start, shape = kept
        return np.memmap(self._file, np.float32, "r", start, shape)

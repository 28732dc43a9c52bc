"""Ways to damage a file, and the tally of what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DAMAGE", "Tally", "damaged"]

DAMAGE = ("truncated", "flipped", "overwritten", "zeroed", "duplicated", "deleted", "text")


@dataclass
class Tally:
    """Counts of outcomes, and what must not happen, in words."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.counts["fault"] += 1
        self.faults.append(text)


def damaged(rng: np.random.Generator, data: bytes, how: str) -> bytes:
    """Return a damaged copy; one in three is damaged in its first or last 200 bytes."""
    size = len(data)
    start = int(rng.integers(size))
    if rng.random() < 1 / 3:
        start = int(rng.integers(min(200, size)))
        start = size - 1 - start if rng.random() < 1 / 2 else start
    stop = min(size, start + int(2 ** rng.uniform(0, 10)))
    head, run, tail = data[:start], data[start:stop], data[stop:]
    if how == "truncated":
        return head
    if how == "flipped":
        return head + bytes([data[start] ^ 1 << int(rng.integers(8))]) + data[start + 1 :]
    if how == "text":
        return b"404 not found\n" * int(rng.integers(0, 4))  # none at all: an empty file
    middle = {
        "overwritten": rng.bytes(len(run)),
        "zeroed": bytes(len(run)),
        "duplicated": run * 2,
        "deleted": b"",
    }
    return head + middle[how] + tail

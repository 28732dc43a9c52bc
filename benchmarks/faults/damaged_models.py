"""A damaged model file must be refused by name, or score as before to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from damage import DAMAGE, Tally, damaged

import pyimgano
from pyimgano.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["N_MODELS", "damage_models"]

N_MODELS = 500


def damage_models(
    data: bytes, probes: Sequence[Path], path: Path, rng: np.random.Generator
) -> Tally:
    tally = Tally()
    path.write_bytes(data)
    expected = pyimgano.load(path).decision_function(probes)
    for i in range(N_MODELS):
        how = DAMAGE[i % len(DAMAGE)]
        path.write_bytes(damaged(rng, data, how))
        try:
            scores = pyimgano.load(path).decision_function(probes)
        except ArchiveError as error:
            if path.name in str(error):
                tally.counts["refused"] += 1
            else:
                tally.fault(f"{i} ({how}): the message does not name the file: {error}")
        except Exception as error:  # noqa: BLE001 - an exception of any other kind is a fault
            tally.fault(f"{i} ({how}): {error!r}")
        else:
            if np.array_equal(scores, expected):
                tally.counts["identical"] += 1
            else:
                tally.fault(f"{i} ({how}): loaded, but it scores differently")
    return tally

"""The index ``auto``: numpy, unless a short timing on this machine finds another much faster.

All that take part give the same answers, so what is picked changes no score and no model file says
it. A pick is kept for this machine and these versions in the user's cache folder; where that cannot
be written, or what stands there is of no use, it is timed again.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from pyimgano.atomic import write_atomic
from pyimgano.errors import MissingExtra, OutputError
from pyimgano.estimator import versions
from pyimgano.files import cache_folder
from pyimgano.models._bounds import as_rows
from pyimgano.models._nearest import INDEXES, NearestNeighborIndex, fitted
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

    from pyimgano.models._bounds import Rows
    from pyimgano.models._nearest import Answer

_log = logging.getLogger(__name__)

_LEAST_ELEMENTS = 1 << 24
"""Of a smaller bank, searching it for an image takes less time than finding out how."""
_ROWS, _QUERIES, _ROUNDS = 4096, 128, 2
_GAIN = 0.8
"""Others hold a second copy of the bank: they must take less than this of the time of numpy."""
_picked: dict[str, str] = {}


@final
class AutoIndex:
    """Exact nearest neighbours by the index that is fastest here for such a bank.

    numpy and faiss take part, if installed; torch, if this process has imported it already.
    """

    def __init__(self) -> None:
        self._index: NearestNeighborIndex | None = None

    def fit(self, bank: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Take the bank; see `NearestNeighborIndex.fit`."""
        rows = as_rows(bank, "bank", np.float16)
        name = _fastest(rows) if rows.size >= _LEAST_ELEMENTS else "numpy"
        self._index = INDEXES[name]().fit(rows, groups)
        return self

    def kneighbors(
        self, queries: ArrayLike, k: int = 1, exclude: ArrayLike | None = None
    ) -> Answer:
        """Find the k nearest rows; see `NearestNeighborIndex.kneighbors`."""
        return fitted(self._index).kneighbors(queries, k, exclude)


def _fastest(rows: Rows) -> str:
    """Return the name of the index to take for a bank like this."""
    names = _candidates()
    if names == ["numpy"]:
        return "numpy"
    columns = 1 << (rows.shape[1] - 1).bit_length()
    shape = f"up to {columns} columns, {budget()} threads, {', '.join(names)}"
    if shape not in _picked:
        _picked[shape] = _kept().get(shape, "")
        if _picked[shape] not in names:
            seconds = _timed(names, rows)
            _picked[shape] = _choice(seconds)
            _log.info("index %s for %s: %s", _picked[shape], shape, seconds)
            _keep(shape, _picked[shape])
    return _picked[shape]


def _candidates() -> list[str]:
    """Return what is here and cheap to import; torch is not, so nobody pays it for a timing."""
    cheap = {"faiss", *sys.modules}
    return [
        entry.name
        for entry in INDEXES.entries()
        if entry.metadata.exact
        and not entry.metadata.missing
        and cheap.issuperset(entry.metadata.modules)
    ]


def _timed(names: list[str], rows: Rows) -> dict[str, float]:
    """Return the least seconds of some rounds in turn, on a part of the bank."""
    step = -(-len(rows) // _ROWS)
    queries = rows[step // 2 :: max(1, len(rows) // _QUERIES)]
    seconds: dict[str, float] = {}
    indexes: dict[str, NearestNeighborIndex] = {}
    for name in names:
        try:
            indexes[name] = INDEXES[name]().fit(rows[::step])
        except MissingExtra as error:
            _log.warning("index %s takes no part: %s", name, error)
    for _ in range(_ROUNDS):
        for name, index in indexes.items():
            start = time.perf_counter()
            index.kneighbors(queries)
            taken = time.perf_counter() - start
            seconds[name] = min(seconds.get(name, taken), taken)
    return seconds


def _choice(seconds: Mapping[str, float]) -> str:
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < _GAIN * seconds["numpy"] else "numpy"


def _file() -> Path:
    return cache_folder() / "indexes.json"


def _machine() -> dict[str, Any]:
    return {"machine": [platform.node(), platform.machine()], "versions": versions()}


def _kept() -> dict[str, str]:
    """Return what was picked on this machine with these versions."""
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
        if {name: known[name] for name in _machine()} == _machine():
            return {shape: str(name) for shape, name in known["picks"].items()}
        _log.info("%s is of other versions or another machine: timing again", _file())
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log.warning("what was timed before cannot be read, timing again: %r", error)
    return {}


def _keep(shape: str, name: str) -> None:
    picks = {**_kept(), shape: name}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_file(), json.dumps({**_machine(), "picks": picks}, indent=1))
    except (OutputError, OSError, RuntimeError) as error:
        _log.warning("what was timed cannot be kept, each process times again: %s", error)

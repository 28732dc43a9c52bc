"""What inferencers return, of whatever version and kind, as one score and one map an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyimgano.errors import InputError
from pyimgano.judging import Reading
from pyimgano.lazy import Lazy
from pyimgano.maps.upsample import upsample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Extent = tuple[float, float, float, float]

__all__ = ["WHOLE", "Answer", "Readings", "read_answers"]

WHOLE = (0.0, 0.0, 1.0, 1.0)
_SCORES = ("pred_score", "pred_scores")
_MAPS = ("anomaly_map", "anomaly_maps")


class Answer(NamedTuple):
    """A score, a map (h, w) if there is one, and the share of the image that the map covers."""

    score: float
    map: NDArray[np.float32] | None = None
    extent: Extent = WHOLE

    def reading(self, size: tuple[int, int]) -> Reading:
        """Return it with the map in the pixels of an image of a size."""
        if self.map is None:
            return Reading(self.score)
        top, left, bottom, right = self.extent
        height, width = size
        extent = (top * height, left * width, bottom * height, right * width)
        return Reading(self.score, upsample(self.map, size, extent=extent))


class Readings(Lazy[Reading]):
    """Answers as readings; a map is drawn at its full size when it is asked for."""

    def __init__(self, answers: Sequence[Answer], sizes: Sequence[tuple[int, int]]) -> None:
        self._answers, self._sizes = answers, sizes

    def __len__(self) -> int:
        return len(self._answers)

    def _item(self, index: int) -> Reading:
        return self._answers[index].reading(self._sizes[index])

    def take(self, indices: Sequence[int]) -> Readings:
        """Return the readings at ``indices``, as lazy as these."""
        return Readings([self._answers[i] for i in indices], [self._sizes[i] for i in indices])


def read_answers(result: Any, count: int, extent: Extent = WHOLE) -> list[Answer]:
    """Read what a model or an inferencer said of a batch.

    Parameters
    ----------
    result : mapping or object
        Holds ``pred_score`` or ``anomaly_map``, or their plurals: numbers, arrays or tensors.
        Scores (B,), (B, 1) or one number; maps (H, W), (B, h, w), (B, 1, h, w) or (B, h, w, 1).
    count : int
        Images in the batch.
    extent : (float, float, float, float)
        Top, left, bottom, right of the maps, as shares of the image.

    Returns
    -------
    list of Answer
        Without a score, the highest value of the map is one, as anomalib has it.

    Raises
    ------
    InputError
        If there is neither, or they are not of so many images.
    """
    maps = _maps(_field(result, _MAPS), count)
    scores = _field(result, _SCORES)
    if scores is None:
        if maps is None:
            raise InputError(
                f"the inferencer gave neither pred_score nor anomaly_map: {_told(result)}"
            )
        scores = maps.reshape(count, -1).max(axis=1)
    flat = _array(scores).reshape(-1)
    if len(flat) != count:
        raise InputError(f"the inferencer gave {len(flat)} scores for {count} images")
    return [
        Answer(float(score), None if maps is None else maps[i], extent)
        for i, score in enumerate(flat.tolist())
    ]


def _field(result: Any, names: tuple[str, str]) -> Any:
    for name in names:
        value = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
        if value is not None:
            return value
    return None


def _maps(given: Any, count: int) -> NDArray[np.float32] | None:
    if given is None:
        return None
    maps = _array(given)
    shape = maps.shape
    if maps.ndim == 4 and 1 in {shape[1], shape[3]}:
        maps = maps[:, 0] if shape[1] == 1 else maps[..., 0]
    elif maps.ndim == 2:
        maps = maps[None]
    if maps.ndim != 3 or len(maps) != count or not maps.size:
        raise InputError(f"the inferencer gave maps of the shape {shape} for {count} images")
    return np.ascontiguousarray(maps, np.float32)


def _array(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a tensor, on whatever device and of whatever precision
        value = value.detach().cpu().float().numpy()
    found = np.asarray(value)
    if found.dtype.kind not in "biuf":
        raise InputError(f"the inferencer gave {type(value).__name__} where numbers are expected")
    return found


def _told(result: Any) -> str:
    names = list(result) if isinstance(result, Mapping) else [n for n in dir(result) if n[0] != "_"]
    return f"a {type(result).__name__} with {', '.join(map(str, names[:8])) or 'nothing'}"

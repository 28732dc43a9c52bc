"""How the members of the default agree: what each says of an image, and one score of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pyimgano.feature_detector import PatchScores
from pyimgano.models._levels import NO_LEVELS, levels, spread_above
from pyimgano.models._seeing import DEEP, PLAIN, Seeing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pyimgano.models._levels import Levels

__all__ = ["ANYWHERE", "WHOLE", "Voting"]

WHOLE = "whole"
ANYWHERE = {DEEP: "network (anywhere)", PLAIN: "handcrafted (anywhere)"}
_LOOSE = {ANYWHERE[DEEP]: 1.0, DEEP: 0.5, ANYWHERE[PLAIN]: 0.5, PLAIN: 0.25}  # its map
_LEAST = 1e-6
_USUAL, _VARY = 0.75, 2.0
"""Spreads above the median up to which what is seen all over says nothing, and spreads by which
median cells of good images vary."""


class Voting(Seeing):
    """A detector whose members measure maps (n, h, w), or (n,) of the whole image, and vote.

    Attributes
    ----------
    levels_ : dict of tuple of float
        By member: median and spread over the good images of what counts of it, and over their
        cells.
    usual_ : dict of tuple of float
        By member: median and spread of the logarithm of the median cell.
    """

    votes: ClassVar[Mapping[str, float]] = {DEEP: 2.0}  # all others have one
    own: ClassVar[float] = 0.5  # share of an image's own median cell that its highest is freed of

    levels_: dict[str, Levels]
    usual_: dict[str, tuple[float, float]]

    if TYPE_CHECKING:  # of the subclass
        top: float
        whole: float
        throughout: float
        loose_: dict[str, Any]

    def _listen(self, found: Mapping[str, NDArray[Any]]) -> None:
        """Learn from maps of good images, out of sample, what is usual."""
        self.usual_ = {
            name: spread_above(_median_cell(part)) for name, part in found.items() if part.ndim > 1
        }
        self.levels_ = {
            name: levels(self._counts(name, part), part) for name, part in found.items()
        }

    def _fuse(self, found: Mapping[str, NDArray[Any]]) -> PatchScores:
        scores = self._agreed({name: self._says(name, found[name]) for name in self._heard(found)})
        scores += self.whole * np.maximum(self._says(WHOLE, found[WHOLE]) - _USUAL, 0)
        if not self.loose_:
            scores += self.throughout * np.maximum(self._all_over(found) - _USUAL, 0)
        return PatchScores(self._drawn(found), scores)

    def _heard(self, found: Mapping[str, NDArray[Any]]) -> list[str]:
        """Name the members whose maps make the score."""
        return [name for name in found if name not in (WHOLE, ANYWHERE[PLAIN])]

    def _agreed(self, says: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the mean of what members say, by their votes, (n,)."""
        votes = [1.0 if self.loose_ else self.votes.get(name, 1.0) for name in says]
        return np.asarray(np.average(list(says.values()), axis=0, weights=votes))

    def _all_over(self, found: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return by how many spreads the median cells lie above those of the goods, (n,)."""
        return self._agreed({k: self._says_throughout(k, found[k]) for k in self._heard(found)})

    def _drawn(self, found: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        weights = _LOOSE if self.loose_ else {DEEP if DEEP in found else PLAIN: 1.0}
        heard = [(k, np.float32(w)) for k, w in weights.items() if k in found]
        parts = [weight * self._stands(name, found[name]) for name, weight in heard]
        return np.asarray(np.sum(parts, axis=0))

    def _says(self, name: str, part: NDArray[Any]) -> NDArray[np.float64]:
        """Return by how many spreads a member lies above the median of the goods, (n,)."""
        middle, spread, _, _ = self.levels_.get(name, NO_LEVELS)
        return (self._counts(name, part) - middle) / spread

    def _says_throughout(self, name: str, part: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return by how many spreads the median cell of a map lies above that of the goods."""
        middle, spread = self.usual_.get(name, NO_LEVELS[:2])
        return (_median_cell(part) - middle) / spread

    def _stands(self, name: str, part: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a member's map in spreads above the median of the good patches."""
        _, _, at, by = self.levels_.get(name, NO_LEVELS)
        return (part - np.float32(at)) / np.float32(by)

    def _counts(self, name: str, part: NDArray[Any]) -> NDArray[np.float64]:
        """Return what counts of a member, (n,): of a map how far its highest stands out of it.

        Where parts lie loose a defect may fill the image: there the highest counts as it is. The
        median cell is taken as good ones vary: what is unusual all over is not forgiven for that,
        and an image that was learned from, unusual nowhere, does not stand out of itself.
        """
        highest = self._top(part)
        if part.ndim == 1 or self.loose_:
            return highest
        middle, spread = self.usual_.get(name, NO_LEVELS[:2])
        within = middle - _VARY * spread, middle + _VARY * spread
        return highest - self.own * np.clip(_median_cell(part), *within)

    def _top(self, part: NDArray[Any]) -> NDArray[np.float64]:
        """Return the logarithm of the mean of the highest: (n, h, w) or (n,) to (n,)."""
        if part.ndim > 1:
            count = max(1, round(self.top * part[0].size))
            flat = np.stack([self._smooth(one) for one in part]).reshape(len(part), -1)
            part = np.partition(flat, -count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64)
        return _logarithm(part)

    def _smooth(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        import cv2

        if not self.sigma:
            return part
        y, x = (self.sigma * n / side for n, side in zip(part.shape, self.input_size_, strict=True))
        blurred: NDArray[np.float32] = cv2.GaussianBlur(
            part, (0, 0), x, sigmaY=y, borderType=cv2.BORDER_REFLECT_101
        )
        return blurred


def _median_cell(part: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logarithm of the median cell of maps (n, h, w), (n,)."""
    return _logarithm(np.median(part.reshape(len(part), -1), axis=1))


def _logarithm(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(values, _LEAST)), np.float64)

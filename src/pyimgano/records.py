"""The facts that travel between the floors: frozen, slotted, validated once when built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Certainty", "Evidence", "Region", "Sample", "Saturation"]

GOOD = 0
DEFECT = 1


class Saturation(NamedTuple):
    """How much of one kind of defect must be found: of the mask channels that have its value.

    Parameters
    ----------
    value : int
        Pixel value of the kind in the mask files.
    threshold : float
        Enough pixels, or enough of the channel's area.
    relative : bool
        Whether it is a share of the area.
    """

    value: int
    threshold: float
    relative: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image of a data set.

    Parameters
    ----------
    path : Path or str
        The image file.
    split : str
        ``"train"`` or ``"test"`` (readers may know more).
    category : str
        What is shown: ``"screw"``.
    defect : str
        Kind of defect; ``"good"`` for a good part.
    label : int or None
        0 good, 1 defective, None unknown.
    mask_path : Path, str or None
        Ground truth of the defect, same size as the image, non-zero where defective; or a folder
        of several such files, one a channel, whose union it is.
    group : str or None
        Images of one physical part or one burst share a group and are never separated.
    saturation : tuple of Saturation
        By mask value, where the data set declares how much of a defect is enough.
    """

    path: Path
    split: str = "train"
    category: str = ""
    defect: str = "good"
    label: int | None = None
    mask_path: Path | None = None
    group: str | None = None
    saturation: tuple[Saturation, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if self.mask_path is not None:
            object.__setattr__(self, "mask_path", Path(self.mask_path))
        if self.label not in (None, GOOD, DEFECT):
            raise ParameterError(f"label must be 0, 1 or None, got {self.label!r} for {self.path}")


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One connected region of a map above the pixel threshold, in original image pixels.

    Parameters
    ----------
    bbox : (int, int, int, int)
        Left, top, right, bottom; right and bottom are exclusive.
    area : float
        Number of pixels (square millimetres when a scale was given).
    area_fraction : float
        Share of the image.
    centroid : (float, float)
        x, y of the centre of mass.
    peak : float
        Largest map value inside.
    """

    bbox: tuple[int, int, int, int]
    area: float
    area_fraction: float
    centroid: tuple[float, float]
    peak: float

    def __post_init__(self) -> None:
        left, top, right, bottom = self.bbox
        if not (0 <= left < right and 0 <= top < bottom):
            raise ParameterError(f"bbox must be left < right, top < bottom and >= 0: {self.bbox}")
        if not 0 < self.area_fraction <= 1:
            raise ParameterError(f"area_fraction must lie in (0, 1], got {self.area_fraction}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evidence:
    """Why a detector finds one place of an image unusual; all but the place is optional.

    Boxes are left, top, right, bottom in shares of width and height, for images of any size.

    Parameters
    ----------
    box : (float, float, float, float)
        The patch that was looked at.
    distance : float or None
        From the patch to the nearest good one.
    good : int or None
        Which good image that one came from, counted from 0 among those that were learned from, in
        their order: ``hashes_[good]`` is its fingerprint. The image itself is in no model.
    good_box : (float, float, float, float) or None
        Where it lies there.
    shares : mapping of str to float
        What each family of features has of the squared distance; together 1.
    parts : mapping of str to float
        How far each part of a detector that has several finds the place from its good images, in
        robust sigmas.
    """

    box: tuple[float, float, float, float]
    distance: float | None = None
    good: int | None = None
    good_box: tuple[float, float, float, float] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.good is None) != (self.good_box is None):
            raise ParameterError("a nearest good patch has an image and a place in it")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Certainty:
    """What the calibration images say of the false rejects to expect.

    It assumes exchangeable images: same camera, light and process as those of the calibration.

    Parameters
    ----------
    rule : str
        How the threshold was chosen, in words.
    method : str
        Where the out-of-sample scores come from: ``"block folds"``, ``"leave one out"``,
        ``"separate images"``.
    n : int
        Good images with an out-of-sample score, suspects included; of a group one.
    dropped : int
        Suspects among them that were kept out of the threshold, or out of the model.
    rank : int
        The threshold is the ``rank``-th largest of the scores that were kept.
    target : float
        The false-reject rate that was asked for (``contamination``).
    confidence : float
        Probability with which the bounds hold.
    bound : float or None
        Upper bound on the false-reject rate, the suspects counted as good parts; None where no
        bound can be given.
    bound_without_suspects : float or None
        The same bound if the suspects really are defective.
    certified : bool
        Whether n is large enough for the target at all.
    choices : int
        By what the error probability was divided, because the threshold was chosen among others
        that these images could have set; the bounds hold for all of them at once.
    doubt : str
        Why nothing can be certified, however many images there are; empty if something can.
    grouped : int
        Images beyond the first of each group: views of one part, copies, near copies.
    """

    rule: str
    method: str
    n: int
    dropped: int
    rank: int
    target: float
    confidence: float
    bound: float | None
    bound_without_suspects: float | None
    certified: bool
    choices: int = 1
    doubt: str = ""
    grouped: int = 0

    def __post_init__(self) -> None:
        if self.n < 0 or self.dropped < 0 or self.dropped > self.n:
            raise ParameterError(f"impossible counts: n={self.n}, dropped={self.dropped}")

    def doubted(self, why: str) -> Certainty:
        """Return the same threshold without any bound."""
        none: dict[str, Any] = {"bound": None, "bound_without_suspects": None, "certified": False}
        return replace(self, **none, doubt=why)

    def describe(self) -> str:
        """Say in one paragraph what is certain, what is not, and how many images would help."""
        sure = f"with {_percent(self.confidence)} confidence"
        text = f"threshold: {self.rule}"
        if self.choices > 1:
            text += ", chosen with the help of defects"
        if self.bound is None:
            why = f": {self.doubt}" if self.doubt else f" from {self.n} good images"
            return f"{text}; nothing can be certified{why}"
        text += f"; at most {_percent(self.bound)} of good parts rejected, {sure}"
        if self.dropped:
            noun = "suspect was" if self.dropped == 1 else "suspects were"
            text += f" ({self.dropped} {noun} kept out"
            if self.bound_without_suspects is not None:
                text += f"; {_percent(self.bound_without_suspects)} if really defective"
            text += ")"
        if self.grouped:
            text += f"; {self.n + self.grouped} images count as {self.n}, near copies as one"
        if not self.certified:
            text += f"; the target of {_percent(self.target)} is not certified"
        level = 1 - (1 - self.confidence) / self.choices
        wanted = [(goal, images_needed(goal, level)) for goal in (0.05, 0.01)]
        needs = [f"{_percent(goal)} needs {count}" for goal, count in wanted if count > self.n]
        if needs:
            text += f"; certifying {needs[0]} images" + "".join(f", {need}" for need in needs[1:])
        return (
            f"{text}. Scores out of sample by {self.method}; holds for images from the same "
            "camera, light and process."
        )


def images_needed(rate: float, confidence: float = 0.95) -> int:
    """Good images needed to certify a false-reject rate at the maximum of their scores."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %" if rate < 0.1 else f"{100 * rate:.3g} %"

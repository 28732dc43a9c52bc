"""Registration: good parts are brought to one pose, where that helps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.registry import VALUES, Metadata
from pyimgano.threads import side_by_side
from pyimgano.views.aligned import Aligned, Look
from pyimgano.views.base import Whole
from pyimgano.views.foreground import PLAIN
from pyimgano.views.registration import Level, correlation, mismatch, move, turned, warp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.views.base import Sight
    from pyimgano.views.intake import Images
    from pyimgano.views.registration import Grey, Pose

__all__ = ["HOW", "Align"]

HOW = ("auto", "off", "shift", "rotate")
WORK = 256  # pixels of the longer side in which poses are found
LEARNED = 100  # good images at most that the template is made of
_LIMIT, _LEAST, _USUAL = 2.0, 0.25, 0.75  # the limit: so many times this quantile, so much at least
_MOST = 0.9  # whatever the good images show: beyond it nothing matches
_ALONE = 0.5  # limit where there is no residual out of sample
_MARGIN = 0.08  # of the longer side of a part, around it
_LONG = 1.2  # elongation from which the longer axis is laid level
_ROOM = 1.25, 0.01  # for shifts: times the largest of the good images, of the side

_FEW = 8  # good images with which nothing is decided
_ALIKE = 0.1  # residual of good images that need no alignment
_GAIN = 0.5  # what of the residual may stay
_REFUSED = 0.05  # of the good images at most, or one
_SPREAD, _TOUCH, _ELONGATED, _TOGETHER = 0.1, 0.02, 1.5, 0.95  # of a part that may be turned


@VALUES.register("align", Metadata(summary="Bring the part to one pose."))
@dataclass(frozen=True, slots=True)
class Align:
    """Bring the part to one pose before a detector looks at it.

    Parameters
    ----------
    how : {"auto", "off", "shift", "rotate"}
        ``shift``: parts that are moved, a little turned or scaled. ``rotate``: one part in front
        of a plain background, at any angle; only what is around it is seen. ``auto``: ``rotate``
        if it makes the good images alike out of sample, or nothing.
    """

    how: str = "auto"

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ParameterError(f"align must be one of {', '.join(HOW)}; got {self.how!r}")

    def learn(self, images: Images) -> Sight:
        """Make the template of good images, and decide whether it helps.

        Raises
        ------
        InputError
            If the images show no part that could be turned.
        """
        if self.how == "off":
            return Whole()
        scale = min(1.0, WORK / max(images[0].shape))
        some = images.take(range(0, len(images), -(-len(images) // LEARNED)))
        looks = [Look.of(image, scale) for image in some]
        if self.how == "auto":
            return _decide(looks, scale)
        return replace(_learn(looks, self.how, scale)[0], why=f"{self.how}, as asked for")


def _learn(
    looks: Sequence[Look], how: str, scale: float
) -> tuple[Aligned, NDArray[np.float64], float]:
    """Make the template; the out-of-sample mismatch of each image, and how alike angles are.

    The first template is the most central image; the second the mean of all that were aligned
    with it; each image is then aligned with the mean of the others. Where too many do not match,
    they may lie upside down in that mean: once more without them.
    """
    first = (_first_part if how == "rotate" else _first_frame)(looks, scale)
    count = len(looks)
    if count < 2:
        return replace(first, limit=_ALONE, usual=_ALONE), np.zeros(0), 1.0
    found = side_by_side(first.find, looks)
    in_mean = np.ones(count, np.bool_)
    for _ in range(2):
        found = _held_out(looks, [pose for pose, _ in found], in_mean, first)
        wrong = np.array([each for _, each in found])
        limit = min(max(_LEAST, _LIMIT * float(np.quantile(wrong, _USUAL))), _MOST)
        matches = wrong <= limit
        if not 1 < np.count_nonzero(matches) < (1 - _REFUSED) * count:
            break
        in_mean = matches
    poses = [pose for pose, _ in found]
    mean, weight = _mean(looks, poses, first, in_mean)
    beyond = (first.beyond(looks[i], poses[i]) for i in np.flatnonzero(wrong <= limit).tolist())
    room = _ROOM[0] * max(beyond, default=0.0) + _ROOM[1] * max(mean.shape)
    together = float(abs(np.mean([np.exp(1j * math.atan2(p[1, 0], p[0, 0])) for p in poses])))
    usual = float(wrong[wrong <= limit].max(initial=0.0))
    last = replace(first, template=_rounded(mean), weight=weight, limit=limit, usual=usual)
    return replace(last, room=room), wrong, together


def _held_out(
    looks: Sequence[Look], poses: Sequence[Pose], in_mean: NDArray[np.bool_], first: Aligned
) -> list[tuple[Pose, float]]:
    """Align each image with the mean of others; return pose and mismatch."""
    mean, weight = _mean(looks, poses, first, in_mean)
    count = np.count_nonzero(in_mean)

    def find(i: int) -> tuple[Pose, float]:
        others = mean
        if in_mean[i]:
            others = (count * mean - warp(looks[i].edges, poses[i], mean.shape)) / (count - 1)
        return replace(first, template=_rounded(others), weight=weight).find(looks[i])

    return side_by_side(find, range(len(looks)))


def _mean(
    looks: Sequence[Look], poses: Sequence[Pose], first: Aligned, in_mean: NDArray[np.bool_]
) -> tuple[Grey, NDArray[np.bool_]]:
    """Return the mean of aligned images, and where it counts: around the part, or where seen."""
    import cv2

    size = first.template.shape
    both = [(looks[i], poses[i]) for i in np.flatnonzero(in_mean).tolist()]
    mean = np.mean([warp(look.edges, pose, size) for look, pose in both], axis=0)
    if first.how == "shift":
        return mean, np.mean(
            [_covered(look.edges, pose, size) for look, pose in both], axis=0
        ) > 0.5
    parts = [warp(look.part.mask.astype(np.float32), pose, size) for look, pose in both]
    reach = 2 * round(_MARGIN / 2 * max(size)) + 1
    part = (np.mean(parts, axis=0) > 0.5).astype(np.uint8)
    return mean, cv2.dilate(part, np.ones((reach, reach), np.uint8)) > 0


def _covered(image: Grey, pose: Pose, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the template sees pixels of the image."""
    import cv2

    where, flags = np.ascontiguousarray(pose[:2]), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    ones = np.ones_like(image)
    return cast("NDArray[np.bool_]", cv2.warpAffine(ones, where, size[::-1], flags=flags) > 0)


def _rounded(image: Grey) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _first_part(looks: Sequence[Look], scale: float) -> Aligned:
    """Return the part of median area, its longer axis level, with a margin."""
    areas = np.array([look.part.area for look in looks])
    chosen = looks[int(np.abs(areas - np.median(areas)).argmin())]
    part = chosen.part
    if not part.area:
        raise InputError("no part stands out from the background: align by shift, or not at all")
    angle = part.angle if part.elongation > _LONG else 0.0
    rows, columns = np.nonzero(part.mask)
    points = np.stack([columns - part.centre[0], rows - part.centre[1], np.ones(len(rows))])
    x, y, _ = turned(-angle) @ points
    margin = _MARGIN * max(np.ptp(x), np.ptp(y))
    left, top = float(x.min() - margin), float(y.min() - margin)
    size = math.ceil(y.max() + margin - top), math.ceil(x.max() + margin - left)
    pose = move(*part.centre) @ turned(angle) @ move(left, top)
    weight = warp(part.mask.astype(np.uint8), pose, size) > 0
    return Aligned(
        "rotate", "", scale, _rounded(warp(chosen.edges, pose, size)), weight, (-left, -top)
    )


def _first_frame(looks: Sequence[Look], scale: float) -> Aligned:
    """Return the image most like the mean of all."""
    size = looks[0].edges.shape
    seen = [warp(look.edges, np.eye(3), size) for look in looks]
    mean, ones = np.mean(seen, axis=0), np.ones(size, np.float32)
    chosen = looks[int(np.argmax([correlation(one, mean, ones) for one in seen]))]
    weight = np.ones(chosen.edges.shape, np.bool_)
    return Aligned("shift", "", scale, _rounded(chosen.edges), weight, (0.0, 0.0))


def _decide(looks: Sequence[Look], scale: float) -> Sight:
    """Turn the parts if that makes the good images alike out of sample; else leave them.

    A small shift is no reason: patches are compared wherever they lie, and to resample them costs
    more than it gives.
    """
    if len(looks) < _FEW:
        return Whole(f"off, because {len(looks)} good images are too few to tell whether it helps")
    before = float(np.median(_unaligned(looks)))
    if before < _ALIKE:
        return Whole(f"off, because the good images match as they are (residual {before:.2f})")
    facts, unfit = _posture(looks)
    if unfit:
        return Whole(f"off, because {unfit}; parts that are moved can be asked for: shift")
    learned, wrong, together = _learn(looks, "rotate", scale)
    after, refused = float(np.median(wrong)), int(np.count_nonzero(wrong > learned.limit))
    told = f"the residual of {before:.2f} becomes {after:.2f}"
    if together > _TOGETHER:
        return Whole(f"off, because all parts lie at about one angle ({facts})")
    if after > _GAIN * before or refused > _refusable(looks):
        return Whole(f"off, because {told} at any angle, with {refused} of {len(looks)} refused")
    return replace(learned, why=f"rotate, because {facts}, and {told}")


def _unaligned(looks: Sequence[Look]) -> NDArray[np.float64]:
    """Return the mismatch of each image with the mean of the others, as they lie."""
    size, count = looks[0].edges.shape, len(looks)
    seen = [warp(look.edges, np.eye(3), size) for look in looks]
    total, ones = np.sum(seen, axis=0), np.ones(size, np.float32)
    return np.array([mismatch(Level((total - one) / (count - 1), ones), one) for one in seen])


def _refusable(looks: Sequence[Look]) -> int:
    """Return how many of the good images may not match."""
    return max(1, int(_REFUSED * len(looks)))


def _posture(looks: Sequence[Look]) -> tuple[str, str]:
    """Say how the part lies, and why it is none that could be turned; the latter may be empty.

    As many images as may not match, the farthest from the median area, have no say: one part of
    another kind, or none in the image, is no reason to leave all others as they lie.
    """
    areas = np.array([look.part.area for look in looks])
    away = np.abs(areas - np.median(areas))
    usual = np.argsort(away, kind="stable")[: len(looks) - _refusable(looks)]
    parts, areas = [looks[i].part for i in usual], areas[usual]
    spread = float(areas.std() / max(areas.mean(), 1e-9))
    touch = float(np.mean([part.touch for part in parts]))
    long = float(np.median([part.elongation for part in parts]))
    together = float(abs(np.mean([np.exp(2j * part.angle) for part in parts])))
    contrast = float(np.median([part.contrast for part in parts]))
    reasons = (
        (contrast < PLAIN, f"no part stands out from the background, contrast {contrast:.1f}"),
        (spread > _SPREAD, f"the foreground's area varies, CV {spread:.2f}"),
        (touch > _TOUCH, f"the foreground covers {100 * touch:.0f} % of the border"),
        (long > _ELONGATED and together > _TOGETHER, "all lie at one angle"),
    )
    facts = f"area CV {spread:.2f}, border touch {touch:.2f}, elongation {long:.1f}"
    unfit = ", ".join(text for wrong, text in reasons if wrong)
    return f"one part stands out from the background, at any angle ({facts})", unfit

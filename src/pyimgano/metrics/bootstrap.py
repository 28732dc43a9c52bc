"""How far a figure could move with other test images: percentile bootstrap over the images.

Good and defective images are drawn with replacement, each kind among itself, so that every
replicate has as many of each as the test set. An image is drawn whole: with it come its score, its
regions and its normal pixels, for pixels of one image are not independent. Nothing is sorted
again: a replicate is a weight for each image, and counts are sums of weights. Each replicate is
exactly the figure of the images drawn. The interval says nothing of other training images or
seeds. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.metrics.ranks import rank_maps, rank_scores, read_pair
from pyimgano.metrics.scorecard import Evidence, figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from pyimgano.metrics.ranks import Maps, Masks


__all__ = ["bootstrap_maps", "bootstrap_scores", "draw", "map_replicates", "score_replicates"]

REPLICATES = 1000
_BLOCK = 1024


def bootstrap_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return intervals (low, high) of ``auroc`` and ``ap``; labels and scores are as of `auroc`.

    Images are drawn ``replicates`` times by a ``seed``; ``confidence`` is the share of the
    replicates between the ends. NaN, with a `PyimganoWarning`, where undefined; a `ParameterError`
    if there are no replicates or the confidence is no share.

    Examples
    --------
    >>> scores = [1, 2, 3, 4, 5, 6, 8, 4.5, 5.5, 7, 9, 10, 11, 12]
    >>> [round(end, 3) for end in bootstrap_scores([0] * 7 + [1] * 7, scores)["auroc"]]
    [0.653, 1.0]
    """
    ranks = rank_scores(labels, scores)
    drawn = draw(np.asarray(labels) != 0, replicates, seed)
    found = np.array(list(score_replicates(labels, scores, drawn)))
    lacks = {"auroc": ranks.lack, "ap": "" if ranks.n_defective else ranks.lack}
    return _intervals(dict(zip(lacks, found.T, strict=True)), lacks, confidence)


def bootstrap_maps(
    masks: Masks,
    maps: Maps,
    limits: Sequence[float] = (0.3, 0.05),
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return intervals of ``aupro_<limit>``, in the memory of one more copy of the maps.

    100 maps of 1024 x 1024 took 8 s of one processor core and 0.5 GB where 0.5 % of the pixels are
    defective, 22 s and 0.65 GB where 6 % are. Masks, maps and limits are as of `evaluate_maps`, the
    rest as of `bootstrap_scores`.
    """
    checked = tuple(float(limit) for limit in limits)
    evidence = Evidence(rank_maps(masks, maps), masks, maps, checked)
    names = [f"aupro_{limit}" for limit in checked]
    labels = np.zeros(len(maps), np.bool_)
    labels[evidence.ranks.images] = True
    drawn = np.array(list(draw(labels, replicates, seed)))
    lacks = dict.fromkeys(names, evidence.ranks.lack)
    found = np.zeros((len(names), 1)) if evidence.ranks.lack else map_replicates(evidence, drawn)
    return _intervals(dict(zip(names, found, strict=True)), lacks, confidence)


def draw(labels: NDArray[np.bool_], replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw the images again and again, each kind among itself; return counts of shape (n,)."""
    if replicates < 1:
        raise ParameterError(f"a bootstrap needs at least 1 replicate, got {replicates}")
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in (np.flatnonzero(~labels), np.flatnonzero(labels)) if kind.size]
    for _ in range(replicates):
        weights = np.zeros(labels.size, np.int64)
        for kind in kinds:
            weights[kind] = np.bincount(rng.integers(0, kind.size, kind.size), minlength=kind.size)
        yield weights


def score_replicates(
    labels: ArrayLike, scores: ArrayLike, drawn: Iterator[NDArray[np.int64]]
) -> Iterator[tuple[float, float]]:
    """Return AUROC and average precision of each draw; NaN where undefined."""
    truth, values = np.asarray(labels) != 0, np.asarray(scores)
    bad, good = np.flatnonzero(truth), np.flatnonzero(~truth)
    bad, good = bad[np.argsort(values[bad])], good[np.argsort(values[good])]
    left, right = (np.searchsorted(values[good], values[bad], side) for side in ("left", "right"))
    tied = np.searchsorted(values[bad], values[bad])
    n_bad, n_good = bad.size, good.size
    for weights in drawn:
        weight = weights[bad]
        below = np.append(0, np.cumsum(weights[good]))
        beaten = int((weight * (below[left] + below[right])).sum())
        hit = np.flatnonzero(weight)
        found = n_bad - np.append(0, np.cumsum(weight))[tied[hit]]
        precision = found / (found + n_good - below[left[hit]])
        yield (
            beaten / (2 * n_bad * n_good) if n_bad and n_good else math.nan,
            float((weight[hit] * precision).sum()) / n_bad if n_bad else math.nan,
        )


def map_replicates(evidence: Evidence, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return AUPRO of each limit and draw, (limits, replicates).

    A draw without a normal pixel, which takes images that are defective all over, is NaN. Down from
    the highest score, what the pixels add to the area is linear in the counts of normal pixels
    until these are more than the limit allows: so two sums for all draws serve each of them, and
    only the block of scores in which its curve is cut is computed for a draw of its own.
    """
    ranks, maps, dtype = evidence.ranks, evidence.maps, evidence.ranks.scores.dtype
    pairs = (read_pair(evidence.masks, maps, index, dtype) for index in range(len(maps)))
    normals = [np.sort(s, None) if mask is None else np.sort(s[~mask]) for mask, s in pairs]
    weights, images = drawn.T.astype(np.float64), len(maps)
    room = np.multiply.outer(evidence.limits, np.array([s.size for s in normals]) @ weights)
    totals, whole = np.zeros(room.shape), room > 0
    areas, starts = ranks.areas, np.append(0, np.cumsum(ranks.counts))
    mass, moment = np.zeros(images), np.zeros((images, images))
    for end in range(ranks.scores.size, 0, -_BLOCK):
        block = slice(max(0, end - _BLOCK), end)
        above, level = _counted(ranks.scores[block], normals)
        regions = ranks.regions[starts[block.start] : starts[end]]
        rows = np.repeat(np.arange(len(above)), ranks.counts[block])
        places = ranks.images[regions] * len(above) + rows
        shares = np.bincount(places, 1 / areas[regions], images * len(above)).reshape(images, -1)
        cut = whole & (level[0] @ weights > room)
        for limit, draws in enumerate(cut):
            weight, left = weights[:, draws], room[limit, draws]
            here = ((shares.T @ weight) * _gain(above @ weight, level @ weight, left)).sum(0)
            totals[limit, draws] = here + _area(mass, moment, weight, left)
        whole &= ~cut
        if not whole.any():
            break
        mass += shares.sum(1)
        moment += shares @ (above + level) / 2
    for limit, draws in enumerate(whole):
        totals[limit, draws] = _area(mass, moment, weights[:, draws], room[limit, draws])
    n_regions = np.bincount(ranks.images, minlength=images) @ weights
    with np.errstate(invalid="ignore"):
        return np.asarray(totals / (room * n_regions))


def _counted(
    scores: NDArray[Any], normals: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many normal pixels of each image lie above, and at or above, (scores, images)."""
    sizes = np.array([each.size for each in normals])[:, None]
    right = np.array([each.searchsorted(scores, "right") for each in normals])
    left = np.array([each.searchsorted(scores) for each in normals])
    # As floating point numbers: products with them are sums of whole numbers, which are exact.
    return (sizes - right).T.astype(np.float64), (sizes - left).T.astype(np.float64)


def _area(
    mass: NDArray[np.float64],
    moment: NDArray[np.float64],
    weights: NDArray[np.float64],
    room: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the area under the curves as far as none is cut, one a draw."""
    return np.asarray(room * (mass @ weights) - ((moment @ weights) * weights).sum(0))


def _gain(
    above: NDArray[np.float64], level: NDArray[np.float64], room: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a pixel of each score adds in each draw, (scores, draws).

    With a and b normal pixels above, and at or above, the score, and room for L of them, it is the
    mean of max(0, L - x) over x from a to b: the three cases of `regions` in one.
    """
    ahead, behind = np.maximum(room - above, 0.0), np.maximum(room - level, 0.0)
    width = level - above
    return np.where(width > 0, (ahead**2 - behind**2) / np.maximum(2 * width, 1.0), ahead)


def _intervals(
    found: dict[str, NDArray[np.float64]], lacks: dict[str, str], confidence: float
) -> dict[str, tuple[float, float]]:
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence is a share above 0 and below 1, got {confidence}")
    ends = ((1 - confidence) / 2, (1 + confidence) / 2)
    intervals = {}
    for name, values in found.items():
        if lacks[name]:
            intervals[name] = (figure(name, lacks[name]), math.nan)
        else:
            low, high = np.nanquantile(values, ends).tolist()
            intervals[name] = (low, high)
    return intervals

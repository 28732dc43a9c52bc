"""The scorecard of an evaluation: every figure that labels, masks and judgements allow."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pyimgano.datasets._checks import read_channels, read_truth
from pyimgano.metrics import bootstrap_scores, evaluate_scores
from pyimgano.metrics.curves import pro_curve
from pyimgano.metrics.image import auroc_of
from pyimgano.metrics.ranks import rank_maps, rank_scores
from pyimgano.metrics.rates import Rate
from pyimgano.metrics.saturation import saturated_pro
from pyimgano.metrics.scorecard import Evidence, fill_in
from pyimgano.metrics.segmentation import segmentation_of
from pyimgano.records import DEFECT, GOOD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.datasets.base import Dataset
    from pyimgano.inspection import Inspections
    from pyimgano.records import Sample

__all__ = ["LIMITS", "curves_and_card", "scorecard"]

LIMITS = (0.3, 0.05)
SATURATED_LIMIT = 0.05  # as MVTec LOCO AD is compared


def scorecard(
    dataset: Dataset,
    inspections: Inspections,
    maps: Sequence[NDArray[np.float32] | None],
    limits: tuple[float, ...] = LIMITS,
) -> dict[str, Any]:
    """Measure judgements of a data set's test images.

    Images that could not be judged take part in no metric and are counted as ``errors``.

    Parameters
    ----------
    dataset : Dataset
        Labels and masks.
    inspections : Inspections
        One a test image, in order.
    maps : sequence of ndarray or None
        Their maps, float32 (H, W).
    limits : tuple of float
        For AUPRO.

    Returns
    -------
    dict
        See `Evaluation`.
    """
    return curves_and_card(dataset, inspections, maps, limits)[1]


def curves_and_card(
    dataset: Dataset,
    inspections: Inspections,
    maps: Sequence[NDArray[np.float32] | None],
    limits: tuple[float, ...] = LIMITS,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the curves of pixels, which need the maps as well, and the `scorecard`."""
    judged = [i for i, one in enumerate(inspections) if one.error is None]
    samples = [dataset.test[i] for i in judged]
    truth, scores = dataset.labels[judged], inspections.scores[judged]
    figures, curves = evaluate_scores(truth, scores), dict[str, Any]()
    if truth.min(initial=1) < truth.max(initial=0):
        figures["intervals"] = bootstrap_scores(truth, scores)
    if dataset.info.saturates:

        def auroc(chosen: Sequence[int]) -> float | str:
            return auroc_of(rank_scores(truth[chosen], scores[chosen]))

        _add(figures, _by_kind("auroc", samples, auroc))
    drawn = [each for each in (maps[i] for i in judged) if each is not None]
    if dataset.info.has_masks and len(drawn) == len(judged):
        limit = next((inspections[i].pixel_threshold for i in judged), None)
        curves, more = _of_maps(dataset, judged, drawn, limits, limit)
        _add(figures, more)
    if any(inspections[i].verdict is not None for i in judged):
        figures["at_threshold"] = _at_threshold(dataset.test, inspections)
    figures["errors"] = len(inspections) - len(judged)
    figures["oracle"] = [name for name in figures if "f1max" in name]
    return curves, _none_if_nan(figures)


def _of_maps(
    dataset: Dataset,
    judged: Sequence[int],
    maps: Sequence[NDArray[np.float32]],
    limits: tuple[float, ...],
    pixel_threshold: float | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the curves and the figures of the maps of those images that could be judged."""
    samples = [dataset.test[i] for i in judged]
    masks = [read_truth(sample) for sample in samples]
    ranks = rank_maps(masks, maps)
    figures = fill_in(Evidence(ranks, masks, maps, limits), maps=True)
    if pixel_threshold is not None:
        kinds = [sample.defect for sample in samples]
        figures["at_pixel_threshold"] = segmentation_of(ranks, maps, pixel_threshold, kinds)
    if dataset.info.saturates:
        channels, name = [read_channels(one) for one in samples], f"aspro_{SATURATED_LIMIT:g}"

        def area(chosen: Sequence[int]) -> float | str:
            some = [channels[i] for i in chosen], [maps[i] for i in chosen]
            return saturated_pro(*some, SATURATED_LIMIT)

        figures |= {name: area(range(len(maps))), **_by_kind(name, samples, area)}
    curve = pro_curve(ranks, limits[0])
    return {} if curve is None else {"pro": curve.thin()}, figures


def _add(figures: dict[str, Any], more: dict[str, Any]) -> None:
    """Add figures, some of which may be the reason why they are undefined, in words."""
    reasons = {name: why for name, why in more.items() if isinstance(why, str)}
    undefined = {**figures["undefined"], **more.get("undefined", {}), **reasons}
    figures |= {**more, **dict.fromkeys(reasons), "undefined": undefined}


def _by_kind(
    name: str, samples: Sequence[Sample], measure: Callable[[Sequence[int]], float | str]
) -> dict[str, float | str]:
    """Measure each kind of defect among all good images, and their mean, as MVTec do on LOCO."""
    kinds = [None if sample.label == GOOD else sample.defect for sample in samples]
    found = {
        f"{name}_{kind}": measure([i for i, each in enumerate(kinds) if each in {None, kind}])
        for kind in sorted({each for each in kinds if each is not None})
    }
    known = [value for value in found.values() if not isinstance(value, str)]
    whole = len(known) == len(found) > 0
    return {**found, f"{name}_mean_of_kinds": fmean(known) if whole else "a kind has no figure"}


def _at_threshold(samples: Sequence[Sample], inspections: Inspections) -> dict[str, Any]:
    """Count what the calibrated threshold does, with 95 % Clopper-Pearson intervals."""
    pairs = [(s, one) for s, one in zip(samples, inspections, strict=True) if one.error is None]
    good = [one.label for s, one in pairs if s.label == GOOD]
    bad = [one.label for s, one in pairs if s.label == DEFECT]
    kinds = sorted({s.defect for s, _ in pairs if s.label == DEFECT})
    return {
        "false_rejects": Rate(sum(good), len(good)).describe(),
        "catches": Rate(sum(bad), len(bad)).describe(),
        "escapes": Rate(len(bad) - sum(bad), len(bad)).describe(),
        "catches_by_defect": {
            kind: Rate(
                sum(one.label for s, one in pairs if s.defect == kind),
                sum(s.defect == kind for s, _ in pairs),
            ).describe()
            for kind in kinds
        },
    }


def _none_if_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _none_if_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

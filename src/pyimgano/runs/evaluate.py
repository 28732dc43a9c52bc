"""Judge images into a run directory; fit and judge a data set, and say how well it went."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.calibration import CONFIDENCE, SUSPECT_Z, false_reject_bound, suspicion
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector
from pyimgano.inspection import Inspection, Inspections
from pyimgano.metrics import evaluate_scores
from pyimgano.metrics.curves import pro_curve
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import Evidence, fill_in
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.report import write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.records import Sample

__all__ = ["Evaluation", "describe_detector", "evaluate", "predict", "scorecard"]

LIMITS = (0.3, 0.05)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The outcome of a data set.

    Attributes
    ----------
    inspections : Inspections
        Of the test images, without their maps.
    metrics : dict
        Image and pixel metrics (``None`` where undefined, with the reason under ``undefined``),
        and false rejects and catches at the calibrated threshold.
    detector : Detector
        Fitted.
    """

    inspections: Inspections
    metrics: dict[str, Any]
    detector: Detector


def predict(
    detector: Detector,
    sources: Sequence[Any],
    out: str | Path,
    *,
    overlays: str = "all",
    maps: bool = False,
    progress: Callable[[Inspection], None] | None = None,
) -> dict[str, int]:
    """Judge images into a run directory, in constant memory.

    Parameters
    ----------
    detector : Detector
        Fitted.
    sources : sequence
        Paths, samples or arrays.
    out : str or Path
        The run directory.
    overlays, maps
        See `RunWriter`.
    progress : callable, optional
        Called with every judgement.

    Returns
    -------
    dict of str to int
        Number of images by verdict.
    """
    counts: dict[str, int] = {}
    with RunWriter(
        out, command="predict", overlays=overlays, maps=maps, report=partial(write_report, home=out)
    ) as run:
        run.note(**describe_detector(detector))
        for one in detector.inspect(sources):
            run.add(one)
            counts[str(one.verdict)] = counts.get(str(one.verdict), 0) + 1
            if progress is not None:
                progress(one)
    return counts


def evaluate(
    detector: Detector,
    dataset: Dataset,
    out: str | Path | None = None,
    *,
    overlays: str = "all",
    maps: bool = False,
    progress: Callable[[Inspection], None] | None = None,
) -> Evaluation:
    """Fit on the good training images, judge the test images, and measure.

    The threshold comes from the training images alone; no figure but those named oracle has seen
    a test label.

    Parameters
    ----------
    detector : Detector
        Unfitted.
    dataset : Dataset
        See `load_dataset`.
    out : str or Path, optional
        Run directory; nothing is written without one.
    overlays, maps
        See `RunWriter`.
    progress : callable, optional
        Called with every judgement.

    Returns
    -------
    Evaluation
    """
    if out is None:
        return _evaluate(detector, dataset, None, progress)
    with RunWriter(
        out,
        command="evaluate",
        overlays=overlays,
        maps=maps,
        report=partial(write_report, home=out),
    ) as run:
        return _evaluate(detector, dataset, run, progress)


def _evaluate(
    detector: Detector,
    dataset: Dataset,
    run: RunWriter | None,
    progress: Callable[[Inspection], None] | None,
) -> Evaluation:
    started = time.perf_counter()
    detector.fit(dataset.train)
    fitted = time.perf_counter()
    if run is not None:
        run.note(**describe_detector(detector), data=dataset.info)
    judged: list[Inspection] = []
    drawn: list[NDArray[np.float32] | None] = []
    for one in detector.inspect(dataset.test):
        judged.append(dataclasses.replace(one, map=None))
        drawn.append(one.map)
        if run is not None:
            run.add(one)
        if progress is not None:
            progress(one)
    seconds = time.perf_counter() - fitted
    inspections = Inspections(judged)
    measured, curves = _measure(dataset, inspections, drawn, LIMITS)
    if run is not None:
        run.note(
            metrics=measured,
            curves=curves,
            timing={
                "fit_seconds": round(fitted - started, 3),
                "ms_per_image": round(1000 * seconds / max(1, len(judged)), 2),
            },
        )
    return Evaluation(inspections, measured, detector)


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
    return _measure(dataset, inspections, maps, limits)[0]


def _measure(
    dataset: Dataset,
    inspections: Inspections,
    maps: Sequence[NDArray[np.float32] | None],
    limits: tuple[float, ...],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the scorecard, and the curves of pixels, which need the maps as well."""
    samples, curves = dataset.test, {}
    judged = np.array([one.error is None for one in inspections], dtype=bool)
    truth = dataset.labels[judged]
    found = evaluate_scores(truth, inspections.scores[judged])
    if dataset.info.has_masks and all(maps[i] is not None for i in np.flatnonzero(judged).tolist()):
        masks = [mask for mask, fine in zip(dataset.masks(), judged, strict=True) if fine]
        kept = [m for m in maps if m is not None]
        ranks = rank_maps(masks, kept)
        pixel = fill_in(Evidence(ranks, masks, kept, limits), maps=True)
        if (curve := pro_curve(ranks, limits[0])) is not None:
            curves["pro"] = curve.thin()
        found = {**found, **pixel, "undefined": {**found["undefined"], **pixel["undefined"]}}
    if any(one.verdict is not None for one in inspections):
        found["at_threshold"] = _at_threshold(samples, inspections)
    found["errors"] = int((~judged).sum())
    return {name: _none_if_nan(value) for name, value in found.items()}, curves


def _at_threshold(samples: Sequence[Sample], inspections: Inspections) -> dict[str, Any]:
    """Count what the calibrated threshold does, with 95 % Clopper-Pearson intervals."""
    pairs = [(s, one) for s, one in zip(samples, inspections, strict=True) if one.error is None]
    good = [one.label for s, one in pairs if s.label == GOOD]
    bad = [one.label for s, one in pairs if s.label == DEFECT]
    kinds = sorted({s.defect for s, _ in pairs if s.label == DEFECT})
    return {
        "false_rejects": _share(sum(good), len(good)),
        "catches": _share(sum(bad), len(bad)),
        "catches_by_defect": {
            kind: _share(
                sum(one.label for s, one in pairs if s.defect == kind),
                sum(s.defect == kind for s, _ in pairs),
            )
            for kind in kinds
        },
    }


def _share(count: int, n: int) -> dict[str, Any]:
    """Return k of n with its two-sided 95 % interval (Clopper and Pearson, 1934)."""
    tail = (1 - CONFIDENCE) / 2
    upper = false_reject_bound(n, count + 1, 1 - tail)
    lower = false_reject_bound(n, count, tail) if count else 0.0
    return {
        "count": count,
        "of": n,
        "rate": count / n if n else None,
        "low": lower if n else None,
        "high": (1.0 if upper is None else upper) if n else None,
    }


def describe_detector(detector: Detector) -> dict[str, Any]:
    """Return what a run records of a fitted detector."""
    facts: dict[str, Any] = {
        "name": DETECTORS.name_of(type(detector)) or type(detector).__name__,
        "parameters": {name: repr(value) for name, value in detector.parameters().items()},
    }
    if isinstance(detector, FeatureDetector):
        facts["extractor"] = detector.extractor_.fingerprint
        facts["input_size"] = list(detector.input_size_)
    noted: dict[str, Any] = {"detector": facts, "skipped": detector.skipped_}
    if detector.is_calibrated:
        noted["threshold"] = detector.threshold_
        noted["pixel_threshold"] = detector.pixel_threshold_
        noted["certainty"] = detector.certainty_.describe()
        noted["suspects"] = detector.suspects_
        if detector.suspects_:  # in order of their images, as the scores are
            far = suspicion(detector.decision_scores_)
            noted["suspects_z"] = far[far > SUSPECT_Z].round(2).tolist()
    return noted


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value

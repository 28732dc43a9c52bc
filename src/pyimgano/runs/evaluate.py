"""Judge images into a run directory; fit and judge a data set, and say how well it went."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.calibration import SUSPECT_Z, suspicion
from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector
from pyimgano.inspection import Inspection, Inspections
from pyimgano.metrics import bootstrap_scores, evaluate_scores
from pyimgano.metrics.curves import pro_curve
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.rates import Rate
from pyimgano.metrics.saturation import aspro
from pyimgano.metrics.scorecard import Evidence, fill_in
from pyimgano.metrics.segmentation import segmentation_of
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.kept_maps import KeptMaps
from pyimgano.runs.report import write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.records import Sample

__all__ = ["Evaluation", "describe_detector", "evaluate", "measure", "predict", "scorecard"]

LIMITS = (0.3, 0.05)
SATURATED_LIMIT = 0.05  # as MVTec LOCO AD is compared
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The outcome of a data set.

    Attributes
    ----------
    inspections : Inspections
        Of the test images, without their maps.
    metrics : dict
        Image and pixel metrics (``None`` where undefined, with the reason under ``undefined``);
        ``oracle``: the names of those that are tuned on the test labels; ``intervals``: 95 %
        bootstrap intervals of ``auroc`` and ``ap``; ``at_threshold``: false rejects, catches and
        escapes at the calibrated threshold, with Clopper-Pearson intervals;
        ``at_pixel_threshold``: see `evaluate_segmentation`.
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
        return measure(detector, dataset, progress=progress)
    with RunWriter(
        out,
        command="evaluate",
        overlays=overlays,
        maps=maps,
        report=partial(write_report, home=out),
    ) as run:
        return measure(detector, dataset, run, progress=progress)


def measure(
    detector: Detector,
    dataset: Dataset,
    run: RunWriter | None = None,
    *,
    progress: Callable[[Inspection], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Evaluation:
    """Do what `evaluate` does, into a run that is open already, with a clock of your own."""
    started = clock()
    detector.fit(dataset.train)
    fitted = clock()
    if run is not None:
        warnings = dataset.audit(decode=False)
        for warning in warnings:
            _log.warning("%s", warning)
        data = {**dataclasses.asdict(dataset.info), "warnings": warnings}
        run.note(**describe_detector(detector), data=data)
    judged: list[Inspection] = []
    with KeptMaps() as drawn:
        for one in detector.inspect(dataset.test):
            judged.append(dataclasses.replace(one, map=None))
            drawn.append(one.map)
            if run is not None:
                run.add(one)
            if progress is not None:
                progress(one)
        seconds = clock() - fitted
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
    if truth.min(initial=1) < truth.max(initial=0):
        found["intervals"] = bootstrap_scores(truth, inspections.scores[judged])
    if dataset.info.has_masks and all(maps[i] is not None for i in np.flatnonzero(judged).tolist()):
        masks = [mask for mask, fine in zip(dataset.masks(), judged, strict=True) if fine]
        kept = [m for m in maps if m is not None]
        ranks = rank_maps(masks, kept)
        pixel = fill_in(Evidence(ranks, masks, kept, limits), maps=True)
        if (curve := pro_curve(ranks, limits[0])) is not None:
            curves["pro"] = curve.thin()
        found = {**found, **pixel, "undefined": {**found["undefined"], **pixel["undefined"]}}
        if dataset.info.saturates:
            channels = [each for each, fine in zip(dataset.channels(), judged, strict=True) if fine]
            found[f"aspro_{SATURATED_LIMIT:g}"] = aspro(channels, kept, SATURATED_LIMIT)
        limit = next((i.pixel_threshold for i in inspections if i.error is None), None)
        if limit is not None:
            kinds = [sample.defect for sample, fine in zip(samples, judged, strict=True) if fine]
            found["at_pixel_threshold"] = segmentation_of(ranks, kept, limit, kinds)
    if any(one.verdict is not None for one in inspections):
        found["at_threshold"] = _at_threshold(samples, inspections)
    found["errors"] = int((~judged).sum())
    found["oracle"] = [name for name in found if "f1max" in name]
    return _none_if_nan(found), curves


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


def describe_detector(detector: Detector) -> dict[str, Any]:
    """Return what a run records of a fitted detector."""
    facts: dict[str, Any] = {
        "name": DETECTORS.name_of(type(detector)) or type(detector).__name__,
        "parameters": {name: repr(value) for name, value in detector.parameters().items()},
    }
    if isinstance(detector, EmbeddingDetector):
        facts["extractor"] = detector.extractor_.fingerprint
    if isinstance(detector, FeatureDetector):
        facts["input_size"] = list(detector.input_size_)
    noted: dict[str, Any] = {"detector": facts, "skipped": detector.skipped_}
    if "tuned_" in vars(detector):
        noted["tuned"] = detector.tuned_.describe()
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
    if isinstance(value, dict):
        return {name: _none_if_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

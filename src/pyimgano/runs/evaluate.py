"""Judge images into a run directory; fit and judge a data set, and say how well it went."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.estimator import DETECTORS
from pyimgano.feature_detector import FeatureDetector
from pyimgano.inspection import Inspection, Inspections
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.kept_maps import KeptMaps
from pyimgano.runs.report import write_report
from pyimgano.runs.scorecard import curves_and_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector

__all__ = ["Evaluation", "describe_detector", "evaluate", "measure", "predict"]

SAID = 10  # warnings of a data set, of which there may be one an image
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
    """Judge images into a run directory; of each image a few numbers stay in memory.

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
    counts = Counter[str]()
    with RunWriter(
        out, command="predict", overlays=overlays, maps=maps, report=partial(write_report, home=out)
    ) as run:
        run.note(**describe_detector(detector))

        def judged() -> Iterator[Inspection]:
            for one in detector.inspect(sources):
                run.add(one)
                counts[str(one.verdict)] += 1
                if progress is not None:
                    progress(one)
                yield one

        run.note(**_drifted(detector, judged()))  # which takes each as it is judged
    return dict(counts)


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
    write = partial(write_report, home=out)
    with RunWriter(out, command="evaluate", overlays=overlays, maps=maps, report=write) as run:
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
    if run is not None:
        run.note(data=_audited(dataset))  # before any work: masks of no use are refused
    started = clock()
    detector.fit(dataset.train)
    fitted = clock()
    if run is not None:
        run.note(**describe_detector(detector))
    judged: list[Inspection] = []
    with KeptMaps() as drawn:
        for one in detector.inspect(dataset.test):
            judged.append(dataclasses.replace(one, map=None, seen=None))
            drawn.append(one.map)
            if run is not None:
                run.add(one)
            if progress is not None:
                progress(one)
        seconds = clock() - fitted
        inspections = Inspections(judged)
        curves, measured = curves_and_card(dataset, inspections, drawn)
    if run is not None:
        run.note(
            metrics=measured,
            curves=curves,
            **_drifted(detector, inspections),
            timing={
                "fit_seconds": round(fitted - started, 3),
                "ms_per_image": round(1000 * seconds / max(1, len(judged)), 2),
            },
        )
    return Evaluation(inspections, measured, detector)


def _drifted(detector: Detector, judged: Iterable[Inspection]) -> dict[str, Any]:
    """Return how judged images differ from the good ones, if that can be said."""
    found = detector.drift(judged)
    if found is None or not found.enough:
        return {}
    return {"drift": {**dataclasses.asdict(found), "text": found.describe()}}


def _audited(dataset: Dataset) -> dict[str, Any]:
    warnings = dataset.audit(decode=False)
    for warning in warnings[:SAID]:
        _log.warning("%s", warning)
    if len(warnings) > SAID:
        _log.warning("... and %d more; run.json lists all", len(warnings) - SAID)
    return {**dataclasses.asdict(dataset.info), "warnings": warnings}


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
    told = detector.learned()
    facts |= {name: told[name] for name in ("model", "saturated") if name in told}
    facts["view"] = detector.view_.describe()
    noted: dict[str, Any] = {
        "detector": facts,
        "skipped": detector.skipped_,
        "odd": detector.odd_,
        "dropped": detector.dropped_,
    }
    if "drift_" in vars(detector):
        noted["hold_out"] = detector.drift_.describe("the calibration images")
    if "tuned_" in vars(detector):
        noted["tuned"] = detector.tuned_.describe()
    if detector.is_calibrated:
        noted["threshold"] = detector.threshold_
        noted["pixel_threshold"] = detector.pixel_threshold_
        noted["certainty"] = detector.certainty_.describe()
        noted["suspects"] = detector.suspects_
        if detector.suspects_:
            noted["suspects_z"] = detector.suspects_z_
    return noted

"""One configuration: what it is, what it will take, and what it says of all images."""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.datasets._checks import read_truth
from pyimgano.errors import CalibrationError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.inspection import Inspection, Inspections, Verdict
from pyimgano.metrics import aupro
from pyimgano.models import create_detector
from pyimgano.records import DEFECT
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.evaluate import describe_detector
from pyimgano.runs.kept_maps import KeptMaps
from pyimgano.views.align import Align
from pyimgano.views.base import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyimgano.detector import Detector
    from pyimgano.records import Certainty, Sample
    from pyimgano.runs.compare_case import Case

__all__ = ["CHOICES", "Configuration", "Trial", "expect", "try_choice"]

_PROBE = 3, 2  # good images that are learned from, and judged, to see how long it takes


@dataclass(frozen=True, slots=True)
class Configuration:
    """A detector on an extractor, with or without alignment."""

    detector: str
    extractor: str
    aligned: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.detector} · {self.extractor}{' · aligned' * self.aligned}"

    @property
    def missing(self) -> str:
        """The line that installs what it lacks here; empty if it lacks nothing."""
        entries = (DETECTORS.entry(self.detector), EXTRACTORS.entry(self.extractor))
        return next((e.metadata.pip_line for e in entries if e.metadata.missing), "")

    def make(self, contamination: float, seed: int) -> Detector:
        """Make the detector, unfitted."""
        view = Align("auto") if self.aligned else Whole()
        return create_detector(
            self.detector,
            extractor=self.extractor,
            contamination=contamination,
            seed=seed,
            view=view,
        )


CHOICES = (
    Configuration("vision_padim", "handcrafted"),
    Configuration("vision_default", "handcrafted"),
    Configuration("vision_patchcore", "handcrafted"),
    Configuration("vision_padim", "efficientnet_lite0"),
    Configuration("vision_patchcore", "efficientnet_lite0"),
    Configuration("vision_default", "fused_lite0"),
    Configuration("vision_knn_gallery", "efficientnet_lite0"),
)
"""What is tried, the cheapest first; the order was measured once, so that no clock decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What one configuration said.

    Attributes
    ----------
    choice : Configuration
        The configuration.
    inspections : Inspections
        Of the good images by models that have not seen them, then of the bad, without maps.
    certainty : Certainty
        What is promised of false rejects.
    aupro : float or None
        AUPRO 0.3 within the defective images; None without masks or maps.
    fit_seconds, seconds : float
        To learn from all good images; to judge one image.
    """

    choice: Configuration
    inspections: Inspections
    certainty: Certainty
    aupro: float | None
    fit_seconds: float
    seconds: float


def expect(
    choice: Configuration, case: Case, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Return the seconds to learn, and to learn and judge, from those of a few good images."""
    some = case.everything[: sum(_PROBE)]
    if len(some) < sum(_PROBE):
        return 0.0, 0.0
    learned, judged = some[: _PROBE[0]], some[_PROBE[0] :]
    with _unheard():
        started = clock()
        detector = choice.make(0.05, 0)
        detector.fit(learned, calibration=judged)
        fitted = clock()
        for _ in detector.inspect(judged):
            pass
    one = (clock() - fitted) / len(judged)
    learn = len(case.learned) * ((fitted - started) / len(some) + one)
    return learn, learn + case.to_judge * one


def try_choice(
    choice: Configuration,
    case: Case,
    contamination: float,
    seed: int,
    out: Path | None = None,
    progress: Callable[[object], None] = lambda _: None,
) -> Trial:
    """Learn from the good images and judge the bad; leaves a run in the folder ``out``.

    Called with every judgement, ``progress`` can show how far it is.

    Raises
    ------
    PyimganoError
        Whatever `Detector.fit` raises; a `CalibrationError` if there are too few good images.
    """
    detector = choice.make(contamination, seed)
    with ExitStack() as stack:
        run = None
        if out is not None:
            run = stack.enter_context(RunWriter(out, command="compare", overlays="ng"))
        stack.enter_context(_unheard())
        started = time.perf_counter()
        detector.fit(case.learned)
        fit_seconds = time.perf_counter() - started
        if not detector.is_calibrated:
            raise CalibrationError("one good image gives no out-of-sample score")
        drawn = stack.enter_context(KeptMaps())
        judged, clock = list[Inspection](), [0.0]
        for one in _judgements(detector, case, clock):
            if run is not None:
                run.add(one)
            if case.labels[len(judged)] == DEFECT:
                drawn.append(one.map)
            judged.append(dataclasses.replace(one, map=None, seen=None))
            if len(judged) > len(case.labels) - case.to_judge:
                progress(one)
        marked = _aupro(case.bad, judged[len(case.goods) :], drawn)
        seconds = clock[0] / max(1, case.to_judge)
        if run is not None:
            run.note(
                **describe_detector(detector),
                configuration=choice.name,
                metrics={} if marked is None else {"aupro_0.3": marked},
                timing={
                    "fit_seconds": round(fit_seconds, 3),
                    "ms_per_image": round(1000 * seconds, 2),
                },
            )
    made = Inspections(judged)
    return Trial(choice, made, detector.certainty_, marked, fit_seconds, seconds)


def _judgements(detector: Detector, case: Case, clock: list[float]) -> Iterator[Inspection]:
    """Yield the judgements of all images; the clock gathers the seconds that the model takes."""
    if not case.planted:
        yield from _own(detector, case.goods)
    stream = iter(detector.inspect([*case.goods * case.planted, *case.bad]))
    for _ in range(case.to_judge):
        before = time.perf_counter()
        one = next(stream)
        clock[0] += time.perf_counter() - before
        yield one


def _own(detector: Detector, goods: Sequence[Sample]) -> Iterator[Inspection]:
    """Yield the judgements of the good images, each by a model that has not seen its block."""
    lost = dict(detector.skipped_)
    scores = iter(detector.decision_scores_.tolist())
    for sample in goods:
        reason = lost.get(str(sample.path))
        if reason is not None:
            yield Inspection(source=sample, verdict=Verdict.ERROR, error=reason)
            continue
        score = next(scores)
        label = int(score > detector.threshold_)
        yield Inspection(
            source=sample,
            score=score,
            label=label,
            verdict=Verdict.NG if label else Verdict.OK,
            threshold=detector.threshold_,
        )


def _aupro(
    bad: Sequence[Sample], judged: Sequence[Inspection], maps: Sequence[Any]
) -> float | None:
    """Measure the maps against the masks: good images have no map from out of sample."""
    seen = [i for i, one in enumerate(judged) if one.error is None]
    drawn, masks = [maps[i] for i in seen], [read_truth(bad[i]) for i in seen]
    if not seen or any(each is None for each in (*drawn, *masks)):
        return None
    value = aupro(masks, drawn, limit=0.3)
    return value if np.isfinite(value) else None


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what every configuration would warn of to the model that is kept, which says it once."""
    logger = logging.getLogger("pyimgano")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)

"""One evaluation of a benchmark as a job: frozen, named by its content, done in a run directory."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano import __version__
from pyimgano.archive import decode, encode
from pyimgano.datasets.base import load_dataset
from pyimgano.datasets.protocols import contaminated, few_shot, multi_class
from pyimgano.estimator import DETECTORS, versions
from pyimgano.features.base import EXTRACTORS, resolve_extractor
from pyimgano.features.cache import CachedExtractor, FeatureStore
from pyimgano.metrics import bootstrap_maps
from pyimgano.models import create_detector
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.evaluate import measure
from pyimgano.runs.facts import plain, read_facts
from pyimgano.runs.kept_maps import KeptMaps
from pyimgano.runs.report import write_report
from pyimgano.runs.scorecard import LIMITS, scorecard
from pyimgano.views.align import Align
from pyimgano.views.base import View, Views, Whole
from pyimgano.views.tile import Tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.inspection import Inspection

__all__ = ["Job", "Work", "facts_of", "in_category"]

_MB = 2**20
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

_OPTIONS = {"contamination": "--false-reject", "align": "--align", "tile": "--tile"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is measured; every field but ``root`` decides on its name."""

    detector: str  #: Registered name.
    extractor: str  #: Registered name, ``NAME:PATH`` with a file; empty where none is used.
    features: str  #: Fingerprint of the extractor.
    #: All others but the seed, as `pyimgano.archive.encode` writes; ``{category}`` in a text stands
    #: for the name of the category.
    parameters: Mapping[str, Any]
    dataset: str  #: As for `load_dataset`, like the next two.
    root: str
    category: str | None
    data: str  #: Hash of images, masks and labels, wherever they lie; empty if unreadable.
    #: Checksums of the files that parameters name, which decide in place of their paths.
    content: Mapping[str, str] = field(default_factory=dict)
    categories: Sequence[str] = ()  #: Of one model that serves them all, see `multi_class`.
    options: Mapping[str, Any] = field(default_factory=dict)  #: The reader's that are no defaults.
    shots: int | None = None  #: Good images to learn from, see `few_shot`; None for all.
    contaminated: float = 0.0  #: Share of defective images to learn from.
    seed: int = 0  #: Of the detector, and of the choice of images.
    map_intervals: bool = False  #: Whether AUPRO gets an interval.
    version: str = __version__  #: Of pyimgano.

    @property
    def id(self) -> str:
        """The same wherever and whenever the same is measured."""
        facts = plain(self)
        del facts["root"]
        facts["parameters"] |= facts.pop("content")
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def group(self) -> tuple[str, str | None, str]:
        """Jobs with one group see the same features."""
        return self.data, self.category, self.features

    @property
    def place(self) -> tuple[str, ...]:
        """Where it stands in a leaderboard: of jobs with one place the newest counts.

        It leaves ``categories`` out: those that two models share would count twice.
        """
        shots = "" if self.shots is None else f"{self.shots:09d}"
        names = (self.dataset, self.category or "", self.detector, self.extractor, self.settings)
        return (*names, self.protocol, shots, f"{self.seed:09d}")

    @property
    def protocol(self) -> str:
        """What it learns from: a clean category, or what is not as usual about it."""
        told = ["multi-class"] if self.categories else []
        told += [f"contaminated-{_percent(self.contaminated)}"] if self.contaminated else []
        told = told or ["one-class" if self.shots is None else "few-shot"]
        return ", ".join([*told, *self._options()])

    def _options(self) -> list[str]:
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in self.options.items()}
        return [f"{name}={text}" for name, text in texts.items()]

    @property
    def settings(self) -> str:
        """The parameters that are not the detector's own."""
        return ", ".join(f"{name}={text}" for name, text in self._settings().items())

    def _settings(self) -> dict[str, str]:
        defaults = DETECTORS[self.detector]().parameters()
        given = {k: decode(v) for k, v in self.parameters.items() if v != encode(defaults[k])}
        view = given.pop("view", None)
        found = {name: json.dumps(plain(value)) for name, value in given.items()}
        return found if view is None else found | _seen_by(view)

    @property
    def command(self) -> str:
        """The line that measures this again."""
        words = ["pyimgano", "benchmark", "--dataset", self.dataset, "--root", self.root]
        for category in self.categories or filter(None, [self.category or ""]):
            words += ["--category", category]
        for option in self._options():
            words += ["--data-option", option]
        words += ["--multi-class"] if self.categories else []
        words += ["--detector", self.detector]
        words += ["--extractor", self.extractor] if self.extractor else []
        words += ["--shots", str(self.shots or "full"), "--seeds", str(self.seed)]
        words += ["--contaminated", _percent(self.contaminated)] if self.contaminated else []
        for name, text in self._settings().items():
            own = _OPTIONS.get(name)
            words += [own, text] if own else ["--set", f"{name}={text}"]
        words += ["--map-intervals"] if self.map_intervals else []
        return shlex.join([*words, "--out", "again"])

    def load(self) -> list[Dataset]:
        """List the images to learn from and to judge, by category."""
        names: Sequence[str | None] = self.categories or [self.category]
        found = [
            load_dataset(self.dataset, self.root, category=name, **self.options) for name in names
        ]
        if self.shots is not None:
            found = [few_shot(one, self.shots, self.seed) for one in found]
        share = self.contaminated
        return [contaminated(one, share, self.seed) for one in found] if share else found

    def licence(self) -> str:
        """Return what the parts of the method may be used under."""
        entries = [DETECTORS.entry(self.detector).metadata]
        name = self.extractor.partition(":")[0]
        entries += [EXTRACTORS.entry(name).metadata] if name else []
        return ", ".join(dict.fromkeys(one.licence.partition(" (")[0] for one in entries))


@dataclass(frozen=True, slots=True)
class Work:
    """How jobs are done: each into ``jobs/<its id>`` below the directory ``out`` of the benchmark.

    Features are kept in the folder ``cache`` up to ``limit`` bytes, 0 for nothing: see
    `FeatureStore`. For ``overlays`` see `RunWriter`; with pictures each job gets its report as
    well.
    """

    out: Path
    cache: Path
    limit: int
    overlays: str = "none"

    def run_dir(self, job: Job) -> Path:
        """Return where the results of a job stand."""
        return self.out / "jobs" / job.id

    def __call__(self, job: Job) -> dict[str, Any]:
        """Measure, and return the facts of the run; it is complete when its directory says so."""
        home = self.run_dir(job)
        report = None if self.overlays == "none" else partial(write_report, home=home)
        with RunWriter(home, command="benchmark", overlays=self.overlays, report=report) as run:
            run.note(job=job)
            with _warnings_kept() as heard, KeptMaps() as maps:
                watched = _watch_peak()
                measured = self._measure(job, run, maps)
                peak = _peak() if watched else None
            run.note(
                **measured, peak_mb=peak and round(peak, 1), warnings=list(dict.fromkeys(heard))
            )
        return facts_of(home)

    def _measure(self, job: Job, run: RunWriter, maps: KeptMaps) -> dict[str, Any]:
        parts = job.load()
        dataset = multi_class(parts) if job.categories else parts[0]
        decoded = {name: decode(value) for name, value in job.parameters.items()}
        given = in_category(decoded, job.category)

        def keep(one: Inspection) -> None:
            if job.map_intervals or job.categories:
                maps.append(one.map)

        clock = time.perf_counter
        if job.extractor:
            store, salt = FeatureStore(self.cache, self.limit), json.dumps(versions())
            cached = CachedExtractor(resolve_extractor(job.extractor), store, salt)
            given["extractor"], clock = cached, cached.clock
        detector = create_detector(job.detector, **given, seed=job.seed)
        done = measure(detector, dataset, run, progress=keep, clock=clock)
        facts: dict[str, Any] = {"model_mb": round(_state_size(detector) / _MB, 3)}
        if detector.is_calibrated:
            facts["certified_bound"] = detector.certainty_.bound
        if job.categories:
            facts["by_category"], last = {}, 0
            for name, part in zip(job.categories, parts, strict=True):
                own, last = slice(last, last + len(part.test)), last + len(part.test)
                found = {"metrics": scorecard(part, done.inspections[own], maps[own])}
                found |= {"data": asdict(part.info), **_intervals(job, part, maps[own])}
                facts["by_category"][name] = found
            return facts
        return {**facts, **_intervals(job, dataset, maps)}


def _intervals(job: Job, dataset: Dataset, maps: Sequence[Any]) -> dict[str, Any]:
    kept = [each for each in maps if each is not None]
    if not (job.map_intervals and dataset.info.has_masks and len(kept) == len(dataset.test)):
        return {}
    return {"map_intervals": bootstrap_maps(list(dataset.masks()), kept, LIMITS)}


def _seen_by(view: View) -> dict[str, str]:
    """Return what the options --align and --tile say of a view that is not the detector's own."""
    found = {"align": "off"} if isinstance(view, Whole) else {}
    for step in view.steps if isinstance(view, Views) else (view,):
        if isinstance(step, Align):
            found["align"] = step.how
        if isinstance(step, Tiles):
            found["tile"] = f"{step.size}:{step.overlap}"
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.10g}%"


def in_category(parameters: Mapping[str, Any], category: str | None) -> dict[str, Any]:
    """Return parameters with the name of the category where a text says ``{category}``."""
    return {
        name: value.replace("{category}", category or "") if isinstance(value, str) else value
        for name, value in parameters.items()
    }


def facts_of(run_dir: Path) -> dict[str, Any]:
    """Return what a run says of itself, without its curves: a benchmark holds many of them."""
    facts = read_facts(run_dir)
    facts.pop("curves", None)
    return facts


@contextmanager
def _warnings_kept() -> Iterator[list[str]]:
    """Keep what the library warns of: it belongs to one job of many."""
    heard: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger = logging.getLogger("pyimgano")
    before, passed_on = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [Keeper(logging.WARNING)], False
    try:
        yield heard
    finally:
        logger.handlers[:], logger.propagate = before, passed_on


def _state_size(detector: Detector) -> int:
    """Return the bytes of the arrays in the model file, which are nearly all of it."""
    return sum(each.nbytes for each in detector._state().values() if isinstance(each, np.ndarray))


def _watch_peak() -> bool:
    """Forget the largest memory so far; False where the system cannot (all but Linux)."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak() -> float:
    """Return the most resident memory of this process since it was forgotten, in MB."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    told = next(line for line in lines if line.startswith("VmHWM:"))
    return int(told.split()[1]) * 1024 / _MB

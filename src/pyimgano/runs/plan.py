"""The plan of a benchmark: categories on disk by their content, and the jobs on them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pyimgano.ahead import prefetch
from pyimgano.archive import encode
from pyimgano.datasets._checks import mask_files
from pyimgano.datasets.base import list_categories, load_dataset, reader_options
from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.errors import DatasetError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.runs.facts import plain
from pyimgano.runs.jobs import Job, in_category

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.records import Sample

__all__ = ["Part", "find_parts", "fingerprint", "plan", "union"]


@dataclass(frozen=True, slots=True)
class Part:
    """One category of a data set on disk, or the `union` of several.

    ``data`` is its `fingerprint`, empty if it is broken; ``options`` are those of the reader that
    are not its defaults.
    """

    dataset: str
    root: str
    category: str | None
    data: str
    categories: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def find_parts(
    name: str,
    root: str | Path,
    categories: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> list[Part]:
    """Find categories of a data set, as for `load_dataset`, and take their fingerprints.

    Of all categories, which no names mean, one that cannot be read is left to fail as a job; one
    that was asked for raises as `load_dataset` does. ``options`` are the reader's.
    """
    given, found = options or {}, list[Part]()
    defaults = {key: option.default for key, option in reader_options(name).items()}
    unusual = {key: value for key, value in given.items() if value != defaults.get(key)}
    for category in categories or list_categories(name, root) or (None,):
        try:
            data = fingerprint(load_dataset(name, root, category=category, **given))
        except DatasetError:
            if categories or category is None:
                raise
            data = ""
        found.append(Part(name, str(root), category, data, options=unusual))
    return found


def union(parts: Sequence[Part]) -> Part:
    """Return the part that one model for all the categories, two or more, learns from."""
    found = {part.category: part for part in parts if part.category is not None}
    if len(found) < 2:
        raise ParameterError(
            f"one model for several categories needs two or more, got {', '.join(found) or 'one'}; "
            "give the folder of the whole data set"
        )
    whole = "".join(part.data for part in found.values())
    data = hashlib.sha256(whole.encode()).hexdigest()[:32]
    return replace(parts[0], category=None, data=data, categories=tuple(found))


def fingerprint(dataset: Dataset) -> str:
    """Return a hash of all images, masks and labels, in order; it does not know where they lie."""
    digest = hashlib.sha256()
    for facts in prefetch(_facts_of, (*dataset.train, *dataset.train_defects, *dataset.test)):
        digest.update(facts.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def _facts_of(sample: Sample) -> str:
    named = (sample.split, sample.label, sample.defect, sample.group)
    return repr((*named, *map(_hash, (sample.path, *mask_files(sample)))))


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # the job will say so
        return "unreadable"


def plan(
    detectors: Sequence[Detector],
    parts: Sequence[Part],
    *,
    shots: Sequence[int | None] = (None,),
    shares: Sequence[float] = (0.0,),
    seeds: Sequence[int] = (0,),
    map_intervals: bool = False,
) -> list[Job]:
    """Return one job for each detector, part, number of shots, share of defects and seed.

    Those that share features follow each other, the largest first. Detectors are unfitted, their
    extractors names; the seed of a job replaces their own. One that a job cannot name, or a value
    that cannot be written down, is a `ParameterError`. Of ``shots`` None is all good images, of
    ``shares`` of defective images 0 is none. ``map_intervals`` gives AUPRO an interval, which takes
    as long again on large images.
    """
    described = [(detector, _describe(detector)) for detector in detectors]
    jobs = [
        Job(
            **{**facts, **plain(part), "shots": count, "contaminated": share, "seed": seed},
            content=_content(detector, part.category),
            map_intervals=map_intervals,
        )
        for part in parts
        for count in sorted(shots, key=lambda count: -(count or math.inf))
        for share in shares
        for detector, facts in described
        for seed in seeds
    ]
    order = [(part.data, part.category) for part in parts]
    jobs.sort(key=lambda job: (order.index((job.data, job.category)), job.features))
    return list({job.id: job for job in jobs}.values())


def _content(detector: Detector, category: str | None) -> dict[str, str]:
    return type(detector)(**in_category(detector.parameters(), category)).content()


def _describe(detector: Detector) -> dict[str, Any]:
    name = DETECTORS.name_of(type(detector))
    if name is None:
        raise ParameterError(f"{type(detector).__name__} is not registered, a job cannot name it")
    parameters = detector.parameters()
    del parameters["seed"]
    asked = parameters.pop("extractor", "") if isinstance(detector, EmbeddingDetector) else ""
    if not isinstance(asked, str):
        raise ParameterError(f"a job names its extractor; register {asked!r} and give its name")
    facts = {"detector": name, "extractor": "", "features": ""}
    if isinstance(detector, EmbeddingDetector):
        extractor = detector.resolved_extractor()
        facts["extractor"] = asked
        if asked == "auto":  # on another machine it could be another one
            facts["extractor"] = EXTRACTORS.name_of(type(extractor)) or asked
        facts["features"] = extractor.fingerprint
    return {**facts, "parameters": {key: encode(value) for key, value in parameters.items()}}

"""What a report says of the images and of the model, beyond what the run noted itself."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyimgano.errors import ImageError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.images import probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyimgano.registry import Metadata, Registry
    from pyimgano.runs.report_tables import Row

__all__ = ["image_facts", "is_there", "model_facts"]

_PROBED = 5000  # headers that are read again


def image_facts(rows: Iterable[Row]) -> dict[str, Any]:
    """Return sizes and modes of the originals that are still there, and exact copies among them.

    Copies are files of equal bytes; only images of one score are compared, for copies have one.
    """
    sizes, modes = Counter[str](), Counter[str]()
    alike: dict[float, list[str]] = defaultdict(list)
    for row in islice(rows, _PROBED):
        if not is_there(row["path"]):
            continue
        try:
            info = probe(row["path"])
        except ImageError:  # it stands among the errors already
            continue
        sizes[f"{info.width} x {info.height}"] += 1
        modes[f"{info.mode}, {info.bits} bit, {info.format}"] += 1
        if row["score"] is not None:
            alike[row["score"]].append(row["path"])
    groups = [group for paths in alike.values() if len(paths) > 1 for group in _copies(paths)]
    return {
        "sizes": sizes.most_common(),
        "modes": modes.most_common(),
        "copies": groups,
        "looked_at": sizes.total(),
    }


def model_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the registries know of the detector and the extractor of a run, if they do."""
    detector = facts.get("detector") or {}
    fingerprint = str(detector.get("extractor") or "")
    found: dict[str, str] = {}
    for kind, registry, name in (
        ("detector", DETECTORS, str(detector.get("name") or "")),
        ("extractor", EXTRACTORS, fingerprint.partition(" ")[0]),
    ):
        known = _entry(registry, name)
        if known is not None:
            found[kind] = f"{name}: {known.summary}"
            found[f"{kind} paper"] = known.paper
            found[f"{kind} licence"] = known.licence
    found["fingerprint"] = fingerprint
    found |= {name: str(detector[name]) for name in ("model", "saturated") if name in detector}
    found |= {name: str(text) for name, text in (detector.get("view") or {}).items()}
    return {name: text for name, text in found.items() if text}


def is_there(path: str) -> bool:
    """Tell whether a path, which may be the description of an array, is a file."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # no name that a file could have
        return False


def _entry(registry: Registry[Any], name: str) -> Metadata | None:
    return registry.entry(name).metadata if name in registry else None


def _copies(paths: list[str]) -> list[list[str]]:
    """Return the groups of files with equal bytes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        groups[hashlib.sha256(Path(path).read_bytes()).hexdigest()].append(path)
    return [group for group in groups.values() if len(group) > 1]

"""From the words of a command line to what a verb works on: a detector, the images of a folder."""

from __future__ import annotations

import difflib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.errors import InputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyimgano.detector import Detector
    from pyimgano.registry import Registry

__all__ = [
    "DatasetName",
    "DetectorName",
    "ExtractorName",
    "FalseReject",
    "Json",
    "Set",
    "describe_extractor",
    "images_of",
    "make_detector",
    "parse_share",
    "registries",
]


def registries() -> dict[str, Registry[Any]]:
    """Return what can be listed; none of them loads more than numpy."""
    from pyimgano.datasets.base import DATASETS
    from pyimgano.estimator import DETECTORS
    from pyimgano.features.base import EXTRACTORS
    from pyimgano.metrics.scorecard import METRICS

    return {
        "detectors": DETECTORS,
        "extractors": EXTRACTORS,
        "datasets": DATASETS,
        "metrics": METRICS,
    }


def _names(kind: str, *more: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in (*more, *registries()[kind]) if name.startswith(incomplete)]

    return complete


DetectorName = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="See: pyimgano list detectors.",
        autocompletion=_names("detectors"),
    ),
]
ExtractorName = Annotated[
    str,
    typer.Option(
        "--extractor",
        metavar="NAME",
        help="What turns images into features; auto is the best one installed. "
        "See: pyimgano list extractors.",
        autocompletion=_names("extractors", "auto"),
    ),
]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Its layout. See: pyimgano list datasets.",
        autocompletion=_names("datasets"),
    ),
]
FalseReject = Annotated[
    str,
    typer.Option(
        "--false-reject",
        metavar="SHARE",
        help="Good parts that may be rejected: 5%, or 5, or 0.05.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A parameter of the detector, such as coreset=0.2; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]

_OPTIONS = {
    "contamination": "--false-reject",
    "extractor": "--extractor",
    "keep_suspects": "--keep-suspects",
}


def make_detector(
    name: str, extractor: str, false_reject: str, settings: Sequence[str], **given: Any
) -> Detector:
    """Make an unfitted detector; what is missing or misspelt is found before any image is read.

    Parameters
    ----------
    name, extractor : str
        Registered names.
    false_reject : str
        See `parse_share`.
    settings : sequence of str
        ``key=value`` pairs.
    **given
        Parameters that the verb has options of its own for.

    Raises
    ------
    UnknownNameError, MissingExtra, ParameterError
        If a name is unknown, a package is missing, or a value cannot be used.
    """
    from pyimgano.estimator import DETECTORS
    from pyimgano.features.base import resolve_extractor
    from pyimgano.models import create_detector

    kinds = {key: str(field.type) for key, field in DETECTORS[name].__dataclass_fields__.items()}
    given["contamination"] = parse_share(false_reject)
    if "extractor" in kinds:
        resolve_extractor(extractor)
        given["extractor"] = extractor
    elif extractor != "auto":
        raise ParameterError(f"{name} uses no extractor: leave --extractor out")
    for setting in settings:
        key, value = _parse_setting(setting, kinds, name)
        if key in given:
            raise ParameterError(f"--set {setting}: {key} is given twice; use {_OPTIONS[key]}")
        given[key] = value
    return create_detector(name, **given)


def parse_share(text: str, option: str = "--false-reject") -> float:
    """Read a share: ``5%``, ``5`` and ``0.05`` are the same; a number from 1 on is per cent.

    Parameters
    ----------
    text : str
        What was typed.
    option : str
        Where it was typed, for the message.

    Raises
    ------
    ParameterError
        If it is no number, or not above 0 % and below 100 %.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    share = value / 100 if value >= 1 or text.strip().endswith("%") else value
    if not 0 < share < 1:
        raise ParameterError(
            f"{option} must be a share above 0 % and below 100 %, such as 5% or 0.05; got {text!r}"
        )
    return share


def describe_extractor(detector: Detector, asked: str) -> list[str]:
    """Return the extractor that a fitted detector uses, and how it was chosen, line by line."""
    from pyimgano.embedding_detector import EmbeddingDetector
    from pyimgano.features.base import _BEST_FIRST, EXTRACTORS

    if not isinstance(detector, EmbeddingDetector):
        return ["none: this detector needs no features"]
    name = EXTRACTORS.name_of(type(detector.extractor_)) or detector.extractor_.fingerprint
    if asked != "auto":
        return [name]
    best = EXTRACTORS.entry(_BEST_FIRST[0])
    if best.metadata.missing:
        return [name, f"to get {best.name}: {best.metadata.pip_line}"]
    return [f"{name} (the best one installed; see: pyimgano list extractors)"]


def _parse_setting(setting: str, kinds: Mapping[str, str], detector: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals:
        raise ParameterError(f"--set takes KEY=VALUE, such as coreset=0.2; got {setting!r}")
    if key not in kinds:
        near = difflib.get_close_matches(key, kinds, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(kinds))}"
        raise ParameterError(f"--set {setting}: {detector} has no parameter {key!r}; {hint}")
    allowed = [kind.strip().partition("[")[0] for kind in kinds[key].split("|")]
    value = _parse_value(text)
    given = type(value).__name__
    if given == "int" and given not in allowed and "float" in allowed:
        return key, float(value)
    if given == "NoneType":
        given = "None"
    if given not in allowed:
        raise ParameterError(_wrong_kind(setting, key, allowed))
    return key, value


def _parse_value(text: str) -> Any:
    """Read JSON, lists as tuples; anything else is a text."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "tuple": "a list such as [1,2]",
    "None": "null",
}


def _wrong_kind(setting: str, key: str, allowed: Sequence[str]) -> str:
    words = [_WORDS[kind] for kind in allowed if kind in _WORDS]
    if not words:
        return f"--set {setting}: {key} takes an object; set it in Python"
    return f"--set {setting}: {key} must be {' or '.join(words)}"


def images_of(folder: Path, kind: str = "images") -> list[Path]:
    """Return the images of a folder and the folders in it, in natural order.

    Raises
    ------
    InputError
        If it is no folder or holds no images; ``kind`` says what it should hold.
    """
    from pyimgano.datasets._files import found, is_folder, walk_images

    if not is_folder(folder):
        what = "is a file" if os.path.lexists(folder) else "does not exist"
        raise InputError(f"{folder} {what}; give a folder of {kind}")
    images = walk_images(folder)
    if not images:
        raise InputError(
            f"there are no images in the folder {folder} (found: {found(folder)}); "
            f"give a folder of {kind}"
        )
    return images

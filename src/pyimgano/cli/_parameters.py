"""From the words of a command line to what a verb works on: a detector, the images of a folder."""

from __future__ import annotations

import difflib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.errors import DatasetError, InputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.registry import Registry

__all__ = [
    "CategoryName",
    "DataOptions",
    "DatasetName",
    "DetectorName",
    "ExtractorName",
    "FalseReject",
    "Json",
    "Overlays",
    "Root",
    "RunDir",
    "Set",
    "describe_extractor",
    "images_of",
    "load_category",
    "make_detector",
    "parse_data_options",
    "parse_share",
    "registries",
]


class Overlays(StrEnum):
    """Which pictures to keep."""

    ALL = "all"
    NG = "ng"
    NONE = "none"


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
Root = Annotated[
    Path,
    typer.Option("--root", metavar="DIR", help="Folder of the data set, or of one category."),
]
RunDir = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="DIR", help="New folder, or that of an older run."),
]
CategoryName = Annotated[
    str | None, typer.Option("--category", metavar="NAME", help="Which category of the data set.")
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--data-option",
        metavar="KEY=VALUE",
        help="An option of the data set's reader, such as fold=1; may be repeated. "
        "See: pyimgano list datasets.",
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

    kinds = DETECTORS[name].parameter_types()
    given["contamination"] = parse_share(false_reject)
    if "extractor" in kinds:
        resolve_extractor(extractor)
        given["extractor"] = extractor
    elif extractor != "auto":
        raise ParameterError(f"{name} uses no extractor: leave --extractor out")
    found = _parse_settings("--set", settings, kinds, f"{name} has no parameter")
    for key in given.keys() & found.keys():
        raise ParameterError(f"--set {key}=...: {key} is given twice; use {_OPTIONS[key]}")
    return create_detector(name, **given, **found)


def load_category(
    name: str, root: Path, category: str | None, settings: Sequence[str] | None
) -> Dataset:
    """List a category of a data set, which need not be named where there is but one.

    Raises
    ------
    DatasetError
        If there are several; else as `load_dataset` and `parse_data_options` say.
    """
    from pyimgano.datasets.base import list_categories, load_dataset

    options = parse_data_options(name, settings or ())
    if category is None:
        names = list_categories(name, root)
        if len(names) > 1:
            raise DatasetError(f"choose one of the categories with --category: {', '.join(names)}")
        category = names[0] if names else None
    return load_dataset(name, root, category=category, **options)


def parse_data_options(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """Read the words of ``--data-option`` for a reader.

    Raises
    ------
    UnknownNameError, ParameterError
        If there is no such reader, or it has no such option, or one of another kind.
    """
    from pyimgano.datasets.base import reader_options

    kinds = {key: str(field.type) for key, field in reader_options(name).items()}
    return _parse_settings("--data-option", settings, kinds, f"data set {name} has no option")


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
    from pyimgano.features.base import BEST_FIRST, EXTRACTORS

    if not isinstance(detector, EmbeddingDetector):
        return ["none: this detector needs no features"]
    name = EXTRACTORS.name_of(type(detector.extractor_)) or detector.extractor_.fingerprint
    if asked != "auto":
        return [name]
    best = EXTRACTORS.entry(BEST_FIRST[0])
    if best.metadata.missing:
        return [name, f"to get {best.name}: {best.metadata.pip_line}"]
    return [f"{name} (the best one installed; see: pyimgano list extractors)"]


def _parse_settings(
    option: str, settings: Sequence[str], kinds: Mapping[str, str], lacks: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        key, value = _parse_setting(f"{option} {setting}", kinds, lacks)
        if key in found:
            raise ParameterError(f"{option} {setting}: {key} is given twice; give it once")
        found[key] = value
    return found


def _parse_setting(typed: str, kinds: Mapping[str, str], lacks: str) -> tuple[str, Any]:
    """Read ``--option key=value``; the kinds are the types of the keys, as they are written."""
    option, _, setting = typed.partition(" ")
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals:
        raise ParameterError(f"{option} takes KEY=VALUE; got {setting!r}")
    if key not in kinds:
        near = difflib.get_close_matches(key, kinds, n=1)
        has = f"it has: {', '.join(sorted(kinds)) or 'none'}"
        hint = f"did you mean {near[0]!r}?" if near else has
        raise ParameterError(f"{typed}: {lacks} {key!r}; {hint}")
    allowed = [kind.strip().partition("[")[0] for kind in kinds[key].split("|")]
    value = _parse_value(text)
    given = "None" if value is None else type(value).__name__
    if given not in allowed and given == "int" and "float" in allowed:
        return key, float(value)
    if given not in allowed and given in {"int", "float", "bool"} and "str" in allowed:
        return key, text  # 256 is a name where names are asked for
    if given not in allowed:
        raise ParameterError(_wrong_kind(typed, key, allowed))
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


def _wrong_kind(typed: str, key: str, allowed: Sequence[str]) -> str:
    words = [_WORDS[kind] for kind in allowed if kind in _WORDS]
    if not words:
        return f"{typed}: {key} takes an object; set it in Python"
    return f"{typed}: {key} must be {' or '.join(words)}"


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

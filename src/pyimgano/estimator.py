"""Parameters, learned state, and the file that keeps both: the half of a detector that is data."""

from __future__ import annotations

import dataclasses
import logging
import math
import platform
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, final

import numpy as np

from pyimgano import __version__
from pyimgano.archive import decode, encode, read_archive, write_archive
from pyimgano.errors import ArchiveError, NotFittedError, ParameterError
from pyimgano.features.base import EXTRACTORS, FeatureExtractor
from pyimgano.records import Certainty
from pyimgano.registry import VALUES, Metadata, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DETECTORS", "Estimator", "versions"]

PARITY = 1e-4
_RECORDED = (
    *("numpy", "scipy", "opencv-python-headless", "onnxruntime", "faiss-cpu", "torch"),
    *("pyod", "scikit-learn"),
)
_log = logging.getLogger(__name__)

DETECTORS: Registry[type[Any]] = Registry(
    "detector", package="pyimgano.models", group="pyimgano.detectors"
)
"""All detectors by name."""

VALUES.register("certainty", Metadata(summary="What is certain about the false rejects."))(
    Certainty
)


@dataclass(kw_only=True, eq=False)
class Estimator(ABC):
    """Fields are parameters; attributes that end in an underscore are learned; nothing else is.

    A keyword-only dataclass, so that ``repr``, `clone` and `save` need no code of their own.
    `load` takes ``renewable`` parameters anew, such as where a file lies now; the ``unsaved`` ones,
    such as trust, no model file decides.
    """

    renewable: ClassVar[frozenset[str]] = frozenset()
    unsaved: ClassVar[frozenset[str]] = frozenset()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            kind = type(self).__name__
            if name.endswith("_") and not name.startswith("_"):
                raise NotFittedError(f"{kind} has no {name!r} yet: call fit with good images")
            raise AttributeError(f"{kind!r} has no attribute {name!r}")

    @final
    @classmethod
    def parameter_types(cls) -> dict[str, str]:
        """Return the parameters by name, with their types as written."""
        return {f.name: str(f.type) for f in dataclasses.fields(cls)}

    @final
    def parameters(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def content(self) -> dict[str, str]:
        """Return checksums of the files that parameters name, by parameter; empty if missing."""
        return {}

    @final
    def clone(self) -> Self:
        """Return an unfitted copy with the same parameters."""
        return type(self)(**self.parameters())

    @final
    def save(self, path: str | Path) -> None:
        """Write what was learned to one file, atomically; see `pyimgano.archive`.

        Raises
        ------
        NotFittedError
            If nothing was learned yet.
        ParameterError
            If the class is not registered, so that no file could name it.
        OutputError
            If the file cannot be written.
        """
        name = DETECTORS.name_of(type(self))
        if name is None:
            raise ParameterError(f"{type(self).__name__} is not registered, a file cannot name it")
        golden = self._golden_scores()
        state = self._state()
        arrays = {key: item for key, item in state.items() if isinstance(item, np.ndarray)}
        plain = {key: item for key, item in state.items() if key not in arrays}
        manifest = {
            "detector": name,
            "parameters": {
                key: _stored(item)
                for key, item in self.parameters().items()
                if key not in self.unsaved
            },
            "state": {key: encode(item, arrays, key) for key, item in plain.items()},
            "golden": golden.tolist(),
            "versions": versions(),
        }
        write_archive(path, manifest, arrays)

    @classmethod
    @final
    def load(cls, path: str | Path, *, verify: bool = True, **injected: Any) -> Self:
        """Load a model file; names in it are looked up in the registries, never imported.

        Parameters
        ----------
        path : str or Path
            What `save` wrote.
        verify : bool
            Score generated images again and compare with the scores in the file.
        **injected
            Objects that were given as parameters and are in no registry, by parameter name
            (``extractor=...``); their fingerprint must be the recorded one. And parameters that
            the detector takes anew, such as ``checkpoint=...``.

        Raises
        ------
        ArchiveError
            If the file is missing or damaged, or does not match what is installed here.
        ParameterError
            If an object is given for a parameter that the file holds itself.
        MissingExtra
            If it needs a package that is not installed.
        """
        manifest, arrays = read_archive(path)
        try:
            kind = DETECTORS[manifest["detector"]]
            renewed = {name: injected.pop(name) for name in kind.renewable & injected.keys()}
            _refuse_surplus(manifest["parameters"], injected)
            parameters = {
                name: _restored(name, item, injected)
                for name, item in manifest["parameters"].items()
                if name not in kind.unsaved
            }
            loaded = cast(Self, kind(**{**parameters, **renewed}))
            _require_kind(path, loaded, cls)
            state = {name: decode(item, arrays) for name, item in manifest["state"].items()}
            loaded._restore({**state, **{k: v for k, v in arrays.items() if "." not in k}})
            _require_threshold(path, vars(loaded))
            golden = np.array(manifest["golden"], dtype=np.float64)
            if verify:
                loaded._verify(path, golden)
        except (ArchiveError, ParameterError):
            raise
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ArchiveError(f"{path} does not fit this version of pyimgano: {error}") from error
        return loaded

    @abstractmethod
    def _golden_scores(self) -> NDArray[np.float64]:
        """Scores of a few generated images, by which a loaded model is verified."""

    def _state(self) -> dict[str, Any]:
        """Return what was learned: arrays, and values that `archive.encode` knows."""
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _restore(self, state: dict[str, Any]) -> None:
        """Take back what `_state` returned."""
        vars(self).update(state)

    def _verify(self, path: str | Path, golden: NDArray[np.float64]) -> None:
        found = self._golden_scores()
        if np.array_equal(found, golden):
            return
        if found.shape != golden.shape:
            raise ArchiveError(f"{path}: {len(found)} golden scores were expected: {golden}")
        worst = float(np.max(np.abs(found - golden) / np.maximum(np.abs(golden), 1e-12)))
        if not worst <= PARITY:
            raise ArchiveError(
                f"{path}: the model scores differently here than where it was saved (relative "
                f"difference {worst:.2g}): its threshold cannot be trusted; fit it again here, or "
                "load with verify=False to look into it"
            )
        _log.info("%s: golden scores differ by %.1g from those that it was saved with", path, worst)


def versions() -> dict[str, str]:
    """Return the versions, and the kind of machine, that decide the last bits of a score."""
    from importlib import metadata  # brings a parser of mail, and is seldom needed

    found = {"pyimgano": __version__, "python": platform.python_version()}
    found["machine"] = f"{platform.machine()} {sys.platform}"
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _stored(value: Any) -> Any:
    if not isinstance(value, FeatureExtractor):
        mark = getattr(value, "fingerprint", None)  # any object of the caller's may have one
        return {"injected": mark} if isinstance(mark, str) else encode(value)
    name = EXTRACTORS.name_of(type(value))
    given: Any = value
    if name is None or not dataclasses.is_dataclass(given):
        return {"injected": value.fingerprint}
    kept = (f.name for f in dataclasses.fields(given) if f.metadata.get("stored", True))
    fields = {name: encode(getattr(given, name)) for name in kept}
    return {"extractor": name, "parameters": fields}


def _require_kind(path: str | Path, loaded: object, expected: type) -> None:
    if not isinstance(loaded, expected):
        raise ArchiveError(f"{path} holds a {type(loaded).__name__}, not a {expected.__name__}")


def _require_threshold(path: str | Path, state: dict[str, Any]) -> None:
    """Refuse a threshold that is no number: no score exceeds a NaN, and all would be OK."""
    threshold = state.get("threshold_", 0.0)
    if not isinstance(threshold, int | float) or math.isnan(threshold):
        raise ArchiveError(f"{path} holds the threshold {threshold!r}, which is no number")


def _refuse_surplus(stored: dict[str, Any], injected: dict[str, Any]) -> None:
    wanted = {name for name, item in stored.items() if _is_injected(item)}
    surplus = sorted(injected.keys() - wanted)
    if surplus:
        raise ParameterError(
            f"the model file holds {surplus[0]!r} itself or knows no such parameter; objects of "
            f"your own are wanted for: {', '.join(sorted(wanted)) or 'nothing'}"
        )


def _is_injected(stored: Any) -> bool:
    return isinstance(stored, dict) and stored.keys() == {"injected"}


def _restored(name: str, stored: Any, injected: dict[str, Any]) -> Any:
    if isinstance(stored, dict) and stored.keys() == {"extractor", "parameters"}:
        made = {key: decode(item) for key, item in stored["parameters"].items()}
        return EXTRACTORS[stored["extractor"]](**made)
    if not _is_injected(stored):
        return decode(stored)
    if name not in injected:
        raise ArchiveError(
            f"this model was fitted with an object of your own as {name!r}: "
            f"give it again, load(path, {name}=...)"
        )
    found = injected[name].fingerprint
    if found != stored["injected"]:
        raise ArchiveError(
            f"the object given as {name!r} has the fingerprint {found!r}, the model was fitted "
            f"with {stored['injected']!r}"
        )
    return injected[name]

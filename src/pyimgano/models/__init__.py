"""Detectors, one a file: make one by name, fit it, load it, list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyimgano.errors import MissingExtra, ParameterError
from pyimgano.estimator import DETECTORS, Estimator

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.detector import Detector
    from pyimgano.registry import Entry

__all__ = ["DEFAULT", "create_detector", "fit", "list_detectors", "load"]

DEFAULT = "vision_default"
"""The detector that is used where none is named."""


def create_detector(name: str, **parameters: Any) -> Detector:
    """Make an unfitted detector.

    Parameters
    ----------
    name : str
        A registered name; see `list_detectors`.
    **parameters
        Its parameters.

    Returns
    -------
    Detector

    Raises
    ------
    UnknownNameError
        If nothing is registered under this name; the message lists near matches.
    MissingExtra
        If it needs a package that is not installed; the message holds the pip line.
    ParameterError
        If it has no such parameter.
    """
    entry = DETECTORS.entry(name)
    if entry.metadata.missing:
        raise MissingExtra(
            f"the detector {name!r} needs {', '.join(entry.metadata.missing)}, which is not "
            f"installed. Install it with: {entry.metadata.pip_line}"
        )
    try:
        detector: Detector = entry.value(**parameters)
    except TypeError as error:
        known = ", ".join(sorted(entry.value.parameter_types()))
        raise ParameterError(f"{name}: {error}; its parameters are {known}") from error
    return detector


def fit(
    good: Any, *, detector: str = DEFAULT, calibration: Any = None, **parameters: Any
) -> Detector:
    """Learn from good images and set an honest threshold: ``pyimgano.fit("good/")``.

    Parameters
    ----------
    good : folder, or sequence of path, array, PIL image or Sample
        Good images in the order in which they were taken.
    detector : str
        A registered name.
    calibration : same as good, optional
        Good images of their own for the threshold.
    **parameters
        Parameters of the detector.

    Returns
    -------
    Detector
    """
    return create_detector(detector, **parameters).fit(good, calibration=calibration)


def load(path: str | Path, *, verify: bool = True, **injected: Any) -> Detector:
    """Load a model file; see `Estimator.load`."""
    loaded: Any = Estimator.load(path, verify=verify, **injected)
    found: Detector = loaded
    return found


def list_detectors() -> tuple[Entry[type[Any]], ...]:
    """Return all detectors with what they are and what they miss here."""
    return DETECTORS.entries()

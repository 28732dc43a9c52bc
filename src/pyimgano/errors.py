"""One exception tree. Each class also inherits the builtin it refines.

``except pyimgano.errors.PyimganoError`` catches everything that the library raises on purpose;
``except ValueError`` or ``except OSError`` keep working for those who prefer the builtin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ArchiveError",
    "CalibrationError",
    "DatasetError",
    "DatasetNotFoundError",
    "FetchError",
    "ImageError",
    "ImageReadError",
    "ImageSizeError",
    "InputError",
    "MaskError",
    "MetricError",
    "MissingExtra",
    "NotFittedError",
    "OutputError",
    "ParameterError",
    "PyimganoError",
    "PyimganoWarning",
    "UnjudgedError",
    "UnknownNameError",
    "was_interrupted",
]


class PyimganoError(Exception):
    """Base of every error that pyimgano raises on purpose."""


class ParameterError(PyimganoError, ValueError):
    """A parameter has a value that cannot be used."""


class InputError(PyimganoError, ValueError):
    """The data given to a function has the wrong type, shape or number of items."""


class UnknownNameError(PyimganoError, LookupError):
    """A registry holds nothing under this name; the message lists near matches."""


class NotFittedError(PyimganoError, ValueError, AttributeError):
    """A detector was asked for something that only ``fit`` or ``calibrate`` can give it."""


class MissingExtra(PyimganoError, ImportError):  # noqa: N818 - the name users read, as ImportError's kin
    """An optional package is not installed; the message holds the exact pip line."""


class ImageError(PyimganoError, ValueError):
    """An image cannot be judged: blank, non-finite, of a wrong type or shape."""


class ImageReadError(ImageError, OSError):
    """An image file cannot be read or decoded completely."""


class ImageSizeError(ImageError):
    """An image has a size that the detector was not fitted for, or that exceeds the pixel limit."""


class DatasetError(PyimganoError, ValueError):
    """A data set is on disk but not as its layout demands."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """The root, category or split of a data set does not exist."""


class MaskError(DatasetError):
    """A ground-truth mask is missing, unreadable or of another size than its image."""


class MetricError(PyimganoError, ValueError):
    """Scores, labels or masks cannot be evaluated: NaN, unequal lengths, wrong shapes."""


class CalibrationError(PyimganoError, ValueError):
    """A threshold cannot be set from the images given."""


class ArchiveError(PyimganoError, ValueError):
    """A model file is damaged, of an unknown format, or does not match what is installed."""


class OutputError(PyimganoError, OSError):
    """A result cannot be written: a read-only folder, a full disk, a name that is taken."""


class FetchError(PyimganoError, OSError):
    """A weight file cannot be had, is damaged, or is not the one that is recorded."""


class UnjudgedError(PyimganoError, ValueError):
    """Some images could not be judged.

    Attributes
    ----------
    inspections : Inspections
        One record for each input in order; those that could not be judged have the verdict
        ``ERROR`` and a reason, all others are complete.
    """

    def __init__(self, message: str, inspections: Sequence[Any]) -> None:
        super().__init__(message)
        self.inspections = inspections


class PyimganoWarning(UserWarning):
    """Something deserves attention but does not stop the work."""


def was_interrupted(error: BaseException | None) -> bool:
    """Tell whether an interrupt is what ended a block.

    One that hits Python while it waits for a lock can surface as "release unlocked lock".
    """
    if type(error) is RuntimeError:
        return was_interrupted(error.__context__)
    return isinstance(error, KeyboardInterrupt)

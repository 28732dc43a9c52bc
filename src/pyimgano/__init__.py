"""pyimgano: finds defects in images after learning from good ones only.

>>> import pyimgano
>>> detector = pyimgano.create_detector("vision_patchcore", extractor="handcrafted")
>>> detector.contamination
0.05
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyimgano import metrics
    from pyimgano.datasets.base import load_dataset
    from pyimgano.models import create_detector, fit, list_detectors, load
    from pyimgano.runs.evaluate import evaluate

__version__ = "0.1.0"

__all__ = [
    "create_detector",
    "evaluate",
    "fit",
    "list_detectors",
    "load",
    "load_dataset",
    "metrics",
]

_HOMES = {
    "create_detector": "pyimgano.models",
    "evaluate": "pyimgano.runs.evaluate",
    "fit": "pyimgano.models",
    "list_detectors": "pyimgano.models",
    "load": "pyimgano.models",
    "load_dataset": "pyimgano.datasets.base",
}


if not TYPE_CHECKING:  # pragma: no branch - a type checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name == "metrics":
            return import_module("pyimgano.metrics")
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'pyimgano' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

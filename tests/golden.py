"""The golden metric values, where they are at hand.

They live outside the package: ``cases.py`` builds the arrays from seeds, ``golden.json`` holds the
values of several independent programs. The environment variable PYIMGANO_GOLDEN names their
directory; without it the tests that need them are skipped with that reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "PYIMGANO_GOLDEN"


def parameters(*, images: bool = False, aupimo: bool = False) -> list[Any]:
    """Names of the cases of image scores, of AUPIMO, or of maps; or one that is skipped."""
    if not os.environ.get(VARIABLE):
        reason = f"{VARIABLE} does not name the directory of the golden values"
        return [pytest.param("golden", marks=pytest.mark.skip(reason=reason))]
    if aupimo:
        return list(expected()["aupimo"])
    return list(expected()["image_cases"] if images else cases().CASES)


@cache
def expected() -> dict[str, Any]:
    return json.loads((_directory() / "golden.json").read_text(encoding="utf-8"))


@cache
def cases() -> Any:
    spec = importlib.util.spec_from_file_location("golden_cases", _directory() / "cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _directory() -> Path:
    return Path(os.environ[VARIABLE])

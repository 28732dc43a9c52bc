"""Optional packages: imported, or named with the line that installs them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from pyimgano.errors import MissingExtra
from pyimgano.optional import is_available, require

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_there_is_imported() -> None:
    assert require("json", extra="none", purpose="this test") is json


def test_what_is_missing_is_named_with_its_pip_line() -> None:
    with pytest.raises(MissingExtra) as caught:
        require("no_such_package_at_all", extra="lite", purpose="extractor 'x'")
    text = str(caught.value)
    assert text.startswith("extractor 'x' needs the package 'no_such_package_at_all'")
    assert text.endswith('pip install "pyimgano[lite]"')
    assert caught.value.name == "no_such_package_at_all"
    assert isinstance(caught.value, ImportError)


def test_a_package_that_breaks_on_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("raise ImportError('libfoo.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"libfoo\.so is missing"):
        require("half_installed", extra="lite", purpose="x")


def test_availability_is_told_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_available("never_imported")
    assert "never_imported" not in sys.modules
    assert not is_available("no_such_package_at_all")
    assert not is_available("no_such_package_at_all.inner")
    monkeypatch.setattr(json, "__spec__", None)
    assert not is_available("json")

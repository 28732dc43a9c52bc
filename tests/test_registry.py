"""Registries: names, near matches, discovery by module and by entry point."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import fakes
from pyimgano.errors import ParameterError, PyimganoWarning, UnknownNameError
from pyimgano.registry import Metadata, Registry

if TYPE_CHECKING:
    from pathlib import Path

FACTS = Metadata(summary="A shape.")
GROUP = "pyimgano_test.shapes"


class Square: ...


class Circle: ...


def test_objects_are_found_by_name_and_by_identity() -> None:
    shapes: Registry[type] = Registry("shape")
    assert shapes.register("square", FACTS)(Square) is Square
    shapes.register("circle", FACTS)(Circle)
    assert shapes["square"] is Square
    assert list(shapes) == ["circle", "square"]
    assert len(shapes) == 2
    assert "square" in shapes
    assert "line" not in shapes
    assert [entry.value for entry in shapes.entries()] == [Circle, Square]
    assert shapes.entry("square").metadata is FACTS
    assert shapes.name_of(Circle) == "circle"
    assert shapes.name_of(int) is None


def test_a_name_is_looked_for_in_the_module_called_like_it() -> None:
    code = (
        "import sys; from pyimgano.estimator import DETECTORS; DETECTORS['vision_padim']; "
        "found = [m for m in sys.modules if m.startswith('pyimgano.models.')]; "
        "assert 'pyimgano.models.padim' in found and 'pyimgano.models.patchcore' not in found; "
        "assert DETECTORS.name_of(DETECTORS['vision_padim']) == 'vision_padim'; "
        "assert 'pyimgano.models.patchcore' not in sys.modules; "
        "assert len(DETECTORS) > 20 and 'pyimgano.models.patchcore' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_get_near_matches_or_the_list() -> None:
    shapes: Registry[type] = Registry("shape")
    with pytest.raises(UnknownNameError, match="unknown shape 'x'; known: none"):
        shapes["x"]
    shapes.register("square", FACTS)(Square)
    shapes.register("squarish", FACTS)(Circle)
    with pytest.raises(UnknownNameError, match="did you mean 'square' or 'squarish'"):
        shapes["sqare"]
    with pytest.raises(UnknownNameError, match="unknown shape 'x'; known: square, squarish"):
        shapes["x"]
    assert issubclass(UnknownNameError, LookupError)


def test_a_name_is_given_once_but_a_reload_may_enter_again() -> None:
    shapes: Registry[type] = Registry("shape")
    shapes.register("square", FACTS)(Square)
    with pytest.raises(ParameterError, match="shape 'square' is registered already"):
        shapes.register("square", FACTS)(Circle)
    again = type("Square", (), {"__module__": Square.__module__, "__qualname__": "Square"})
    shapes.register("square", FACTS)(again)
    assert shapes["square"] is again


def test_metadata_tells_what_is_missing() -> None:
    facts = Metadata(summary="x", extra="lite", modules=("json", "no_such_package_at_all"))
    assert facts.missing == ("no_such_package_at_all",)
    assert facts.pip_line == 'pip install "pyimgano[lite]"'
    assert FACTS.pip_line == ""
    assert FACTS.missing == ()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_public_modules_of_the_package_register_at_the_first_look(packages: Path) -> None:
    (packages / "shapes_package").mkdir()
    (packages / "shapes_package" / "__init__.py").write_text(
        "from pyimgano.registry import Metadata, Registry\n"
        "SHAPES = Registry('shape', package='shapes_package')\n"
    )
    (packages / "shapes_package" / "star.py").write_text(
        "from shapes_package import *\n"
        "SHAPES.register('star', Metadata(summary='Five points.'))('the star')\n"
    )
    (packages / "shapes_package" / "_private.py").write_text("raise RuntimeError('private')\n")
    shapes = importlib.import_module("shapes_package").SHAPES
    assert "shapes_package.star" not in sys.modules
    assert shapes["star"] == "the star"
    assert list(shapes) == ["star"]


def plugin(folder: Path, name: str, code: str, points: dict[str, str]) -> None:
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    values = {key: f"{module}{':' if value else ''}{value}" for key, value in points.items()}
    fakes.distribution(folder, name, {GROUP: values})


def test_entry_points_add_names(packages: Path) -> None:
    code = 'class Oval:\n    """An oval.\n\n    More."""\nclass Plain: ...\nNUMBER = 3\n'
    plugin(packages, "oval-shapes", code, {"oval": "Oval", "plain": "Plain", "whole": ""})
    shapes: Registry[type] = Registry("shape", group=GROUP)
    assert list(shapes) == ["oval", "plain"]
    assert shapes["oval"].__name__ == "Oval"
    assert shapes.entry("oval").metadata.summary == "An oval."
    assert shapes.entry("plain").metadata.summary == "A plugin."


def test_a_plugin_that_registers_itself_keeps_its_own_facts(packages: Path) -> None:
    code = (
        "import test_registry\nfrom pyimgano.registry import Metadata\n"
        "@test_registry.SHARED.register('kite', Metadata(summary='Its own.'))\nclass Kite: ...\n"
    )
    plugin(packages, "kite-shapes", code, {"kite": "Kite"})
    assert SHARED.entry("kite").metadata.summary == "Its own."


SHARED: Registry[type] = Registry("shape", group=GROUP)


def test_a_broken_plugin_is_left_out_by_name(packages: Path) -> None:
    plugin(packages, "broken-shapes", "raise KeyError('no licence')\n", {"broken": "Broken"})
    plugin(packages, "good-shapes", "class Good: ...\n", {"good": "Good"})
    shapes: Registry[type] = Registry("shape", group=GROUP)
    with pytest.warns(PyimganoWarning, match="'broken' .* of broken-shapes .* KeyError"):
        assert list(shapes) == ["good"]


def test_a_plugin_cannot_take_a_name_silently(packages: Path) -> None:
    plugin(packages, "rival-shapes", "class Rival: ...\n", {"square": "Rival"})
    shapes: Registry[type] = Registry("shape", group=GROUP)
    shapes.register("square", FACTS)(Square)
    with pytest.warns(PyimganoWarning, match="of rival-shapes .* is registered already"):
        assert list(shapes) == ["square"]
    assert shapes["square"] is Square
    assert shapes.entry("square").metadata is FACTS


def test_an_entry_point_without_a_distribution_is_called_unknown() -> None:
    from importlib.metadata import EntryPoint

    shapes: Registry[type] = Registry("shape")
    point = EntryPoint("stray", "no_such_package_at_all:X", GROUP)
    with pytest.warns(PyimganoWarning, match="of an unknown distribution"):
        shapes._load_plugin(point)

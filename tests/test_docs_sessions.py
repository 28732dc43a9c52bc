"""The terminal sessions in the documentation are what the commands print."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pyimgano.features.base import EXTRACTORS
from pyimgano.models.knn_index import INDEXES

DOCS = Path(__file__).parents[1] / "docs"
_SPEC = importlib.util.spec_from_file_location("docs_sessions", DOCS / "sessions.py")
assert _SPEC is not None
assert _SPEC.loader is not None
sessions = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sessions)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    for entry in (EXTRACTORS.entry("efficientnet_lite0"), INDEXES.entry("faiss")):
        if entry.metadata.missing:
            pytest.skip(f"the sessions were recorded with {entry.name}: {entry.metadata.pip_line}")
    found: dict[str, str] = sessions.run(tmp_path_factory.mktemp("sessions").resolve())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", sessions.SESSIONS)
def test_sessions_are_what_the_commands_print(printed: dict[str, str], name: str) -> None:
    committed = (DOCS / "sessions" / f"{name}.txt").read_text(encoding="utf-8")
    assert sessions.masked(printed[name]) == sessions.masked(committed), (
        "if the new text is right: python docs/sessions.py --write"
    )


def test_there_is_no_session_that_nobody_runs() -> None:
    assert {path.stem for path in (DOCS / "sessions").iterdir()} == set(sessions.SESSIONS)


def test_no_session_shows_a_fault_of_the_moment() -> None:
    for path in (DOCS / "sessions").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not [words for words in ("a bug", "not tried", "Traceback") if words in text], path


def test_what_varies_is_masked_and_nothing_else() -> None:
    text = "learned     60 good images of 256 x 256 px in 17.9 s\nerrors      a.png: is empty\n"
    other = text.replace("17.9", "3.25")
    assert sessions.masked(text) == sessions.masked(other)
    assert sessions.masked(text) != sessions.masked(text.replace("60", "59"))
    assert sessions.masked(text) != sessions.masked(text.replace("is empty", "is blank"))

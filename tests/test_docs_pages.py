"""What the pages say of columns, keys, verbs and figures is what the package does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fakes
from pyimgano.calibration import Conformal, false_reject_bound
from pyimgano.cli._app import app
from pyimgano.datasets.base import DATASETS, load_dataset
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.inspection import COLUMNS
from pyimgano.records import Region, images_needed
from pyimgano.runs.evaluate import evaluate
from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from pyimgano.registry import Registry

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in DOCS.rglob("*.md")
    if "_build" not in path.parts
}
ALL = "\n".join(PAGES.values())
FILES = PAGES["reference/files.md"]


def _names_below(heading: str) -> list[str]:
    """Names in the first column of the table below a heading of the page of files."""
    part = FILES.partition(f"# {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    root = write_demo(home / "parts", n_train=6, n_good=2, n_defect=2, size=(64, 64))
    parts = load_dataset("mvtec", root, category="flange")
    evaluate(fakes.CellDetector(), parts, home / "run")
    return home / "run"


def test_the_columns_of_the_table_are_named() -> None:
    assert _names_below("results.csv") == list(COLUMNS)


def test_the_keys_of_a_run_are_named(run_dir: Path) -> None:
    facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    # Here nothing stands out or was asked for, and two good images are too few to compare.
    asked = {"suspects_z", "tuned", "robustness", "drift", "hold_out"}
    assert set(_names_below("run.json")) - asked == set(facts)


def test_the_keys_of_a_line_are_named(run_dir: Path) -> None:
    named = set(re.findall(r"`(\w+)`", FILES.partition("# results.jsonl\n")[2].partition("\n#")[0]))
    lines = (run_dir / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[0])) - set(COLUMNS) <= named
    assert set(Region.__slots__) <= named


def test_every_verb_has_its_help_in_the_reference() -> None:
    commands: list[Any] = [one for one in app.registered_commands if not one.hidden]
    verbs = {(one.name or one.callback.__name__).rstrip("_") for one in commands}
    assert set(re.findall(r"\{verb\} ([\w-]+)", PAGES["reference/cli.md"])) == verbs


@pytest.mark.parametrize("registry", [DETECTORS, EXTRACTORS, DATASETS], ids=lambda one: one.kind)
def test_what_is_registered_is_in_the_api_pages(registry: Registry[Any]) -> None:
    ours = {one.value.__module__ for one in registry.entries()}
    for module in sorted(name for name in ours if name.startswith("pyimgano.")):
        assert f"automodule:: {module}\n" in ALL, module


def test_what_certifies_a_rate_is_what_is_computed() -> None:
    page = PAGES["how-to/threshold.md"]
    rows = re.findall(r"^\| ([\d.]+) % \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for rate, count in rows:
        assert images_needed(float(rate) / 100) == int(count)
    bounds = re.findall(r"^\| (\d+) \| (\S+) % \| (\S+) % \| (\S+) % \|$", page, re.MULTILINE)
    assert len(bounds) == 7
    for count, *shown in bounds:
        scores = np.arange(int(count), dtype=np.float64)
        ranks = [Conformal().choose(scores, asked).rank for asked in (0.05, 0.01, 1e-9)]
        found = [false_reject_bound(int(count), rank) for rank in ranks]
        assert [f"{100 * (bound or 1):.1f}" for bound in found] == shown


@pytest.mark.parametrize("folder", ["docs/sessions", "examples"])
def test_nothing_is_kept_that_no_page_shows(folder: str) -> None:
    for path in (DOCS.parent / folder).iterdir():
        if path.is_file():
            assert f"{folder.removeprefix('docs/')}/{path.name}" in ALL, path.name


def test_the_notebook_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_demo(tmp_path / "parts", n_train=20, n_good=7, n_defect=0, size=(96, 96))
    (made / "flange" / "train" / "good").rename(tmp_path / "good")
    (made / "flange" / "test" / "good").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGES["how-to/notebook.md"], re.DOTALL):
        exec(code, names)  # noqa: S102 - the blocks of our own page
    assert len(names["judged"]) == 7
    shown = (names["detector"].inspect("new/006.png"), names["one"])
    assert all("<img" in one._repr_html_() for one in shown)
    assert (tmp_path / "results.csv").is_file()

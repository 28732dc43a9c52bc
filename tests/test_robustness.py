"""Judging disturbed images at a frozen threshold: the table, the directory, the verb, the page."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fakes
from cli_calls import SMALL, call
from pyimgano.datasets.base import Dataset, load_dataset
from pyimgano.errors import InputError, ParameterError
from pyimgano.metrics import aupro, auroc
from pyimgano.runs.evaluate import evaluate
from pyimgano.runs.robustness import COLUMNS, robustness, write_robustness
from pyimgano.synthesis import write_demo
from pyimgano.synthesis.corruptions import CORRUPTIONS, corrupt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = write_demo(
        tmp_path_factory.mktemp("robust") / "parts",
        n_train=20,
        n_good=4,
        n_defect=6,
        size=(96, 96),
    )
    return load_dataset("mvtec", root, category="flange")


@pytest.fixture(scope="module")
def fitted(parts: Dataset) -> fakes.CellDetector:
    return fakes.CellDetector().fit(parts.train)


def test_the_clean_row_is_the_plain_evaluation(parts: Dataset, fitted: fakes.CellDetector) -> None:
    found = robustness(fitted, parts, corruptions=["noise"], severities=[2])
    plain = evaluate(fakes.CellDetector(), parts).metrics
    clean = found["rows"][0]
    assert (clean["corruption"], clean["severity"], clean["amount"]) == ("clean", 0, None)
    assert clean["auroc"] == plain["auroc"]
    assert clean["aupro_0.3"] == plain["aupro_0.3"]
    assert clean["false_rejects"] == plain["at_threshold"]["false_rejects"]["count"]
    assert clean["escapes"] == plain["at_threshold"]["escapes"]["count"]
    assert (clean["good"], clean["defective"], clean["errors"]) == (4, 6, 0)


def test_a_row_is_what_corrupted_files_would_give(
    parts: Dataset, fitted: fakes.CellDetector
) -> None:
    row = robustness(fitted, parts, corruptions=["rotation"], severities=[4])["rows"][1]
    pairs = [
        corrupt(
            image, "rotation", 4, mask=np.zeros(image.shape[:2], bool) if mask is None else mask
        )
        for image, mask in zip(parts.images("test"), parts.masks(), strict=True)
    ]
    images = [image for image, _ in pairs]
    assert row["auroc"] == auroc(parts.labels, fitted.decision_function(images))
    maps = [fitted.get_anomaly_map(image) for image in images]
    assert row["aupro_0.3"] == aupro([mask for _, mask in pairs], maps)
    verdicts = fitted.predict(images)
    assert row["false_rejects"] == verdicts[parts.labels == 0].sum()
    assert row["escapes"] == (verdicts[parts.labels == 1] == 0).sum()
    assert row["false_reject_rate"] == row["false_rejects"] / 4


def test_every_corruption_and_severity_has_a_row_and_the_worst_is_named(
    parts: Dataset, fitted: fakes.CellDetector
) -> None:
    seen: list[object] = []
    threshold = fitted.threshold_
    found = robustness(fitted, parts, severities=(5, 1, 5), progress=seen.append)
    rows = found["rows"]
    expected = [("clean", 0), *((name, grade) for name in CORRUPTIONS for grade in (1, 5))]
    assert [(row["corruption"], row["severity"]) for row in rows] == expected
    assert len(seen) == len(rows) * len(parts.test)
    assert all(tuple(row) == COLUMNS for row in rows)
    for name, pick in (("auroc", min), ("false_reject_rate", max), ("escape_rate", max)):
        assert found["worst"][name][name] == pick(row[name] for row in rows[1:])
    assert rows[2]["false_reject_rate"] > rows[0]["false_reject_rate"]  # light, gross
    assert fitted.threshold_ == threshold


def test_an_image_that_cannot_be_read_is_an_error_in_every_row(tmp_path: Path) -> None:
    root = write_demo(tmp_path / "parts", n_train=8, n_good=2, n_defect=2, size=(96, 96))
    data = load_dataset("mvtec", root, category="flange")
    broken = data.test[0].path
    broken.write_bytes(broken.read_bytes()[:200])
    fitted = fakes.CellDetector().fit(data.train)
    rows = robustness(fitted, data, corruptions=["shift"], severities=[1])["rows"]
    assert [row["errors"] for row in rows] == [1, 1]
    assert [row["good"] + row["defective"] for row in rows] == [3, 3]
    assert all(row["aupro_0.3"] is not None for row in rows)


def test_without_threshold_maps_or_defects_there_are_no_such_figures(
    parts: Dataset, tmp_path: Path
) -> None:
    bare = fakes.LevelDetector().fit(parts.train[:1])
    found = robustness(bare, parts, corruptions="jpeg", severities=[1])
    assert [row["good"] for row in found["rows"]] == [None, None]
    assert {row["aupro_0.3"] for row in found["rows"]} == {None}
    assert set(found["worst"]) == {"auroc"}
    root = write_demo(tmp_path / "good", n_train=6, n_good=2, n_defect=0, size=(96, 96))
    fine = load_dataset("mvtec", root, category="flange")
    whole = fakes.CellDetector().fit(fine.train)
    row = robustness(whole, fine, corruptions="jpeg", severities=[1])["rows"][1]
    assert (row["auroc"], row["escape_rate"], row["defective"]) == (None, None, 0)


def test_nothing_to_do_is_refused(parts: Dataset, fitted: fakes.CellDetector) -> None:
    with pytest.raises(ParameterError, match="at least one corruption and one severity"):
        robustness(fitted, parts, severities=[])
    with pytest.raises(ParameterError, match="no corruption 'fog'"):
        robustness(fitted, parts, corruptions=["fog"])


def test_the_verb_adds_a_table_to_the_run(shared_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ("evaluate", "--root", shared_parts, "--out", out, *SMALL)
    ended = call(*given, "--corruptions", "noise,shift", "--severity", "1,4")
    assert ended.code == 0
    assert "judging disturbed images" in ended.err
    for word in ("disturbed by", "clean", "noise", "shift"):
        assert word in ended.out
    facts = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "complete"
    with (out / "robustness.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [row["corruption"] for row in table] == ["clean", "noise", "noise", "shift", "shift"]
    for row, told in zip(table, facts["robustness"]["rows"], strict=True):
        for name in COLUMNS:
            assert row[name] == ("" if told[name] is None else str(told[name]))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Disturbed images" in page
    assert "Worst escapes" in page
    assert call("report", out).code == 0
    assert (out / "report.html").read_text(encoding="utf-8") == page
    answer = call(*given, "--json", "--corruptions", "jpeg", "--severity", "2")
    assert [row["severity"] for row in json.loads(answer.out)["robustness"]["rows"]] == [0, 2]
    assert call(*given).code == 0  # a plain run leaves no table of an older one
    assert not (out / "robustness.csv").exists()
    assert "Disturbed images" not in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--corruptions", "fog"), "no corruption 'fog'"),
        (("--corruptions", "all", "--severity", "1,x"), "whole number from 1 to 5"),
    ],
)
def test_wrong_words_are_refused_before_any_work(
    shared_parts: Path, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ended = call("evaluate", "--root", shared_parts, "--out", tmp_path / "run", *SMALL, *words)
    assert ended.code == 2
    assert told in " ".join(ended.err.split())
    assert not (tmp_path / "run").exists()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_robustness(tmp_path, {"rows": [], "worst": {}, "seed": 0})

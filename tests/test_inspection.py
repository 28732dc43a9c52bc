"""What a detector says of an image and of a batch; the table that goes to a spreadsheet."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimgano.errors import InputError, MissingExtra, OutputError
from pyimgano.inspection import COLUMNS, Inspection, Inspections, Verdict
from pyimgano.records import Region, Sample

if TYPE_CHECKING:
    from pathlib import Path

REGION = Region((1, 2, 5, 6), area=16.0, area_fraction=0.25, centroid=(3.0, 4.0), peak=7.0)


def ok(**changed: Any) -> Inspection:
    facts = {"source": "a.png", "score": 1.0, "label": 0, "verdict": Verdict.OK, "threshold": 2.0}
    return Inspection(**{**facts, **changed})


def ng(**changed: Any) -> Inspection:
    return ok(**{"score": 3.0, "label": 1, "verdict": Verdict.NG, "regions": (REGION,), **changed})


def error(**changed: Any) -> Inspection:
    return Inspection(**{"source": "e.png", "verdict": Verdict.ERROR, "error": "torn", **changed})


@pytest.mark.parametrize(
    "facts",
    [
        {"verdict": Verdict.ERROR},
        {"verdict": Verdict.OK, "score": 1.0, "error": "why"},
        {"verdict": Verdict.ERROR, "error": "why", "score": 1.0},
        {"verdict": Verdict.ERROR, "error": "why", "label": 0},
        {"verdict": Verdict.OK, "label": 0},
        {},
    ],
)
def test_contradictions_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"x\.png"):
        Inspection(source="x.png", **facts)


def test_records_are_frozen_and_their_maps_read_only() -> None:
    record = ok(map=np.zeros((2, 2), np.float32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.score = 0.0
    with pytest.raises(ValueError, match="read-only"):
        record.map[0, 0] = 1


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (error(), "torn"),
        (ok(verdict=None, label=-1, threshold=None), "score 1; no threshold was calibrated"),
        (ok(), "score 1 is not above the threshold 2"),
        (ng(), "score 3 is above the threshold 2: 1 region, the strongest at (1, 2, 5, 6)"),
        (
            ng(regions=(REGION, REGION)),
            "score 3 is above the threshold 2: 2 regions, the strongest at (1, 2, 5, 6)",
        ),
        (ng(regions=()), "score 3 is above the threshold 2: whole-image deviation"),
    ],
)
def test_the_verdict_in_words(record: Inspection, reason: str) -> None:
    assert record.reason == reason


def test_rows_hold_the_facts_of_a_sample() -> None:
    sample = Sample("d/1.png", split="test", category="nut", defect="crack", label=1)
    row = ng(source=sample).row()
    assert tuple(row) == COLUMNS
    assert row == {
        "path": "d/1.png",
        "category": "nut",
        "split": "test",
        "defect": "crack",
        "label": 1,
        "score": 3.0,
        "threshold": 2.0,
        "verdict": "NG",
        "n_regions": 1,
        "area_fraction": 0.25,
        "error": "",
    }
    assert ok(source=Sample("u.png")).row()["defect"] == ""


def test_rows_of_errors_and_of_uncalibrated_models_leave_cells_empty() -> None:
    row = error().row()
    assert [row[k] for k in ("score", "n_regions", "area_fraction")] == [None] * 3
    assert (row["verdict"], row["error"], row["label"]) == ("ERROR", "torn", None)
    assert ok(verdict=None, threshold=None, label=-1).row()["verdict"] == ""


def batch() -> Inspections:
    return Inspections([ok(), ng(map=np.ones((2, 3), np.float32)), error()])


def test_a_batch_is_an_immutable_sequence() -> None:
    found = batch()
    assert len(found) == 3
    assert isinstance(found[1:], Inspections)
    assert [one.path for one in found[1:]] == ["a.png", "e.png"]
    assert found[-1].verdict is Verdict.ERROR
    assert [one.verdict for one in found] == ["OK", "NG", "ERROR"]
    with pytest.raises(TypeError):
        found[0] = ok()


def test_columns_of_a_batch() -> None:
    found = batch()
    assert found.scores.dtype == np.float64
    np.testing.assert_array_equal(found.scores, [1, 3, math.nan])
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 1, -1]
    assert found.maps[0] is found.maps[2] is None
    assert found.maps[1].shape == (2, 3)
    assert [one.error for one in found.errors] == ["torn"]


def test_counts_in_words() -> None:
    found = batch()
    assert found.count(Verdict.NG) == 1
    assert found.count(found[0]) == 1
    assert found.summary() == "1 of 3 could not be judged; 1 OK, 1 NG"
    assert found[:2].summary() == "1 OK, 1 NG"
    assert repr(found) == "<Inspections: 1 of 3 could not be judged; 1 OK, 1 NG>"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_csv_keeps_all_digits() -> None:
    score = 0.1 + 0.2
    row = read(Inspections([ok(score=score, threshold=np.float64(1 / 3))]).to_csv())[0]
    assert float(row["score"]) == score
    assert row["threshold"] == repr(1 / 3)


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)


@given(text=texts)
def test_csv_holds_any_text_and_no_formula(text: str) -> None:
    row = read(Inspections([error(error=text)]).to_csv())[0]
    shown = row["error"]
    assert not shown.startswith(("=", "+", "-", "@", "\t"))
    whole = text.replace("\r", r"\r")
    assert shown == (f"'{whole}" if whole.startswith(("=", "+", "-", "@", "\t")) else whole)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_formulas_are_disarmed(start: str) -> None:
    found = Inspections([ok(source=f"{start}HYPERLINK(1)")])
    assert read(found.to_csv())[0]["path"] == f"'{start}HYPERLINK(1)"


def test_a_carriage_return_does_not_break_a_row() -> None:
    rows = read(Inspections([ok(source="a\rb.png"), ok(source='c\n"d",.png')]).to_csv())
    assert [row["path"] for row in rows] == [r"a\rb.png", 'c\n"d",.png']


def test_negative_numbers_are_no_formulas() -> None:
    assert read(Inspections([ok(score=-1.5)]).to_csv())[0]["score"] == "-1.5"


def test_csv_is_written_whole_with_undecodable_names_escaped(tmp_path: Path) -> None:
    found = Inspections([ok(source=Sample(b"pr\xfcf.png".decode("utf-8", "surrogateescape")))])
    target = tmp_path / "r.csv"
    found.to_csv(target)
    assert target.read_bytes().splitlines()[1].startswith(b"pr\\udcfcf.png")
    text = batch().to_csv(target)
    assert target.read_bytes() == text.encode()
    with pytest.raises(OutputError, match="cannot write"):
        found.to_csv(tmp_path / "none" / "r.csv")


def test_notebooks_show_a_table_with_escaped_text() -> None:
    shown = Inspections([error(error="<b>"), ok(score=1 / 3)])._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "0.3333" in shown
    assert shown.count("<tr>") == 3
    assert Inspections([ok()] * 150)._repr_html_().count("<tr>") == 101


def test_a_notebook_shows_verdict_reason_and_picture(tmp_path):
    from PIL import Image

    path = tmp_path / "<part>.png"
    Image.fromarray(
        np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    ).save(path)
    drawn = np.linspace(0, 4, 64 * 64, dtype=np.float32).reshape(64, 64)
    facts = {"score": 3.0, "label": 1, "verdict": Verdict.NG, "threshold": 2.0}
    shown = Inspection(source=str(path), map=drawn, pixel_threshold=2.0, **facts)._repr_html_()
    assert "<b>NG</b>" in shown
    assert "&lt;part&gt;.png" in shown
    assert "<part>" not in shown
    assert 'src="data:image/png;base64,iVBOR' in shown
    gone = Inspection(source="array (64, 64, 3)", map=drawn, **facts)._repr_html_()
    assert "<img" not in gone
    assert "above the threshold 2" in gone
    assert "<img" not in Inspection(source=str(path), **facts)._repr_html_()
    broken = Inspection(source="x", verdict=Verdict.ERROR, error="cannot be read")._repr_html_()
    assert "<b>ERROR</b> x: cannot be read" in broken


def test_a_frame_has_the_columns_and_digits_of_the_table() -> None:
    pandas = pytest.importorskip("pandas")
    sample = Sample("d/1.png", split="test", category="nut", defect="crack", label=1)
    undecodable = Sample(b"pr\xfcf.png".decode("utf-8", "surrogateescape"))
    score = 0.1 + 0.2
    found = Inspections([ng(source=sample, score=score), ok(source=undecodable), error()])
    frame = found.to_frame()
    assert tuple(frame.columns) == COLUMNS
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert kinds == {
        **dict.fromkeys(COLUMNS, "string"),
        **dict.fromkeys(("label", "n_regions"), "Int64"),
        **dict.fromkeys(("score", "threshold", "area_fraction"), "Float64"),
    }
    assert frame["score"].tolist()[0] == score
    assert frame["path"].tolist()[1] == "pr\\udcfcf.png"
    table = pandas.read_csv(
        io.StringIO(found.to_csv().encode("utf-8", "backslashreplace").decode()), dtype=kinds
    )
    pandas.testing.assert_frame_equal(frame, table)
    assert frame.loc[2].isna().tolist() == [
        name not in {"path", "verdict", "error"} for name in COLUMNS
    ]
    assert Inspections([]).to_frame().dtypes.equals(frame.dtypes)


def test_without_pandas_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r'to_frame needs .* pip install "pyimgano\[pandas\]"'):
        batch().to_frame()

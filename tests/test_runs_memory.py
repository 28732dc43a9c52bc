"""Runs of very many images: rows are read when they are asked for, and numbers alone stay."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pyimgano
from pyimgano.errors import InputError
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.facts import open_run, read_run
from pyimgano.runs.report import write_report
from report_pages import broken, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyimgano.inspection import Inspection


def written(folder: Path, n: int) -> Path:
    with RunWriter(folder, command="predict", overlays="none") as run:
        for i in range(n):
            path = f"parts/{i:06d}.png"
            run.add(part(path, 1 + i / n, None, map=None) if i % 50 else broken(path))
    return folder


def peak(step: Callable[[], object]) -> int:
    tracemalloc.start()
    step()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_rows_read_one_by_one_are_those_read_at_once(tmp_path: Path) -> None:
    facts, rows = open_run(written(tmp_path, 60))
    assert (facts, list(rows)) == read_run(tmp_path)
    assert len(rows) == 60
    assert [rows[0], rows[-1], *rows[5:8]] == [read_run(tmp_path)[1][i] for i in (0, 59, 5, 6, 7)]
    with pytest.raises(IndexError):
        rows[60]
    assert "regions" not in read_run(tmp_path, leave_out={"regions"})[1][1]


def test_a_damaged_row_is_named_however_it_is_read(tmp_path: Path) -> None:
    lines = (written(tmp_path, 3) / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", lines[2]]))
    _, rows = open_run(tmp_path)
    assert rows[2]["path"] == "parts/000002.png"
    for read in (lambda: rows[1], lambda: list(rows), lambda: write_report(tmp_path)):
        with pytest.raises(InputError, match=r"results\.jsonl cannot be read .*run it again"):
            read()
    (tmp_path / "results.jsonl").unlink()
    with pytest.raises(InputError, match="run it again"):
        rows[0]


def test_a_report_keeps_numbers_alone_of_an_image(tmp_path: Path) -> None:
    few, many = (written(tmp_path / str(n), n) for n in (300, 2300))
    write_report(few)  # what is loaded once
    grown = peak(lambda: write_report(many)) - peak(lambda: write_report(few))
    assert grown < 300 * 2000  # a row takes 1.4 kB


def test_drift_takes_images_as_they_are_judged(shared_model: Path) -> None:
    detector = pyimgano.load(shared_model)
    look = detector.looks_.mean(axis=0)

    def judged(n: int) -> Iterator[Inspection]:
        for i in range(n):
            drawn = np.zeros((64, 64), np.float32)
            yield part(f"{i}.png", 1.0, None, map=drawn, look=look.copy())

    found = detector.drift(judged(20))
    assert found is not None
    assert (found.n, found.enough) == (20, True)
    grown = peak(lambda: detector.drift(judged(2000))) - peak(lambda: detector.drift(judged(100)))
    assert grown < 500 * 1900  # a map is 16 kB

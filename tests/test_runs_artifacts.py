"""A run directory tells the truth however the run ends."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimgano
from pyimgano.errors import InputError, OutputError, ParameterError
from pyimgano.images import read_image
from pyimgano.inspection import COLUMNS, Inspection, Inspections, Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.records import Region, Sample
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.facts import plain, read_facts, read_run, to_json

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def judged(source: Sample | str, score: float = 1.0, **more: Any) -> Inspection:
    label = int(score > 2)
    values = {
        "label": label,
        "verdict": Verdict.NG if label else Verdict.OK,
        "threshold": 2.0,
        "pixel_threshold": 2.0,
        "map": np.full((40, 30), score, np.float32),
        "regions": (Region((1, 2, 9, 12), 80.0, 80 / 1200, (5.0, 7.0), score),) if label else (),
    }
    return Inspection(source=source, score=score, **{**values, **more})


def failed(source: str) -> Inspection:
    return Inspection(source=source, verdict=Verdict.ERROR, error="truncated", threshold=2.0)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> list[str]:
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())


def write(out: Path, *items: Inspection, **options: Any) -> None:
    with RunWriter(out, command="predict", **options) as run:
        for item in items:
            run.add(item, IMAGE)


def test_of_two_runs_within_a_second_the_newer_is_known(tmp_path: Path) -> None:
    for name in ("b", "a"):
        with RunWriter(tmp_path / name, command="predict"):
            pass
    newer, older = (read_facts(tmp_path / name) for name in ("a", "b"))
    assert older["started"] < newer["started"]


def test_a_complete_run(tmp_path: Path) -> None:
    sample = Sample(
        Path("parts/screw/0.png"), split="test", category="screw", defect="cut", label=1
    )
    items = [judged(sample, 3.5), judged("b.png", 1.25), failed("c.png")]
    with RunWriter(tmp_path / "deep" / "run", command="predict", maps=True) as run:
        run.note(threshold=2.0, detector={"name": "vision_patchcore"})
        for item in items:
            run.add(item, IMAGE)
        run.note(metrics={"auroc": math.nan})
    facts, rows = read_run(run.out)
    assert facts["status"] == "complete"
    assert facts["reason"] is None
    assert facts["counts"] == {"images": 3, "OK": 1, "NG": 1, "ERROR": 1, "undecided": 0}
    assert facts["detector"] == {"name": "vision_patchcore"}
    assert facts["metrics"] == {"auroc": None}
    assert facts["versions"]["pyimgano"] == pyimgano.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["machine"]["threads"] >= 1
    assert facts["seconds"] > 0
    assert facts["started"].endswith("+00:00")
    assert (run.out / "results.csv").read_text("utf-8") == Inspections(items).to_csv()
    assert [{name: row[name] for name in COLUMNS} for row in rows] == [i.row() for i in items]
    assert rows[0]["regions"] == [
        {
            "bbox": [1, 2, 9, 12],
            "area": 80.0,
            "area_fraction": 80 / 1200,
            "centroid": [5.0, 7.0],
            "peak": 3.5,
        }
    ]
    assert rows[0]["reason"] == items[0].reason
    fewer = [{k: v for k, v in row.items() if k != "regions"} for row in rows]
    assert read_run(run.out, leave_out={"regions"}) == (facts, fewer)
    assert [row["overlay"] for row in rows] == [
        "overlays/00000-screw-0.png",
        "overlays/00001-b.png",
        None,
    ]
    assert [row["map"] for row in rows] == ["maps/00000-screw-0.npy", "maps/00001-b.npy", None]
    assert files(run.out) == sorted(
        ["results.csv", "results.jsonl", "run.json"]
        + [row[key] for row in rows for key in ("overlay", "map") if row[key]]
    )
    stored = np.load(run.out / rows[1]["map"], allow_pickle=False)
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, items[1].map)


def test_formulas_in_file_names_do_not_run(tmp_path: Path) -> None:
    name = '=cmd|" /C calc"!A0,\n.png'
    write(tmp_path, judged(name), overlays="none")
    assert table(tmp_path)[0]["path"] == "'" + name
    assert read_run(tmp_path)[1][0]["path"] == name


def test_names_are_unique_safe_and_short(tmp_path: Path) -> None:
    long = "é检" * 60
    sources = [
        "a/0.png",
        "b/0.png",
        "a/0.png",
        f"{long}/{long}.png",
        'c<>:"|?*\\\n\udcff.png',
        "",
        "..",
    ]
    write(tmp_path, *map(judged, sources))
    rows = read_run(tmp_path)[1]
    assert [row["path"] for row in rows] == sources
    names = [Path(row["overlay"]).name for row in rows]
    assert len(set(names)) == len(sources)
    assert names[:2] == ["00000-a-0.png", "00001-b-0.png"]
    for name in names:
        assert (tmp_path / "overlays" / name).is_file()
        assert len(os.fsencode(name)) <= 255
        assert not set(name) & set('<>:"|?*\\\n\udcff')
    assert "\\udcff" in (tmp_path / "results.csv").read_text("utf-8")


def test_the_picture_is_the_image_its_map_and_both(tmp_path: Path) -> None:
    wide = np.zeros((400, 1280, 3), np.uint8)
    with RunWriter(tmp_path, command="predict") as run:
        run.add(judged("tall", 3.5), IMAGE)
        run.add(judged("wide", map=np.ones((400, 1280), np.float32)), wide)
        run.add(judged("16 bit, no map", map=None), IMAGE.astype(np.uint16) * 16)
    rows = read_run(tmp_path)[1]
    tall, small, alone = (read_image(tmp_path / row["overlay"]) for row in rows)
    assert [row["panels"] for row in rows] == [3, 3, 1]
    np.testing.assert_array_equal(tall[:, :30], IMAGE)
    assert tall.shape == (40, 30 + 4 + 30 + 4 + 30, 3)
    assert (tall[:, [*range(30, 34), *range(64, 68)]] == 255).all()
    assert (tall[:, 68:] != IMAGE).mean() > 0.5
    assert small.shape == (200, 3 * 640 + 8, 3)
    np.testing.assert_array_equal(alone, IMAGE)


def test_ng_keeps_pictures_of_what_is_ng_or_known_to_be_defective(tmp_path: Path) -> None:
    missed = Sample(Path("missed.png"), label=1, defect="cut")
    write(tmp_path, judged("ok"), judged("ng", 3), judged(missed), failed("e"), overlays="ng")
    rows = read_run(tmp_path)[1]
    assert [bool(row["overlay"]) for row in rows] == [False, True, True, False]


def test_the_image_is_read_again_if_it_is_not_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(encode_png(IMAGE))
    caplog.set_level(logging.WARNING)
    with RunWriter(tmp_path / "run", command="predict") as run:
        run.add(judged(Sample(path)))
        run.add(judged("array (40, 30, 3) of uint8"))
        run.add(judged(str(path), map=np.full((40, 30), np.nan, np.float32)))
    rows = read_run(tmp_path / "run")[1]
    assert [bool(row["overlay"]) for row in rows] == [True, False, False]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "no picture of array (40, 30, 3) of uint8",
        f"no picture of {path}",
    ]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.5, np.float16),
        (60000, np.float16),
        (1e5, np.float32),
        (1e-6, np.float32),
        (0, np.float32),
    ],
)
def test_maps_are_float16_where_that_keeps_them(tmp_path: Path, value: float, dtype: type) -> None:
    write(tmp_path, judged("a", map=np.full((40, 30), value, np.float32)), maps=True)
    stored = np.load(tmp_path / "maps" / "00000-a.npy", allow_pickle=False)
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored.astype(np.float32), np.float32(value), rtol=1e-3)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("camera gone"), "failed", "RuntimeError: camera gone"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_what_was_judged_before_the_end_stands(
    tmp_path: Path, error: BaseException, status: str, reason: str
) -> None:
    def work() -> None:
        with RunWriter(tmp_path, command="predict") as run:
            run.add(judged("a"), IMAGE)
            run.add(failed("b"))
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    facts, rows = read_run(tmp_path)
    assert (facts["status"], facts["reason"], facts["counts"]["images"]) == (status, reason, 2)
    assert [row["path"] for row in rows] == [row["path"] for row in table(tmp_path)] == ["a", "b"]
    assert files(tmp_path) == ["overlays/00000-a.png", "results.csv", "results.jsonl", "run.json"]
    assert not list(tmp_path.glob(".partial-*"))


def test_rows_stream_and_a_row_is_whole_or_absent_when_the_disk_is_full(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def work() -> None:
        with RunWriter(tmp_path, command="predict", overlays="none") as run:
            run.add(judged("a"))
            (stage,) = tmp_path.glob(".partial-*")
            assert len((stage / "results.jsonl").read_bytes().splitlines()) == 1
            size = (stage / "results.csv").stat().st_size  # jsonl is longer: it breaks first
            limit = (stage / "results.jsonl").stat().st_size + 40
            assert limit > size
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                run.add(judged("b"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with pytest.raises(OutputError, match="has room"):
        work()
    facts, rows = read_run(tmp_path)
    assert facts["status"] == "failed"
    assert facts["reason"].startswith("OutputError")
    assert [row["path"] for row in rows] == [row["path"] for row in table(tmp_path)] == ["a"]


def test_a_new_run_replaces_the_old_one_only_at_its_end(tmp_path: Path) -> None:
    write(tmp_path, judged("old 1"), judged("old 2"), maps=True)
    (tmp_path / "report.html").write_text("old")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with RunWriter(tmp_path, command="predict", overlays="none") as run:
        run.add(judged("new"))
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert [row["path"] for row in read_run(tmp_path)[1]] == ["new"]
    assert files(tmp_path) == ["results.csv", "results.jsonl", "run.json"]


def test_no_images_is_a_run_too(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_run(tmp_path)[1] == []
    assert table(tmp_path) == []
    assert read_run(tmp_path)[0]["counts"]["images"] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', "\xff"])
def test_a_directory_of_something_else_is_refused_untouched(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(OutputError, match="something else than a run"):
        write(tmp_path)
    assert files(tmp_path) == ["run.json"]


def test_a_file_and_a_folder_of_photos_are_refused(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"")
    with pytest.raises(OutputError, match=r"photo\.png is a file; give a directory"):
        write(photo)
    with pytest.raises(OutputError, match="give a new or empty directory"):
        write(tmp_path)
    with pytest.raises(OutputError, match="choose a place"):
        write(photo / "below")


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'some'"):
        RunWriter(tmp_path, command="predict", overlays="some")
    run = RunWriter(tmp_path, command="predict", overlays="none")
    with pytest.raises(ParameterError, match="with block"):
        run.add(judged("a"))
    with run:
        with pytest.raises(ParameterError, match="counts, status"):
            run.note(status="fine", counts={})
        with pytest.raises(ParameterError, match="set"):
            run.note(data={1, 2})
    with pytest.raises(ParameterError, match="with block"):
        run.add(judged("a"))


def test_a_directory_without_a_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        read_run(tmp_path)
    write(tmp_path, judged("a"), overlays="none")
    (tmp_path / "results.jsonl").write_bytes(b'{"path": "a", "sco')
    with pytest.raises(InputError, match="run it again"):
        read_run(tmp_path)


@dataclass(frozen=True)
class Size:
    height: int
    ratio: float


def test_facts_become_json() -> None:
    facts = {
        "scalars": [None, True, "ü\udcff", np.int64(3), np.float32(0.5)],
        "not finite": (math.inf, np.float64(np.nan), np.array([1.0, -np.inf])),
        "objects": {"path": Path("a"), "size": Size(3, math.nan), 5: Verdict.OK},
    }
    expected = {
        "scalars": [None, True, "ü\udcff", 3, 0.5],
        "not finite": [None, None, [1.0, None]],
        "objects": {"path": "a", "size": {"height": 3, "ratio": None}, "5": "OK"},
    }
    assert plain(facts) == expected
    assert json.loads(to_json(facts)) == expected
    with pytest.raises(ParameterError, match="type"):
        plain(Size)

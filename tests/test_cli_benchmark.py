"""``pyimgano benchmark``: what is typed, and what is said."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from cli_calls import SMALL, call, write_parts
from pyimgano.threads import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_parts(tmp_path_factory.mktemp("benchmark") / "data").parent
    shutil.copytree(root / "flange", root / "ring")
    return root


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--shots", "0"), "--shots takes whole numbers from 1 on"),
        (("--shots", "1,,2"), "commas between them, or full; got '1,,2'"),
        (("--shots", "all"), "got 'all'"),
        (("--shots", "-1"), "got '-1'"),
        (("--shots", "²"), "got '²'"),
        (("--seeds", "full"), "--seeds takes whole numbers from 0 on, with commas between them; "),
        (("--detector", "padim"), "did you mean 'vision_padim'?"),
        (("--detector", "vision_padim", "--detector", "x"), "unknown detector 'x'"),
        (("--extractor", "handcraft"), "did you mean 'handcrafted'?"),
        (("--dataset", "mvtek"), "did you mean 'mvtec'"),
        (("--category", "flang"), "did you mean 'flange'?"),
        (("--set", "max_image=1"), "did you mean 'max_images'?"),
        (("--false-reject", "no"), "--false-reject must be a share"),
        (("--overlays", "some"), "'--overlays': 'some' is not one of 'all', 'ng', 'none'"),
        (("--workers", "3"), "workers must lie between 1 and the number of threads, 2; got 3"),
        (("--cache-limit", "-1"), "'--cache-limit'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(data, tmp_path, monkeypatch, given, words):
    monkeypatch.setenv(VARIABLE, "2")
    ended = call("benchmark", "--root", data, "--out", tmp_path / "out", *given)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_setting_goes_to_the_detectors_that_know_it(data, tmp_path):
    ended = call(
        *("benchmark", "--root", data, "--out", tmp_path / "out", "--category", "ring", *SMALL),
        *("--detector", "vision_padim", "--detector", "vision_patchcore", "--shots", "4"),
        *("--set", "coreset=0.2", "--seeds", "0,1", "--json"),
    )
    assert ended.code == 0
    rows = json.loads(ended.out)["rows"]
    assert {(row["detector"], "coreset=0.2" in row["command"]) for row in rows} == {
        ("vision_padim", False),
        ("vision_patchcore", True),
    }
    assert sorted(row["seed"] for row in rows) == [0, 0, 1, 1]
    assert all("--false-reject" not in row["command"] for row in rows), "that is the default"


def test_all_takes_what_runs_here_and_lines_tell_how_far_it_is(data, tmp_path):
    ended = call(
        *("benchmark", "--root", data, "--out", tmp_path / "out", "--shots", "1,20"),
        *("--detector", "vision_padim", "--extractor", "all", *SMALL[2:]),
    )
    assert ended.code == 1
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["extractor"] for row in rows} >= {"handcrafted", "efficientnet_lite0"}
    assert {row["category"] for row in rows} == {"flange", "ring"}
    lines = ended.err.splitlines()
    assert len(lines) == len(rows)
    named = "flange vision_padim handcrafted 20 shots seed 0: complete"
    assert any(line.endswith(f"of {len(rows)}: {named}") for line in lines)
    said = " ".join(ended.out.split())
    assert "failed flange vision_padim" in said
    assert "needs at least two good images" in said
    facts = json.loads((tmp_path / "out" / "benchmark.json").read_bytes())
    assert facts["command"] == (
        f"pyimgano benchmark --dataset mvtec --root {data} --detector vision_padim "
        "--extractor all --shots 1,20 --seeds 0 --false-reject 5% --set size=96 --set pad=32 "
        f"--out {tmp_path / 'out'}"
    )


def test_detectors_without_features_take_no_extractor(data, tmp_path, named_fakes):
    ended = call(
        *("benchmark", "--root", data / "ring", "--out", tmp_path / "out", "--json"),
        *("--detector", "cells", "--extractor", "handcrafted"),
    )
    assert ended.code == 0
    (row,) = json.loads(ended.out)["rows"]
    assert (row["extractor"], row["category"], row["status"]) == ("", "ring", "complete")


def test_the_table_fits_a_narrow_terminal_and_says_once_what_is_shared(data, tmp_path):
    typed = ("benchmark", "--root", data, "--detector", "vision_padim", *SMALL, "--shots", "8,full")
    ended = call(*typed, "--out", tmp_path / "one")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "all results vision_padim, handcrafted, size=96, pad=32, seed 0"
    assert lines[2].split() == ["category", "shots", "AUROC", "AUPRO", "0.3"]
    assert [line.split()[:2] for line in lines[4:8]] == [
        [name, shots] for name in ("flange", "ring") for shots in ("all", "8")
    ]
    ended = call(
        *typed,
        "--detector",
        "vision_patchcore",
        "--contaminated",
        "0%,10%",
        "--multi-class",
        "-q",
        *("--out", tmp_path / "many"),
    )
    assert ended.out == "16 results, 0 failed\n"
    ended = call(
        *typed,
        "--detector",
        "vision_patchcore",
        "--contaminated",
        "0%,10%",
        "--multi-class",
        *("--out", tmp_path / "many"),
    )
    assert "all results handcrafted, size=96, pad=32, seed 0\n" in ended.out
    assert "methods     1: vision_padim, multi-class\n" in ended.out
    assert "4: vision_patchcore, multi-class, contaminated-10%\n" in ended.out
    assert ended.err.count("result 16 of 16: ") == 1
    told = [line for line in ended.out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, told)) <= 80


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--tile", "64:8"), "--tile 64:8"),
        (("--tile", "64", "--align", "auto"), "--align auto --tile 64:8"),
        (("--align", "auto"), "--align auto"),
        ((), ""),
    ],
)
def test_the_line_that_measures_again_has_the_view(data, tmp_path, given, told):
    ended = call(
        *("benchmark", "--root", data, "--out", tmp_path / "out", "--category", "ring", *SMALL),
        *("--detector", "vision_patchcore", "--shots", "4", "--json", *given),
    )
    assert ended.code == 0, ended.err
    [row] = json.loads(ended.out)["rows"]
    assert told in row["command"]
    assert ("--align" in row["command"], "--tile" in row["command"]) == (
        "--align" in given,
        "--tile" in given,
    )
    typed = json.loads((tmp_path / "out" / "benchmark.json").read_text())["command"]
    assert all(str(word) in typed for word in given)


def test_the_default_left_as_it_lies_says_so(data, tmp_path):
    ended = call(
        *("benchmark", "--root", data, "--out", tmp_path / "out", "--category", "ring", *SMALL),
        *("--shots", "4", "--json", "--align", "off"),
    )
    [row] = json.loads(ended.out)["rows"]
    assert "--align off" in row["command"]
    assert "align=off" in row["settings"]

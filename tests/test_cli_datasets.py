"""Data sets on the command line: the options of their readers, and what is wrong in them."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_calls import SMALL, call, write_parts
from miniatures import ksdd, realiad, visa
from pyimgano.datasets.base import load_dataset
from pyimgano.maps.overlay import encode_png
from pyimgano.runs.facts import read_facts
from pyimgano.runs.rows import COSTS

if TYPE_CHECKING:
    from pathlib import Path

PADIM = ("--detector", "vision_padim", *SMALL)


def textured(root: Path, pattern: str) -> Path:
    """Give the images of a miniature a texture; none is blank any more."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for path in sorted(root.rglob(pattern)):
        with Image.open(path) as image:
            size = image.size[::-1]
        Image.fromarray(generator.integers(0, 255, size, np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    return textured(ksdd(tmp_path_factory.mktemp("ksdd") / "data"), "*.jpg")


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- options --------------------------------------------------------------------------------------


def test_an_option_reaches_the_reader_the_run_and_the_report(parts, tmp_path):
    out = tmp_path / "run"
    typed = ("--dataset", "ksdd", "--root", parts, "--data-option", "fold=1", "--out", out)
    ended = call("evaluate", *typed, *PADIM)
    assert ended.code == 0, ended.err
    assert "(fold=1): 6 good images" in " ".join(ended.out.split())
    assert read_facts(out)["data"]["options"] == {"fold": 1}
    assert "options.fold" in (out / "report.html").read_text("utf-8")
    with (out / "results.csv").open(newline="") as file:
        judged = [row["path"] for row in csv.DictReader(file)]
    assert judged == [str(one.path) for one in load_dataset("ksdd", parts, fold=1).test]


def test_a_number_is_a_name_where_names_are_asked_for(tmp_path):
    root = textured(realiad(tmp_path / "data"), "*.jpg")
    typed = ("--dataset", "realiad", "--category", "usb", "--data-option", "resolution=256")
    ended = call("check", root, *typed, "--json")
    assert json.loads(ended.out)["data"]["options"] == {
        "protocol": "realiad_jsons",
        "resolution": "256",
    }


@pytest.mark.parametrize("verb", ["evaluate", "benchmark", "check"])
@pytest.mark.parametrize(
    ("dataset", "given", "words"),
    [
        ("ksdd", ("fodl=1",), "data set ksdd has no option 'fodl'; did you mean 'fold'?"),
        ("ksdd", ("zzz=1",), "data set ksdd has no option 'zzz'; it has: fold"),
        ("mvtec", ("fold=1",), "data set mvtec has no option 'fold'; it has: none"),
        ("ksdd", ("fold",), "--data-option takes KEY=VALUE; got 'fold'"),
        ("ksdd", ("fold=many",), "--data-option fold=many: fold must be a whole number"),
        ("ksdd", ("fold=1", "fold=2"), "fold is given twice"),
        ("ksdd", ("fold=3",), "fold must be 0, 1 or 2, got 3"),
        ("ksdt", ("fold=1",), "did you mean 'ksdd'"),
    ],
)
def test_what_no_reader_can_take_is_refused(parts, tmp_path, verb, dataset, given, words):
    place = (parts,) if verb == "check" else ("--root", parts, "--out", tmp_path / "out")
    typed = [word for option in given for word in ("--data-option", option)]
    ended = call(verb, *place, "--dataset", dataset, *typed)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert not (tmp_path / "out").exists()


def test_a_benchmark_tells_options_apart_and_its_commands_repeat_them(tmp_path):
    root = textured(visa(tmp_path / "data"), "*.JPG")
    out = tmp_path / "out"
    typed = ("benchmark", "--dataset", "visa", "--root", root, "--category", "candle", *PADIM)
    for split in ("1cls", "2cls_fewshot"):
        ended = call(*typed, "--data-option", f"split={split}", "--out", out, "-q")
        assert ended.code == 0, ended.err
    found = {row["protocol"]: row for row in rows(out)}
    assert found.keys() == {"one-class", "one-class, split=2cls_fewshot"}
    assert "--data-option" not in found["one-class"]["command"], "that is the default"
    few = found["one-class, split=2cls_fewshot"]
    assert (few["n_train"], found["one-class"]["n_train"]) == ("3", "10")
    assert "--data-option split=2cls_fewshot" in few["command"]
    assert (
        "--data-option split=2cls_fewshot"
        in json.loads((out / "benchmark.json").read_text("utf-8"))["command"]
    )
    again = tmp_path / "again"
    line = shlex.split(few["command"])
    assert line[-2:] == ["--out", "again"]
    assert call(*line[1:-1], again, "-q").code == 0
    (repeated,) = rows(again)
    assert {name: repeated[name] for name in few.keys() - set(COSTS)} == {
        name: few[name] for name in few.keys() - set(COSTS)
    }
    assert "split=2cls_fewshot" in (out / "leaderboard.html").read_text("utf-8")


def test_list_tells_the_options_of_a_reader():
    told = " ".join(call("list", "datasets").out.split())
    assert "options fold=0; Which third of the parts is for the test: 0, 1 or 2." in told
    assert 'options protocol="realiad_jsons"; Folder of the JSON files' in told
    facts = {one["name"]: one for one in json.loads(call("list", "--json").out)["datasets"]}
    assert facts["ksdd"]["options"].keys() == {"fold"}
    assert "options" not in facts["mvtec"]


# --- what is wrong --------------------------------------------------------------------------------


@pytest.fixture
def flange(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "data")


def draw_mask(path: Path, *, marked: bool = True, height: int = 96) -> None:
    mask = np.zeros((height, 96, 3), np.uint8)
    mask[8:16, 8:16] = 255 * marked
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_png(mask))


def copy_into_the_test(flange: Path) -> str:
    shutil.copy(flange / "train" / "good" / "003.png", flange / "test" / "good" / "copy.png")
    return "copy.png equals the training image"


def mark_a_good_image(flange: Path) -> str:
    draw_mask(flange / "ground_truth" / "good" / "001_mask.png")
    draw_mask(flange / "ground_truth" / "good" / "002.png", marked=False)
    return "test/good/001.png is not defective, but its mask"


def empty_a_mask(flange: Path) -> str:
    draw_mask(flange / "ground_truth" / "dent" / "000_mask.png", marked=False)
    return "dent/000_mask.png is empty, but"


@pytest.mark.parametrize("harm", [copy_into_the_test, mark_a_good_image, empty_a_mask])
def test_what_flatters_a_figure_stands_in_the_data_section(flange, tmp_path, harm):
    words, out = harm(flange), tmp_path / "run"
    ended = call("evaluate", "--root", flange, "--out", out, *PADIM)
    assert ended.code == 0
    (warning,) = read_facts(out)["data"]["warnings"]
    assert words in warning
    assert f"warning: {warning}" in ended.err
    assert words in (out / "report.html").read_text("utf-8")
    checked = call("check", flange, "--dataset", "mvtec", "-q")
    assert (checked.code, checked.out) == (1, f"{warning}\n")


def test_the_mask_of_a_good_image_marks_nothing(flange, tmp_path):
    clean = call("evaluate", "--root", flange, "--out", tmp_path / "clean", *PADIM, "-q")
    mark_a_good_image(flange)
    found = call("evaluate", "--root", flange, "--out", tmp_path / "marked", *PADIM, "-q")
    assert found.out == clean.out
    facts = [read_facts(tmp_path / name)["metrics"] for name in ("clean", "marked")]
    assert facts[0] == facts[1]


def test_where_all_masks_are_empty_the_figures_say_why_and_not_all_is_said(flange, tmp_path):
    for i in range(6):
        shutil.copytree(flange / "test" / "dent", flange / "test" / f"dent{i}")
    for kind in (path.name for path in (flange / "test").iterdir() if path.name != "good"):
        draw_mask(flange / "ground_truth" / kind / "000_mask.png", marked=False)
    ended = call("evaluate", "--root", flange, "--out", tmp_path / "run", *PADIM)
    facts = read_facts(tmp_path / "run")
    assert len(facts["data"]["warnings"]) == 12
    assert ended.err.count("is empty, but") == 10
    assert "warning: ... and 2 more; run.json lists all" in ended.err
    assert facts["metrics"]["aupro_0.3"] is None
    assert facts["metrics"]["undefined"]["aupro_0.3"] == "there is no defective pixel"


@pytest.mark.parametrize("harm", ["smaller", "torn"])
def test_a_mask_that_cannot_be_used_is_refused_before_any_work(flange, tmp_path, harm):
    mask = flange / "ground_truth" / "dent" / "000_mask.png"
    if harm == "torn":
        mask.write_bytes(mask.read_bytes()[:40])
    else:
        draw_mask(mask, height=48)
    ended = call("evaluate", "--root", flange, "--out", tmp_path / "run", *PADIM)
    assert (ended.code, ended.out) == (2, "")
    assert str(mask) in ended.err
    assert "judged" not in ended.err
    assert read_facts(tmp_path / "run")["reason"].startswith("MaskError: ")
    checked = call("check", flange, "--dataset", "mvtec")
    assert checked.code == 1
    assert mask.name in checked.out.split("data set")[1]


def test_an_image_that_cannot_be_judged_needs_no_mask(flange, tmp_path):
    (flange / "test" / "dent" / "000.png").write_bytes(b"torn")
    typed = ("--root", flange, "--out", tmp_path / "run", *PADIM)
    ended = call("evaluate", *typed, "--corruptions", "noise", "--severity", "1", "-q")
    assert ended.code == 1
    facts = read_facts(tmp_path / "run")
    assert (facts["metrics"]["errors"], facts["metrics"]["n_regions"]) == (1, 5)
    assert [row["errors"] for row in facts["robustness"]["rows"]] == [1, 1]


def test_a_sound_data_set_has_no_problems(flange):
    ended = call("check", flange.parent, "--dataset", "mvtec", "--category", "flange", "--json")
    facts = json.loads(ended.out)
    assert (ended.code, facts["problems"], facts["n"]) == (0, [], 20)
    assert f"{'data set':<12}none" in call("check", flange, "--dataset", "mvtec").out


def test_what_belongs_to_a_data_set_needs_one(flange):
    ended = call("check", flange, "--category", "flange")
    assert (ended.code, ended.out) == (2, "")
    assert "add --dataset NAME" in ended.err

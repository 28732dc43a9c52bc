"""``pyimgano check``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pyimgano
from cli_calls import call, write_parts
from pyimgano.images import read_image
from pyimgano.maps.overlay import encode_png
from test_align import ring, wedge

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts")) / "train"


@pytest.fixture
def harmed(sound, tmp_path) -> Path:
    """Every kind of finding, and seven copies of one image."""
    for path in sorted((sound / "good").iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = min((sound / "good").iterdir())
    for i in range(7):
        (tmp_path / f"copy{i}.png").write_bytes(first.read_bytes())
    for i in range(6):
        (tmp_path / f"cut{i}.png").write_bytes(first.read_bytes()[:-100])
    (tmp_path / "black.png").write_bytes(encode_png(np.zeros((96, 96, 3), np.uint8)))
    dark = (read_image(first) * 0.2).astype(np.uint8)
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "dark.png").write_bytes(encode_png(dark))
    return tmp_path


def test_sound_folder(sound):
    ended = call("check", sound)
    assert ended.code == 0
    assert "20 images" in ended.out
    assert "96 x 96 (20 images)" in ended.out
    for label in ("unreadable", "blank", "duplicates", "near copies", "blurred", "exposure"):
        assert f"{label:<12}none" in ended.out
    assert "checking 20 images" in ended.err


def test_findings_are_shown_in_short(harmed):
    ended = call("check", harmed)
    assert ended.code == 1
    assert "cut0.png: " in ended.out
    assert "... and 1 more" in ended.out
    assert "cut5.png" not in ended.out
    assert "copy4.png" not in ended.out
    assert "and 3 more" in ended.out  # the group has eight members
    assert f"{'blank':<12}black.png" in ended.out
    assert "night/dark.png: mean" in ended.out
    assert str(harmed) not in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_as_json_everything_is_there(harmed):
    ended = call("check", harmed, "--json")
    facts = json.loads(ended.out)
    assert ended.code == 1
    assert facts["n"] == 35
    assert facts["n_distinct"] == 21
    assert len(facts["unreadable"]) == 6
    assert [len(group) for group in facts["duplicates"]] == [8]
    assert facts["blank"] == [str(harmed / "black.png")]
    assert facts["sizes"] == {"96 x 96": 29}
    assert facts["suggestions"]


def test_quiet_names_what_is_wrong_alone(harmed, sound):
    ended = call("check", harmed, "-q")
    assert (ended.code, ended.err) == (1, "")
    wrong = [f"cut{i}.png: " for i in range(6)] + ["black.png: blank"]
    lines = ended.out.splitlines()
    assert len(lines) == 7
    assert all(line.startswith(name) for line, name in zip(lines, wrong, strict=True))
    assert call("check", sound, "-q") == (0, "", "")


def test_only_unreadable_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    ended = call("check", tmp_path)
    assert ended.code == 1
    assert f"{'sizes':<12}none" in ended.out


def test_wrong_paths_are_2(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("x")
    assert "does not exist" in call("check", tmp_path / "nowhere").err
    assert "is a file" in call("check", file).err
    empty = call("check", tmp_path)
    assert empty.code == 2
    assert "there are no images in the folder" in empty.err
    assert "notes.txt" in empty.err
    assert empty.out == ""


def test_the_report_shows_probable_defects_and_all_findings(sound, harmed, tmp_path_factory):
    out = tmp_path_factory.mktemp("checked")
    marked = read_image(min((sound / "good").iterdir())).copy()
    marked[32:64:4, 32:64] = marked[32:64, 32:64:4] = (200, 90, 30)
    (harmed / "x <b>.png").write_bytes(encode_png(marked))
    ended = call("check", harmed, "--out", out)
    assert ended.code == 1  # some are unreadable
    assert "x <b>.png: z = " in ended.out
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("Probable defects", "x &lt;b&gt;.png", "night/dark.png", "Copies", "cut0.png"):
        assert text in page
    assert "<b>.png" not in page
    assert page.count('src="data:image/jpeg') > 10
    facts = json.loads((out / "check.json").read_text(encoding="utf-8"))
    first, *others = facts["suspects"]  # a good one may lie at the limit of 4
    assert first[0] == str(harmed / "x <b>.png")
    assert first[1] > 20
    assert all(z < 5 for _, z in others)
    assert call("check", sound, "-o", out).code == 0  # an older check is replaced
    again = (out / "report.html").read_text(encoding="utf-8")
    assert "none stands out" in again
    assert "Copies" not in again


def test_what_stands_out_is_what_fit_would_name_and_what_does_not_align_is_told(tmp_path):
    """Copies count once in both; a part of another kind is refused by the model."""
    goods = tmp_path / "good"
    goods.mkdir()
    for i in range(20):
        image = wedge(i, mark=i == 5)[0]
        (goods / f"{i:02}.png").write_bytes(encode_png(image))
    for i in range(6):
        (goods / f"copy{i}.png").write_bytes((goods / "03.png").read_bytes())
    (goods / "ring.png").write_bytes(encode_png(ring(30)))
    ended = call("check", goods, "--out", tmp_path / "out")
    assert ended.code == 0
    assert f"{'refused':<12}ring.png: does not align" in ended.out
    facts = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    fitted = pyimgano.create_detector("vision_default").fit(sorted(goods.iterdir()))
    assert [name for name, _ in facts["refused"]] == [str(goods / "ring.png")]
    assert facts["refused"] == [list(each) for each in fitted.skipped_]
    assert [name for name, _ in facts["suspects"]] == [str(goods / "05.png")]
    assert facts["suspects"] == [[*fitted.suspects_, *fitted.suspects_z_]]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Refused" in page
    assert page.count("ring.png") >= 2  # a picture and its name


def test_few_images_and_a_foreign_folder(sound, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((sound / "good").iterdir())[:3]:
        (few / path.name).write_bytes(path.read_bytes())
    ended = call("check", few, "--out", tmp_path / "out")
    assert "3 images are too few to tell" in " ".join(ended.out.split())
    ended = call("check", few, "--out", few)
    assert ended.code == 2
    assert "holds something else than a check" in ended.err
    assert not (few / "report.html").exists()

"""``pyimgano predict``: verdicts, exit codes, and runs that are cut short."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from cli_calls import COMMAND, SMALL, call, spawn, write_defect, write_parts
from pyimgano.runs.facts import read_run


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("predict") / "data")


@pytest.fixture(scope="module")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pyimg"
    given = ("fit", parts / "train" / "good", "-o", path)
    assert call(*given, *SMALL).code == 0
    return path


@pytest.fixture
def goods(parts: Path, tmp_path: Path) -> Path:
    """Return images that the model has learned, so that they are surely OK."""
    folder = tmp_path / "goods"
    folder.mkdir()
    for number in range(3):
        shutil.copy(parts / "train" / "good" / f"{number:03d}.png", folder)
    return folder


@pytest.fixture
def defect(parts: Path, tmp_path: Path) -> Path:
    return write_defect(parts / "test" / "good" / "000.png", tmp_path / "defect.png")


def test_all_judged_is_0_and_everything_is_written(model, goods, defect, tmp_path):
    out = tmp_path / "run"
    ended = call("predict", model, goods, defect, "--out", out, "--maps")
    assert ended.code == 0
    assert "judged      3 OK, 1 NG" in ended.out
    assert str(out / "report.html") in ended.out
    assert ended.err.splitlines()[0] == "judging 4 images ..."
    assert ended.err.splitlines()[-1].startswith("judged 4 of 4")
    facts, rows = read_run(out)
    assert facts["status"] == "complete"
    assert [row["verdict"] for row in rows] == ["OK", "OK", "OK", "NG"]
    assert (out / "report.html").exists()
    assert len(list((out / "overlays").iterdir())) == 4
    assert len(list((out / "maps").iterdir())) == 4


def test_overlays_of_ng_only(model, goods, defect, tmp_path):
    out = tmp_path / "run"
    call("predict", model, goods, defect, "--out", out, "--overlays", "ng")
    assert len(list((out / "overlays").iterdir())) == 1
    assert not (out / "maps").exists()


def test_fail_on_ng_is_3(model, goods, defect, tmp_path):
    out = ("--out", tmp_path / "run", "--fail-on-ng", "-q")
    assert call("predict", model, goods, *out) == (0, "3 OK, 0 NG\n", "")
    assert call("predict", model, goods, defect, *out) == (3, "3 OK, 1 NG\n", "")


def test_an_unreadable_file_is_an_error_row_and_exit_1(model, goods, defect, tmp_path):
    torn = goods / "torn.png"
    torn.write_bytes((goods / "000.png").read_bytes()[:700])
    out = tmp_path / "run"
    ended = call("predict", model, goods, defect, "--out", out, "--fail-on-ng")
    assert ended.code == 1, "not everything was judged, which goes before NG"
    assert "1 of 5 could not be judged; 3 OK, 1 NG" in ended.out
    assert str(torn) in ended.out.split("errors")[1]
    with (out / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {row["path"]: row for row in rows}[str(torn)]
    assert (found["verdict"], found["score"]) == ("ERROR", "")
    assert found["error"]


def test_only_the_first_ten_errors_are_printed(model, goods, tmp_path):
    for number in range(12):
        (goods / f"torn-{number}.png").write_bytes(b"nothing")
    ended = call("predict", model, goods, "--out", tmp_path / "run")
    assert ended.code == 1
    assert "torn-9.png" in ended.out
    assert "torn-10.png" not in ended.out
    assert "... and 2 more" in ended.out


def test_json_is_all_that_is_printed(model, goods, defect, tmp_path):
    (goods / "torn.png").write_bytes(b"nothing")
    out = tmp_path / "run"
    ended = call("predict", model, goods, defect, "--out", out, "--json")
    facts = json.loads(ended.out)
    assert facts["counts"] == {"images": 5, "OK": 3, "NG": 1, "ERROR": 1, "undecided": 0}
    assert facts["exit_code"] == ended.code == 1
    assert [one["path"] for one in facts["errors"]] == [str(goods / "torn.png")]
    assert facts["report"] == str(out / "report.html")


def test_a_file_that_is_named_twice_is_judged_once(model, goods, tmp_path):
    out = tmp_path / "run"
    call("predict", model, goods, goods / "000.png", "--out", out, "-q")
    assert len(read_run(out)[1]) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("{model}", "nowhere.png"), "nowhere.png does not exist; give images or folders"),
        (("{model}", "{goods}", "nowhere"), "nowhere does not exist"),
        (("{model}", "{empty}"), "there are no images in the folder"),
        (("nowhere.pyimg", "{goods}"), "there is no model file nowhere.pyimg"),
        (("{goods}/000.png", "{goods}"), "is not a readable model file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(model, goods, tmp_path, given, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "run"
    filled = [text.format(model=model, goods=goods, empty=empty) for text in given]
    ended = call("predict", *filled, "--out", out)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert not out.exists()


def test_a_folder_with_other_things_is_left_alone(model, goods):
    before = sorted(goods.iterdir())
    ended = call("predict", model, goods, "--out", goods)
    assert ended.code == 2
    assert "holds something else than a run" in ended.err
    assert sorted(goods.iterdir()) == before


def test_undecodable_names_can_be_printed(model, tmp_path):
    torn = Path(os.fsdecode(os.fsencode(tmp_path) + b"/torn-\xff.png"))
    try:
        torn.write_bytes(b"nothing")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    ended = spawn("predict", model, tmp_path, "--out", tmp_path / "run")
    assert ended.code == 1, ended.err
    assert "torn-\\udcff.png" in ended.out
    ended = call("predict", model, tmp_path, "--out", tmp_path / "run", "--json")
    assert json.loads(ended.out)["counts"]["ERROR"] == 1


class Impatient(io.StringIO):
    """A standard error whose reader presses Ctrl-C when a line starts in a certain way."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def write(self, text: str) -> int:
        if text.startswith(self.at):
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_ctrl_c_after_the_first_image_says_where_results_stand(model, goods, tmp_path):
    out = tmp_path / "run"
    ended = call("predict", model, goods, "--out", out, stderr=Impatient("judged 1 of 3"))
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == (
        f"interrupted: 1 of 3 images were judged; they stand in {out / 'results.csv'}"
    )
    assert len(read_run(out)[1]) == 1


def test_ctrl_c_before_the_first_image(model, goods, tmp_path):
    ended = call("predict", model, goods, "--out", tmp_path / "run", stderr=Impatient("judging"))
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "interrupted"


def test_ctrl_c_leaves_a_valid_run(model, goods, tmp_path):
    for number in range(300):
        os.link(goods / "000.png", goods / f"copy-{number}.png")
    out = tmp_path / "run"
    command = [*COMMAND, "predict", str(model), str(goods), "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("judged 31"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    facts, rows = read_run(out)
    assert facts["status"] == "interrupted"
    assert 31 <= len(rows) == facts["counts"]["images"] < 303
    assert said[-1].startswith(f"interrupted: {len(rows)} of 303 images were judged")
    assert str(out / "results.csv") in said[-1]
    assert call("predict", model, goods / "000.png", "--out", out, "-q").code == 0


class Terminal(io.StringIO):
    """A standard error that is looked at."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_on_standard_error(model, goods, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    ended = call("predict", model, goods, "--out", tmp_path / "run", stderr=Terminal())
    assert ended.code == 0
    assert "judged 3 of 3" in ended.err
    assert "\x1b[" in ended.err
    assert ended.out.startswith("judged      3 OK, 0 NG\n")

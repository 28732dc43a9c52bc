"""Bad images through the whole of predict and fit: an ERROR that says why, or the right pixels."""

from __future__ import annotations

import csv
import io
import re
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import pyimgano
from bad_images import BAD, GOOD, noise, write_all
from cli_calls import SMALL, call, spawn
from fakes import LevelDetector, grey
from pyimgano.errors import ImageError, InputError
from pyimgano.files import shown
from pyimgano.images import read_image
from pyimgano.inspection import Verdict
from pyimgano.runs.facts import read_run

if TYPE_CHECKING:
    from pathlib import Path

# What is refused is refused before it is allocated: a bomb would break this limit.
LIMITED = """
import resource
import pyimgano.runs.evaluate, pyimgano.models.patchcore, simplejpeg, cv2
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
"""


class Judged(NamedTuple):
    """What a run of the command line made of all files at once."""

    folder: Path
    wanted: dict[str, Any]
    rows: dict[str, dict[str, str]]
    code: int


@pytest.fixture(scope="module")
def judged(
    shared_parts: Path, shared_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Judged:
    folder = tmp_path_factory.mktemp("bad") / "images"
    (folder / "folder.png").mkdir(parents=True)
    part = read_image(shared_parts / "train" / "good" / "000.png")
    wanted = write_all(folder, {**BAD, **GOOD}, part)
    out = folder.parent / "run"
    ended = spawn("predict", shared_model, folder, "--out", out, before=LIMITED)
    assert "error:" not in ended.err, ended.err
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        by_path = {row["path"]: row for row in csv.DictReader(file)}
    assert read_run(out)[0]["status"] == "complete"
    rows = {name: by_path.pop(shown(folder / name)) for name in wanted}
    assert not by_path
    return Judged(folder, wanted, rows, ended.code)


def test_every_file_is_judged_and_the_exit_code_says_that_some_could_not_be(judged: Judged) -> None:
    assert judged.code == 1
    assert {n for n, row in judged.rows.items() if row["verdict"] == "ERROR"} == BAD.keys()


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_judged_is_an_error_with_its_reason(judged: Judged, name: str) -> None:
    row = judged.rows[name]
    assert (row["verdict"], row["score"], row["n_regions"]) == ("ERROR", "", "")
    assert re.search(judged.wanted[name], row["error"])
    assert row["error"].startswith(str(judged.folder / name))
    assert "\n" not in row["error"]


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_judged_is_judged_by_its_pixels(
    judged: Judged, shared_model: Path, name: str
) -> None:
    wanted = judged.wanted[name]
    read = read_image(judged.folder / name)
    assert read.dtype == wanted.dtype
    np.testing.assert_array_equal(read, np.broadcast_to(wanted.T, (3, *wanted.T.shape[-2:])).T)
    expected = pyimgano.load(shared_model).decision_function([wanted])[0]
    assert float(judged.rows[name]["score"]) == pytest.approx(expected, rel=1e-6)


# --- fit ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty good images, of which one in twenty-one may be lost."""
    return shutil.copytree(
        shared_parts / "train" / "good", tmp_path_factory.mktemp("many") / "good"
    )


GREYS = [grey(100 + i, i) for i in range(20)]
LEVELS = LevelDetector().fit(GREYS)


@pytest.mark.parametrize("name", BAD)
def test_fit_skips_it_and_says_why(judged: Judged, name: str) -> None:
    fitted = LevelDetector().fit([*GREYS[:9], judged.folder / name, *GREYS[9:]])
    ((skipped, reason),) = fitted.skipped_
    assert skipped == shown(judged.folder / name)
    assert re.search(judged.wanted[name], reason)
    np.testing.assert_array_equal(fitted.decision_scores_, LEVELS.decision_scores_)


@pytest.mark.parametrize("name", BAD)
def test_fit_refuses_more_than_one_in_twenty(judged: Judged, name: str) -> None:
    with pytest.raises(InputError, match=r"2 of 22 good images cannot be used \(more than 5%\)"):
        LevelDetector().fit([*GREYS, judged.folder / name, judged.folder / name])
    with pytest.raises(InputError, match="1 of 1 good images cannot be used"):
        LevelDetector().fit([judged.folder / name])


def test_the_command_line_lists_what_it_skipped_and_refuses_more(
    many: Path, judged: Judged, tmp_path: Path
) -> None:
    folder = shutil.copytree(many, tmp_path / "good")
    shutil.copy(judged.folder / "middle.jpg", folder)
    ended = call("fit", folder, "-o", tmp_path / "model.pyimg", *SMALL)
    assert ended.code == 0
    assert "1 image of 21" in ended.out
    assert f"{folder / 'middle.jpg'}: cannot be decoded" in " ".join(ended.out.split())
    before = (tmp_path / "model.pyimg").read_bytes()
    (folder / "pipe.png").symlink_to(judged.folder / "pipe.png")
    ended = call("fit", folder, "-o", tmp_path / "model.pyimg", *SMALL)
    assert (ended.code, ended.out) == (2, "")
    assert "2 of 22 good images cannot be used (more than 5%)" in ended.err
    assert (tmp_path / "model.pyimg").read_bytes() == before


# --- sizes, places and arrays --------------------------------------------------------------------


def test_goods_of_one_size_make_another_size_an_error_and_goods_of_several_do_not(
    many: Path, judged: Judged
) -> None:
    goods = sorted(many.iterdir())
    wide = judged.folder / "20000 wide.png"
    (one,) = LevelDetector().fit(goods).inspect([wide])
    assert one.verdict is Verdict.ERROR
    assert "is 20000 x 40 px, but all good images were 96 x 96" in str(one.error)
    mixed = LevelDetector().fit([*goods, wide, judged.folder / "grey.png"])
    found = list(mixed.inspect([judged.folder / "1xN.png", wide]))
    assert all(one.verdict in {Verdict.OK, Verdict.NG} for one in found)


class Meddler(io.StringIO):
    """A standard error whose reader deletes a file when the judging begins."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def write(self, text: str) -> int:
        if text.startswith(("judging", "learning")):
            self.path.unlink()
        return super().write(text)


def test_a_file_that_vanishes_after_the_listing_is_an_error_or_skipped(
    many: Path, shared_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(many, tmp_path / "good")
    shutil.copy(folder / "000.png", folder / "gone.png")
    out = tmp_path / "run"
    ended = call("predict", shared_model, folder, "-o", out, stderr=Meddler(folder / "gone.png"))
    assert ended.code == 1
    (failed,) = [row for row in read_run(out)[1] if row["verdict"] == "ERROR"]
    assert failed["path"] == str(folder / "gone.png")
    assert "No such file" in failed["error"]
    shutil.copy(folder / "000.png", folder / "gone.png")
    model = tmp_path / "model.pyimg"
    ended = call("fit", folder, "-o", model, *SMALL, stderr=Meddler(folder / "gone.png"))
    assert ended.code == 0
    assert "1 image of 21" in ended.out


def test_a_folder_named_like_an_image_is_walked_as_a_folder(
    many: Path, shared_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "parts" / "x.png"
    folder.mkdir(parents=True)
    ended = call("predict", shared_model, folder, "-o", tmp_path / "run")
    assert ended.code == 2
    assert "there are no images in the folder" in ended.err
    shutil.copy(many / "000.png", folder / "inside.png")
    assert call("predict", shared_model, folder.parent, "-o", tmp_path / "run", "-q").code == 0
    assert [row["path"] for row in read_run(tmp_path / "run")[1]] == [str(folder / "inside.png")]


ARRAYS: dict[str, tuple[Any, str]] = {
    "NaN": (np.full((96, 96, 3), np.nan), "non-finite values"),
    "infinity": (np.full((96, 96, 3), np.inf, np.float32), "non-finite values"),
    "float": (noise(96, 96, 3) / 255, "expected uint8"),
    "int64": (noise(96, 96, 3).astype(np.int64), "expected uint8"),
    "bool": (noise(96, 96) > 99, "expected uint8"),
    "object": (noise(96, 96).astype(object), "expected uint8"),
    "text": (np.full((96, 96), "x"), "expected uint8"),
    "2 channels": (noise(96, 96, 2), r"expected \(H, W\)"),
    "5 channels": (noise(96, 96, 5), r"expected \(H, W\)"),
    "channels first": (noise(3, 96, 96), "move the channels"),
    "no pixels": (noise(0, 96, 3), "no pixels"),
    "scalar": (np.array(3, np.uint8), r"expected \(H, W\)"),
    "constant": (np.full((40, 48, 3), 9, np.uint8), "blank"),
    "None": (None, "an image must be a path"),
    "number": (3, "an image must be a path"),
    "bytes": (b"\x89PNG", "an image must be a path"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_no_image(name: str) -> None:
    given, words = ARRAYS[name]
    fitted = LevelDetector().fit([*GREYS, given])
    ((_, reason),) = fitted.skipped_
    assert re.search(words, reason)
    before, one, after = fitted.inspect([GREYS[0], given, GREYS[0]])
    assert (one.verdict, one.label) == (Verdict.ERROR, -1)
    assert np.isnan(one.score)
    assert re.search(words, str(one.error))
    assert before.score == after.score
    with pytest.raises(InputError):
        LevelDetector().fit([*GREYS, given, given])
    with pytest.raises(ImageError, match=words):
        fitted.intake_.see(given)

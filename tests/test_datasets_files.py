"""Listing files: natural order, what is ignored, what must not break it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniatures import draw
from pyimgano.datasets._files import (
    entries,
    found,
    is_file,
    is_folder,
    list_images,
    natural_key,
    near,
    sub_folders,
    walk_images,
)
from pyimgano.errors import DatasetError

PROPERTY = settings(derandomize=True, deadline=None, max_examples=50)
NAMES = st.text(st.sampled_from("aAbß01239٣_-. é"), min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."}
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: PurePosixPath(*parts))


@PROPERTY
@given(st.lists(st.integers(0, 10**12), unique=True, min_size=1), NAMES)
def test_numbers_are_ordered_by_value(numbers: list[int], stem: str) -> None:
    names = [f"{stem}-{number}.png" for number in numbers]
    expected = [f"{stem}-{number}.png" for number in sorted(numbers)]
    assert sorted(names, key=natural_key) == expected


@PROPERTY
@given(st.lists(st.integers(0, 999), unique=True), NAMES)
def test_padded_numbers_are_ordered_as_strings_are(numbers: list[int], stem: str) -> None:
    names = [f"{stem}{'_'}{number:03d}.png" for number in numbers]
    assert sorted(names, key=natural_key) == sorted(names)


@PROPERTY
@given(st.sets(PATHS, min_size=2), st.randoms(use_true_random=False))
def test_order_is_total_and_independent_of_the_input_order(
    paths: set[PurePosixPath], shuffler: object
) -> None:
    ordered = sorted(paths, key=natural_key)
    shuffled = list(ordered)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    assert len({natural_key(path) for path in paths}) == len(paths)
    assert sorted(shuffled, key=natural_key) == ordered


@PROPERTY
@given(st.sets(st.tuples(NAMES, NAMES), min_size=1))
def test_a_folder_stays_together(pairs: set[tuple[str, str]]) -> None:
    folders = [path.parts[0] for path in sorted((Path(*p) for p in pairs), key=natural_key)]
    changes = sum(a != b for a, b in pairwise(folders))
    assert changes == len(set(folders)) - 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["normal-10", "normal-2", "normal-1"], ["normal-1", "normal-2", "normal-10"]),
        (["b1", "A2", "a1"], ["a1", "A2", "b1"]),
        (["x01", "x1", "x001"], ["x001", "x01", "x1"]),
        (["2024-1-9_3", "2024-1-10_1"], ["2024-1-9_3", "2024-1-10_1"]),
    ],
)
def test_examples_of_natural_order(names: list[str], expected: list[str]) -> None:
    assert sorted(names, key=natural_key) == expected


def test_only_visible_image_files_are_listed(tmp_path: Path) -> None:
    wanted = [
        draw(tmp_path / f"{i}{suffix}")
        for i, suffix in enumerate((".png", ".JPG", ".jpeg", ".Bmp", ".tif", ".TIFF", ".webp"))
    ]
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "._0.png", "png", "desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / ".checkpoints").mkdir()
    assert list_images(tmp_path) == wanted
    assert sub_folders(tmp_path) == [tmp_path / "folder.png"]


def test_a_file_that_cannot_be_opened_is_listed_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    assert [path.name for path in list_images(tmp_path)] == ["gone.png", "self.png"]


def test_walking_is_in_natural_order_and_enters_folders_named_like_images(tmp_path: Path) -> None:
    names = ["day2/9.png", "day2/10.png", "day10/1.png", "strip.png/1.png", "z.png"]
    for name in reversed(names):
        draw(tmp_path / name)
    assert [path.relative_to(tmp_path).as_posix() for path in walk_images(tmp_path)] == names


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    draw(tmp_path / "set" / "b" / "1.png")
    draw(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "set" / "b" / "up").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "a").symlink_to(tmp_path / "set" / "b", target_is_directory=True)
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set" / "loop", target_is_directory=True)
    listed = [path.relative_to(tmp_path).as_posix() for path in walk_images(tmp_path / "set")]
    assert listed == ["set/b/1.png", "set/c/2.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"missing cannot be listed"):
        entries(tmp_path / "missing")


def test_what_may_not_be_looked_at_is_neither_file_nor_folder(tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 5000)
    assert not is_file(too_long)
    assert not is_folder(too_long)


def test_what_was_found_is_said_briefly(tmp_path: Path) -> None:
    assert found(tmp_path) == "nothing"
    (tmp_path / "sub").mkdir()
    draw(tmp_path / "2.png")
    assert found(tmp_path) == "2.png, sub/"
    for number in range(10, 20):
        draw(tmp_path / f"{number}.png")
    assert found(tmp_path).endswith("16.png and 4 more")


def test_near_names_ignore_case_and_always_list_what_there_is() -> None:
    assert near("Screws", ["bottle", "screw"]) == ("did you mean 'screw'? It holds: bottle, screw")
    assert near("qqq", ["bottle"]) == "It holds: bottle"
    assert near("qqq", []) == "It holds: nothing"

"""No tree of folders and no split file makes a reader of data sets raise but its own errors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import CORPUS, check_words, damaged

from pyimgano.datasets._sources import as_sources
from pyimgano.datasets.base import DATASETS, list_categories, load_dataset
from pyimgano.errors import DatasetError, InputError, PyimganoError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (
    *("good", "ok", "bad", "ko", "train", "test", "ground_truth", "mask", "masks", "Data"),
    *("Images", "Masks", "Normal", "Anomaly", "split_csv", "1cls", "visa_pytorch", "part", "x.png"),
    *("validation", "test_public", "kos1", "kos2", "kos3", "MT_Free", "Imgs", "Class1", "Train"),
    *("Label", "realiad_jsons", "realiad_256"),
    *(".hidden", "Prüfling", "a b", "-", "001", "1", "\u0660", "İ"),
)
FILES = (
    *(
        "0.png",
        "1.JPG",
        "0_mask.png",
        "10.bmp",
        "²3.tif",
        "x.txt",
        "1cls.csv",
        "=1.png",
        "loop.png",
    ),
    *("pipe.png", "out.webp", "Ⅷ.png", "0_label.bmp", "0_GT.png", "part.json", "Labels.txt"),
    *("defects_config.json", "part.csv"),
)
paths = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), max_size=4), st.sampled_from(FILES)), max_size=12
)


def grown(root: Path, tree: list[tuple[list[str], str]]) -> None:
    """Make a tree; what cannot be made, because something else has its name, is left out."""
    for folders, name in tree:
        path = root.joinpath(*folders, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "loop.png":
                path.symlink_to(path)
            elif name == "pipe.png":
                os.mkfifo(path)
            elif name == "out.webp":
                path.symlink_to(root)
            elif not path.exists():
                path.write_bytes(b"object,split,label,image,mask\n" if name == "1cls.csv" else b"x")
        except OSError:
            continue


def load(name: str, root: Path, category: str | None) -> None:
    try:
        found = load_dataset(name, root, category=category)
    except PyimganoError as error:
        check_words(error)
        return
    assert found.train
    assert all(sample.label == 0 for sample in found.train)
    assert {sample.path for sample in found.train}.isdisjoint(s.path for s in found.test)
    found.verify()


@settings(max_examples=80, derandomize=True, deadline=None)
@given(tree=paths, name=st.sampled_from(sorted(DATASETS)), category=st.sampled_from([None, "part"]))
@example(
    tree=[(["part", "train", "good"], "0.png"), (["part", "test", "bad"], "pipe.png")],
    name="mvtec",
    category="part",
)
@example(tree=[(["good"], "0.png"), (["good"], "²3.tif")], name="custom", category=None)
def test_any_tree_is_a_data_set_or_refused(
    tree: list[tuple[list[str], str]], name: str, category: str | None
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        grown(root, tree)
        load(name, root, category)
        try:
            list_categories(name, root)
        except PyimganoError as error:
            check_words(error)
        try:
            sources = as_sources(root)
        except (DatasetError, InputError):
            return
        assert len(sources) == len(set(sources))


@pytest.fixture(scope="module")
def visa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("visa")
    data = root / "part" / "Data"
    for place in ("Images/Normal/0", "Images/Normal/1", "Images/Anomaly/0", "Masks/Anomaly/0"):
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CORPUS / "grey.png", data / f"{place}.png")
    (root / "split_csv").mkdir()
    return root


def test_the_seed_is_a_data_set_with_separators_of_windows(visa: Path) -> None:
    shutil.copy(CORPUS / "1cls.csv", visa / "split_csv")
    found = load_dataset("visa", visa, category="part")
    assert (len(found.train), len(found.test)) == (1, 2)
    assert found.test[1].path == visa / "part" / "Data" / "Images" / "Normal" / "1.png"


@settings(max_examples=200, derandomize=True, deadline=None)
@given(case=damaged(".csv"))
def test_a_damaged_split_file_is_read_or_refused_with_its_name(
    visa: Path, case: tuple[Path, bytes]
) -> None:
    (visa / "split_csv" / "1cls.csv").write_bytes(case[1])
    load("visa", visa, "part")


def test_a_pipe_as_a_split_file_is_not_waited_for(visa: Path) -> None:
    table = visa / "split_csv" / "1cls.csv"
    table.unlink(missing_ok=True)
    os.mkfifo(table)
    try:
        with pytest.raises(DatasetError, match="no split '1cls'"):
            load_dataset("visa", visa, category="part")
    finally:
        table.unlink()

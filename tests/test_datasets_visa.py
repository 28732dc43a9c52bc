"""VisA as it is unpacked, and as its script or others convert it."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from miniatures import HEADER, draw, draw_mask, mvtec, visa
from pyimgano.datasets import Dataset, list_categories, load_dataset
from pyimgano.datasets.visa import VisADataset
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError

if TYPE_CHECKING:
    from pathlib import Path

NORMAL = "candle/Data/Images/Normal/1.JPG"
ANOMALY = "candle/Data/Images/Anomaly/1.JPG"
MASK = "candle/Data/Masks/Anomaly/1.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return visa(tmp_path / "VisA")


def load(root: Path, **options: str) -> Dataset:
    return load_dataset("visa", root, category="candle", **options)


def write(root: Path, *lines: str, header: str = HEADER) -> None:
    text = "\n".join((header, *lines)) + "\n"
    (root / "split_csv" / "1cls.csv").write_text(text, encoding="utf-8")


def test_the_archive_is_read_by_its_split_file_in_natural_order(root: Path) -> None:
    dataset = VisADataset(root, category="candle")
    assert list_categories("visa", root) == ("candle", "pcb1")
    assert [s.path.name for s in dataset.train] == [f"{number}.JPG" for number in range(10)]
    assert [s.path.name for s in dataset.test] == ["0.JPG", "1.JPG", "2.JPG", "10.JPG", "11.JPG"]
    assert dataset.labels.tolist() == [1, 1, 1, 0, 0]
    assert dataset.info.defects == ("anomaly",)
    assert repr(dataset).endswith("category='candle', split='1cls')")


def test_mask_values_are_kinds_of_defects(root: Path) -> None:
    assert [mask.sum() for mask in load(root).masks() if mask is not None] == [2, 2, 2]


def test_few_shot_splits_give_defects_apart(root: Path) -> None:
    dataset = load(root, split="2cls_fewshot")
    assert (dataset.info.n_train, dataset.info.n_train_defect) == (3, 1)
    assert (dataset.info.n_test_good, dataset.info.n_test_defect) == (9, 2)
    assert dataset.train_defects[0].mask_path is not None
    assert dataset.verify() == []


def test_an_unknown_split_lists_those_that_are_there(root: Path) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=r"no split '1cl'.*did you mean '1cls'\? It holds: 1cls, 2cls_f"
    ):
        load(root, split="1cl")
    with pytest.raises(DatasetNotFoundError, match="no split"):
        load(root, split="../split_csv/1cls")
    shutil.rmtree(root / "split_csv")
    with pytest.raises(DatasetNotFoundError, match=r"1cls\.csv does not exist; It holds: nothing"):
        load(root)


def test_windows_separators_byte_order_marks_and_blank_lines_are_read(root: Path) -> None:
    before = load(root).info
    table = root / "split_csv" / "1cls.csv"
    lines = table.read_text(encoding="utf-8").replace("/", "\\").splitlines()
    table.write_bytes(("\ufeff" + "\r\n\r\n".join(lines)).encode())
    assert load(root).info == before


def test_columns_may_stand_in_any_order(root: Path) -> None:
    write(
        root,
        f",normal,candle,train,{NORMAL}",
        f"{MASK},anomaly,candle,test,{ANOMALY}",
        header="mask, label ,object,split,image",
    )
    dataset = load(root)
    assert dataset.train[0].path == root / NORMAL
    assert dataset.test[0].mask_path == root / MASK


def test_an_archive_without_masks(root: Path) -> None:
    write(root, f"candle,train,normal,{NORMAL},", f"candle,test,anomaly,{ANOMALY},")
    assert not load(root).info.has_masks


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (f"candle,train,normal,{NORMAL}", DatasetError, "expected 5 cells, got 4"),
        (f"candle,train,normal,{NORMAL},,", DatasetError, "expected 5 cells, got 6"),
        (f"candle,val,normal,{NORMAL},", DatasetError, "train or test .* got 'val' and 'normal'"),
        (f"candle,train,good,{NORMAL},", DatasetError, "label normal or anomaly, got 'train' and"),
        ("candle,train,normal,candle/0.JPG,", DatasetError, "image .*0.JPG does not exist"),
        ("candle,train,normal,candle/Data,", DatasetError, "image .*Data does not exist"),
        (f"candle,test,anomaly,{ANOMALY},x.png", MaskError, "the mask .*x.png does not exist"),
        (f"candle,test,anomaly,{ANOMALY},", MaskError, "the anomaly image .*1.JPG has no mask"),
        (f"candle,test,normal,{NORMAL},{MASK}", MaskError, "normal image .* must not have a mask"),
        ("candle,train,normal,,", DatasetError, "image must be a path below .*, got ''"),
        ("candle,train,normal,../x.JPG,", DatasetError, "image must be a path below .*got '../x"),
        ("candle,train,normal,a\\..\\x.JPG,", DatasetError, "image must be a path below"),
        ("candle,train,normal,/etc/passwd,", DatasetError, "image must be a path below"),
        ("candle,train,normal,C:\\x.JPG,", DatasetError, "image must be a path below"),
        ("candle,train,normal,\\\\host\\share\\x.JPG,", DatasetError, "image must be a path below"),
        (f"candle,test,anomaly,{ANOMALY},/m.png", DatasetError, "mask must be a path below"),
        ("candle,train,normal," + "x" * 5000 + ",", DatasetError, "does not exist"),
        ("candle,train,normal," + "x" * 200_000 + ",", DatasetError, "field larger than field"),
    ],
)
def test_a_bad_line_is_named_with_its_number(
    root: Path, line: str, error: type[DatasetError], message: str
) -> None:
    masked = "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png"
    write(root, "pcb1,train,normal,not there but not asked for,", masked, line)
    with pytest.raises(error, match=rf"1cls\.csv, line 4: .*{message}") as caught:
        load(root)
    assert type(caught.value) is error


@pytest.mark.parametrize("header", ["object,split,label,image", HEADER + ",more", "a,b,c,d,e"])
def test_unknown_columns_are_an_error(root: Path, header: str) -> None:
    write(root, f"candle,train,normal,{NORMAL},", header=header)
    expected = rf"line 1: the columns must be {HEADER}, got '{header}'"
    with pytest.raises(DatasetError, match=expected):
        load(root)


def test_a_split_file_that_is_no_table_is_an_error(root: Path) -> None:
    table = root / "split_csv" / "1cls.csv"
    table.write_bytes(b"")
    with pytest.raises(DatasetError, match="line 1: the columns must be"):
        load(root)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"1cls\.csv cannot be read"):
        load(root)


def test_an_image_listed_twice_is_an_error(root: Path) -> None:
    write(root, f"candle,train,normal,{NORMAL},", f"candle,test,normal,./{NORMAL},")
    with pytest.raises(DatasetError, match=r"1\.JPG is listed twice"):
        load(root)


def test_a_category_that_the_split_file_does_not_list(root: Path) -> None:
    write(root, "pcb1,train,normal,pcb1/Data/Images/Normal/1.JPG,")
    with pytest.raises(DatasetNotFoundError, match="does not list 'candle'"):
        load(root)


def converted(folder: Path) -> Path:
    """One category as the script of VisA writes it for one class."""
    mvtec(folder / "candle", suffix=".JPG")
    for kind in (folder / "candle" / "test", folder / "candle" / "ground_truth"):
        shutil.rmtree(kind / "dent")
        (kind / "scratch").rename(kind / "bad")
    for mask in (folder / "candle" / "ground_truth" / "bad").iterdir():
        mask.rename(mask.with_name(mask.name.replace("_mask", "")))
    return folder


def converted_few(folder: Path) -> Path:
    """One category as the script of VisA writes it for two classes."""
    for split in ("train", "test"):
        for number in range(4):
            draw(folder / "candle" / split / "good" / f"{number}.JPG")
        draw(folder / "candle" / split / "bad" / "7.JPG")
        draw_mask(folder / "candle" / "ground_truth" / split / "bad" / "7.png")
    return folder


@pytest.mark.parametrize(
    "inside", [".", "1cls", "visa_pytorch", "visa_pytorch/1cls", "VisA_pytorch/1cls"]
)
def test_converted_layouts_are_found(tmp_path: Path, inside: str) -> None:
    converted(tmp_path / inside)
    dataset = load(tmp_path)
    assert list_categories("visa", tmp_path) == ("candle",)
    assert (dataset.info.n_train, dataset.info.n_test_good, dataset.info.n_test_defect) == (3, 2, 2)
    assert dataset.info.defects == ("bad",)
    assert dataset.info.has_masks
    assert load_dataset("visa", tmp_path / inside, category="candle").info.n_train == 3
    assert load_dataset("visa", tmp_path / inside / "candle").info.category == "candle"


def test_the_archive_is_preferred_to_what_was_made_of_it(root: Path) -> None:
    converted(root / "visa_pytorch")
    assert load(root).info.n_train == 10


def test_converted_few_shot_splits_are_found_by_name(tmp_path: Path) -> None:
    converted(tmp_path / "1cls")
    few = converted_few(tmp_path / "2cls_fewshot")
    for given in (tmp_path, few, few / "candle"):
        category = None if given.name == "candle" else "candle"
        dataset = load_dataset("visa", given, category=category, split="2cls_fewshot")
        assert (dataset.info.n_train, dataset.info.n_train_defect) == (4, 1)
        assert (dataset.info.n_test_good, dataset.info.n_test_defect) == (4, 1)
        assert dataset.verify() == []
        masks = (dataset.train_defects[0].mask_path, dataset.test[0].mask_path)
        assert masks == (
            few / "candle" / "ground_truth" / "train" / "bad" / "7.png",
            few / "candle" / "ground_truth" / "test" / "bad" / "7.png",
        )
    assert load(tmp_path).info.n_train == 3


def test_a_converted_split_is_never_taken_for_another(tmp_path: Path) -> None:
    few = converted_few(tmp_path / "2cls_fewshot")
    expected = re.escape(f"no split '1cls' in {few}; ") + ".*It holds: 2cls_fewshot"
    with pytest.raises(DatasetNotFoundError, match=expected):
        load(few)
    flat = converted(tmp_path / "flat")
    with pytest.raises(DatasetNotFoundError, match=r"no split '2cls_highshot' in .*: 1cls"):
        load(flat, split="2cls_highshot")


def test_a_root_of_something_else_shows_both_layouts(tmp_path: Path) -> None:
    for call in (load_dataset, list_categories):
        with pytest.raises(DatasetNotFoundError, match=r"(?s)split_csv/1cls\.csv.*or, converted"):
            call("visa", tmp_path)

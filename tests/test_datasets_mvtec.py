"""The layout of MVTec AD, and BTAD, which has the same tree under other names."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from miniatures import btad, draw, draw_mask, mvtec
from pyimgano.datasets import Dataset, list_categories, load_dataset
from pyimgano.datasets.mvtec import MVTecDataset
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError

if TYPE_CHECKING:
    from pathlib import Path


def names(samples: tuple) -> list[str]:
    return ["/".join(sample.path.parts[-2:]) for sample in samples]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mvtec(tmp_path / "screw")
    return tmp_path


def load(root: Path) -> Dataset:
    return load_dataset("mvtec", root, category="screw")


def test_the_tree_is_read_in_natural_order(root: Path) -> None:
    dataset = MVTecDataset(root, category="screw")
    assert names(dataset.train) == ["good/000.png", "good/001.png", "good/002.png"]
    assert names(dataset.test) == [
        "dent/000.png",
        "good/000.png",
        "good/001.png",
        "scratch/000.png",
        "scratch/001.png",
    ]
    assert dataset.labels.tolist() == [1, 0, 0, 1, 1]
    assert dataset.info.defects == ("dent", "scratch")
    assert [s.mask_path and "/".join(s.mask_path.parts[-3:]) for s in dataset.test] == [
        "ground_truth/dent/000_mask.png",
        None,
        None,
        "ground_truth/scratch/000_mask.png",
        "ground_truth/scratch/001_mask.png",
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".tif", ".TIFF", ".webp"])
def test_any_image_format_is_read(tmp_path: Path, suffix: str) -> None:
    dataset = load_dataset("mvtec", mvtec(tmp_path / "screw", suffix=suffix))
    assert {sample.path.suffix for sample in dataset.test} == {suffix}
    assert dataset.verify() == []


def test_categories_are_what_is_on_disk(root: Path) -> None:
    for number in (10, 9):
        mvtec(root / f"part{number}")
    (root / "documents").mkdir()
    (root / "license.txt").write_text("terms", encoding="utf-8")
    (root / ".cache" / "train").mkdir(parents=True)
    assert list_categories("mvtec", root) == ("part9", "part10", "screw")


def test_a_linked_category_keeps_its_name(root: Path) -> None:
    (root / "bolt").symlink_to(root / "screw", target_is_directory=True)
    assert load_dataset("mvtec", root, category="bolt").info.category == "bolt"


def test_a_mask_may_have_the_stem_of_its_image(root: Path) -> None:
    truth = root / "screw" / "ground_truth" / "dent"
    draw_mask(truth / "000.bmp")
    assert load(root).test[0].mask_path == truth / "000_mask.png"
    (truth / "000_mask.png").unlink()
    assert load(root).test[0].mask_path == truth / "000.bmp"


def test_without_ground_truth_there_are_no_masks(root: Path) -> None:
    shutil.rmtree(root / "screw" / "ground_truth")
    dataset = load(root)
    assert not dataset.info.has_masks
    assert dataset.info.n_test_defect == 3


def test_a_missing_mask_is_an_error(root: Path) -> None:
    (root / "screw" / "ground_truth" / "scratch" / "001_mask.png").unlink()
    with pytest.raises(MaskError, match=r"1 of 2 .*first 001\.png: expected 001_mask\.png or 001"):
        load(root)
    shutil.rmtree(root / "screw" / "ground_truth" / "scratch")
    with pytest.raises(MaskError, match="2 of 2 defective images"):
        load(root)


def test_two_masks_of_one_image_are_an_error(root: Path) -> None:
    draw_mask(root / "screw" / "ground_truth" / "dent" / "000_mask.bmp")
    with pytest.raises(MaskError, match=r"several masks .*: 000_mask\.bmp and 000_mask\.png; keep"):
        load(root)


def test_one_mask_of_two_images_is_an_error(root: Path) -> None:
    draw(root / "screw" / "test" / "dent" / "000.bmp")
    with pytest.raises(MaskError, match=r"share the mask .*000_mask\.png"):
        load(root)


@pytest.mark.parametrize("folder", ["train/good", "test/good", "test/dent"])
def test_an_empty_class_is_an_error(root: Path, folder: str) -> None:
    for path in (root / "screw" / folder).iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DatasetError, match=rf"{folder} holds no images .*found: 000\.txt"):
        load(root)


@pytest.mark.parametrize(
    ("folder", "message"),
    [("train/good", "train/good is missing. Found in "), ("test", "screw/test is missing.")],
)
def test_a_missing_folder_is_named_with_the_layout(root: Path, folder: str, message: str) -> None:
    shutil.rmtree(root / "screw" / folder)
    with pytest.raises(DatasetError, match=re.escape(message)) as caught:
        load(root)
    assert "<root>/<category>/train/good/*.png" in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_beside_the_kinds_are_an_error(root: Path, split: str) -> None:
    draw(root / "screw" / split / "7.png")
    with pytest.raises(DatasetError, match=rf"1 images such as 7\.png lie directly in .*{split};"):
        load(root)


def test_a_root_too_high_or_too_low_is_guessed(root: Path) -> None:
    mvtec(root / "sets" / "mvtec" / "nut")
    shutil.rmtree(root / "screw")
    with pytest.raises(DatasetNotFoundError) as caught:
        load_dataset("mvtec", root / "sets", category="bolt")
    assert f"Did you mean {root / 'sets' / 'mvtec'}?" in str(caught.value)
    nut = root / "sets" / "mvtec" / "nut"
    for low in (nut / "test", nut / "train" / "good"):
        with pytest.raises(DatasetNotFoundError, match=re.escape(f"Did you mean {nut}? Found:")):
            load_dataset("mvtec", low)


def test_a_root_of_something_else_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"no category in .*\. Found: music/\. Expected"):
        load_dataset("mvtec", tmp_path)


def test_a_folder_that_may_not_be_listed_does_not_hide_the_others(root: Path) -> None:
    # The hint looks into every folder below; one that vanishes or is locked is only no candidate.
    (root / "screw").rename(root / "other")
    (root / "sets").mkdir()
    (root / "other").rename(root / "sets" / "screw")
    (root / "locked").mkdir()
    (root / "locked").chmod(0)
    try:
        with pytest.raises(DatasetNotFoundError, match=r"Did you mean .*sets\?"):
            load_dataset("mvtec", root)
    finally:
        (root / "locked").chmod(0o700)


def test_defective_training_images_are_kept_apart(root: Path) -> None:
    draw(root / "screw" / "train" / "bad" / "1.png")
    draw_mask(root / "screw" / "ground_truth" / "train" / "bad" / "1.png")
    dataset = load(root)
    assert names(dataset.train_defects) == ["bad/1.png"]
    assert dataset.train_defects[0].mask_path is not None
    assert dataset.info.n_train == 3
    assert len(list(dataset.images("train_defects"))) == dataset.info.n_train_defect == 1


@pytest.mark.parametrize(
    ("category", "image", "mask"),
    [("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")],
)
def test_btad_mixes_formats(tmp_path: Path, category: str, image: str, mask: str) -> None:
    root = btad(tmp_path)
    (root / category / "test" / "ko" / "Thumbs.db").write_bytes(b"x")
    assert list_categories("btad", root) == ("01", "02", "03")
    dataset = load_dataset("btad", root, category=category)
    assert dataset.info.defects == ("ko",)
    assert {sample.defect for sample in dataset.test} == {"good", "ko"}
    assert dataset.labels.tolist() == [1, 1, 0, 0, 0]
    assert {sample.path.suffix for sample in dataset.train} == {image}
    masks = [sample.mask_path for sample in dataset.test if sample.mask_path is not None]
    assert [path.name for path in masks] == [f"0000{mask}", f"0001{mask}"]
    assert dataset.verify() == []


def test_a_tree_of_the_other_name_says_what_was_found(tmp_path: Path) -> None:
    btad(tmp_path)
    with pytest.raises(DatasetError, match=r"train/good is missing\. Found in .*train: ok/"):
        load_dataset("mvtec", tmp_path, category="01")

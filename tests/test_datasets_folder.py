"""One's own images: good ones alone, or good, bad and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miniatures import draw, draw_mask
from pyimgano.datasets import Dataset, list_categories, load_dataset
from pyimgano.datasets.folder import FolderDataset
from pyimgano.errors import DatasetError, MaskError, ParameterError

if TYPE_CHECKING:
    from pathlib import Path


def goods(folder: Path, count: int) -> None:
    for number in range(count):
        draw(folder / f"{number}.png")


def load(root: Path, **options: float) -> Dataset:
    return load_dataset("custom", root, **options)


def below(root: Path, samples: tuple) -> list[str]:
    return [sample.path.relative_to(root).as_posix() for sample in samples]


def test_good_images_alone_are_all_for_training(tmp_path: Path) -> None:
    goods(tmp_path, 12)
    dataset = load(tmp_path)
    assert below(tmp_path, dataset.train) == [f"{number}.png" for number in range(12)]
    assert dataset.test == ()
    assert dataset.labels.shape == (0,)
    assert dataset.info.category == tmp_path.name
    assert list_categories("custom", tmp_path) == ()


def test_good_images_may_be_nested(tmp_path: Path) -> None:
    goods(tmp_path / "day10", 1)
    goods(tmp_path / "day9" / "camera", 2)
    assert below(tmp_path, load(tmp_path).train) == [
        "day9/camera/0.png",
        "day9/camera/1.png",
        "day10/0.png",
    ]


def test_a_good_folder_alone_is_all_for_training(tmp_path: Path) -> None:
    goods(tmp_path / "good", 10)
    dataset = load(tmp_path)
    assert (dataset.info.n_train, dataset.info.n_test) == (10, 0)


@pytest.mark.parametrize("good", ["good", "OK", "Normal"])
@pytest.mark.parametrize("bad", ["bad", "NG", "Defect", "anomaly", "KO"])
def test_folder_names_are_accepted_in_any_case(tmp_path: Path, good: str, bad: str) -> None:
    goods(tmp_path / good, 10)
    draw(tmp_path / bad / "1.png")
    draw_mask(tmp_path / "Masks" / "1.png")
    dataset = load(tmp_path)
    assert below(tmp_path, dataset.train) == [f"{good}/{number}.png" for number in range(8)]
    assert sorted(below(tmp_path, dataset.test)) == sorted(
        [f"{good}/8.png", f"{good}/9.png", f"{bad}/1.png"]
    )
    assert dataset.info.defects == (bad,)
    assert dataset.info.has_masks


@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_the_held_out_block_is_the_last_one(
    fraction: float, good_and_bad: tuple[Path, int]
) -> None:
    root, n = good_and_bad
    dataset = load(root, test_fraction=fraction)
    train = [sample.path for sample in dataset.train]
    test = [sample.path for sample in dataset.test if sample.label == 0]
    assert train + test == [root / "good" / f"{number}.png" for number in range(n)]
    assert train
    assert (len(test) == 0) == (fraction == 0)
    assert abs(len(test) - fraction * n) <= 1


@pytest.fixture(params=[2, 7])
def good_and_bad(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    goods(tmp_path / "good", request.param)
    draw(tmp_path / "bad" / "1.png")
    return tmp_path, request.param


@pytest.mark.parametrize(("n", "held"), [(1, 0), (2, 1), (5, 1), (10, 2), (15, 3), (18, 4)])
def test_a_fifth_is_held_out_at_least_one(tmp_path: Path, n: int, held: int) -> None:
    goods(tmp_path / "good", n)
    draw(tmp_path / "bad" / "1.png")
    assert load(tmp_path).info.n_test_good == held


@pytest.mark.parametrize("fraction", [-0.1, 1, 2, float("nan")])
def test_a_fraction_out_of_range_is_refused(tmp_path: Path, fraction: float) -> None:
    goods(tmp_path, 2)
    with pytest.raises(ParameterError, match=r"test_fraction must lie in \[0, 1\), got"):
        FolderDataset(tmp_path, test_fraction=fraction)


def test_a_split_that_is_given_decides(tmp_path: Path) -> None:
    goods(tmp_path / "good" / "train", 3)
    goods(tmp_path / "good" / "test", 4)
    draw(tmp_path / "bad" / "1.png")
    dataset = load(tmp_path)
    assert (dataset.info.n_train, dataset.info.n_test_good, dataset.info.n_test_defect) == (3, 4, 1)


def test_half_a_split_is_refused(tmp_path: Path) -> None:
    goods(tmp_path / "good" / "test", 4)
    with pytest.raises(DatasetError, match="only one of train and test"):
        load(tmp_path)


def test_folders_below_bad_are_kinds(tmp_path: Path) -> None:
    goods(tmp_path / "good", 5)
    for name in ("scratch/0.png", "scratch/deep/1.png", "dent/0.png", "2.png"):
        draw(tmp_path / "bad" / name)
    dataset = load(tmp_path)
    assert dataset.info.defects == ("bad", "dent", "scratch")
    assert not dataset.info.has_masks
    kinds = {sample.path.relative_to(tmp_path).as_posix(): sample.defect for sample in dataset.test}
    assert kinds == {
        "good/4.png": "good",
        "bad/scratch/0.png": "scratch",
        "bad/scratch/deep/1.png": "scratch",
        "bad/dent/0.png": "dent",
        "bad/2.png": "bad",
    }


def test_masks_lie_in_the_same_sub_folders_or_in_one(tmp_path: Path) -> None:
    goods(tmp_path / "good", 5)
    for image, mask in (
        ("scratch/0.png", "scratch/0_mask.png"),
        ("dent/0.png", "dent/0.png"),
        ("stain/7.jpg", "7.png"),
        ("8.png", "8_mask.bmp"),
    ):
        draw(tmp_path / "bad" / image)
        draw_mask(tmp_path / "masks" / mask)
    dataset = load(tmp_path)
    assert dataset.verify() == []
    pairs = {
        sample.path.relative_to(tmp_path / "bad").as_posix(): sample.mask_path.relative_to(
            tmp_path / "masks"
        ).as_posix()
        for sample in dataset.test
        if sample.mask_path is not None
    }
    assert pairs == {
        "scratch/0.png": "scratch/0_mask.png",
        "dent/0.png": "dent/0.png",
        "stain/7.jpg": "7.png",
        "8.png": "8_mask.bmp",
    }


def test_a_missing_or_shared_mask_is_an_error(tmp_path: Path) -> None:
    goods(tmp_path / "good", 5)
    draw(tmp_path / "bad" / "scratch" / "0.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(MaskError, match=r"1 of 1 .*move the whole mask folder away"):
        load(tmp_path)
    draw_mask(tmp_path / "masks" / "0.png")
    draw(tmp_path / "bad" / "dent" / "0.png")
    with pytest.raises(MaskError, match="share the mask"):
        load(tmp_path)


def test_several_sets_are_categories(tmp_path: Path) -> None:
    for name in ("part10", "part9"):
        goods(tmp_path / name / "good", 2)
    goods(tmp_path / "loose", 3)
    assert list_categories("custom", tmp_path) == ("part9", "part10")
    part = load_dataset("custom", tmp_path, category="part10")
    assert (part.info.category, part.info.n_train) == ("part10", 2)
    loose = load_dataset("custom", tmp_path, category="loose")
    assert (loose.info.category, loose.info.n_train) == ("loose", 3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images below .*found: nothing"),
        (["a.txt"], "no images below .*found: a.txt"),
        (["good/1.txt"], "no images below .*good; found: 1.txt"),
        (["good/1.png", "bad/1.txt"], "no images below .*bad; found: 1.txt"),
        (["bad/1.png", "x/1.png"], "holds bad/ but no folder of good images; found: bad/, x/"),
        (["good/1.png", "OK/1.png"], "holds good and OK, which mean the same; keep one"),
        (["good/1.png", "bad/1.png", "ng/1.png"], "holds bad and ng, which mean the same"),
        (["good/1.png", "defekt/1.png"], "defekt belongs to no class; .* only: good/"),
        (["good/1.png", "bad/1.png", "over.png"], "over.png belongs to no class; .*good/, bad/"),
        (
            ["good/train/1.png", "good/test/1.png", "good/2.png"],
            "2.png belongs to no class; .*train/, test/",
        ),
        (["train/good/1.png", "test/good/1.png"], "holds train/, .* read it as 'mvtec'"),
        (["train/1.png"], "holds train/, as data sets in the layout of MVTec AD do"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        path = tmp_path / name
        if path.suffix == ".png":
            draw(path)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text("x", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load(tmp_path)


def test_folders_without_images_may_stand_beside(tmp_path: Path) -> None:
    goods(tmp_path / "good", 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x", encoding="utf-8")
    assert load(tmp_path).info.n_train == 2

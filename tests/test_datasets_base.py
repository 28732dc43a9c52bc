"""What every data set promises: facts, immutability, laziness, order, verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path

import numpy as np
import pytest

import pyimgano.utils.datasets as door
from miniatures import SIZE, btad, draw, draw_mask, mvtec, visa
from pyimgano.datasets import DATASETS, Dataset, DatasetInfo, list_categories, load_dataset
from pyimgano.errors import (
    DatasetError,
    DatasetNotFoundError,
    ImageReadError,
    MaskError,
    ParameterError,
    UnknownNameError,
)
from pyimgano.records import Sample


def plain(root: Path) -> Path:
    for number in range(10):
        draw(root / "part" / "good" / f"{number}.png")
    draw(root / "part" / "bad" / "1.png")
    draw_mask(root / "part" / "masks" / "1.png")
    return root


def build(name: str, root: Path) -> Path:
    if name == "mvtec":
        mvtec(root / "screw")
        return root
    return {"visa": visa, "btad": btad, "custom": plain}[name](root)


@pytest.fixture(params=["mvtec", "visa", "btad", "custom"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    root = build(request.param, tmp_path)
    return load_dataset(request.param, root, category=list_categories(request.param, root)[0])


def test_ours_are_registered_with_what_the_lists_need() -> None:
    assert {"btad", "custom", "mvtec", "visa"} <= set(DATASETS)
    for name in ("btad", "custom", "mvtec", "visa"):
        facts = DATASETS.entry(name).metadata
        assert {"layout", "verified", "source"} == set(dict(facts.details))
        assert facts.licence
        assert "<root>" in dict(facts.details)["layout"]


def test_the_door_shows_the_same_objects() -> None:
    assert door.MVTecDataset is DATASETS["mvtec"]
    assert door.VisADataset is DATASETS["visa"]
    assert door.load_dataset is load_dataset
    assert door.Dataset is Dataset
    assert door.DatasetInfo is DatasetInfo
    assert sorted(door.__all__) == [
        "Dataset", "DatasetInfo", "MVTecDataset", "VisADataset", "load_dataset",
    ]  # fmt: skip


def test_splits_are_sequences_of_labelled_samples(dataset: Dataset) -> None:
    for split in (dataset.train, dataset.test):
        assert isinstance(split, Sequence)
        assert all(isinstance(sample, Sample) and sample.path.is_file() for sample in split)
        assert {sample.category for sample in split} == {dataset.info.category}
    assert {(s.split, s.label, s.defect, s.mask_path) for s in dataset.train} == {
        ("train", 0, "good", None)
    }
    for sample in dataset.test:
        assert sample.split == "test"
        assert (sample.label == 1) == (sample.defect != "good") == (sample.mask_path is not None)


def test_info_counts_what_the_splits_hold(dataset: Dataset) -> None:
    info = dataset.info
    assert (info.n_train, info.n_test) == (len(dataset.train), len(dataset.test))
    assert info.n_test_defect == dataset.labels.sum() > 0
    assert info.n_test_good == info.n_test - info.n_test_defect > 0
    assert set(info.defects) == {sample.defect for sample in dataset.test} - {"good"}
    assert info.has_masks
    assert DATASETS[info.name] is type(dataset)
    assert info.root == dataset.root
    facts = DATASETS.entry(info.name).metadata
    assert (info.summary, info.licence) == (facts.summary, facts.licence)
    assert (info.layout, info.source) == (
        dict(facts.details)["layout"],
        dict(facts.details)["source"],
    )


def test_labels_images_and_masks_are_in_the_order_of_the_samples(dataset: Dataset) -> None:
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [sample.label for sample in dataset.test]
    images, masks = list(dataset.images("test")), list(dataset.masks())
    assert len(images) == len(masks) == len(dataset.test)
    for image, mask, sample in zip(images, masks, dataset.test, strict=True):
        assert image.shape == (*SIZE[::-1], 3)
        if sample.label == 0:
            assert mask is None
        else:
            assert mask is not None
            assert mask.dtype == np.bool_
            assert np.argwhere(mask).tolist() == [[2, 3], [2, 4]]
    assert len(list(dataset.images("train"))) == len(dataset.train)


def test_a_sound_data_set_has_no_problems(dataset: Dataset) -> None:
    assert dataset.verify() == []


def test_nothing_can_be_changed(dataset: Dataset) -> None:
    for each in fields(dataset):
        with pytest.raises(FrozenInstanceError):
            setattr(dataset, each.name, None)
    with pytest.raises(FrozenInstanceError):
        dataset.info.n_train = 1  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        dataset.more = 1  # type: ignore[attr-defined]
    first = dataset.labels
    first[:] = 7
    assert set(dataset.labels.tolist()) == {0, 1}


def test_nothing_is_decoded_before_it_is_read(dataset: Dataset) -> None:
    for sample in (*dataset.train, *dataset.test):
        sample.path.write_bytes(b"no image")
        if sample.mask_path is not None:
            sample.mask_path.write_bytes(b"no mask")
    again = type(dataset)(dataset.root, category=dataset.category)
    assert again.info == dataset.info
    images, masks = again.images("test"), again.masks()
    with pytest.raises(ImageReadError):
        next(images)
    with pytest.raises(MaskError):
        list(masks)
    assert len(again.verify()) == len(again.train) + len(again.test)


def test_a_damaged_image_matters_only_when_it_is_reached(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    damaged = tmp_path / "screw" / "train" / "good" / "002.png"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    dataset = load_dataset("mvtec", tmp_path, category="screw")
    images = dataset.images("train")
    assert next(images)[0, 0].tolist() == [100, 100, 100]
    assert next(images)[0, 0].tolist() == [101, 101, 101]
    with pytest.raises(ImageReadError, match=r"002\.png"):
        next(images)
    (problem,) = dataset.verify()
    assert str(damaged) in problem


def test_a_split_that_is_not_there_is_refused_at_once(dataset: Dataset) -> None:
    with pytest.raises(ParameterError, match=r"one of train, train_defects, test, got 'val'"):
        dataset.images("val")


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    mask = draw_mask(tmp_path / "screw" / "ground_truth" / "dent" / "000_mask.png", size=(8, 12))
    dataset = load_dataset("mvtec", tmp_path, category="screw")
    with pytest.raises(MaskError, match=r"8 x 12 pixels, its image .* 12 x 8"):
        list(dataset.masks())
    (problem,) = dataset.verify()
    assert str(mask) in problem


def test_an_empty_mask_is_read_and_reported(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    mask = draw(tmp_path / "screw" / "ground_truth" / "dent" / "000_mask.png", value=0)
    dataset = load_dataset("mvtec", tmp_path, category="screw")
    (first, *_) = (mask for mask in dataset.masks() if mask is not None)
    assert not first.any()
    (problem,) = dataset.verify()
    assert problem.startswith(f"the mask {mask} is empty")


def test_a_set_without_masks_says_so_at_once(tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "good" / f"{number}.png")
    draw(tmp_path / "bad" / "1.png")
    dataset = load_dataset("custom", tmp_path)
    assert not dataset.info.has_masks
    assert dataset.verify() == []
    with pytest.raises(MaskError, match="no ground-truth masks; only image-level"):
        dataset.masks()


def test_without_defective_images_no_masks_are_needed(tmp_path: Path) -> None:
    for number in range(4):
        draw(tmp_path / "good" / ("train" if number < 3 else "test") / f"{number}.png")
    dataset = load_dataset("custom", tmp_path)
    assert list(dataset.masks()) == [None]
    assert dataset.labels.tolist() == [0]


def test_unknown_names_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mvtec'"):
        load_dataset("mvtek", tmp_path)
    with pytest.raises(ParameterError, match=r"'mvtec' has no option 'split'; It has: nothing"):
        load_dataset("mvtec", tmp_path, split="1cls")
    with pytest.raises(
        ParameterError, match=r"no option 'fraction'; did you mean 'test_fraction'?"
    ):
        load_dataset("custom", tmp_path, fraction=0.5)


@pytest.mark.parametrize("name", ["mvtec", "visa", "btad", "custom"])
def test_a_root_that_is_no_folder_is_named(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "data.tar"
    archive.write_bytes(b"x")
    for call in (load_dataset, list_categories):
        with pytest.raises(DatasetNotFoundError, match=r"missing does not exist. Expected:\n  <r"):
            call(name, tmp_path / "missing")
        with pytest.raises(DatasetNotFoundError, match="is a file; unpack it first"):
            call(name, str(archive))


@pytest.mark.parametrize("name", ["mvtec", "visa", "btad", "custom"])
def test_an_unknown_category_gets_near_matches(name: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    known = list_categories(name, root)
    with pytest.raises(DatasetNotFoundError) as caught:
        load_dataset(name, root, category=known[0] + "s")
    assert f"did you mean {known[0]!r}?" in str(caught.value)
    assert ", ".join(known) in str(caught.value)
    with pytest.raises(DatasetNotFoundError):
        load_dataset(name, root, category=f"../{root.name}/{known[0]}")


@pytest.mark.parametrize("name", ["mvtec", "visa", "btad", "custom"])
def test_a_choice_of_categories_must_be_made(name: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    with pytest.raises(DatasetError, match=f"choose one .*{list_categories(name, root)[0]}"):
        load_dataset(name, root)


@pytest.mark.parametrize("name", ["mvtec", "visa", "btad", "custom"])
def test_a_category_folder_is_a_root_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(name, tmp_path)
    category = list_categories(name, root)[0]
    whole = load_dataset(name, root, category=category)
    monkeypatch.chdir(root / category)
    for given in (root / category, Path(), Path("..") / category):
        alone = load_dataset(name, given)
        assert alone.info.category == category
        assert [s.path.resolve() for s in alone.test] == [s.path.resolve() for s in whole.test]
    assert list_categories(name, root / category) == ()
    with pytest.raises(DatasetNotFoundError):
        load_dataset(name, root / category, category=category)


@dataclass(frozen=True, slots=True, eq=False)
class Given(Dataset):
    """A reader of somebody else's: registered nowhere."""

    samples: tuple[Sample, ...] = ()

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        return ()

    def _read(self) -> Sequence[Sample]:
        return self.samples


def sample(name: str, label: int | None = 0, split: str = "train", **more: str) -> Sample:
    return Sample(name, split=split, label=label, **more)


def test_a_reader_of_ones_own_needs_no_registration() -> None:
    given = Given(Path("x"), samples=(sample("2.png"), sample("10.png"), sample("1.png")))
    assert [s.path.name for s in given.train] == ["1.png", "2.png", "10.png"]
    assert (given.info.name, given.info.licence, given.info.layout) == ("Given", "", "")
    assert given.info.n_test == 0


def test_training_never_sees_a_defect() -> None:
    given = Given(Path("x"), samples=(sample("1.png"), sample("2.png", 1)))
    assert [s.path.name for s in given.train] == ["1.png"]
    assert [s.path.name for s in given.train_defects] == ["2.png"]
    assert given.info.n_train_defect == 1


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ((), DatasetError, "no good training image"),
        ((sample("1.png", 1),), DatasetError, "no good training image"),
        ((sample("1.png"), sample("2.png", None)), DatasetError, "without a label"),
        ((sample("1.png"), sample("2.png", None, "test")), DatasetError, "without a label"),
        ((sample("1.png"), sample("2.png", split="val")), DatasetError, "a split unknown here"),
        ((sample("1.png"), sample("1.png", split="test")), DatasetError, "1.png is listed twice"),
        (
            (
                sample("0.png"),
                sample("1.png", 1, mask_path="m.png"),
                sample("1.bmp", 1, mask_path="m.png"),
            ),
            MaskError,
            "1.bmp and 1.png share the mask m.png",
        ),
    ],
)
def test_what_a_reader_may_not_return(
    samples: tuple[Sample, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Given(Path("x"), samples=samples)


def test_verify_names_a_mask_that_a_reader_left_out(tmp_path: Path) -> None:
    good = sample(str(draw(tmp_path / "good.png")))
    first = Sample(
        draw(tmp_path / "1.png"), split="test", label=1, mask_path=draw_mask(tmp_path / "m.png")
    )
    second = Sample(draw(tmp_path / "2.png"), split="test", label=1)
    assert Given(tmp_path, samples=(good, first, second)).verify() == [
        f"{second.path} is defective and has no mask"
    ]

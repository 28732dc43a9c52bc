"""Data sets made from others: which images stand where, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import fakes
import miniatures
from pyimgano.datasets.base import Dataset, load_dataset
from pyimgano.datasets.protocols import Derived, contaminated, few_shot, multi_class
from pyimgano.errors import DatasetError, MaskError, ParameterError
from pyimgano.records import Sample
from pyimgano.runs.evaluate import evaluate
from pyimgano.synthesis import write_demo
from pyimgano.testing import check_dataset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = write_demo(
        tmp_path_factory.mktemp("protocols") / "parts",
        n_train=20,
        n_good=4,
        n_defect=12,
        size=(96, 96),
    )
    return load_dataset("mvtec", root, category="flange")


def paths(samples: tuple[Sample, ...]) -> list[Path]:
    return [sample.path for sample in samples]


@pytest.mark.parametrize(("k", "seed"), [(1, 0), (4, 1), (8, 1), (20, 0)])
def test_shots_are_a_slice_of_the_sorted_names(parts: Dataset, k: int, seed: int) -> None:
    shots = few_shot(parts, k, seed)
    names = sorted(path.name for path in (parts.root / "flange/train/good").iterdir())
    assert [path.name for path in paths(shots.train)] == names[seed * k : (seed + 1) * k]
    assert paths(shots.test) == paths(parts.test)
    assert shots.info.n_train == k
    assert shots.info.protocol == f"few-shot: {k} of 20 good images, seed {seed}"
    check_dataset(shots)


def test_shots_sort_as_text_and_not_by_number(tmp_path: Path) -> None:
    category = miniatures.mvtec(tmp_path / "screw")
    for number in (2, 10):
        miniatures.draw(category / "train" / "good" / f"{number}.png", value=60 + number)
    whole = load_dataset("mvtec", category)
    assert paths(few_shot(whole, 5).train) == sorted(paths(whole.train))
    assert paths(few_shot(whole, 5).train) != paths(whole.train)


def test_shots_of_two_seeds_share_nothing(parts: Dataset) -> None:
    assert not set(paths(few_shot(parts, 8, 0).train)) & set(paths(few_shot(parts, 8, 1).train))


def test_too_few_images_for_the_shots_are_named(parts: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"8 shots of seed 2 need 24 .* flange has 20"):
        few_shot(parts, 8, 2)
    for k, seed in ((0, 0), (1, -1)):
        with pytest.raises(ParameterError, match="k must be at least 1"):
            few_shot(parts, k, seed)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_defects_move_from_the_test_into_training(parts: Dataset, share: float) -> None:
    mixed = contaminated(parts, share, seed=3)
    moved = [s for s in mixed.train if s.defect != "good"]
    assert len(moved) == round(share * 20)
    assert {s.label for s in mixed.train} == {0}
    assert all(s.mask_path is None for s in moved)
    assert set(paths(mixed.train)) - set(paths(tuple(moved))) == set(paths(parts.train))
    assert set(paths(mixed.test)) | {s.path for s in moved} == set(paths(parts.test))
    assert mixed.info.n_test_defect == 12 - len(moved)
    assert f"{len(moved)} defective test images" in mixed.info.protocol
    check_dataset(mixed)
    again = contaminated(parts, share, seed=3)
    assert paths(again.train) == paths(mixed.train)
    assert paths(contaminated(parts, share, seed=4).train) != paths(mixed.train)


def test_the_views_of_one_part_leave_the_test_together(parts: Dataset) -> None:
    grouped = [
        Sample(
            s.path,
            split="test",
            category=s.category,
            defect=s.defect,
            label=s.label,
            mask_path=s.mask_path,
            group=f"part {i % 4}",
        )
        for i, s in enumerate(parts.test)
    ]
    views = Derived(parts.root, origin=parts.info, samples=(*parts.train, *grouped))
    mixed = contaminated(views, 0.05)
    assert not {s.group for s in mixed.train} & {s.group for s in mixed.test} - {None}
    assert len({s.group for s in mixed.train} - {None}) == 1


@pytest.mark.parametrize("share", [0, 1, -0.1, 0.01])
def test_a_share_must_make_an_image(parts: Dataset, share: float) -> None:
    with pytest.raises(ParameterError, match="make at least one of 20 images"):
        contaminated(parts, share)


def test_a_defect_must_be_left_to_measure_with(parts: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"12 defective images .* must keep one"):
        contaminated(parts, 0.6)


def test_one_model_for_all_categories(parts: Dataset, tmp_path: Path) -> None:
    root = write_demo(tmp_path / "b", seed=5, n_train=6, n_good=2, n_defect=2, size=(96, 96))
    (root / "flange").rename(root / "disc")
    other = load_dataset("mvtec", root, category="disc")
    both = multi_class([parts, other])
    assert {s.category for s in both.train} == {s.category for s in both.test} == {"flange", "disc"}
    assert (both.info.n_train, both.info.n_test) == (26, 20)
    assert both.info.category == "flange + disc"
    assert both.info.protocol == "multi-class: one model for 2 categories"
    assert both.info.has_masks
    check_dataset(both)
    shots = multi_class([few_shot(parts, 4), few_shot(other, 4)])
    assert shots.info.protocol.startswith("few-shot: 4 of 20 good images, seed 0; multi-class")
    found = evaluate(fakes.CellDetector(), shots, tmp_path / "run")
    rows = (tmp_path / "run" / "results.csv").read_text(encoding="utf-8")
    assert ",flange," in rows
    assert ",disc," in rows
    assert found.metrics["pixel_auroc"] is not None


def test_categories_must_differ_and_share_no_image(parts: Dataset, tmp_path: Path) -> None:
    for given in ([parts], [parts, parts]):
        with pytest.raises(ParameterError, match="two or more different categories"):
            multi_class(given)
    miniatures.mvtec(tmp_path / "bolt")
    bolt = load_dataset("mvtec", tmp_path / "bolt")
    twin = Derived(parts.root, origin=parts.info, samples=(*parts.train, *bolt.train, *parts.test))
    with pytest.raises(DatasetError, match="listed twice"):
        multi_class([bolt, twin])


def test_without_all_masks_there_are_none(parts: Dataset, tmp_path: Path) -> None:
    miniatures.mvtec(tmp_path / "bolt")
    bolt = load_dataset("mvtec", tmp_path / "bolt")
    bare = [
        Sample(s.path, split="test", category="bolt", defect=s.defect, label=s.label)
        for s in bolt.test
    ]
    blind = Derived(bolt.root, origin=bolt.info, samples=(*bolt.train, *bare))
    both = multi_class([parts, blind])
    assert not both.info.has_masks
    with pytest.raises(MaskError, match="no ground-truth masks"):
        both.masks()


def test_it_has_the_face_of_a_data_set(parts: Dataset) -> None:
    shots = few_shot(parts, 2)
    assert isinstance(shots, Dataset)
    assert len(list(shots.images("train"))) == 2
    assert shots.labels.tolist() == parts.labels.tolist()
    assert sum(mask is not None for mask in shots.masks()) == 12
    assert Derived.categories(parts.root) == ()
    assert list(shots._read()) == [*shots.train, *shots.test]
    twice = few_shot(few_shot(parts, 4), 2, 1)
    assert twice.info.protocol.count("few-shot") == 2

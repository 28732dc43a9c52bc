"""Real inspection images: ``PYIMGANO_REAL_DATA`` names the folder that holds mvtec/ and visa/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyimgano.datasets import list_categories, load_dataset

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        "PYIMGANO_REAL_DATA" not in os.environ,
        reason="PYIMGANO_REAL_DATA does not name a folder of real images",
    ),
]


@pytest.mark.parametrize(
    ("name", "category", "counts", "size"),
    [
        ("mvtec", "screw", (80, 30, 50), (1024, 1024)),
        ("mvtec", "ballscrew", (150, 60, 60), (460, 1130)),
        ("visa", "cookie", (31, 14, 32), None),
    ],
)
def test_real_sets_are_read_whole(
    name: str, category: str, counts: tuple[int, int, int], size: tuple[int, int] | None
) -> None:
    root = Path(os.environ["PYIMGANO_REAL_DATA"]) / name
    assert category in list_categories(name, root)
    dataset = load_dataset(name, root, category=category)
    info = dataset.info
    assert (info.n_train, info.n_test_good, info.n_test_defect) == counts
    assert info.has_masks
    for image, mask, label in zip(
        dataset.images("test"), dataset.masks(), dataset.labels, strict=True
    ):
        assert size is None or image.shape[:2] == size
        assert (mask is not None) == (label == 1)
        if mask is not None:
            assert mask.shape == image.shape[:2]
            assert 0 < mask.mean() < 0.5


def test_real_sets_have_no_problems() -> None:
    root = Path(os.environ["PYIMGANO_REAL_DATA"])
    assert load_dataset("mvtec", root / "mvtec", category="ballscrew").verify() == []
    assert load_dataset("visa", root / "visa", category="cookie").verify() == []


def test_real_order_is_capture_order() -> None:
    root = Path(os.environ["PYIMGANO_REAL_DATA"])
    cookies = load_dataset("visa", root / "visa" / "cookie").train
    assert [sample.path.stem for sample in cookies[:3]] == ["normal-1", "normal-2", "normal-3"]
    screws = load_dataset("mvtec", root / "mvtec" / "ballscrew").train
    days = [sample.path.stem.split("_")[1] for sample in screws]
    assert days == sorted(days)

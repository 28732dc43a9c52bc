"""Disturbances: graded, determined by seed and pixels, and masks that move with the parts."""

from __future__ import annotations

import numpy as np
import pytest

from pyimgano.errors import InputError, ParameterError
from pyimgano.synthesis import plant, render_part
from pyimgano.synthesis.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    choose_corruptions,
    corrupt,
)

PART = render_part(np.random.default_rng(4), (96, 128))
IMAGE, MASK = plant(PART.image, PART.mask, "stain", np.random.default_rng(0), severity=1.5)
MOVING = [name for name, one in CORRUPTIONS.items() if one.moves]
LEVEL = np.full((64, 64, 3), 100, np.uint8)


def away(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - other).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_graded_and_determined(name: str) -> None:
    before = IMAGE.copy()
    found = [corrupt(IMAGE, name, severity)[0] for severity in SEVERITIES]
    np.testing.assert_array_equal(IMAGE, before)
    assert {one.shape for one in found} == {IMAGE.shape}
    assert {one.dtype for one in found} == {np.dtype(np.uint8)}
    distances = [away(IMAGE, one) for one in found]
    assert distances[0] > 0
    assert distances == sorted(distances)
    for severity, one in zip(SEVERITIES, found, strict=True):
        np.testing.assert_array_equal(corrupt(IMAGE, name, severity)[0], one)


@pytest.mark.parametrize("name", ["brightness", "motion", "noise", "shift", "rotation"])
def test_what_is_drawn_depends_on_seed_and_pixels(name: str) -> None:
    seeds = {corrupt(IMAGE, name, 4, seed=seed)[0].tobytes() for seed in range(12)}
    assert len(seeds) > 1
    changes = set()
    for value in range(12):
        other = IMAGE.copy()
        other[0, 0] = value
        changes.add(corrupt(other, name, 4)[0][8:-8, 8:-8].tobytes())
    assert len(changes) > 1


def test_severity_0_is_the_image_itself() -> None:
    image, mask = corrupt(IMAGE, "noise", 0, mask=MASK)
    assert image is IMAGE
    assert mask is MASK


def test_the_amounts_are_what_they_say() -> None:
    for severity, amount in enumerate(CORRUPTIONS["brightness"].amounts, 1):
        level = int(corrupt(LEVEL, "brightness", severity)[0][0, 0, 0])
        expected = [100 * (1 + amount), 100 / (1 + amount)]
        assert min(abs(level - one) for one in expected) <= 0.5
    noisy = corrupt(LEVEL, "noise", 3)[0]
    assert noisy.std() == pytest.approx(CORRUPTIONS["noise"].amounts[2], rel=0.05)
    faded = corrupt(IMAGE, "contrast", 4)[0]
    assert faded.std(axis=(0, 1)) == pytest.approx(0.6 * IMAGE.std(axis=(0, 1)), rel=0.02)
    for name in ("contrast", "defocus", "motion", "shift", "rotation"):
        assert away(corrupt(LEVEL, name, 5)[0], LEVEL) == 0, name


@pytest.mark.parametrize("name", ["defocus", "motion"])
def test_a_blur_keeps_the_light_and_grows_with_the_image(name: str) -> None:
    for size in (128, 256):
        point = np.zeros((size, size, 3), np.uint8)
        point[size // 2, size // 2] = 255
        wide = corrupt(point, name, 5)[0][..., 0] > 0
        rows, columns = np.nonzero(wide)
        reach = np.hypot(rows - size // 2, columns - size // 2).max()
        amount = CORRUPTIONS[name].amounts[4] * (0.5 if name == "motion" else 1)
        assert reach == pytest.approx(amount * size / 256, abs=1.5)
    assert corrupt(IMAGE, name, 5)[0].mean() == pytest.approx(IMAGE.mean(), rel=0.01)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_mask_moves_with_what_it_marks(name: str, severity: int) -> None:
    painted = np.where(MASK[..., None], np.uint8(255), np.zeros((*MASK.shape, 3), np.uint8))
    image, mask = corrupt(painted, name, severity, mask=MASK)
    assert mask is not None
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, image[..., 0] > 127)
    assert mask.sum() == pytest.approx(MASK.sum(), rel=0.25)


def test_a_shift_moves_by_its_share_of_the_side() -> None:
    spot = np.zeros((100, 200), bool)
    spot[45:55, 95:105] = True
    image = np.repeat(spot[..., None] * np.uint8(200), 3, axis=2)
    _, moved = corrupt(image, "shift", 5, mask=spot)
    assert moved is not None
    step = np.argwhere(moved).mean(axis=0) - np.argwhere(spot).mean(axis=0)
    assert np.hypot(*step) == pytest.approx(8, abs=0.7)


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - set(MOVING)))
def test_a_mask_stays_where_nothing_moves(name: str) -> None:
    assert corrupt(IMAGE, name, 5, mask=MASK)[1] is MASK
    assert corrupt(IMAGE, name, 5)[1] is None


def test_one_more_is_chosen_in_the_order_of_the_table() -> None:
    assert choose_corruptions("all", [1]) == tuple(CORRUPTIONS)
    assert choose_corruptions(["jpeg", "noise"], [1, 5]) == ("noise", "jpeg")


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(ParameterError, match="no corruption 'fog'; known are: all, brightness"):
        corrupt(IMAGE, "fog", 1)
    for severity in (6, -1, 2.5):
        with pytest.raises(ParameterError, match="whole number from 1 to 5"):
            corrupt(IMAGE, "noise", severity)
    for image in (IMAGE[..., 0], IMAGE.astype(np.uint16), IMAGE[..., :2]):
        with pytest.raises(InputError, match="must be RGB uint8"):
            corrupt(image, "noise", 1)

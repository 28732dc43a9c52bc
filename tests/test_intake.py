"""Which images are accepted, and on which scale 16 bits become 8."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import grey
from pyimgano.errors import ImageError, ImageSizeError, InputError, ParameterError
from pyimgano.records import Sample
from pyimgano.views.intake import Goods, Images, Intake, learn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BLANK = np.full((40, 48, 3), 7, np.uint8)


def learned(sources: Sequence[Any], **options: Any) -> Goods:
    return learn(sources, **{"any_size": False, "bit_depth": None, **options})


def deep(levels: np.ndarray, scale: int = 1) -> np.ndarray:
    return np.repeat((levels * scale)[..., None], 3, axis=2).astype(np.uint16)


def ramp(top: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.linspace(0, top, 40 * 48)).reshape(40, 48)


def test_one_size_refuses_others_by_name() -> None:
    intake = learned([grey(80, 1), grey(90, 2)]).images.intake
    assert intake == Intake(((40, 48),))
    assert intake.see(grey(100)).shape == (40, 48, 3)
    message = r"array .* is 40 x 48 px, but all good images were 48 x 40: .* any_size=True"
    with pytest.raises(ImageSizeError, match=message):
        intake.see(grey(100, size=(48, 40)))


def test_several_sizes_accept_any_and_the_most_frequent_comes_first() -> None:
    sizes = [(40, 48), (30, 30), (30, 30), (20, 90)]
    intake = learned([grey(80 + i, i, size) for i, size in enumerate(sizes)]).images.intake
    assert intake.sizes == ((30, 30), (20, 90), (40, 48))
    assert intake.see(grey(80, size=(64, 64))).shape == (64, 64, 3)


def test_any_size_is_a_choice() -> None:
    intake = learned([grey(80)], any_size=True).images.intake
    assert intake.see(grey(80, size=(64, 64))).shape == (64, 64, 3)


@pytest.mark.parametrize("top", [1023, 4095, 65535])
def test_the_scale_is_the_brightest_good_value(top: int) -> None:
    goods = learned([deep(ramp(top // 2)), deep(ramp(top, 1))])
    assert goods.images.intake.white == top
    assert goods.images[1].max() == 255
    assert goods.images[0].max() in {127, 128}


def test_a_declared_depth_is_the_scale() -> None:
    goods = learned([deep(ramp(1000))], bit_depth=12)
    assert goods.images.intake.white == 4095
    assert goods.images[0].max() == round(1000 / 4095 * 255)


@pytest.mark.parametrize("depth", [8, 17, 0, -1])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ParameterError, match="bit_depth must lie between 9 and 16"):
        learned([grey(80)], bit_depth=depth)


def test_eight_bits_stay_as_they_are() -> None:
    goods = learned([grey(80)])
    assert goods.images.intake.white == 65535
    np.testing.assert_array_equal(goods.images[0], grey(80))
    np.testing.assert_array_equal(
        goods.images.intake.see(grey(80).astype(np.uint16) * 257), grey(80)
    )


def test_clipping_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    intake = learned([deep(ramp(4095))]).images.intake
    with caplog.at_level(logging.WARNING):
        intake.see(deep(ramp(4095, 5)))
        assert not caplog.records
        intake.see(deep(ramp(8190)))
    assert (
        "50.0 % of the values exceed the scale learned from the good images (4095)" in caplog.text
    )


@pytest.mark.parametrize("spread", [0, 1, 2, 3])
def test_blank_is_one_colour_up_to_the_noise_of_coding(spread: int) -> None:
    image = BLANK.copy()
    image[::2, :, 1] += spread
    intake = Intake(((40, 48),))
    if spread > 2:
        assert intake.see(image) is not None
        return
    with pytest.raises(ImageError, match="blank"):
        intake.see(image)


def test_a_flat_patch_in_one_channel_is_not_blank() -> None:
    image = BLANK.copy()
    image[5:9, 5:9, 2] = 200
    assert not learned([image]).skipped


@pytest.mark.parametrize("top", [300, 1023, 4095, 65535])
def test_blank_is_judged_on_the_scale_that_is_learned(top: int) -> None:
    """A camera of 10 bits gives small numbers: its images are not blank for that."""
    goods = learned([deep(ramp(top, i)) for i in range(20)])
    assert not goods.skipped
    flat = deep(np.where(ramp(1) > 0.5, top / 2, top / 2 + top / 128))
    goods = learned([*[deep(ramp(top, i)) for i in range(20)], flat])
    assert goods.skipped == (("array (40, 48, 3) of uint16", "blank (one colour)"),)
    with pytest.raises(ImageError, match="blank"):
        goods.images.intake.see(flat)


@settings(max_examples=25)
@given(top=st.integers(1, 65535), low=st.integers(0, 65535), spread=st.integers(0, 900))
def test_what_is_learned_from_can_be_seen(top: int, low: int, spread: int) -> None:
    """The list of the skipped and the gate agree on every image."""
    image = deep(
        np.where(ramp(1) > 0.5, min(low, 65535 - spread), min(low, 65535 - spread) + spread)
    )
    full = [deep(ramp(top, i)) for i in range(25)]
    try:
        goods = learned([*full, image])
    except InputError:
        return
    assert len(list(goods.images)) == len(goods.images) == 26 - len(goods.skipped)


def test_one_in_twenty_is_skipped_two_are_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\n")
    fine = [grey(60 + i, i) for i in range(19)]
    goods = learned([*fine[:5], torn, *fine[5:]])
    ((name, reason),) = goods.skipped
    assert name == str(torn)
    assert reason.startswith("its PNG header is damaged")
    assert len(goods.images) == len(goods.hashes) == len(goods.groups) == 19
    np.testing.assert_array_equal(goods.images[5], fine[5])
    with pytest.raises(InputError, match=r"2 of 20 good images cannot be used \(more than 5%\)"):
        learned([torn, *fine[1:], tmp_path / "none.png"])
    with pytest.raises(InputError, match=r"4 of 4 good images cannot be used .* \.\.\."):
        learned([torn, BLANK, torn, torn])


def test_defects_are_not_learned_from() -> None:
    samples = [Sample("a.png", label=0), Sample("b.png", label=1), Sample("c.png", label=1)]
    with pytest.raises(InputError, match=r"2 samples are labelled defective, the first is b\.png"):
        learned(samples)


def test_groups_are_kept_and_copies_are_one_group(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(3):
        Image.fromarray(grey(60 + i, i)).save(tmp_path / f"{i}.png")
    samples = [Sample(tmp_path / f"{i}.png", group="burst" if i else None) for i in range(3)]
    goods = learned([*samples, grey(60, 0)])
    assert goods.groups[1:3] == ("burst", "burst")
    assert goods.groups[0] == goods.groups[3] == goods.hashes[0]
    assert len(set(goods.hashes)) == 3


def test_images_are_decoded_when_they_are_asked_for() -> None:
    images = learned([grey(60 + i, i) for i in range(12)]).images
    assert len(images) == 12
    assert isinstance(images[2:5], Images)
    np.testing.assert_array_equal(images[2:5][1], grey(63, 3))
    np.testing.assert_array_equal(images.take([7, 1])[0], grey(67, 7))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image, grey(60 + i, i))

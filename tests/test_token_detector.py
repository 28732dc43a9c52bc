"""What detectors on tokens share: turned and shortened images against slow, obvious code."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pyimgano.models._token_detector import shortened, turned
from token_reference import picture, slow_bicubic, slow_rotation


@pytest.mark.parametrize("angle", [45, 90, 135, 200.5])
def test_rotation(angle):
    image = picture(1, 40, 56)
    found = turned(image, angle).astype(np.float64)
    assert np.abs(found - slow_rotation(image, angle)).max() <= 3  # OpenCV: steps of 1/32 pixel


def test_quarter_turns_move_pixels_and_mix_none():
    image = picture(2)
    assert turned(image, 360) is image
    for turns in (1, 2, 3):
        assert np.array_equal(turned(image, 90 * turns), np.rot90(image, turns))


@pytest.mark.parametrize(("height", "width"), [(60, 91), (91, 60), (33, 40)])
def test_the_shorter_side_is_resized_and_the_aspect_kept(height, width):
    image = picture(3, height, width)
    found = shortened(image, 48)
    short = min(height, width)
    size = (int(48 * height / short), int(48 * width / short))
    assert found.shape == (*size, 3)
    expected = np.clip(slow_bicubic(image, size), 0, 255)
    assert np.abs(found.astype(np.float64) - expected).max() <= 1.5  # rounded twice
    assert shortened(image, short) is image


def test_pillow_is_what_the_authors_resize_with():
    """torchvision's resize of a picture is Pillow's; here its antialiasing shows."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(shortened(stripes, 32)[4:-4, 4:-4].astype(int)) < 90
    raw = np.asarray(Image.fromarray(stripes).resize((32, 32), Image.Resampling.NEAREST))
    assert np.ptp(raw) in {0, 255}

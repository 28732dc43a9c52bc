"""The state of a set of images: generated parts, harmed in one known way each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import simplejpeg

from pyimgano.datasets._files import walk_images
from pyimgano.images import read_image
from pyimgano.maps.overlay import encode_png
from pyimgano.runs.hygiene import examine
from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 128


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[Path]:
    root = write_demo(
        tmp_path_factory.mktemp("demo"), n_train=24, n_good=1, n_defect=1, size=(SIDE, SIDE)
    )
    return walk_images(root / "flange" / "train")


def save(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(encode_png(image))
    return path


def save_deep(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_sound_images_have_no_findings(parts):
    found = examine(parts)
    assert (found.n, found.n_distinct) == (24, 24)
    assert found.sizes == {f"{SIDE} x {SIDE}": 24}
    assert (found.modes, found.bits, found.formats) == ({"RGB": 24}, {"8": 24}, {"PNG": 24})
    for findings in (found.unreadable, found.blank, found.duplicates, found.near_duplicates):
        assert findings == ()
    assert found.blurred == found.exposure == found.odd_sizes == ()
    assert found.n_independent == 24
    assert found.suggestions == (
        "To certify 5 % of false rejects takes 59 independent good images.",
    )


def test_nothing_is_examined():
    found = examine([])
    assert (found.n, found.n_distinct, found.sizes) == (0, 0, {})
    assert found.near_duplicates == found.blurred == found.exposure == ()


def test_unreadable_and_blank(parts, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(parts[0].read_bytes()[:-200])
    noisy_black = np.zeros((SIDE, SIDE, 3), np.uint8)
    noisy_black[::2, ::2] = 2
    black = save(tmp_path / "black.png", noisy_black)
    found = examine([parts[0], cut, black, black])
    assert [name for name, _ in found.unreadable] == [str(cut)]
    assert str(cut) not in found.unreadable[0][1]
    assert found.blank == (str(black), str(black))
    assert (found.n, found.n_distinct, found.duplicates) == (4, 1, ())
    assert found.sizes == {f"{SIDE} x {SIDE}": 3}
    assert any("unreadable" in text for text in found.suggestions)
    assert any("blank" in text for text in found.suggestions)


def test_duplicates_are_equal_pixels_in_whatever_file(parts, tmp_path):
    bmp = tmp_path / "copy.bmp"
    assert cv2.imwrite(str(bmp), read_image(parts[3])[..., ::-1])
    found = examine([*parts[:5], bmp, parts[3]])
    assert found.duplicates == ((str(parts[3]), str(bmp), str(parts[3])),)
    assert found.near_duplicates == ()
    assert found.n_distinct == 5
    assert found.formats == {"PNG": 6, "BMP": 1}
    assert any("duplicates" in text for text in found.suggestions)


def test_equal_bytes_of_another_shape_are_no_duplicates(parts, tmp_path):
    image = read_image(parts[0])
    wide = save(tmp_path / "wide.png", image.reshape(SIDE // 2, SIDE * 2, 3))
    assert examine([parts[0], wide]).duplicates == ()


def test_near_duplicates_are_the_same_shot_again(parts, tmp_path):
    image = read_image(parts[2])
    jpeg = tmp_path / "copy.jpg"
    jpeg.write_bytes(simplejpeg.encode_jpeg(image, 90))
    noise = np.random.default_rng(0).integers(-2, 3, image.shape)
    again = save(tmp_path / "again.png", np.clip(image + noise, 0, 255).astype(np.uint8))
    turned = save(tmp_path / "turned.png", np.ascontiguousarray(image[::-1]))
    found = examine([*parts, jpeg, again, turned])
    assert found.near_duplicates == ((str(parts[2]), str(jpeg), str(again)),)
    assert found.duplicates == ()
    assert (found.n_distinct, found.n_independent) == (27, 25)
    assert any("Near duplicates" in text for text in found.suggestions)
    copy = tmp_path / "zcopy.jpg"  # a copy of a near copy
    copy.write_bytes(jpeg.read_bytes())
    assert examine([*parts, jpeg, copy]).firsts() == dict.fromkeys(
        [str(parts[2]), str(jpeg), str(copy)], str(parts[2])
    )


def test_blurred_copy_stands_out(parts, tmp_path):
    blurred = cv2.GaussianBlur(read_image(parts[5]), (0, 0), 2.5)
    path = save(tmp_path / "blurred.png", blurred)
    found = examine([*parts, path])
    assert [name for name, _ in found.blurred] == [str(path)]
    assert "% of the usual sharpness" in found.blurred[0][1]
    assert found.exposure == ()
    assert any("focus" in text for text in found.suggestions)


def test_exposure_stands_out_to_either_side(parts, tmp_path):
    image = read_image(parts[5]).astype(float)
    bright = save(tmp_path / "bright.png", np.clip(image * 2.5, 0, 255).astype(np.uint8))
    dark = save(tmp_path / "dark.png", (image * 0.3).astype(np.uint8))
    found = examine([*parts, bright, dark])
    assert [name for name, _ in found.exposure] == [str(bright), str(dark)]
    assert "clipped" in found.exposure[0][1]
    assert any("light" in text for text in found.suggestions)
    assert any("second kind" in text for text in found.suggestions)  # two are more than 5 % of 26


def test_clipping_alone_stands_out(parts, tmp_path):
    image = read_image(parts[5]).copy()
    image[:12] = 255  # a reflection; the rest a little darker, so that the mean stays
    rest = image[12:].astype(float)
    darker = rest * (1 - 12 * (255 - rest.mean()) / ((SIDE - 12) * rest.mean()))
    image[12:] = darker.astype(np.uint8)
    path = save(tmp_path / "glare.png", image)
    found = examine([*parts, path])
    assert [name for name, _ in found.exposure] == [str(path)]


def test_among_few_images_none_stands_out(parts, tmp_path):
    dark = save(tmp_path / "dark.png", (read_image(parts[5]) * 0.3).astype(np.uint8))
    assert len(examine([*parts[:8], dark]).exposure) == 0
    assert len(examine([*parts[:9], dark]).exposure) == 1


def test_mixed_sizes_modes_and_depths(parts, tmp_path):
    image = read_image(parts[0])
    small = save(tmp_path / "small.png", np.ascontiguousarray(image[:64, :96]))
    grey = save_deep(tmp_path / "grey.png", image[..., 0].astype(np.uint16) * 16)
    found = examine([*parts[:3], small, grey])
    assert found.sizes == {f"{SIDE} x {SIDE}": 4, "96 x 64": 1}
    assert found.bits == {"8": 4, "16": 1}
    assert found.modes["RGB"] == 4
    assert len(found.modes) == 2
    said = " ".join(found.suggestions)
    for words in ("sizes differ", "Grey and colour", "Bit depths"):
        assert words in said


def test_deep_images_are_compared_on_their_common_scale(parts, tmp_path):
    """12 bits in 16: the findings are those of the same images of 8 bits."""
    deep = [
        save_deep(tmp_path / f"{i}.png", read_image(part)[..., 0].astype(np.uint16) * 16)
        for i, part in enumerate(parts)
    ]
    values = read_image(parts[5])[..., 0].astype(np.uint16)
    bright = save_deep(tmp_path / "bright.png", np.minimum(values * 40, 4095))
    blurred = save_deep(tmp_path / "soft.png", cv2.GaussianBlur(values * 16, (0, 0), 2.5))
    blank = save_deep(tmp_path / "blank.png", np.full((SIDE, SIDE), 700, np.uint16))
    found = examine([*deep, bright, blurred, blank])
    assert [name for name, _ in found.exposure] == [str(bright)]
    assert [name for name, _ in found.blurred] == [str(blurred)]
    assert found.blank == (str(blank),)
    assert found.near_duplicates == ()

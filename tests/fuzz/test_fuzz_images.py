"""No bytes make the image boundary raise anything but its own errors, or see what is not there."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import CORPUS, check_words, damaged
from PIL import Image, PngImagePlugin

from fakes import LevelDetector, grey
from pyimgano.decode import decode
from pyimgano.errors import ImageError, MaskError
from pyimgano.images import probe, read_image, read_mask
from pyimgano.inspection import Verdict

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")
JUDGE = LevelDetector(any_size=True).fit([grey(120, i) for i in range(8)])


@pytest.fixture(autouse=True)
def _libraries_may_complain(capfd: pytest.CaptureFixture[str]) -> None:
    """What libtiff and OpenCV write to standard error is not our output."""


def pillow_refuses(data: bytes) -> bool:
    """Tell whether Pillow, strict about check sums and truncation, finds the file damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                if isinstance(image, PngImagePlugin.PngImageFile):
                    PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
                image.load()
        except Exception:  # noqa: BLE001 - Pillow's own errors are of every kind
            return True
    return False


def opencv_refuses(data: bytes) -> bool:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is None
    except cv2.error:
        return True


def test_every_seed_is_sound() -> None:
    total = 0
    for seed in CORPUS.iterdir():
        total += seed.stat().st_size
        if seed.suffix in SUFFIXES:
            data = seed.read_bytes()
            assert decode(data, seed.name)[1].size
            assert not pillow_refuses(data)
    assert total < 200_000


@settings(max_examples=500, derandomize=True, deadline=None)
@given(case=damaged(*SUFFIXES))
def test_damaged_files_are_refused_or_what_pillow_and_opencv_can_decode(
    case: tuple[Path, bytes], tmp_path: Path
) -> None:
    seed, data = case
    try:
        info, samples = decode(data, seed.name)
    except ImageError as error:
        check_words(error, f"{seed.name}: ")
        return
    assert samples.shape[:2] == (info.height, info.width)
    assert samples.dtype in (np.uint8, np.uint16)
    assert not pillow_refuses(data)
    if info.format in {"PNG", "JPEG"}:
        assert not opencv_refuses(data)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(case=damaged(*SUFFIXES))
def test_a_damaged_file_is_an_error_or_judged_by_what_is_read(
    case: tuple[Path, bytes], tmp_path: Path
) -> None:
    seed, data = case
    path = tmp_path / seed.name
    path.write_bytes(data)
    before, one, after = JUDGE.inspect([grey(120, 3), path, grey(120, 3)])
    assert before.score == after.score
    if pillow_refuses(data):
        assert (one.verdict, one.label) == (Verdict.ERROR, -1)
        assert np.isnan(one.score)
    for read in (read_image, probe, read_mask):
        try:
            read(path)
        except (ImageError, MaskError) as error:
            check_words(error, seed.name)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    magic=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"BM", b"RIFF"]
    ),
    noise=st.binary(max_size=400),
)
@example(magic=b"RIFF", noise=b"\0\0\0\0WEBPVP8L")
def test_noise_is_no_image(magic: bytes, noise: bytes) -> None:
    with pytest.raises(ImageError):
        decode(magic + noise, "noise")

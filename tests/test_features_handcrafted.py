"""Handcrafted features: what the channels measure, and what an embedding may depend on."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - an extractor must survive the way to a worker process
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import InputError
from pyimgano.features import handcrafted
from pyimgano.features.base import EXTRACTORS, FeatureExtractor
from pyimgano.features.handcrafted import CHANNELS, Handcrafted


def embed(image):
    return Handcrafted().embed([image])[0].values


def channel(values, name):
    return values[..., CHANNELS.index(name)]


def texture(*size, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5) // 2 + noise // 4


def overlap(grid):
    """Spread each cell to its neighbours as the extractor does, without its code."""
    weights = np.exp(-((np.arange(-2, 3) / 0.6) ** 2) / 2)
    weights /= weights.sum()
    padded = np.pad(grid.astype(float), 2, "reflect")
    rows = sum(w * padded[i : i + grid.shape[0]] for i, w in enumerate(weights))
    return sum(w * rows[:, i : i + grid.shape[1]] for i, w in enumerate(weights))


def cells(plane):
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, width // 8, 64)


# --- what the channels measure --------------------------------------------------------------------


def test_every_channel_has_one_name():
    assert len(set(CHANNELS)) == len(CHANNELS) == embed(texture(16, 16)).shape[-1]


def test_mean_extremes_and_patterns_equal_a_slow_reference():
    image = texture(64, 80)
    values = embed(image)
    red, green, blue = image.astype(float).transpose(2, 0, 1)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    mean = cells(light).mean(-1)
    assert np.allclose(channel(values, "mean light"), overlap(mean), atol=0.05)
    found = channel(values, "mean red")
    assert np.allclose(found, overlap(cells((red - green) / 2).mean(-1)), atol=0.05)
    found = channel(values, "mean yellow")
    assert np.allclose(found, overlap(cells((red + green) / 4 - blue / 2).mean(-1)), atol=0.05)
    assert np.allclose(channel(values, "darkest"), overlap(cells(light).min(-1) - mean), atol=0.1)
    assert np.allclose(channel(values, "brightest"), overlap(cells(light).max(-1) - mean), atol=0.1)


def test_patterns_equal_a_slow_reference():
    image = texture(24, 32)
    light = (image.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])).astype(np.float32)
    smooth = cv2.GaussianBlur(light, (0, 0), 0.7, borderType=cv2.BORDER_REFLECT_101)
    padded = np.pad(smooth, 1, "reflect")
    circle = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
    shares = np.zeros((3, 4, 10))
    for i, j in np.ndindex(24, 32):
        signs = [padded[i + 1 + y, j + 1 + x] > smooth[i, j] + 0.5 for y, x in circle]
        changes = sum(signs[k] != signs[k - 1] for k in range(8))
        shares[i // 8, j // 8, sum(signs) if changes <= 2 else 9] += 1 / 64
    values = embed(image)
    for number in range(10):
        found = channel(values, f"pattern {number}")
        assert np.abs(found - overlap(shares[..., number])).max() < 0.02


@given(st.integers(0, 11), st.integers(0, 3))
@settings(derandomize=True, deadline=None, max_examples=24)
def test_a_wave_gives_the_energy_of_its_angle_and_octave(step, octave):
    angle = np.pi * step / 12
    frequency = handcrafted._FREQUENCY / 2**octave
    y, x = np.mgrid[:256, :256]
    wave = 128 + 60 * np.cos(frequency * (np.cos(angle) * x + np.sin(angle) * y))
    grey = np.repeat(wave.astype(np.uint8)[..., None], 3, 2)
    values = embed(grey)[8:-8, 8:-8]
    energies = {
        (level, degrees): channel(values, f"octave {level} energy at {degrees}").mean()
        for level in range(4)
        for degrees in range(0, 180, 30)
    }
    _, strongest = max(energies, key=energies.get)
    away = abs(strongest - 15 * step)
    assert min(away, 180 - away) <= 15
    own = max(energies[octave, degrees] for degrees in range(0, 180, 30))
    assert own >= 0.5 * max(energies.values())


def test_oriented_energies_equal_full_gabor_kernels():
    light = texture(48, 40)[..., 0].astype(np.float32)
    at = np.arange(-4, 5)
    x, y = np.meshgrid(at, at)
    envelope = np.exp(-(x**2 + y**2) / 2 / handcrafted._ENVELOPE**2)
    envelope /= envelope.sum()
    for k, found in enumerate(handcrafted._oriented(light)):
        angle = np.pi * k / 6
        phase = handcrafted._FREQUENCY * (np.cos(angle) * x + np.sin(angle) * y)
        even, odd = envelope * np.cos(phase), envelope * np.sin(phase)
        even -= envelope * even.sum()
        expected = np.hypot(
            *(cv2.filter2D(light, cv2.CV_32F, kernel, borderType=4) for kernel in (even, odd))
        )
        assert np.allclose(found, expected, atol=0.02)


def test_a_grey_image_has_no_colour_and_a_constant_one_nothing_but_its_mean():
    grey = np.repeat(texture(40, 48)[..., :1], 3, 2)
    colour = [i for i, name in enumerate(CHANNELS) if name.endswith((" red", " yellow"))]
    assert len(colour) == 4
    assert np.all(embed(grey)[..., colour] == 0)
    values = embed(np.full((40, 48, 3), 77, np.uint8))
    assert np.allclose(channel(values, "mean light"), 77, atol=1e-3)
    assert np.allclose(channel(values, "pattern 0"), 1, atol=1e-6)
    rest = [i for i, name in enumerate(CHANNELS) if name not in {"mean light", "pattern 0"}]
    assert np.abs(values[..., rest]).max() < 1e-3


def test_defects_of_colour_and_of_texture_stand_out():
    good = texture(128, 128)
    spot, smooth = good.copy(), good.copy()
    spot[64:72, 64:72, 0] = np.minimum(good[64:72, 64:72, 0] + 60, 255)
    smooth[32:48, 32:48] = good[32:48, 32:48].mean((0, 1)).astype(np.uint8)
    before = embed(good)
    scale = before.std((0, 1))
    for image, place in ((spot, (8, 8)), (smooth, (4, 4))):
        change = np.abs(embed(image) - before) / scale
        row, column = np.unravel_index(change.max(-1).argmax(), (16, 16))
        assert abs(row - place[0]) <= 1
        assert abs(column - place[1]) <= 1
        assert change.max() > 2


# --- geometry -------------------------------------------------------------------------------------


@given(st.integers(16, 70), st.integers(16, 70))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_any_size_gives_the_cells_that_lie_in_the_image(height, width):
    patches = Handcrafted().embed([texture(height, width)])[0]
    assert patches.values.shape == (height // 8, width // 8, len(CHANNELS))
    assert patches.extent == (0, 0, height // 8 * 8, width // 8 * 8)
    assert patches.values.dtype == np.float32
    assert patches.values.flags.c_contiguous
    assert np.isfinite(patches.values).all()


def test_other_sizes_are_continued_by_reflection():
    cut = texture(48, 64)[:41, :60]
    padded = np.pad(cut, ((0, 7), (0, 4), (0, 0)), "reflect")
    assert np.array_equal(embed(cut), embed(padded)[:5, :7])


@given(st.integers(0, 2), st.integers(0, 2))
@settings(derandomize=True, deadline=None, max_examples=9)
def test_a_shift_by_whole_cells_shifts_the_grid_inside(down, right):
    image = texture(320, 336)
    margin = 15
    whole = embed(image)[down:, right:]
    part = embed(image[8 * down :, 8 * right :])
    inside = (slice(margin, -margin), slice(margin, -margin))
    assert part[inside].size > 0
    assert np.allclose(part[inside], whole[inside], atol=1e-3)


def test_a_transposed_image_gives_the_transposed_grid_of_what_has_no_direction():
    image = texture(48, 64)
    plain = [i for i, name in enumerate(CHANNELS) if "energy at" not in name]
    found = embed(np.ascontiguousarray(image.swapaxes(0, 1))).swapaxes(0, 1)
    assert np.allclose(found[..., plain], embed(image)[..., plain], atol=0.02)


# --- batches, repeats, copies ---------------------------------------------------------------------


def test_a_result_depends_on_its_image_alone_and_repeats_bit_for_bit():
    images = [texture(64, 64, seed=1), texture(40, 72, seed=2), texture(64, 64, seed=3)]
    before = [image.copy() for image in images]
    extractor = Handcrafted()
    together = extractor.embed(images)
    for image, patches in zip(images, together, strict=True):
        assert np.array_equal(extractor.embed([image])[0].values, patches.values)
    reverse = extractor.embed(images[::-1])[::-1]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(together, reverse, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))
    assert extractor.embed([]) == []


def test_the_number_of_threads_changes_nothing():
    image = texture(256, 320)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = embed(image)
        cv2.setNumThreads(4)
        assert np.array_equal(embed(image), one)
    finally:
        cv2.setNumThreads(threads)


def test_views_are_read_as_they_look_and_read_only_images_are_welcome():
    image = texture(64, 48)
    turned = np.ascontiguousarray(image[::-1, ::-1])
    turned.flags.writeable = False
    assert np.array_equal(embed(image[::-1, ::-1]), embed(turned))


def test_an_extractor_is_a_registered_value():
    entry = EXTRACTORS.entry("handcrafted")
    assert entry.value is Handcrafted
    assert entry.metadata.missing == ()
    assert not entry.metadata.pip_line
    extractor = Handcrafted()
    assert isinstance(extractor, FeatureExtractor)
    assert copy.deepcopy(extractor) == extractor == pickle.loads(pickle.dumps(extractor))  # noqa: S301
    assert extractor.fingerprint == "handcrafted version:1 channels:58"


def test_importing_loads_no_heavy_package():
    code = "import sys, pyimgano.features.handcrafted; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"RGB uint8 .* got uint8 \(64, 64\)"),
        (np.zeros((64, 64, 3), np.uint16), "uint16"),
        (np.zeros((64, 15, 3), np.uint8), "at least 16 pixels a side, got 64 x 15"),
    ],
)
def test_images_of_another_kind_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        Handcrafted().embed([texture(64, 64), image])

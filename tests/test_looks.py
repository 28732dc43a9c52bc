"""What is kept of an image, which images look the same, and which look odd."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.detector_contract import texture
from pyimgano.records import Sample
from pyimgano.synthesis import render_part
from pyimgano.views import looks
from pyimgano.views.intake import learn
from pyimgano.views.looks import Look, figures, measure, near_groups

if TYPE_CHECKING:
    from pathlib import Path


def part(i: int) -> np.ndarray:
    return render_part(np.random.default_rng(i), (128, 128)).image


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-2, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@given(
    flips=st.lists(st.integers(0, 8), min_size=2, max_size=12),
    levels=st.lists(st.sampled_from([0, 0.5, 0.9, 1.2, 5]), min_size=12, max_size=12),
    spread=st.sampled_from([0.0, 1.0, 20.0]),
    block=st.integers(1, 5),
)
@settings(derandomize=True, deadline=None, max_examples=80)
def test_near_pairs_equal_the_definition(flips, levels, spread, block):
    n, rng = len(flips), np.random.default_rng(1)
    bits = np.tile(rng.random(64) > 0.5, (n, 1))
    for i, flipped in enumerate(flips):
        bits[i, :flipped] ^= True
    shapes = (n, looks.SMALL, looks.SMALL)
    own = (np.arange(n) // 2)[:, None, None] * spread  # pairs share what sets them apart
    small = np.float32(100 + np.array(levels[:n])[:, None, None] + own * np.ones(shapes))
    usual = np.median([np.mean((small[i] - small[i - n // 2]) ** 2) for i in range(n)])

    def half(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (looks.SMALL // 2,) * 2, interpolation=cv2.INTER_AREA)

    def differ(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)))

    expected = [
        [i, j]
        for i, j in itertools.combinations(range(n), 2)
        if np.count_nonzero(bits[i] != bits[j]) <= looks.NEAR_BITS
        and differ(half(small[i]), half(small[j])) <= looks.NEAR_LEVELS
        and differ(small[i], small[j]) <= looks.NEAR_SHARE * np.sqrt(usual)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "_BLOCK", block)
        assert sorted(looks._near_pairs(bits, small).tolist()) == expected


def test_a_burst_is_one_group_and_parts_under_a_fixed_camera_are_not():
    parts = [part(i) for i in range(12)]
    burst = [*parts, noisy(parts[3], 1), parts[5], noisy(parts[3], 2)]
    groups = near_groups([measure(image) for image in burst], 255)
    assert groups[3] == groups[12] == groups[14]
    assert groups[5] == groups[13]
    assert len(set(groups.tolist())) == 12
    alike = near_groups([measure(texture(i)) for i in range(60)], 255)
    assert len(set(alike.tolist())) == 60  # they differ by noise and light alone


def test_a_lamp_that_warms_up_makes_no_group_of_all():
    shots = [measure(noisy(part(3), i) + np.uint8(i)) for i in range(6)]
    shots += [measure(part(10 + i)) for i in range(10)]
    assert near_groups(shots, 255)[:6].tolist() in ([0, 0, 2, 2, 4, 4], [0, 1, 2, 3, 4, 5])


def test_among_few_images_only_equal_ones_are_near():
    images = [part(0), noisy(part(0), 1), part(0)]
    assert near_groups([measure(image) for image in images], 255).tolist() == [0, 1, 0]


def test_groups_of_parts_and_bursts_are_joined(tmp_path: Path):
    def sample(i: int, image: np.ndarray, group: str | None) -> Sample:
        path = tmp_path / f"{i:02d}.png"
        assert cv2.imwrite(str(path), image)
        return Sample(path, group=group)

    images = [part(i) for i in range(12)]
    given = [
        sample(i, image, f"part {i // 2}" if i < 8 else None) for i, image in enumerate(images)
    ]
    given += [sample(12, noisy(images[1], 1), None), sample(13, noisy(images[8], 1), "part 3")]
    groups = learn(given, any_size=False, bit_depth=None).groups
    assert groups[0] == groups[1] == groups[12]
    assert groups[6] == groups[7] == groups[13] == groups[8]
    assert len(set(groups)) == 7


def test_figures_are_those_of_the_file_on_its_scale():
    image = part(1)
    assert figures(image) == pytest.approx(measure(image).figures / 255)
    deep = measure(image.astype(np.uint16) * 257)
    assert figures(image) == pytest.approx(deep.figures / 65535, rel=1e-3)
    mean, contrast, sharpness = figures(image)
    darker = figures((image * 0.5).astype(np.uint8))
    assert darker[:2] == pytest.approx([mean / 2, contrast / 2], rel=0.02)
    assert figures(cv2.GaussianBlur(image, (0, 0), 2))[2] < sharpness / 2


def test_what_is_odd_is_named_with_its_reason():
    images = [part(i) for i in range(24)]
    images[7] = cv2.GaussianBlur(images[7], (0, 0), 2.5)
    images[9] = (images[9] * 0.3).astype(np.uint8)
    images[11] = images[11][:100]
    images.append(images[2])
    goods = learn(images, any_size=False, bit_depth=None)
    reasons = [reason.split(":")[0].split(" ")[0] for _, reason in goods.odd]
    assert set(reasons) == {"blurred", "copy", "exposure", "size"}
    assert goods.looks.shape == (25, 3)


def test_many_of_another_size_are_not_odd():
    shots = [measure(part(i)) for i in range(20)]
    mixed = [replace(look, size=(9, 9)) if i % 3 == 0 else look for i, look in enumerate(shots)]
    assert looks.odd(mixed, 255)["size"] == []
    assert all(isinstance(look, Look) for look in shots)

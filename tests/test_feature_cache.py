"""Features read back: bit for bit, never damaged, never more than allowed."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fakes
from pyimgano.errors import OutputError, ParameterError
from pyimgano.features.base import FeatureExtractor
from pyimgano.features.cache import CachedExtractor, FeatureStore
from pyimgano.features.efficientnet_lite import EfficientNetLite0
from pyimgano.features.handcrafted import Handcrafted
from pyimgano.testing import check_extractor

LARGE = 1 << 30


class Counting(fakes.TinyExtractor):
    """Counts the images that it embeds."""

    seen = 0

    def embed(self, images):
        type(self).seen += len(images)
        return super().embed(images)


@pytest.fixture
def counting():
    Counting.seen = 0
    return Counting()


def parts(count: int, size: tuple[int, int] = (64, 64)) -> list:
    return [fakes.grey(100, seed, size) for seed in range(count)]


def same(first, second) -> bool:
    return all(
        np.array_equal(a.values, b.values) and (a.extent, a.layers) == (b.extent, b.layers)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("extractor", [fakes.TinyExtractor(), Handcrafted(), EfficientNetLite0()])
def test_what_is_read_back_is_what_was_computed(extractor, tmp_path):
    images = [*parts(3), *parts(2, (72, 96))]
    plain = extractor.embed(images)
    for _ in range(2):
        cached = CachedExtractor(extractor, FeatureStore(tmp_path, LARGE))
        found = cached.embed(images)
        assert same(found, plain)
    assert all(one.values.flags.aligned for one in found)
    assert isinstance(cached, FeatureExtractor)
    assert (cached.fingerprint, repr(cached)) == (extractor.fingerprint, repr(extractor))
    check_extractor(cached)


def test_an_image_is_embedded_once(counting, tmp_path):
    images = parts(4)
    CachedExtractor(counting, FeatureStore(tmp_path, LARGE)).embed([*images[:3], images[0]])
    assert Counting.seen == 3
    CachedExtractor(counting, FeatureStore(tmp_path, LARGE)).embed(images)
    assert Counting.seen == 4


def test_other_pixels_shapes_weights_and_versions_are_other_features(tmp_path):
    store = FeatureStore(tmp_path, LARGE)
    image = parts(1)[0]
    turned = image.reshape(32, 128, 3)
    CachedExtractor(Counting(), store, "1").embed([image, turned, image[:, :32]])
    CachedExtractor(Counting(gain=2.0), store, "1").embed([image])
    CachedExtractor(Counting(), store, "2").embed([image])
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_entry_is_computed_again(counting, tmp_path):
    image = parts(1)
    cached = CachedExtractor(counting, FeatureStore(tmp_path, LARGE))
    plain = cached.embed(image)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    damaged = [b"", whole[:10], whole[:-1], whole + b"x", bytes(len(whole))]
    damaged += [
        bytes([*whole[:i], whole[i] ^ 1, *whole[i + 1 :]]) for i in (0, 33, 70, len(whole) - 1)
    ]
    for number, data in enumerate(damaged, 2):
        entry.write_bytes(data)
        for _ in range(2):
            assert same(cached.embed(image), plain)
        assert Counting.seen == number


def test_those_not_used_for_longest_leave_first(counting, tmp_path):
    images = parts(40)
    one = CachedExtractor(counting, FeatureStore(tmp_path, LARGE))
    one.embed(images[:1])
    size = next(tmp_path.iterdir()).stat().st_size
    limit = 10 * size
    for number, image in enumerate(images):
        CachedExtractor(counting, FeatureStore(tmp_path, limit)).embed([image, images[0]])
        for path in tmp_path.iterdir():  # the clock of a file system is coarse
            os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit, number
    assert Counting.seen == 40, "the first was used all the time"
    one.embed(images[-2:])
    assert Counting.seen == 40
    one.embed(images[1:2])
    assert Counting.seen == 41


def test_a_long_run_stays_below_the_limit(counting, tmp_path):
    cached = CachedExtractor(counting, FeatureStore(tmp_path, 100_000))
    for image in parts(120, (96, 96)):
        cached.embed([image])
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000


def test_what_exceeds_the_limit_alone_is_not_kept(counting, tmp_path):
    cached = CachedExtractor(counting, FeatureStore(tmp_path / "cache", 0))
    assert same(cached.embed(parts(2)), fakes.TinyExtractor().embed(parts(2)))
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ParameterError, match="must not be negative, got -1"):
        FeatureStore(tmp_path, -1)


def test_an_entry_that_another_process_deletes_meanwhile_is_no_error(counting, tmp_path):
    cached = CachedExtractor(counting, FeatureStore(tmp_path, 20_000))
    cached.embed(parts(1))
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    cached.store._unseen = None
    cached.embed(parts(3))
    assert Counting.seen == 3


def test_a_folder_that_cannot_be_written_is_named(counting, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        CachedExtractor(counting, FeatureStore(tmp_path / "file", LARGE)).embed(parts(1))


def test_the_clock_runs_as_if_everything_were_computed(tmp_path, monkeypatch):
    """Time passes only while something is embedded: one second an image."""
    now = [0.0]
    monkeypatch.setattr("pyimgano.features.cache.time.perf_counter", lambda: now[0])

    class Slow(fakes.TinyExtractor):
        def embed(self, images):
            now[0] += len(images)
            return super().embed(images)

    first = CachedExtractor(Slow(), FeatureStore(tmp_path, LARGE))
    first.embed(parts(3))
    assert first.clock() == now[0] == 3.0
    second = CachedExtractor(Slow(), FeatureStore(tmp_path, LARGE))
    before = second.clock()
    second.embed(parts(4))
    assert (now[0], second.clock() - before) == (4.0, 4.0)

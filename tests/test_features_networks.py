"""Networks that are kept in the user's cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyimgano.features._networks import kept

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = b"nodes and weights" * 100


class Builder:
    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> bytes:
        self.built += 1
        return NETWORK


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pyimgano" / "networks"


@pytest.fixture
def build() -> Builder:
    return Builder()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    return tmp_path / "weights.pth"


def test_a_network_is_built_once(cache: Path, weights: Path, build: Builder) -> None:
    assert kept("a", weights, build) == kept("a", weights, build) == NETWORK
    assert build.built == 1
    assert [file.name for file in cache.iterdir()] == ["a"]


def test_names_are_kept_apart(cache: Path, weights: Path, build: Builder) -> None:
    assert kept("a", weights, build) == NETWORK
    assert kept("b", weights, lambda: b"another") == b"another"
    assert kept("a", weights, build) == NETWORK
    assert build.built == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "short", "head"])
def test_what_is_damaged_is_built_again(
    cache: Path, weights: Path, build: Builder, damage: str
) -> None:
    kept("a", weights, build)
    whole = (cache / "a").read_bytes()
    flipped = bytearray(whole)
    flipped[0 if damage == "head" else -1] ^= 1
    damaged = {"cut": whole[:-1], "empty": b"", "short": whole[:31]}.get(damage, bytes(flipped))
    (cache / "a").write_bytes(damaged)
    assert kept("a", weights, build) == NETWORK
    assert build.built == 2
    assert (cache / "a").read_bytes() == whole


def test_where_nothing_can_be_written_each_builds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path, build: Builder
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kept("a", weights, build) == kept("a", weights, build) == NETWORK
    assert build.built == 2


def test_a_name_that_is_a_folder_costs_the_cache_alone(
    cache: Path, weights: Path, build: Builder
) -> None:
    (cache / "a").mkdir(parents=True)
    assert kept("a", weights, build) == NETWORK


def test_without_weights_nothing_is_kept(cache: Path, weights: Path, build: Builder) -> None:
    weights.unlink()
    assert kept("a", weights, build) == NETWORK
    assert not cache.exists()


def test_other_weights_make_another_network(cache: Path, weights: Path, build: Builder) -> None:
    kept("a", weights, build)
    weights.write_bytes(b"other weights")
    assert kept("a", weights, lambda: b"another") == b"another"
    assert kept("a", weights, build) == b"another"


def test_without_a_home_each_builds_its_own(
    monkeypatch: pytest.MonkeyPatch, weights: Path, build: Builder
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", homeless)
    assert kept("a", weights, build) == NETWORK

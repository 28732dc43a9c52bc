"""What a user may pass as X."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniatures
from pyimgano.datasets._sources import as_sources
from pyimgano.errors import InputError
from pyimgano.records import Sample

COLOUR = np.zeros((4, 6, 3), np.uint8)


def test_a_folder_becomes_its_images_in_capture_order(tmp_path: Path) -> None:
    paths = [miniatures.draw(tmp_path / f"{i}.png") for i in (10, 2, 1)]
    miniatures.draw(tmp_path / "later" / "3.png")
    (tmp_path / "notes.txt").write_text("x")
    expected = [*sorted(paths, key=lambda p: int(p.stem)), tmp_path / "later" / "3.png"]
    assert sorted(as_sources(tmp_path)) == sorted(expected)
    assert [p for p in as_sources(str(tmp_path)) if p.parent == tmp_path] == expected[:3]


def test_a_file_stays_one_source(tmp_path: Path) -> None:
    path = miniatures.draw(tmp_path / "a.png")
    assert as_sources(path) == [path]
    assert as_sources(str(path)) == [path]
    assert as_sources(tmp_path / "none.png") == [tmp_path / "none.png"]


def test_single_images_stay_single() -> None:
    sample, picture = Sample("a.png"), Image.fromarray(COLOUR)
    assert as_sources(sample) == [sample]
    assert as_sources(picture) == [picture]
    for array in (COLOUR, COLOUR[..., 0], np.zeros((4, 6, 4), np.uint8)):
        assert as_sources(array)[0] is array


def test_a_batch_is_taken_apart() -> None:
    batch = np.stack([COLOUR, COLOUR + 1])
    assert [image.max() for image in as_sources(batch)] == [0, 1]


def test_sequences_stay_and_iterables_are_listed() -> None:
    given = (COLOUR, Path("b.png"))
    assert as_sources(given) is given
    assert as_sources(iter(given))[0] is COLOUR


@pytest.mark.parametrize("shape", [(5,), (5, 4, 6), (4, 6, 1), (0, 4, 6, 3), (1, 1, 4, 6, 3)])
def test_ambiguous_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="pass a list of arrays"):
        as_sources(np.zeros(shape, np.uint8))


def test_nothing_is_refused(tmp_path: Path) -> None:
    for given in ([], (), iter(())):
        with pytest.raises(InputError, match="X is empty"):
            as_sources(given)
    with pytest.raises(InputError, match="no images in the folder"):
        as_sources(tmp_path)

"""No bytes make the reader of model files raise anything but its own error, or other numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import CORPUS, check_words, damaged

from pyimgano.archive import decode, read_archive
from pyimgano.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

SEED = CORPUS / "model.pyimg"
SOUND, ARRAYS = read_archive(SEED)

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        | st.builds(lambda key, item: {key: item}, st.sampled_from(["float", "tuple"]), inner)
        | st.builds(lambda pairs: {"mapping": pairs}, st.lists(st.lists(inner, max_size=3)))
        | st.builds(
            lambda name, item: {"value": name, "params": item},
            st.sampled_from(["conformal", "fixed", "tail", "intake", "certainty", "os.system"]),
            inner,
        )
    ),
    max_leaves=6,
)


def read(path: Path) -> None:
    """Refused by name, or the same to the last bit."""
    try:
        manifest, arrays = read_archive(path)
    except ArchiveError as error:
        check_words(error, path.name)
        return
    assert manifest == SOUND
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(case=damaged(".pyimg"))
def test_a_damaged_model_file_is_refused_or_the_same(
    case: tuple[Path, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "model.pyimg"
    path.write_bytes(case[1])
    read(path)


@settings(max_examples=250, derandomize=True, deadline=None)
@given(stored=json)
@example(stored={"value": "intake", "params": {"sizes": None}})
def test_any_json_is_a_parameter_or_refused(stored: object) -> None:
    try:
        decode(stored)
    except ArchiveError as error:
        check_words(error)


def test_the_directory_of_the_zip_is_fuzzed_bit_by_bit(tmp_path: Path) -> None:
    data = SEED.read_bytes()
    path = tmp_path / "model.pyimg"
    for position in range(data.index(b"PK\x01\x02"), len(data)):
        for bit in (0, 3, 7):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            read(path)


@pytest.mark.parametrize("value", [0, 0x7F, 0xFF])
def test_the_directory_of_the_zip_is_fuzzed_with_the_values_of_borders(
    tmp_path: Path, value: int
) -> None:
    data = SEED.read_bytes()
    path = tmp_path / "model.pyimg"
    for position in range(data.index(b"PK\x01\x02"), len(data) - 3):
        path.write_bytes(data[:position] + bytes([value] * 4) + data[position + 4 :])
        read(path)

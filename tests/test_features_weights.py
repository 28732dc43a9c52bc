"""The restricted reader of weight files: it reads tensors, and runs nothing."""

from __future__ import annotations

import hashlib
import os
import pickle  # noqa: TID251 - crafts the files that the reader must refuse
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import ArchiveError
from pyimgano.features import _weights
from pyimgano.features._weights import read_state_dict

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}
GLOBAL = "c{}\n{}\n"
SIX = np.arange(6, dtype="<f4")
REBUILD = GLOBAL.format("torch._utils", "_rebuild_tensor_v2").encode()


def literal(value):
    """Give the opcodes that push a plain value."""
    return pickle.dumps(value, protocol=0)[:-1]


def storage(key, length, kind="FloatStorage", view=None, tag="storage"):
    kind = GLOBAL.format("torch", kind).encode() if isinstance(kind, str) else literal(5)
    head = b"(" + literal(tag) + kind
    return head + literal(key) + literal("cpu") + literal(length) + literal(view) + b"tQ"


def tensor(source, offset, shape, strides):
    layout = literal(offset) + literal(shape) + literal(strides)
    return REBUILD + b"(" + source + layout + b"I00\n" + literal({}) + b"tR"


def state(**entries):
    """Pickle an OrderedDict with an attribute, as a module's state dict has one."""
    items = b"".join(literal(name) + code for name, code in entries.items())
    empty = GLOBAL.format("collections", "OrderedDict").encode() + b"(tR"
    return empty + b"(" + items + b"u" + literal({"_metadata": 1}) + b"b."


def archive(body, keys=("0",), storages=(SIX,), machine=MACHINE):
    head = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, PROTOCOL, machine))
    raw = b"".join(struct.pack("<q", len(values)) + values.tobytes() for values in storages)
    return head + body + pickle.dumps(list(keys), protocol=2) + raw


def read(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    return read_state_dict(path, sha256=hashlib.sha256(data).hexdigest())


PLAIN = archive(state(w=tensor(storage("0", 6), 0, (2, 3), (3, 1))))


def test_tensors_are_read_in_order_with_their_strides_and_types(tmp_path):
    body = state(
        plain=tensor(storage("0", 6), 0, (2, 3), (3, 1)),
        turned=tensor(storage("0", 6), 1, (2, 2), (1, 3)),
        count=tensor(storage("7", 1, "LongStorage"), 0, (), ()),
    )
    data = archive(body, ("0", "7"), (SIX, np.array([9], "<i8")))
    found = read(tmp_path, data)
    assert list(found) == ["plain", "turned", "count"]
    assert np.array_equal(found["plain"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(found["turned"], [[1, 4], [2, 5]])
    assert found["count"] == 9
    assert found["count"].dtype == np.int64
    assert all(values.flags.owndata and values.flags.writeable for values in found.values())


class Planted:
    """Creates a file when a trusting reader loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["first", "tensors", "keys"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, place):
    target = tmp_path / "proof"
    evil = pickle.dumps(OrderedDict(w=Planted(target)), protocol=2)
    data = {
        "first": evil,
        "tensors": archive(evil),
        "keys": PLAIN[: PLAIN.index(pickle.dumps(["0"], protocol=2))] + evil,
    }[place]
    with pytest.raises(ArchiveError, match="mkdir"):
        read(tmp_path, data)
    assert not target.exists()
    pickle.loads(evil)  # noqa: S301 - shows that the bait works where nothing restricts it
    assert target.is_dir()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("os", "system"),
        ("collections", "UserDict"),
        ("torch", "load"),
        ("torch", "FloatStorage.__class__"),
        ("torch._utils", "_rebuild_parameter"),
        ("pyimgano.features._weights", "_Tensor"),
    ],
)
def test_no_other_global_resolves(tmp_path, module, name):
    with pytest.raises(ArchiveError, match="does not need"):
        read(tmp_path, archive(GLOBAL.format(module, name).encode() + b"."))


def test_a_pickle_cannot_change_the_reader(tmp_path):
    write = literal({"shape": 1}) + b"b"
    slots = b"(" + literal(None) + literal({"__call__": 1}) + b"tb"
    for change in (write, slots):
        with pytest.raises(ArchiveError):
            read(tmp_path, archive(REBUILD + change + b"."))
    assert list(read(tmp_path, PLAIN)) == ["w"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (state(w=tensor(storage("0", 6), 0, (2, 3), (3, 2))), "outside"),
        (state(w=tensor(storage("0", 6), 5, (2,), (1,))), "outside"),
        (state(w=tensor(storage("0", 6), -1, (2,), (1,))), "outside"),
        (state(w=tensor(storage("0", 6), 5, (2,), (-1,))), "outside"),
        (state(w=tensor(storage("0", 6), 0, (10**6, 10**6), (0, 0))), "outside"),
        (state(w=tensor(storage("0", 6), 0, (2, 3), (3,))), "damaged"),
        (state(w=tensor(storage("0", 7), 0, (2, 3), (3, 1))), "6 numbers, not 7"),
        (state(w=tensor(storage("1", 6), 0, (2, 3), (3, 1))), "refer to"),
        (state(w=tensor(storage("0", 6, "HalfStorage"), 0, (6,), (1,))), "HalfStorage"),
        (state(w=tensor(storage("0", 6, None), 0, (6,), (1,))), "no plain storage"),
        (state(w=tensor(storage("0", 6, view=(1, 2)), 0, (6,), (1,))), "no plain storage"),
        (state(w=tensor(storage("0", 6, tag="module"), 0, (6,), (1,))), "no plain storage"),
        (state(w=literal(3)), "flat dictionary"),
        (literal([1]) + b".", "flat dictionary"),
        (literal(1) + b"r\xff\xff\xff\x7f.", "numbers an object"),
    ],
)
def test_impossible_contents_are_named(tmp_path, body, message):
    with pytest.raises(ArchiveError, match=message):
        read(tmp_path, archive(body))


def test_another_layout_or_byte_order_is_refused(tmp_path):
    swapped = archive(state(w=literal(1)), machine={**MACHINE, "little_endian": False})
    with pytest.raises(ArchiveError, match="little-endian"):
        read(tmp_path, swapped)
    with pytest.raises(ArchiveError, match="legacy"):
        read(tmp_path, b"PK\x03\x04" + bytes(100))
    with pytest.raises(ArchiveError, match="after the last"):
        read(tmp_path, PLAIN + b"\0")


def test_wrong_checksum_missing_and_large_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    with pytest.raises(ArchiveError, match="cannot be read"):
        read_state_dict(path, sha256="0" * 64)
    path.write_bytes(PLAIN)
    with pytest.raises(ArchiveError, match="sha256 should be 0000"):
        read_state_dict(path, sha256="0" * 64)
    monkeypatch.setattr(_weights, "_MAX_BYTES", len(PLAIN) - 1)
    with pytest.raises(ArchiveError, match="larger"):
        read_state_dict(path, sha256=hashlib.sha256(PLAIN).hexdigest())


@given(st.integers(0, len(PLAIN) - 1))
@settings(derandomize=True, deadline=None, max_examples=120)
def test_a_truncated_file_is_named_wherever_it_ends(tmp_path_factory, end):
    with pytest.raises(ArchiveError):
        read(tmp_path_factory.mktemp("cut"), PLAIN[:end])


@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_damaged_byte_gives_tensors_or_a_named_error(tmp_path_factory, place, change):
    data = bytearray(PLAIN)
    data[place] ^= change
    try:
        found = read(tmp_path_factory.mktemp("bent"), bytes(data))
    except ArchiveError:
        return
    assert all(isinstance(values, np.ndarray) for values in found.values())

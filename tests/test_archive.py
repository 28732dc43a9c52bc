"""The model file: round trips, every kind of damage, and what a stranger could put into it."""

from __future__ import annotations

import ast
import hashlib
import io
import itertools
import json
import math
import struct
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pyimgano
from pyimgano.archive import FORMAT, decode, encode, read_archive, write_archive
from pyimgano.calibration import Conformal, Fixed, Tail
from pyimgano.errors import ArchiveError, OutputError, ParameterError, PyimganoError
from pyimgano.maps.aggregate import TopMean
from pyimgano.maps.postprocess import GaussianSmoothing, Pipeline

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@settings(max_examples=150)
@given(stored=st.dictionaries(st.from_regex(r"[a-z]{1,8}_", fullmatch=True), arrays, max_size=3))
def test_arrays_come_back_bit_equal(tmp_path: Path, stored: dict[str, np.ndarray]) -> None:
    path = tmp_path / "model.pyimg"
    write_archive(path, {"detector": "x", "text": "Prüfling \udcff"}, stored)
    manifest, found = read_archive(path)
    assert manifest["text"] == "Prüfling \udcff"
    assert manifest["format"] == FORMAT
    assert found.keys() == stored.keys()
    for name, array in stored.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert not found[name].flags.writeable


@pytest.mark.parametrize("order", ["F", "strided", "reversed"])
def test_arrays_of_any_layout_are_stored(tmp_path: Path, order: str) -> None:
    base = np.arange(24.0).reshape(4, 6)
    array = {"F": np.asfortranarray(base), "strided": base[::2, 1::2], "reversed": base[::-1]}[
        order
    ]
    write_archive(tmp_path / "m", {}, {"a": array})
    np.testing.assert_array_equal(read_archive(tmp_path / "m")[1]["a"], array)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        write_archive(tmp_path / name, {"x": 1}, {"a": np.arange(3)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a", np.array([object()])),
        ("a", np.array(["text"])),
        ("a", np.array([1j])),
        ("a", np.array([(1, 2.0)], "i4,f4")),
        ("a", np.array(["2020-01-01"], "M8[D]")),
        ("../a", np.arange(3)),
        ("a/b", np.arange(3)),
        ("", np.arange(3)),
        ("a" * 200, np.arange(3)),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    if name == "":
        name = "\n"
    with pytest.raises(ArchiveError, match="cannot store the array"):
        write_archive(tmp_path / "m", {}, {name: array})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_archive(path, {"x": 1}, {})
    before = path.read_bytes()
    with pytest.raises(ArchiveError):
        write_archive(path, {"x": 2}, {"a": np.array([None])})
    with pytest.raises(ArchiveError, match="cannot be stored"):
        write_archive(path, {"x": math.nan}, {})
    with pytest.raises(ArchiveError, match="cannot be stored"):
        write_archive(path, {"x": {1, 2}}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    with pytest.raises(OutputError):
        write_archive(tmp_path / "none" / "m", {}, {})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "m"
    write_archive(path, {"x": 1}, {"a_": np.arange(5, dtype=np.float32), "b_": np.eye(2) > 0})
    return path.read_bytes()


def content(path: Path) -> Any:
    manifest, found = read_archive(path)
    return manifest, {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()}


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_every_flipped_byte_is_found_or_harmless(tmp_path: Path, small: bytes, mask: int) -> None:
    path = tmp_path / "m"
    path.write_bytes(small)
    sound = content(path)
    harmless = 0
    for i in range(len(small)):
        damaged = bytearray(small)
        damaged[i] ^= mask
        path.write_bytes(damaged)
        with suppress(ArchiveError):
            assert content(path) == sound, f"byte {i}"
            harmless += 1
    assert harmless < 0.2 * len(small)


def test_every_truncation_is_found(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "m"
    for length in range(len(small)):
        path.write_bytes(small[:length])
        with pytest.raises(ArchiveError):
            read_archive(path)


@settings(max_examples=200)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(ArchiveError, match="not a readable model file"):
        read_archive(tmp_path / "m")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"there is no model file .*none"):
        read_archive(tmp_path / "none")
    with pytest.raises(ArchiveError, match="not a readable model file"):
        read_archive(tmp_path)


# What a stranger could write: the checksums are right, the rest is not. ---------------------------


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    return stream.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    raw = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + body


def forge(
    path: Path,
    members: dict[str, bytes],
    *,
    manifest: Any = None,
    raw: bytes | None = None,
    facts: dict[str, Any] | None = None,
    digest: str | None = None,
    extra: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Write a model file around members (array name to bytes), with right checksums."""
    index = {
        name: {
            "sha256": hashlib.sha256(data).hexdigest(),
            "dtype": "<f8",
            "shape": [3],
            **(facts or {}),
        }
        for name, data in members.items()
    }
    head = {"kind": "pyimgano model", "format": FORMAT, "arrays": index}
    if isinstance(manifest, dict):
        head = {key: item for key, item in {**head, **manifest}.items() if item is not ...}
    elif manifest is not None:
        head = manifest
    text = json.dumps(head).encode() if raw is None else raw
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("manifest.sha256", digest or hashlib.sha256(text).hexdigest())
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
        for name, data in (extra or {}).items():
            archive.writestr(name, data)


GOOD = npy(np.arange(3.0))


def test_the_forger_writes_what_is_read(tmp_path: Path) -> None:
    forge(tmp_path / "m", {"a": GOOD})
    assert read_archive(tmp_path / "m")[1]["a"].tolist() == [0, 1, 2]
    forge(tmp_path / "m", {"a": GOOD}, manifest={"format": FORMAT - 1})
    assert read_archive(tmp_path / "m")[0]["format"] == FORMAT - 1


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": FORMAT + 1}, f"model format {FORMAT + 1}; this version reads .* fit it again"),
        ({"format": FORMAT - 2}, "model format"),
        ({"format": ...}, "model format None"),
        ({"kind": "sketch"}, "not a pyimgano model"),
        ([1, 2], "not a pyimgano model"),
        ({"arrays": ...}, "does not list the arrays"),
        ({"arrays": ["a"]}, "does not list the arrays"),
        ({"arrays": {"a": "x"}}, "does not list the arrays"),
        ({"arrays": {"a": {"sha256": "x", "dtype": "<f8"}}}, "does not list the arrays"),
        ({"arrays": {}}, r"do not match the manifest: a\.npy"),
    ],
)
def test_forged_manifests_are_refused(tmp_path: Path, manifest: Any, message: str) -> None:
    forge(tmp_path / "m", {"a": GOOD}, manifest=manifest)
    with pytest.raises(ArchiveError, match=message):
        read_archive(tmp_path / "m")


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"", b"[" * 100_000])
def test_manifests_that_are_no_json_are_refused(tmp_path: Path, raw: bytes) -> None:
    forge(tmp_path / "m", {}, raw=raw)
    with pytest.raises(ArchiveError):
        read_archive(tmp_path / "m")


def test_a_manifest_must_have_its_checksum(tmp_path: Path) -> None:
    forge(tmp_path / "m", {"a": GOOD}, digest="0" * 64)
    with pytest.raises(ArchiveError, match=r"manifest\.json is damaged: its checksum"):
        read_archive(tmp_path / "m")


def test_a_zip_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ArchiveError, match=r"manifest\.json is missing"):
        read_archive(tmp_path / "m")


def test_missing_and_additional_members_are_named(tmp_path: Path) -> None:
    forge(tmp_path / "m", {"a": GOOD}, extra={"b.npy": GOOD})
    with pytest.raises(ArchiveError, match=r"do not match the manifest: b\.npy"):
        read_archive(tmp_path / "m")
    facts = {"sha256": "", "dtype": "<f8", "shape": [3]}
    forge(tmp_path / "m", {}, manifest={"arrays": {"c": facts}})
    with pytest.raises(ArchiveError, match=r"do not match the manifest: c\.npy"):
        read_archive(tmp_path / "m")


@pytest.mark.parametrize(
    "name", ["../evil.npy", "/etc/evil", "a\\b.npy", "a b", "ü.npy", "x" * 101]
)
def test_member_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    forge(tmp_path / "m", {}, extra={name: b""})
    with pytest.raises(ArchiveError, match="unexpected member name"):
        read_archive(tmp_path / "m")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members_are_refused(tmp_path: Path) -> None:
    forge(tmp_path / "m", {"a": GOOD}, extra={"a.npy": GOOD})
    with pytest.raises(ArchiveError, match=r"unexpected member name 'a\.npy'"):
        read_archive(tmp_path / "m")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused_unread(tmp_path: Path, method: int) -> None:
    forge(tmp_path / "m", {"a": npy(np.zeros(1_000_000))}, compression=method)
    with pytest.raises(ArchiveError, match="compressed or encrypted"):
        read_archive(tmp_path / "m")


def test_members_that_share_bytes_cannot_outgrow_the_file(tmp_path: Path) -> None:
    """Entries of the directory that all point at one member, as in a zip bomb without layers."""
    path = tmp_path / "m"
    forge(path, {"a": npy(np.zeros(5000))})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entries, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    last = entries[entries.rindex(b"PK\x01\x02") :]
    copies = [last.replace(b"a.npy", f"{c}.npy".encode()) for c in "bcdefgh"]
    directory = entries + b"".join(copies)
    count = 3 + len(copies)
    new_end = end[:8] + struct.pack("<HHI", count, count, len(directory)) + end[16:]
    path.write_bytes(data[:start] + directory + new_end)
    with pytest.raises(ArchiveError, match=r"claims more bytes than the file|[Oo]verlap"):
        read_archive(path)


@pytest.mark.filterwarnings("ignore:Reading")
@pytest.mark.parametrize(
    "data",
    [
        npy(np.array([{"a": 1}, None, 3], dtype=object)),
        npy(np.arange(3.0), version=(2, 0)),
        npy(np.arange(3.0), version=(3, 0)),
        npy(np.arange(3)),
        npy(np.arange(4.0)),
        npy(np.asfortranarray(np.ones((2, 2)))),
        npy(np.zeros(3, "M8[s]")),
        GOOD + b"\0",
        GOOD[:-1],
        GOOD[:60],
        b"",
        b"PK",
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", bytes(24)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -3), }", bytes(24)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': ('x',), }", bytes(24)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)", bytes(24)),
        header("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (3,), }", bytes(24)),
        header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (3,), }", bytes(24)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1" * 99 + "x"),
        header("{'descr': '<f3', 'fortran_order': False, 'shape': (3,), }", bytes(24)),
        GOOD[:8] + b"\x05\x00" + GOOD[10:],
        header("'''", bytes(24)),
        header("__import__('os').abort()", bytes(24)),
        header("  {\n  1:\n 2", bytes(24)),
    ],
)
def test_forged_arrays_are_refused(tmp_path: Path, data: bytes) -> None:
    forge(tmp_path / "m", {"a": data})
    with pytest.raises(ArchiveError, match="the array 'a'"):
        read_archive(tmp_path / "m")


def test_arrays_must_be_what_the_manifest_says(tmp_path: Path) -> None:
    for facts in ({"dtype": "<i8"}, {"shape": [1, 3]}):
        forge(tmp_path / "m", {"a": GOOD}, facts=facts)
        with pytest.raises(ArchiveError, match="not the one that the manifest names"):
            read_archive(tmp_path / "m")
    for dtype, n in (("<f8", 10**12), ("<f8", 2), ("<f4", 3), ("<f3", 8)):
        told = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({n},), }}"
        facts = {"dtype": dtype, "shape": [n]}
        forge(tmp_path / "m", {"a": header(told, bytes(24))}, facts=facts)
        with pytest.raises(ArchiveError, match=rf"is {dtype} \[{n}\] in 24 bytes"):
            read_archive(tmp_path / "m")
    forge(tmp_path / "m", {"a": GOOD}, facts={"sha256": "0" * 64})
    with pytest.raises(ArchiveError, match="the array 'a' is damaged"):
        read_archive(tmp_path / "m")


def test_reading_does_not_ask_pythons_parser_that_is_unsafe_among_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"none": np.zeros((0, 3)), "one": np.array(2), "two": np.ones((4, 5), "f2")}
    write_archive(tmp_path / "m", {}, arrays)

    def parse(*_: Any, **__: Any) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", parse)
        read = read_archive(tmp_path / "m")[1]
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_no_module_of_the_package_imports_pickle_but_the_reader_of_weights() -> None:
    named = set()
    for path in Path(pyimgano.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            banned = {"pickle", "_pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
            if banned & {module.split(".")[0] for module in modules}:
                named.add(path.name)
    assert named <= {"_weights.py"}


# Parameters ---------------------------------------------------------------------------------------

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.builds(Fixed, st.floats(allow_nan=False, allow_infinity=False)),
        st.just(Conformal()),
        st.builds(TopMean, st.floats(0.01, 1)),
        st.just(Pipeline((GaussianSmoothing(2.0),))),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    if type(first) is not type(second):
        return False
    if isinstance(first, (list, tuple)):
        pairs = itertools.zip_longest(first, second, fillvalue=same)
        return all(same(a, b) for a, b in pairs)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    return first == second


@settings(max_examples=300)
@given(value=values)
def test_parameters_come_back_through_json(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value), allow_nan=False))), value)


def test_numpy_scalars_become_plain_ones() -> None:
    assert encode(np.float64(0.5)) == 0.5
    assert type(encode(np.int32(3))) is int
    assert encode(np.bool_(True)) is True
    assert encode(np.float32(np.inf)) == {"float": "inf"}


@dataclass(frozen=True)
class Stranger:
    x: int = 1


@pytest.mark.parametrize("value", [Stranger(), object(), np.zeros(2), {1}, (1, [Stranger()]), len])
def test_what_no_file_could_name_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="cannot store"):
        encode(value)


@pytest.mark.parametrize(
    "stored",
    [
        {"value": "nobody", "params": {}},
        {"value": "conformal", "params": {"x": 1}},
        {"value": "conformal", "params": [1]},
        {"value": ["conformal"], "params": {}},
        {"value": "top_mean", "params": {"fraction": 7}},
        {"value": "os.system", "params": {"command": "true"}},
        {"value": "conformal"},
        {"injected": "x"},
        {"float": "many"},
        {"float": None},
        {"tuple": 3},
        {"mapping": [[1]]},
        {"mapping": [[[1], 2]]},
        {"tuple": [{"odd": 1}]},
        {},
    ],
)
def test_forged_parameters_are_refused(stored: Any) -> None:
    with pytest.raises(ArchiveError) as caught:
        decode(stored)
    assert isinstance(caught.value, PyimganoError)


def test_a_forged_text_stays_a_text() -> None:
    assert decode("os.system") == "os.system"
    assert decode({"value": "tail", "params": {"start": 0.9}}) == Tail(0.9)

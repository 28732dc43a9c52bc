"""Weights over a real connection to a real server that breaks off, changes its mind, or lies."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

import fakes
from pyimgano import fetching, weights
from pyimgano.errors import FetchError, OutputError, ParameterError, UnknownNameError
from pyimgano.features.base import EXTRACTORS
from pyimgano.features.dinov2 import DinoV2S14
from pyimgano.weights import WEIGHTS, Weights, bundle, fetch, find
from web import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 4096  # 1 MB
DIGEST = hashlib.sha256(BODY).hexdigest()
OTHER = BODY[::-1]
FILE = "net.pth"


@pytest.fixture(autouse=True)
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights of our own among the others; no proxy stands before this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    facts = Weights(file=FILE, url="http://127.0.0.1:9/net.pth", megabytes=1, licence="MIT")
    with fakes.entered(WEIGHTS, "net", facts):
        yield


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(BODY)) as served:
        yield served


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_recorded_and_not_fetched_again(site: Site, tmp_path: Path) -> None:
    told: list[int] = []
    found = fetch("net", site.url, tmp_path / "new" / "folder", told=told.append)
    assert found.path.read_bytes() == BODY
    assert (found.sha256, found.checked, found.is_new) == (DIGEST, "", True)
    assert left(found.path.parent) == {FILE, f"{FILE}.sha256"}
    subprocess.run(["sha256sum", "-c", f"{FILE}.sha256"], cwd=found.path.parent, check=True)
    assert told == sorted(told)
    assert told[-1] == len(BODY)
    again = fetch("net", site.url, found.path.parent)
    assert (again.is_new, len(site.asked)) == (False, 1)
    assert again.checked.endswith(f"{FILE}.sha256")
    assert [path for path, _ in site.asked] == [f"/{FILE}"]
    assert site.asked[0][1]["User-Agent"].startswith("pyimgano/")


def test_the_url_of_a_file_or_of_its_folder(site: Site, tmp_path: Path) -> None:
    fetch("net", f"{site.url}/deep/{FILE}", tmp_path / "a")
    fetch("net", f"{site.url}/deep/", tmp_path / "b")
    assert [path for path, _ in site.asked] == [f"/deep/{FILE}"] * 2


def test_a_connection_that_breaks_off_is_taken_up_again(site: Site, tmp_path: Path) -> None:
    site.drops = [300_000, 400_000]
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert site.ranges_asked() == ["", "bytes=300000-", "bytes=700000-"]
    assert [heads.get("If-Range") for _, heads in site.asked[1:]] == ['"1"'] * 2


def test_what_came_is_kept_for_the_next_time(site: Site, tmp_path: Path) -> None:
    site.drops = [600_000, 0]
    with pytest.raises(FetchError, match=r"broke off after 600000 bytes .* goes on from there"):
        fetch("net", site.url, tmp_path)
    assert left(tmp_path) == {f"{FILE}.part", f"{FILE}.part.json"}
    told: list[int] = []
    assert fetch("net", site.url, tmp_path, told=told.append).sha256 == DIGEST
    assert site.ranges_asked()[-1] == "bytes=600000-"
    assert told[0] > 600_000
    assert left(tmp_path) == {FILE, f"{FILE}.sha256"}


def test_a_server_without_patience_ends_after_some_attempts(site: Site, tmp_path: Path) -> None:
    site.drops = [1000] * 20
    with pytest.raises(FetchError, match="broke off after 5000 bytes"):
        fetch("net", site.url, tmp_path)
    assert len(site.asked) == fetching.ATTEMPTS


def test_a_server_that_falls_silent_is_given_up(site: Site, tmp_path: Path) -> None:
    site.drops, site.hangs = [500_000, 0], True
    with pytest.raises(FetchError, match=r"broke off after 500000 bytes \(.*timed out\)"):
        fetch("net", site.url, tmp_path, timeout=0.3)
    assert (tmp_path / f"{FILE}.part").stat().st_size == 500_000


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("size", [len(BODY), 980_000])
def test_a_file_that_changed_is_not_glued_to_the_old_one(
    site: Site, tmp_path: Path, looks: bool, size: int
) -> None:
    """Not by a server that knows If-Range, not by one that does not, not if it is shorter now."""
    site.drops = [990_000, 0]
    with pytest.raises(FetchError):
        fetch("net", site.url, tmp_path)
    site.body, site.etag, site.looks_at_if_range = OTHER[:size], '"2"', looks
    assert fetch("net", site.url, tmp_path).path.read_bytes() == OTHER[:size]


def test_another_part_than_the_one_asked_for_is_refused(site: Site, tmp_path: Path) -> None:
    site.drops = [300_000]
    site.heads = {"Content-Range": "bytes 0-9/10"}
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert site.ranges_asked() == ["", "bytes=300000-", ""]


def test_a_server_that_knows_no_parts_sends_all_of_it_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.drops = False, [300_000]
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert site.ranges_asked() == ["", "bytes=300000-"]


@pytest.mark.parametrize(
    ("etag", "modified", "asked"),
    [("", "", ""), ('W/"1"', "", ""), ('W/"1"', "Mon, 01 Jan 2024 00:00:00 GMT", "bytes=300000-")],
)
def test_without_a_sign_that_it_is_the_same_the_whole_is_fetched(
    site: Site, tmp_path: Path, etag: str, modified: str, asked: str
) -> None:
    site.etag, site.modified, site.drops = etag, modified, [300_000]
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert site.ranges_asked() == ["", asked]


def test_a_part_of_another_url_or_a_damaged_note_starts_anew(site: Site, tmp_path: Path) -> None:
    for note in ('{"url": "x", "validator": "1", "size": 3}', "{", "[]", '{"a": 1}'):
        (tmp_path / f"{FILE}.part").write_bytes(b"xyz" * 1000)
        (tmp_path / f"{FILE}.part.json").write_text(note)
        assert fetch("net", site.url, tmp_path).sha256 == DIGEST
        (tmp_path / FILE).unlink()
    assert set(site.ranges_asked()) == {""}


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_process_that_was_killed_when_all_was_there(
    site: Site, tmp_path: Path, extra: bytes
) -> None:
    url = f"{site.url}/{FILE}"
    note = {"url": url, "validator": '"1"', "size": len(BODY)}
    (tmp_path / f"{FILE}.part").write_bytes(BODY + extra)
    (tmp_path / f"{FILE}.part.json").write_text(json.dumps(note))
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert len(site.asked) == bool(extra)


def test_redirections_lead_to_web_servers_only(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    facts = Weights(file="moved", url=f"{site.url}/moved", megabytes=1, licence="MIT")
    with fakes.entered(WEIGHTS, "moved", facts):
        for bad in (f"file://{tmp_path}/secret", "ftp://127.0.0.1:9/x", f"{site.url}/moved"):
            site.location = bad
            with pytest.raises(FetchError, match=r"/moved"):
                fetch("moved", folder=tmp_path / "to")
            assert left(tmp_path / "to") == set()
        site.location = f"{site.url}/there"
        assert fetch("moved", folder=tmp_path / "to").sha256 == DIGEST


def test_no_way_leads_from_https_to_http() -> None:
    asked = fetching.request.Request("https://a.example/x")
    with pytest.raises(FetchError, match="anybody could change it"):
        fetching._Redirection().redirect_request(asked, None, 302, "", {}, "http://a.example/x")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"status": 404}, "the server says 404 Not Found"),
        ({"status": 503}, "the server says 503"),
        ({"status": 203}, "answers 203"),
        ({"heads": {"Content-Length": "", "Connection": "close"}}, "does not say how long"),
        ({"heads": {"Content-Encoding": "gzip"}}, "packs the file"),
        ({"body": b"<html>please log in</html>"}, "26 bytes, and should have about 1 MB"),
    ],
    ids=str,
)
def test_answers_that_cannot_be_right_are_refused(
    site: Site, tmp_path: Path, fault: dict[str, object], told: str
) -> None:
    for name, value in fault.items():
        setattr(site, name, value)
    with pytest.raises(FetchError, match=told) as caught:
        fetch("net", site.url, tmp_path)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == set()


def test_where_no_server_is(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"cannot be reached .*--from DIR"):
        fetch("net", folder=tmp_path)
    with pytest.raises(ParameterError, match="http, https, a folder or a bundle"):
        fetch("net", "ftp://127.0.0.1/net.pth", tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'dinov2_vits14'"):
        fetch("dinov2_vits1", folder=tmp_path)


def test_a_proxy_of_the_environment_is_asked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", site.url)
    assert fetch("net", "http://weights.example/dir", tmp_path).sha256 == DIGEST
    assert site.asked[0][0] == f"http://weights.example/dir/{FILE}"


def test_a_recorded_checksum_decides(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.sha256").write_text(f"{DIGEST}  {FILE}\n")
    site.body = OTHER
    with pytest.raises(FetchError, match=rf"sha256 says {DIGEST}: it is damaged or"):
        fetch("net", site.url, tmp_path)
    assert left(tmp_path) == {f"{FILE}.sha256"}
    site.body = BODY
    assert fetch("net", site.url, tmp_path).checked == str(tmp_path / f"{FILE}.sha256")
    (tmp_path / FILE).write_bytes(OTHER)
    with pytest.raises(FetchError, match="is damaged or another file"):
        find("net", tmp_path)
    (tmp_path / f"{FILE}.sha256").write_text("nothing")
    with pytest.raises(FetchError, match="holds no checksum"):
        weights.recorded("net", tmp_path)


def test_a_published_checksum_decides(site: Site, tmp_path: Path) -> None:
    facts = Weights(file="a", url=f"{site.url}/a", megabytes=0, licence="MIT", sha256=DIGEST)
    with fakes.entered(WEIGHTS, "published", facts):
        assert fetch("published", folder=tmp_path).checked == "its publisher"
        site.body = OTHER
        with pytest.raises(FetchError, match="its publisher says"):
            fetch("published", folder=tmp_path / "other")


def test_a_file_without_a_note_is_held_to_what_it_is_now(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(BODY)
    found = find("net", tmp_path)
    assert found is not None
    assert (found.checked, left(tmp_path)) == ("", {FILE})
    assert fetch("net", folder=tmp_path).sha256 == DIGEST
    assert (tmp_path / f"{FILE}.sha256").read_text() == f"{DIGEST}  {FILE}\n"


def test_two_processes_do_not_write_one_part(site: Site, tmp_path: Path) -> None:
    part = tmp_path / f"{FILE}.part"
    part.touch()
    with fetching.locked(part), pytest.raises(OutputError, match="another process is fetching"):
        fetch("net", site.url, tmp_path)
    assert part.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs limits of the system")
def test_a_full_disk_is_named_and_what_came_is_kept(site: Site, tmp_path: Path) -> None:
    """In a process that may not write larger files: a signal aside, what a full disk does."""
    code = (
        "import resource, signal, sys; from pyimgano.errors import OutputError;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "from pathlib import Path; from pyimgano.fetching import Origin, fill\n"
        "try: fill(Path(sys.argv[1]), Origin(url=sys.argv[2]), lambda _: None)\n"
        "except OutputError as error: print(error)"
    )
    part = tmp_path / f"{FILE}.part"
    said = fakes.python(code, part, f"{site.url}/{FILE}")
    assert said.startswith(f"cannot write {part}: ")
    assert 0 < part.stat().st_size <= 300_000
    assert fetch("net", site.url, tmp_path).sha256 == DIGEST
    assert site.ranges_asked()[-1].startswith("bytes=")


def test_what_does_not_fit_is_told_before(site: Site, tmp_path: Path) -> None:
    facts = Weights(file="a", url=f"{site.url}/a", megabytes=0, licence="MIT")
    site.heads = {"Content-Length": str(10**18)}
    with fakes.entered(WEIGHTS, "huge", facts), pytest.raises(OutputError, match="MB are free"):
        fetch("huge", folder=tmp_path)


def test_a_place_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        fetch("net", site.url, tmp_path / "file")


# Bundles ------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / FILE).write_bytes(BODY)
    out = tmp_path / "weights.zip"
    (one,) = bundle(["net", "net"], out, tmp_path / "home")
    assert one.sha256 == DIGEST
    return out


def test_a_bundle_holds_what_whoever_opens_it_wants_to_know(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert names == {"manifest.json", "LICENSE", "NOTICE", FILE, f"{FILE}.sha256"}
        assert "Apache License" in archive.read("LICENSE").decode()
        assert "Apache License" in archive.read("NOTICE").decode()
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["kind"] == "pyimgano weights"
    assert manifest["weights"]["net"] == {
        "file": FILE,
        "url": "http://127.0.0.1:9/net.pth",
        "megabytes": 1,
        "licence": "MIT",
        "sha256": DIGEST,
    }


def test_a_bundle_is_taken_in_packed_and_unpacked(packed: Path, tmp_path: Path) -> None:
    told: list[int] = []
    found = fetch("net", str(packed), tmp_path / "plant", told=told.append)
    assert found.path.read_bytes() == BODY
    assert (found.checked, told[-1]) == (f"{packed}/{FILE}.sha256", len(BODY))
    assert left(tmp_path / "plant") == {FILE, f"{FILE}.sha256"}
    zipfile.ZipFile(packed).extractall(tmp_path / "unpacked")
    assert fetch("net", str(tmp_path / "unpacked"), tmp_path / "b").sha256 == DIGEST


def test_what_is_not_there_is_not_bundled(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="first: pyimgano fetch net"):
        bundle(["net"], tmp_path / "w.zip", tmp_path)
    assert left(tmp_path) == set()


@pytest.mark.parametrize("at", [0.02, 0.5, 0.999])
def test_a_damaged_bundle_installs_nothing(packed: Path, tmp_path: Path, at: float) -> None:
    data = bytearray(packed.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    packed.write_bytes(data)
    with pytest.raises(FetchError):
        fetch("net", str(packed), tmp_path / "plant")
    assert left(tmp_path / "plant") == set()
    packed.write_bytes(data[: len(data) // 2])
    with pytest.raises(FetchError, match="is damaged, or no bundle"):
        fetch("net", str(packed), tmp_path / "plant")


def test_a_bundle_that_was_tampered_with_installs_nothing(tmp_path: Path) -> None:
    plant = tmp_path / "plant"
    for name, body in ((f"../{FILE}", BODY), (f"/{FILE}", BODY), ("..", b""), (FILE, OTHER)):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.writestr(name, body)
            archive.writestr(f"../{FILE}.sha256", DIGEST)
            archive.writestr(f"{FILE}.sha256", f"{DIGEST}  {FILE}\n")
            archive.writestr("manifest.json", json.dumps({"weights": {"net": {"file": "../x"}}}))
        with pytest.raises(FetchError):
            fetch("net", str(tmp_path / "bad.zip"), plant)
        assert left(plant) == set()
    assert left(tmp_path) == {"bad.zip", "plant"}


def test_folders_that_do_not_hold_it(tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / FILE).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("no bundle")
    for given, told in (
        ("none", "is no folder and no bundle that holds net.pth"),
        ("", "is no folder and no bundle that holds net.pth"),
        ("notes.txt", "is damaged, or no bundle"),
        ("short", "has 1 bytes, and should have about 1 MB"),
    ):
        with pytest.raises(FetchError, match=told):
            fetch("net", f"{tmp_path}/{given}", tmp_path / "plant")


# Where extractors look ----------------------------------------------------------------------------


def test_the_extractors_find_what_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYIMGANO_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = weights.place_of()
    assert place == tmp_path / "cache" / "pyimgano" / "weights"
    with pytest.raises(ParameterError, match=r"run pyimgano fetch dinov2_vits14, or "):
        _ = DinoV2S14().fingerprint
    place.mkdir(parents=True)
    (place / WEIGHTS["dinov2_vits14"].file).write_bytes(BODY)
    for path in ("", "elsewhere/dinov2_vits14_pretrain.pth"):
        assert f"sha256:{DIGEST} " in DinoV2S14(path=path).fingerprint
    monkeypatch.setenv("PYIMGANO_WEIGHTS", str(tmp_path / "mine"))
    assert weights.place_of() == tmp_path / "mine"
    monkeypatch.delenv("PYIMGANO_WEIGHTS")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(weights.place_of()).endswith(f".cache{os.sep}pyimgano{os.sep}weights")


def test_the_catalogue_is_that_of_the_extractors() -> None:
    ours = {name for name in EXTRACTORS if name.startswith("dinov2_")}
    assert {name for name in WEIGHTS if name != "net"} == ours
    for name in ours:
        shape = EXTRACTORS[name].shape
        hidden = 3 * 4096 if shape.gated else 8 * shape.dim  # numbers a row of the perceptron
        parameters = shape.depth * shape.dim * (4 * shape.dim + hidden)
        assert parameters * 4e-6 == pytest.approx(WEIGHTS[name].megabytes, rel=0.06)


def test_nothing_heavy_is_loaded_for_it() -> None:
    code = "import pyimgano.weights, sys; print({'torch', 'cv2', 'scipy'} & set(sys.modules))"
    assert fakes.python(code).strip() == "set()"

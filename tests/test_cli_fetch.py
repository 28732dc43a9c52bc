"""``pyimgano fetch`` and ``bundle-weights``, in processes of their own where that matters."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import fakes
from cli_calls import COMMAND, call
from pyimgano.cli.fetch import _complete
from pyimgano.features._catalogue import WEIGHTS, Weights
from test_terminal_completion import asked
from web import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = os.urandom(1 << 20)
DIGEST = hashlib.sha256(BODY).hexdigest()
ENTER = (
    "from pyimgano.features._catalogue import WEIGHTS, Weights;"
    "from pyimgano.registry import Metadata;"
    "import sys; url = sys.argv.pop(1);"
    "WEIGHTS.register('net', Metadata(summary='A net.'))"
    "(Weights(file='net.pth', url=url, megabytes=1, licence='MIT'));"
    "from pyimgano.cli import main; main()"
)


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serving(Site(BODY)) as served:
        facts = Weights(file="net.pth", url=f"{served.url}/net.pth", megabytes=1, licence="MIT")
        with fakes.entered(WEIGHTS, "net", facts):
            yield served


def child(url: str, *arguments: object) -> list[str]:
    """A command line on which the weights ``net`` are known."""
    return [COMMAND[0], "-u", "-c", ENTER, f"{url}/net.pth", *map(str, arguments)]


def test_the_list_says_what_there_is_and_what_is_here(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"")
    ended = call("fetch", "--list", "--to", tmp_path)
    assert ended.code == 0
    rows = {words[0]: words[1:] for words in map(str.split, ended.out.splitlines()) if words}
    assert rows["net"] == ["1", "MIT", "yes"]
    assert rows["dinov2_vitg14_reg"] == ["4546", "Apache-2.0", "-"]
    listed = json.loads(call("fetch", "--list", "--to", tmp_path, "--json").out)
    assert {one["name"] for one in listed["weights"] if one["here"]} == {"net"}
    assert call("fetch", "--list", "--quiet").out.split() == list(WEIGHTS)


def test_it_says_what_it_fetches_from_where_and_on_whose_word(site: Site, tmp_path: Path) -> None:
    ended = call("fetch", "net", "--to", tmp_path, "--yes")
    assert ended.code == 0
    assert (tmp_path / "net.pth").read_bytes() == BODY
    text = " ".join(ended.out.split())
    for said in (
        "weights net, MIT, about 1 MB",
        f"from {site.url}/net.pth",
        "recorded no SHA-256: what comes is taken",
        f"fetched SHA-256 {DIGEST}, compared with nothing",
        "next: pyimgano fit good/ -o model.pyimg --extractor net",
    ):
        assert said in text
    assert ended.err.startswith("fetching net ...\n1 of 1 MB (")
    again = call("fetch", "net", "--to", tmp_path)
    assert again.code == 0
    assert f"there SHA-256 {DIGEST}, as recorded by " in " ".join(again.out.split())
    assert len(site.asked) == 1
    told = json.loads(call("fetch", "net", "--to", tmp_path, "--json").out)["weights"][0]
    assert (told["sha256"], told["is_new"]) == (DIGEST, False)


def test_nothing_is_fetched_unless_somebody_says_so(site: Site, tmp_path: Path) -> None:
    ended = call("fetch", "net", "--to", tmp_path)
    assert (ended.code, site.asked) == (2, [])
    assert "give --yes" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("YES", 0), ("n", 2), ("", 2)])
def test_in_a_terminal_it_asks(site: Site, tmp_path: Path, answer: str, code: int) -> None:
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        child(site.url, "fetch", "net", "--to", tmp_path),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(mine, f"{answer}\n".encode())
        out, err = process.communicate(timeout=60)
    os.close(mine)
    os.close(theirs)
    assert "download about 1 MB under MIT? [y/N] " in out
    assert process.returncode == code, err
    assert (tmp_path / "net.pth").is_file() == (code == 0) == bool(site.asked)


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


def test_an_answer_that_is_no_yes_is_a_no(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("perhaps\ny\n"))
    ended = call("fetch", "net", "--to", tmp_path)
    assert (ended.code, ended.err) == (2, "error: net was not fetched\n")
    assert call("fetch", "net", "--to", tmp_path).code == 0
    assert len(site.asked) == 1


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_an_interrupt_keeps_what_came(site: Site, tmp_path: Path) -> None:
    site.drops, site.hangs = [500_000], True
    with subprocess.Popen(
        child(site.url, "fetch", "net", "--to", tmp_path, "--yes"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + 30
        part = tmp_path / "net.pth.part"
        while not (part.is_file() and part.stat().st_size > 100_000) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what was fetched is kept; the same command goes on from there" in err
    assert part.stat().st_size == 500_000
    assert call("fetch", "net", "--to", tmp_path, "--yes").code == 0
    assert site.ranges_asked()[-1] == "bytes=500000-"
    assert (tmp_path / "net.pth").read_bytes() == BODY


def test_an_error_is_one_line(tmp_path: Path) -> None:
    for given, said in (
        ((), "give the name of the weights"),
        (("nett",), "unknown weights 'nett'; did you mean 'net'"),
        (("net", "--to", tmp_path, "--from", tmp_path), "no folder and no bundle that holds"),
        (("net", "--to", tmp_path, "--from", "http://127.0.0.1:9/", "-y"), "cannot be reached"),
    ):
        ended = call("fetch", *given)
        assert ended.code == 2
        assert said in ended.err.splitlines()[-1]


def test_a_bundle_is_carried_to_a_machine_without_a_network(site: Site, tmp_path: Path) -> None:
    home, out, plant = (tmp_path / name for name in ("home", "weights.zip", "plant"))
    assert call("fetch", "net", "--to", home, "-y").code == 0
    ended = call("bundle-weights", "net", "--from", home, "--out", out)
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert f"weights net, SHA-256 {DIGEST}" in text
    assert "there: pyimgano fetch net --from weights.zip" in text
    ended = call("fetch", "net", "--from", out, "--to", plant)
    assert ended.code == 0
    assert (plant / "net.pth").read_bytes() == BODY
    assert f"as recorded by {out}/net.pth.sha256" in " ".join(ended.out.split())
    assert len(site.asked) == 1
    told = json.loads(call("bundle-weights", "net", "--from", home, "-o", out, "--json").out)
    assert told["weights"][0]["name"] == "net"
    quiet = call("bundle-weights", "net", "--from", home, "-o", out, "--quiet")
    assert (quiet.out, quiet.err) == (f"{out}\n", "")


def test_a_bundle_needs_names_and_fetched_weights(tmp_path: Path) -> None:
    ended = call("bundle-weights", "--out", tmp_path / "w.zip")
    assert (ended.code, "give the names" in ended.err) == (2, True)
    ended = call("bundle-weights", "net", "--from", tmp_path, "--out", tmp_path / "w.zip")
    assert (ended.code, "first: pyimgano fetch net" in ended.err) == (2, True)


@pytest.mark.parametrize("verb", ["fetch", "bundle-weights"])
def test_names_are_completed(verb: str) -> None:
    done = asked("bash", f"pyimgano {verb} dinov2_vitb")
    assert done.stdout.split() == ["dinov2_vitb14", "dinov2_vitb14_reg"] == _complete("dinov2_vitb")
    assert done.stderr.strip() == ""


def test_help_stays_light() -> None:
    code = "import sys, pyimgano.cli; print({'torch', 'cv2', 'urllib.request'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""One file of a web server: taken up where it broke off, never glued from two."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urlsplit

from pyimgano import __version__
from pyimgano.atomic import locked, output_errors, write_atomic
from pyimgano.errors import FetchError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Origin", "fill", "require_size", "state_of"]

ATTEMPTS = 5
CHUNK = 1 << 16
TOLERANCE = 0.1
_HEADERS = {"User-Agent": f"pyimgano/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a file is to be had.

    Parameters
    ----------
    url : str
        Of http or https; a redirection leads to these alone, and never from https to http.
    megabytes : int
        About how large it is; 0 if that is not known.
    timeout : float
        Seconds without a byte after which the connection is given up.
    """

    url: str
    megabytes: int = 0
    timeout: float = 30.0


class _Known(NamedTuple):
    """What a server said of the file that a part belongs to."""

    url: str
    validator: str
    size: int


class _BrokeOff(Exception):  # noqa: N818 - not an error yet: it may go on
    """The connection ended before the file did."""


class _Changed(_BrokeOff):
    """The server has another file by now."""


class _Redirection(request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, *rest: Any) -> Any:
        if req.type == "https" and urlsplit(rest[-1]).scheme != "https":
            raise FetchError(f"{req.full_url} leads to {rest[-1]}, where anybody could change it")
        return super().redirect_request(req, *rest)


def state_of(part: Path) -> Path:
    """Return the file beside a part that says what it is a part of."""
    return part.with_name(f"{part.name}.json")


def fill(part: Path, origin: Origin, told: Callable[[int], object]) -> None:
    """Fetch a file into ``part``; what is there of the same file already is not fetched again.

    A connection that breaks off is taken up again, as long as it brings something. From a server
    that does not know parts, or has another file by now (by its ETag, or its date), the whole
    file is fetched. Proxies are those of the environment.

    Parameters
    ----------
    part : Path
        A file in a folder that exists; another one beside it says what it is a part of. Both stay
        if the work ends before its time.
    origin : Origin
        Where it is to be had.
    told : callable
        Is told again and again how many bytes are there.

    Raises
    ------
    FetchError
        If it cannot be fetched, or has not about the size that it should have.
    OutputError
        If the disk is full, or another process fetches the same file.
    """
    with output_errors(part), _claimed(part):
        there = part.stat().st_size
        for left in reversed(range(ATTEMPTS)):
            try:
                _go_on(part, origin, told)
            except _BrokeOff as error:
                before, there = there, part.stat().st_size
                if isinstance(error, _Changed):
                    state_of(part).unlink(missing_ok=True)
                    before = -1
                if not left or there <= before:
                    raise FetchError(
                        f"{origin.url} broke off after {there} bytes ({error}); {part} is kept, "
                        "and the same command goes on from there"
                    ) from error
            else:
                return


def require_size(what: str, size: int, megabytes: int) -> None:
    """Raise `FetchError` if a file is not about as large as it should be."""
    if megabytes and abs(size / 1e6 - megabytes) > TOLERANCE * megabytes:
        raise FetchError(
            f"{what} has {size} bytes, and should have about {megabytes} MB: it is another file, "
            "or the page of a proxy that asks for a log-in"
        )


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    part.touch()
    try:
        with locked(part):
            try:
                yield
            finally:
                if not part.stat().st_size:  # nothing came: nothing is left
                    state_of(part).unlink(missing_ok=True)
                    part.unlink()
    except BlockingIOError as error:
        raise OutputError(f"another process is fetching {part}; wait for its end") from error


def _go_on(part: Path, origin: Origin, told: Callable[[int], object]) -> None:
    known, start = _recorded(part, origin.url), part.stat().st_size
    if known is None or start > known.size:
        known, start = None, 0
    elif start == known.size:  # a process was killed when all was there
        told(start)
        return
    with _answer(origin, known, start) as response:
        start *= response.status == 206
        found = _announced(response, origin.url, start)
        if start and found != known:  # the server sends a part, but not of this file
            raise _Changed("the file on the server changes")
        require_size(origin.url, found.size, origin.megabytes)
        _require_room(part, found.size - start, origin)
        write_atomic(state_of(part), json.dumps(found._asdict()))
        with part.open("r+b") as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, found.size, told)


def _recorded(part: Path, url: str) -> _Known | None:
    """Return what a part belongs to, if that can be asked for: from there, and by a validator."""
    try:
        known = _Known(**json.loads(state_of(part).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None
    return known if known.url == url and known.validator else None


@contextmanager
def _answer(origin: Origin, known: _Known | None, start: int) -> Iterator[Any]:
    headers = dict(_HEADERS)
    if known is not None and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": known.validator}
    opener = request.OpenerDirector()
    for handler in (
        *(request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, _Redirection),
        *(request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor, request.UnknownHandler),
    ):
        opener.add_handler(handler())
    try:
        asked = request.Request(origin.url, headers=headers)  # noqa: S310 - http and https alone
        response = opener.open(asked, timeout=origin.timeout)
    except FetchError:
        raise
    except HTTPError as error:
        error.close()
        if error.code == 416:  # shorter by now than what is here
            raise _Changed("the file on the server changes") from error
        text = " ".join(str(error.reason).split())
        raise FetchError(f"{origin.url}: the server says {error.code} {text}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(
            f"{origin.url} cannot be reached ({reason or type(error).__name__}); where there is no "
            "network, give a folder or a bundle: --from DIR"
        ) from error
    with response:
        yield response


def _announced(response: Any, url: str, start: int) -> _Known:
    """Return what the server sends, or refuse what cannot be told to be whole."""
    heads = response.headers
    length = heads.get("Content-Length", "")
    if response.status != (206 if start else 200) or not length.isdecimal():
        raise FetchError(
            f"{url}: the server answers {response.status} and does not say how long the file is, "
            "so that nobody could tell whether it is whole; take another server: --from URL"
        )
    if heads.get("Content-Encoding", "identity") != "identity":
        raise FetchError(f"{url}: the server packs the file, which nobody asked for")
    size = start + int(length)
    if start and heads.get("Content-Range") != f"bytes {start}-{size - 1}/{size}":
        size = 0  # another part than the one that was asked for
    tag = heads.get("ETag", "")
    validator = heads.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    return _Known(url, validator, size)


def _require_room(part: Path, size: int, origin: Origin) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < size:
        raise OutputError(
            f"{origin.url} needs {size / 1e6:.0f} MB more in {part.parent}, and {free / 1e6:.0f} "
            "MB are free: make room, or choose another folder"
        )


def _copy(response: Any, file: BinaryIO, size: int, told: Callable[[int], object]) -> None:
    there = file.tell()
    while there < size:
        try:
            data = response.read1(min(CHUNK, size - there))
        except (OSError, HTTPException) as error:
            raise _BrokeOff(str(error) or type(error).__name__) from error
        if not data:
            raise _BrokeOff("the connection ended")
        file.write(data)
        there += len(data)
        told(there)

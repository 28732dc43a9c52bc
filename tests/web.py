"""A real web server on this machine, with the manners and the faults that servers have."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Site:
    """What a server holds, how it behaves, and what it was asked."""

    body: bytes = b""
    etag: str = '"1"'
    modified: str = ""
    url: str = ""
    ranges: bool = True  # knows parts
    looks_at_if_range: bool = True
    drops: list[int] = field(default_factory=list)  # bytes after which answers break off
    hangs: bool = False  # says nothing more instead of closing
    status: int = 200
    location: str = ""
    heads: dict[str, str] = field(default_factory=dict)  # in place of the right ones
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def ranges_asked(self) -> list[str]:
        return [heads.get("Range", "") for _, heads in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        start = self._start()
        if start > len(site.body):
            self._head(416, 0, {"Content-Range": f"bytes */{len(site.body)}"})
        elif site.location and self.path == "/moved":
            self._head(302, 0, {"Location": site.location})
        else:
            self._send(start)

    def _start(self) -> int:
        site = self.site
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = self.headers.get("If-Range") in {site.etag, site.modified}
        if not found or not site.ranges or not (known or not site.looks_at_if_range):
            return 0
        return int(found[1])

    def _send(self, start: int) -> None:
        site = self.site
        body = site.body[start:]
        size = len(site.body)
        heads = {"ETag": site.etag, "Last-Modified": site.modified}
        if start:
            heads["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(206 if start else site.status, len(body), heads)
        end = site.drops.pop(0) if site.drops else len(body)
        self.wfile.write(body[:end])
        self.wfile.flush()
        if end < len(body):
            if site.hangs:
                site.done.wait(30)
            self.close_connection = True

    def _head(self, status: int, length: int, heads: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(length), **heads, **self.site.heads}.items():
            if text:
                self.send_header(name, text)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients go away when they like."""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site as long as the block lasts."""
    handler = type("Handler", (_Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            site.done.set()
            server.shutdown()
            thread.join()

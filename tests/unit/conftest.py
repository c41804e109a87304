"""A server on this machine that sends files and plays the tricks of servers."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FileServer:
    """Files by their paths, and what is to go wrong.

    Attributes:
        endpoint: its address.
        files: {path: bytes}.
        ranges: whether it sends a part when asked for one.
        tagged: whether it tells by what to know a file again.
        cuts: the bytes after which each of the next answers breaks off.
        statuses: instead of the next answers' own.
        headers: more of them.
        lengths: whether it tells how long an answer is.
        redirected: {path: address}.
        seen: (path, the range asked for) of all requests so far.
        sent: bytes of files so far.
    """

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tagged: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    lengths: bool = True
    redirected: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0

    def answer(self, path: str, asked: str, condition: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.seen.append((path, asked))
        if self.statuses:
            return self.statuses.pop(0), {}, b""
        if path in self.redirected:
            return 302, {"Location": self.redirected[path]}, b""
        if path not in self.files:
            return 404, {}, b""
        body = self.files[path]
        tag = f'"{hashlib.sha1(body).hexdigest()}"'
        headers = {"ETag": tag} if self.tagged else {}
        part = re.fullmatch(r"bytes=(\d+)-", asked)
        if part is None or not self.ranges or condition not in ("", tag):
            return 200, headers, body
        start = int(part[1])
        if start >= len(body):
            return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
        return 206, headers | {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}, body[start:]


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running one."""
    server = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = server.answer(
                self.path, self.headers.get("Range", ""), self.headers.get("If-Range", "")
            )
            self.send_response(status)
            for name, value in {"Content-Type": "application/octet-stream", **headers, **server.headers}.items():
                self.send_header(name, value)
            if server.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = server.cuts.pop(0) if body and server.cuts else len(body)
            with suppress(ConnectionError):  # who asked has left
                self.wfile.write(body[:cut])
            server.sent += len(body[:cut])
            if cut < len(body):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_WR)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.endpoint = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    listening.shutdown()
    thread.join()
    listening.server_close()

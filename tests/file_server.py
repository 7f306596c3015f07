"""A web server on this machine that fails on demand, and tells what it was asked for."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch


@dataclass
class FileServer:
    """What the server does, and what it did.

    Attributes:
        content: Bytes of every file.
        etag: Sent as ``ETag`` where not None.
        modified: Sent as ``Last-Modified`` where not None.
        ranges: Whether ``Range`` is obeyed.
        checks: Whether ``If-Range`` is obeyed.
        cuts: For the next requests, after how many bytes the connection is dropped.
        status: Sent in the place of 200.
        kind: Sent as ``Content-Type``.
        delay: Seconds before each part of the content.
        asked: Value of ``Range`` of each request, None where it had none.
        sent: Bytes of content sent in all.
    """

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    checks: bool = True
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    kind: str = 'application/octet-stream'
    delay: float = 0.0
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0
    port: int = 0

    def url(self, name: str) -> str:
        """Address of a file."""
        return f'http://127.0.0.1:{self.port}/models/{name}'


class Handler(BaseHTTPRequestHandler):
    """Answers as the ``FileServer`` says."""

    def log_message(self, *args) -> None:
        """Keep the screen clean."""

    def do_GET(self) -> None:
        """Send the content, or the part that was asked for."""
        state: FileServer = self.server.state
        wanted = self.headers.get('Range')
        state.asked.append(wanted)
        if state.status != 200:
            self.send_error(state.status)
            return
        start = self._start(state, wanted)
        if start is not None and start >= len(state.content):
            self.send_error(416)
            return
        body = state.content[start or 0 :]
        self.send_response(200 if start is None else 206)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Content-Type', state.kind)
        for name, value in (('ETag', state.etag), ('Last-Modified', state.modified)):
            if value is not None:
                self.send_header(name, value)
        if start is not None:
            last, total = len(state.content) - 1, len(state.content)
            self.send_header('Content-Range', f'bytes {start}-{last}/{total}')
        self.end_headers()
        self._send(state, body)

    def _start(self, state: FileServer, wanted: str | None) -> int | None:
        if wanted is None or not state.ranges:
            return None
        given = self.headers.get('If-Range', '')
        # A weak ETag matches nothing, not even itself (RFC 9110, section 13.1.5).
        same = given in (state.etag, state.modified) and not given.startswith('W/')
        if state.checks and not same:
            return None
        return int(wanted.removeprefix('bytes=').removesuffix('-'))

    def _send(self, state: FileServer, body: bytes) -> None:
        if state.cuts:
            body = body[: state.cuts.pop(0)]
        step = max(len(body) // 8, 1)
        for begin in range(0, len(body), step):
            time.sleep(state.delay)
            self.wfile.write(body[begin : begin + step])
            state.sent += len(body[begin : begin + step])


class QuietServer(ThreadingHTTPServer):
    """A server that does not mind when a client hangs up."""

    def handle_error(self, request, client_address) -> None:
        """Keep the screen clean."""


def temporary_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make torch's hub cache an empty folder, and return where its files go."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(folder / 'hub'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return folder / 'hub' / 'checkpoints'


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    """Serve ``content`` under every name while the context lasts."""
    server = QuietServer(('127.0.0.1', 0), Handler)
    server.state = FileServer(content, port=server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()

"""A web server on this machine that fails on demand, and tells what it was asked for."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server does, and what it did."""

    content: bytes  # bytes of every file
    cuts: list[int] = field(default_factory=list)  # bytes after which next ones are dropped
    status: int = 200  # sent in the place of 200
    delay: float = 0.0  # seconds before each part of the content
    asked: int = 0  # requests so far
    sent: int = 0  # bytes of content sent in all
    port: int = 0

    def url(self, name: str) -> str:
        return f'http://127.0.0.1:{self.port}/models/{name}'


class Handler(BaseHTTPRequestHandler):
    """Answers as the ``FileServer`` says."""

    def log_message(self, *args) -> None:
        """Keep the screen clean."""

    def do_GET(self) -> None:
        state: FileServer = self.server.state
        state.asked += 1
        if state.status != 200:
            self.send_error(state.status)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(state.content)))
        self.end_headers()
        body = state.content[: state.cuts.pop(0)] if state.cuts else state.content
        step = max(len(body) // 8, 1)
        for begin in range(0, len(body), step):
            time.sleep(state.delay)
            state.sent += self.wfile.write(body[begin : begin + step])


class QuietServer(ThreadingHTTPServer):
    """A server that does not mind when a client hangs up."""

    def handle_error(self, request, client_address) -> None:
        """Keep the screen clean."""


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

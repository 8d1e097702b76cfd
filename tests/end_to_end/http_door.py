"""A door before the local AWS: it counts the calls that come through, and misbehaves when it is told to."""

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

Behaviour = Callable[[socket.socket, bytes], None]
"""What is done with a connection and the request that came on it. The connection is closed afterwards."""


class Door:
    """`with Door(endpoint) as door`: `door.endpoint` leads to `endpoint`; `door.calls` counts requests."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._target = (str(address.hostname), int(address.port or 80))
        self._behave: Behaviour = self.forward
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.calls = 0

    @property
    def endpoint(self) -> str:
        """The URL to use in place of the AWS behind."""
        return f"http://127.0.0.1:{self._port}"

    def forward(self, connection: socket.socket, request: bytes) -> None:
        """Ask the AWS behind, and pass its answer on."""
        head, _, body = request.partition(b"\r\n\r\n")
        with socket.create_connection(self._target, timeout=30) as behind:
            behind.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            while piece := behind.recv(65536):
                connection.sendall(piece)

    @contextmanager
    def misbehaving(self, behave: Behaviour) -> Iterator[None]:
        """Until the block ends, do this with every request."""
        self._behave = behave
        try:
            yield
        finally:
            self._behave = self.forward

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Until the block ends, nobody listens here."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def serve(self, connection: socket.socket) -> None:
        """Read one request, count it, and do with it what is to be done."""
        request = b""
        while (missing := _missing(request)) != 0:
            piece = connection.recv(65536 if missing is None else missing)
            if not piece:
                return
            request += piece
        with self._lock:
            self.calls += 1
        self._behave(connection, request)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    server_address: tuple[str, int]

    def __init__(self, address: tuple[str, int], door: Door) -> None:
        super().__init__(address, socketserver.BaseRequestHandler)
        self._door = door

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError):  # whoever asked has gone
            self._door.serve(request)


def _missing(request: bytes) -> int | None:
    """How many bytes of a request are still to come; None when its head is not yet here."""
    head, end, body = request.partition(b"\r\n\r\n")
    if not end:
        return None
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return (int(length[1]) if length else 0) - len(body)

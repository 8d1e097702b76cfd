"""HTTP/1.1 at a door: one request a connection, nothing logged that a client wrote."""

import io
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

from agent.serve import documents, listener

JSON = "application/json"
"""Exactly so: the Go SDK compares."""


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A request's head, its target as it was sent, and the two ends of the connection: host and port."""

    method: str
    target: str
    headers: Message
    peer: tuple[str, int]
    local: tuple[str, int]


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Status, body, its type, and headers beside the usual ones."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = JSON


def error(status: int, code: str, message: str, *, retry_after: float | None = None) -> Answer:
    """An error that every SDK can read. `retry_after` in seconds."""
    headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    return Answer(status, documents.error(code, message), headers)


def conversation(answer: Callable[[Request], Answer]) -> Callable[[socket.socket], None]:
    """What a `Door` does with a connection, when `answer` answers the request."""
    return lambda connection: _Edge(connection, answer).converse()


class _Edge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, answer: Callable[[Request], Answer]) -> None:
        self._answer = answer
        self.connection = connection
        self.peer, self.local = connection.getpeername()[:2], connection.getsockname()[:2]
        self.client_address = self.peer
        self.command = ""

    def converse(self) -> None:
        """One request, one answer. Raises OSError."""
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.rfile = io.BufferedReader(listener.Head(self.connection))
        self.wfile = io.BufferedWriter(_Whole(self.connection))
        self.handle_one_request()

    def do_GET(self) -> None:
        """The methods that some door has; `send_error` answers every other."""
        target = self.requestline.split()[1]  # self.path was tidied up already
        self._send(self._answer(Request(self.command, target, self.headers, self.peer, self.local)))

    do_HEAD = do_PUT = do_POST = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself: a method (501), a malformed or overlong head."""
        del message, explain  # they quote the client
        if code == 501:
            self._send(error(405, "MethodNotAllowed", "This method is not served here"))
        else:
            self._send(error(code, "BadRequest", "The request cannot be read"))

    def _send(self, answer: Answer) -> None:
        self.close_connection = True
        self.connection.settimeout(listener.LONGEST_HEAD)
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **answer.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def version_string(self) -> str:
        return "trusted-gateway-agent"

    def log_message(self, *_: Any) -> None:
        return None


class _Whole(io.RawIOBase):
    """Writes all of it, or raises."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._connection.sendall(content)
        return len(content)

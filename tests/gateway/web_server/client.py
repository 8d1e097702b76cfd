"""A client that sends exactly the bytes it is told to, and reads answers strictly."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Address = tuple[str, int]


@dataclass(frozen=True)
class Answer:
    """One answer, as it was on the wire."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The RFC 9457 document in it."""
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        return found


def answers(raw: bytes, *, to_head: bool = False) -> list[Answer]:
    """All answers in `raw`, which has to end with the last of them. Raises AssertionError."""
    out = []
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, raw
        line, *fields = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict[str, str]()
        for field in fields:
            name, colon, value = field.partition(": ")
            assert colon, field
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        length = 0 if to_head else int(headers.get("content-length", "0"))
        assert len(raw) >= length, "a truncated answer"
        out.append(Answer(int(status), headers, raw[:length]))
        raw = raw[length:]
    return out


@contextlib.contextmanager
def connected(
    address: Address, context: ssl.SSLContext | None = None, *, timeout: float = 10
) -> Iterator[socket.socket]:
    """A connected socket, with TLS when there is a context."""
    with socket.create_connection(address, timeout) as sock:
        if context is None:
            yield sock
        else:
            with context.wrap_socket(sock, server_hostname=address[0]) as tls:
                yield tls


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server closes. A reset is an end as well."""
    out = bytearray()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        while piece := sock.recv(65_536):
            out += piece
    return bytes(out)


def read_one(sock: socket.socket, *, to_head: bool = False) -> Answer:
    """The next answer; nothing may follow it. Raises ConnectionError when there is none."""
    raw = bytearray()
    while b"\r\n\r\n" not in raw:
        if not (piece := sock.recv(65_536)):
            raise ConnectionError("closed without an answer")
        raw += piece
    head, _, rest = bytes(raw).partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    missing = 0 if to_head else int(fields.get(b"content-length", b"0")) - len(rest)
    while missing > 0:
        piece = sock.recv(65_536)
        raw += piece
        missing -= len(piece)
    (answer,) = answers(bytes(raw), to_head=to_head)
    return answer


def send(address: Address, raw: bytes, context: ssl.SSLContext | None = None, *, to_head: bool = False) -> list[Answer]:
    """All answers to `raw`, until the server closes the connection."""
    with connected(address, context) as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
            sock.sendall(raw)
        return answers(read_all(sock), to_head=to_head)


def get(path: str, *headers: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """A plain request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def until(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that another thread or process brings about. Raises AssertionError."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


LAST = "Connection: close"

"""Reading a connection: lines, and bytes as they come, through the framings that lie on each other. Nothing is kept."""

import socket
from collections.abc import Mapping
from typing import Protocol

LONGEST_LINE = 32 * 1024


class Broken(Exception):
    """The other end sent something else than this framing has, or left in the middle of it."""


class Source(Protocol):
    """Where bytes come from."""

    def some(self, limit: int) -> memoryview:
        """At least one byte and at most `limit`, good until the next call; empty at the end."""
        ...

    def line(self) -> bytes:
        """Up to CRLF, without it. Raises Broken."""
        ...


class Connection:
    """A socket."""

    def __init__(self, connection: socket.socket, size: int = 1 << 20) -> None:
        self._socket = connection
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def some(self, limit: int) -> memoryview:
        if self._start == self._end:
            self._start, self._end = 0, self._socket.recv_into(self._buffer)
        piece = self._view[self._start : min(self._end, self._start + limit)]
        self._start += len(piece)
        return piece

    def line(self) -> bytes:
        found = self._buffer.find(b"\r\n", self._start, self._end)
        while found < 0:
            if self._end - self._start > LONGEST_LINE:
                raise Broken("a line without end")
            if self._start:
                self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
                self._start, self._end = 0, self._end - self._start
            size = self._socket.recv_into(self._view[self._end :])
            if size == 0:
                raise Broken("it ends within a line")
            self._end += size
            found = self._buffer.find(b"\r\n", self._start, self._end)
        line = bytes(self._view[self._start : found])
        self._start = found + 2
        return line


class Measured:
    """A body with a Content-Length. RFC 9112 section 6.2."""

    def __init__(self, source: Source, length: int) -> None:
        self._source, self.left = source, length

    def some(self, limit: int) -> memoryview:
        if self.left == 0:
            return memoryview(b"")
        piece = self._source.some(min(limit, self.left))
        if not piece:
            raise Broken(f"{self.left} bytes are missing")
        self.left -= len(piece)
        return piece

    def line(self) -> bytes:
        line = self._source.line()
        self.left -= len(line) + 2
        if self.left < 0:
            raise Broken("a line goes on behind the end")
        return line


class Chunked:
    """A body in chunks, of HTTP (RFC 9112 section 7.1): trailers are read, and dropped."""

    def __init__(self, source: Source) -> None:
        self._source, self._left, self._over = source, 0, False

    def some(self, limit: int) -> memoryview:
        if self._left == 0 and not self._over:
            self._next()
        if self._over:
            return memoryview(b"")
        piece = self._source.some(min(limit, self._left))
        if not piece:
            raise Broken("a chunk is not whole")
        self._left -= len(piece)
        if self._left == 0:
            piece = memoryview(bytes(piece))  # the line that follows may move what it looked at
            if self._source.line():
                raise Broken("a chunk is longer than it says")
        return piece

    def line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\r\n"):  # it may go on in the next chunk
            piece = self.some(1)
            if not piece or len(line) > LONGEST_LINE:
                raise Broken("it ends within a line")
            line += piece
        return bytes(line[:-2])

    def _next(self) -> None:
        self._left = size_of(self._source.line())
        if self._left == 0:
            self._over = True
            while self._source.line():
                pass


def size_of(line: bytes) -> int:
    """The size that a chunk's first line says. Raises Broken."""
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise Broken("a chunk has no size") from None


def body_of(source: Source, headers: Mapping[str, str]) -> Source:
    """The body of a request with these headers (lower case)."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Chunked(source)
    return Measured(source, int(headers.get("content-length", "0")))

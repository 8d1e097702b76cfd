"""Where a body ends (RFC 9112 section 6): by its length, by its chunks, or by the end of the connection. No input or
output: bytes as they arrive go in, bytes of the body come out, however the first were cut up.
"""

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,13})\r\n")
_SIZE_EXTENDED = re.compile(rb"([0-9A-Fa-f]{1,13})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LONGEST_LINE = 4096
_LONGEST_TRAILERS = 8192


class BadFraming(ValueError):
    """The bytes are not framed as they were said to be."""


class Framing(Protocol):
    """The frame of one body."""

    complete: bool
    rest: bytes  # what came behind the body's end

    def feed(self, data: bytes) -> bytes:
        """What `data` brings of the body, b"" for nothing. Not to be called once it is complete. Raises BadFraming."""


class Fixed:
    """A body of `length` bytes."""

    __slots__ = ("_missing", "complete", "rest")

    def __init__(self, length: int) -> None:
        self._missing = length
        self.complete = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Up to the last byte of the body."""
        if len(data) > self._missing:
            data, self.rest = data[: self._missing], data[self._missing :]
        self._missing -= len(data)
        self.complete = self._missing == 0
        return data


class UntilClose:
    """A body that ends with its connection (RFC 9112 section 6.3, item 8): whoever sees that end tells of it."""

    __slots__ = ("complete", "rest")

    def __init__(self) -> None:
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data


class _Next(Enum):
    SIZE = auto()
    BYTES = auto()
    END_OF_CHUNK = auto()
    TRAILERS = auto()


class Chunked:
    """A body in chunks (RFC 9112 section 7.1), of at most `longest` bytes.

    As a server reads it, there are no extensions and no trailers: BadFraming. `extended` reads what a client has to:
    extensions are passed over, and so are trailers, up to 8 KiB of them.
    """

    __slots__ = ("_line", "_missing", "_next", "_read", "_size", "_spare", "_trailers", "complete", "rest")

    def __init__(self, *, longest: int | None = None, extended: bool = False) -> None:
        self._next = _Next.SIZE
        self._line = b""  # begun, and not yet ended
        self._missing = 0  # bytes of this chunk
        self._spare = longest
        self._size = _SIZE_EXTENDED if extended else _SIZE
        self._trailers = _LONGEST_TRAILERS if extended else 2  # bytes, of those that are allowed
        self._read: dict[_Next, Callable[[bytes], None]] = {
            _Next.SIZE: self._read_size,
            _Next.END_OF_CHUNK: self._read_end,
            _Next.TRAILERS: self._read_trailer,
        }
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes of all chunks in `data`, joined."""
        pieces, at = [], 0
        while at < len(data) and not self.complete:
            if self._next is _Next.BYTES:
                piece = data[at : at + self._missing]
                pieces.append(piece)
                at += len(piece)
                self._missing -= len(piece)
                if not self._missing:
                    self._next = _Next.END_OF_CHUNK
                continue
            end = data.find(b"\n", at, at + _LONGEST_LINE) + 1
            line = self._line + (data[at:end] if end else data[at : at + _LONGEST_LINE + 1])
            if len(line) > _LONGEST_LINE:
                raise BadFraming("a line between chunks is too long")
            if not end:
                self._line = line
                break
            self._line, at = b"", end
            self._read[self._next](line)
        if self.complete:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, line: bytes) -> None:
        match = self._size.fullmatch(line)
        if match is None:
            raise BadFraming("the size of a chunk is not well formed")
        self._missing = int(match[1], 16)
        if self._spare is not None:
            self._spare -= self._missing
            if self._spare < 0:
                raise BadFraming("the chunks are too many")
        self._next = _Next.BYTES if self._missing else _Next.TRAILERS

    def _read_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise BadFraming("a chunk does not end where it has to")
        self._next = _Next.SIZE

    def _read_trailer(self, line: bytes) -> None:
        self._trailers -= len(line)
        if self._trailers < 0 or not line.endswith(b"\r\n"):
            raise BadFraming("the trailers are not accepted")
        self.complete = line == b"\r\n"

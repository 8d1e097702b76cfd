"""Bodies of requests: none, as they come from the client, or read beforehand. Nothing but a body that had to be read is
held.
"""

import hashlib
import io
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from agent.calls.line import PIECE
from agent.errors import Fault

IN_MEMORY = 1024 * 1024
"""Bytes of a body that is read beforehand, until it goes to a file."""
LONGEST = 64 * 1024 * 1024
"""Bytes of a body that can be read beforehand."""
TOGETHER = 256 * 1024 * 1024
"""Bytes of all of them at one time: the directory is most often in memory, too."""

Piece = bytes | bytearray | memoryview


class Body(Protocol):
    """`length` in bytes, None when it is not known. `begun`: pieces were taken. `again`: they can be, once more."""

    @property
    def length(self) -> int | None: ...
    @property
    def begun(self) -> bool: ...
    @property
    def again(self) -> bool: ...

    def pieces(self) -> Iterator[Piece]:
        """All of it, in pieces."""


class Streamed:
    """A body as it comes; it can be taken once."""

    again = False

    def __init__(self, source: Iterable[Piece], length: int | None) -> None:
        self._source, self.length, self.begun = source, length, False

    def pieces(self) -> Iterator[Piece]:
        """All of it, in pieces."""
        self.begun = True
        yield from self._source


class Kept:
    """A body that was read beforehand: in memory, or in a file without a name. `sha256` is in hex."""

    again = True

    def __init__(self, file: IO[bytes], length: int, sha256: str, closed: Callable[[], None] = lambda: None) -> None:
        self._file, self.length, self.sha256, self._closed = file, length, sha256, closed
        self.begun = False

    def pieces(self) -> Iterator[Piece]:
        """All of it, in pieces, as often as it is wanted."""
        self.begun = True
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def whole(self) -> bytes:
        """All of it at once."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Forget it."""
        self._file.close()
        self._closed()


def nothing() -> Kept:
    """The body of a request that has none."""
    return Kept(io.BytesIO(), 0, hashlib.sha256().hexdigest())


class Spool:
    """Reads bodies, `most` bytes of all that are not closed yet; long ones go to files in `directory`. Any thread may
    call.
    """

    def __init__(self, directory: Path, most: int = TOGETHER) -> None:
        self._directory, self._most = directory, most
        self._lock = threading.Lock()
        self.held = 0

    def keep(self, source: Body, longest: int = LONGEST) -> Kept:
        """Read a body to its end; it has to be closed.

        Raises Fault `body_too_large`, `overloaded` and `write_failed`, and what the source raises.
        """
        if source.length is not None and source.length > longest:
            raise _too_large(longest)
        file: IO[bytes] = io.BytesIO()
        length, digest = 0, hashlib.sha256()
        try:
            for piece in source.pieces():
                if length + len(piece) > longest:
                    raise _too_large(longest)
                self._count(len(piece))
                length += len(piece)
                digest.update(piece)
                if length > IN_MEMORY and isinstance(file, io.BytesIO):
                    memory, file = file, self._file()
                    self._write(file, memory.getbuffer())
                self._write(file, piece)
        except BaseException:
            file.close()
            self._count(-length)
            raise
        return Kept(file, length, digest.hexdigest(), lambda: self._count(-length))

    def _count(self, more: int) -> None:
        with self._lock:
            if more > 0 and self.held + more > self._most:
                fault = Fault("overloaded", "Too many bodies have to be read at this moment before they are signed")
                fault.retry_after = 1.0
                raise fault
            self.held += more

    def _file(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)  # whoever keeps it closes it
        except OSError as error:
            raise self._failed(error) from None

    def _write(self, file: IO[bytes], piece: Piece) -> None:
        left = memoryview(piece)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> Fault:
        return Fault("write_failed", f"{self._directory}: {error.strerror}")


def _too_large(longest: int) -> Fault:
    return Fault("body_too_large", f"A body that has to be read before it is signed has at most {longest // 1024} KiB")

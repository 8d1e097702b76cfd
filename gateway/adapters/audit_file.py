"""A sink that is a file: appended, flushed to the disk, and opened anew when somebody has rotated it."""

import errno
import fcntl
import os
import stat
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from gateway.core.audit_formats import Outgoing
from gateway.core.sinks import SinkFailed

RECENT = 10.0
"""Seconds. A file that was cut by `copytruncate` may have lost what was written between the copy and the cut: what is
not older than this is written again."""


class AuditFile:
    """`ports.Sink`. Each line whole, whoever else writes to the file by this adapter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._size = 0  # of the file, when we last wrote
        self._written: deque[tuple[float, bytes]] = deque()

    def deliver(self, batch: Sequence[Outgoing]) -> None:
        """Append, and return when it is on the disk. Raises SinkFailed."""
        text = b"".join(each.text.encode("ascii") + b"\n" for each in batch)
        try:
            self._append(text)
        except OSError as error:
            self.close()
            raise SinkFailed("sink_failed", f"{self._path}: {error.strerror}") from None

    def close(self) -> None:
        """The next delivery opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, text: bytes) -> None:
        fd = self._opened()
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            while not self._is_at_its_place(fd):  # rotated while we waited for the lock
                fcntl.flock(fd, fcntl.LOCK_UN)
                self.close()
                fd = self._opened()
                fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            now = time.monotonic()
            while self._written and now - self._written[0][0] > RECENT:
                self._written.popleft()
            self._written.append((now, text))
            recent = b"".join(each for _, each in self._written)
            # Somebody may have died in the middle of a line.
            torn = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
            out = torn + (recent if size < self._size else text)
            while True:
                _write(fd, out)
                self._size, expected = os.fstat(fd).st_size, size + len(out)
                if self._size >= expected:
                    break
                size, out = self._size, recent  # it was cut while we wrote
            os.fsync(fd)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._fd is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self._path, flags, 0o600)  # O_NONBLOCK: a FIFO shall hold nobody up
            self._size = 0
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
        return self._fd

    def _is_at_its_place(self, fd: int) -> bool:
        try:
            there, ours = os.stat(self._path, follow_symlinks=False), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]

"""A sink that is a file: appended, flushed to the disk, and opened anew when somebody has rotated it."""

import errno
import fcntl
import os
import stat
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.core.audit_formats import Outgoing
from gateway.core.sinks import SinkFailed

RECENT = 10.0
"""Seconds. A file that was cut by `copytruncate` may have lost what was written between the copy and the cut: what was
written last, and what was written no longer than this before it, is written again. When the cut was, nobody can say."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The last that we wrote, and where: in which file (device, inode), from which byte on."""

    file: tuple[int, int]
    begin: int
    text: bytes


class AuditFile:
    """`ports.Sink`. Each line whole, whoever else writes to the file by this adapter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._last: _Line | None = None
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
            all_recent = b"".join(each for _, each in self._written) + text
            out = all_recent if self._was_cut(fd) else text
            while (end := _append_lines(fd, out)) is None:
                out = all_recent
            os.fsync(fd)
            if out is all_recent:  # it is one batch now, and as late as this one
                self._written.clear()
            self._remember(fd, end, out)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _was_cut(self, fd: int) -> bool:
        """Whether our last line is gone from where it was. The size tells nothing: others may have written since."""
        last = self._last
        return last is not None and last.file == _file(fd) and os.pread(fd, len(last.text), last.begin) != last.text

    def _remember(self, fd: int, end: int, out: bytes) -> None:
        last = out[out.rfind(b"\n", 0, -1) + 1 :]
        self._last = _Line(_file(fd), end - len(last), last)
        now = time.monotonic()
        self._written.append((now, out))
        while now - self._written[0][0] > RECENT:
            self._written.popleft()

    def _opened(self) -> int:
        if self._fd is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self._path, flags, 0o600)  # O_NONBLOCK: a FIFO shall hold nobody up
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
        return self._fd

    def _is_at_its_place(self, fd: int) -> bool:
        try:
            there, ours = os.stat(self._path, follow_symlinks=False), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _file(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _append_lines(fd: int, text: bytes) -> int | None:
    """Where it ends in the file; None when the file was cut while we wrote."""
    size = os.fstat(fd).st_size
    # Somebody may have died in the middle of a line. Nothing is there when it was cut since.
    torn = b"\n" if size and os.pread(fd, 1, size - 1) not in (b"\n", b"") else b""
    _write(fd, torn + text)
    end = os.lseek(fd, 0, os.SEEK_CUR)  # behind what was appended last
    return end if end >= size + len(torn) + len(text) else None


def _write(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]

"""Files that hold secrets: a directory that is checked once and held open, and files in it that are replaced whole."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from agent.errors import Fault

LONGEST = 65536
"""No file of ours is longer, in bytes, unless its reader says so."""


def open_directory(path: Path, *, closed_to_others: int) -> int:
    """A descriptor of a directory that is real, ours, and has none of the mode bits `closed_to_others`; 0700 if made.

    Whoever works by the descriptor cannot be sent elsewhere afterwards. Raises Fault `directory_refused`.
    """
    try:
        with suppress(FileExistsError):
            path.mkdir(0o700, parents=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        hint = "It must be a directory, and not a link."
        raise Fault("directory_refused", f"{path}: {error.strerror}", hint) from None
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid() and not mode & closed_to_others:
        return fd
    os.close(fd)
    raise Fault(
        "directory_refused",
        f"{path} belongs to user {found.st_uid} and has mode {mode:04o}",
        f"It must belong to user {os.geteuid()}, and may have none of the mode bits {closed_to_others:04o}.",
    )


def read_private(name: str | Path, directory: int | None = None, *, longest: int = LONGEST) -> bytes:
    """A small regular file, whole, that only this user can read. Raises OSError: FileNotFoundError means none."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(1, "is not a file that this user alone can read")
        raw = file.read(longest + 1)
        if len(raw) > longest:  # a part of it would be taken for a broken whole
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return raw


def replace_file(name: str, content: bytes, directory: int, *, mode: int = 0o600, owner: int | None = None) -> None:
    """Put `content` under `name`, all or nothing, whatever the umask (write, fsync, rename, fsync).

    One writer at a time. `owner` is a uid; None leaves it ours. Raises Fault `write_failed`: then the old file stands.
    """
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)  # of a process that was killed here
        with open(os.open(temporary, flags, mode, dir_fd=directory), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            if owner not in (None, os.geteuid()):
                os.fchown(file.fileno(), owner, -1)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise Fault("write_failed", f"{name} cannot be written: {error.strerror}", "Check the disk.") from None

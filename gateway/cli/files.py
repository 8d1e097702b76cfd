"""Files of an operator: written for nobody else, all or nothing, and never through a link."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from gateway.cli.failure import Failure


def write(path: Path, content: Iterable[str]) -> None:
    """Write a text, or its lines, into a file that is new, 0600 from the first byte on. Raises Failure.

    A crash, or an error while lines are made, leaves what was there before.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        if path.is_symlink():
            raise Failure(f"{path} is a symbolic link", "file_unsafe", "Remove it, or name another place.")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                os.fchmod(fd, 0o600)  # whatever the umask
                file.writelines(content)
                file.flush()
                os.fsync(fd)
            draft.replace(path)
            _sync(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", "file_unwritable", "Name a place that you can write to.") from None


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def private(directory: Path) -> None:
    """Make the directory, 0700, or see that no one else can put files into it. Raises Failure."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise Failure(f"{directory}: {error.strerror}", "file_unwritable", "Name another place.") from None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Failure(
            f"{directory} is not yours alone: others can write to it", "file_unsafe", "chmod go-w it, or name another."
        )

"""The file that SQLite keeps the store in: where it is, how it is made, who may use it, and how it is opened."""

import os
import sqlite3
import stat
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import make_url

from gateway.core.errors import SettingsError

PRAGMAS = ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF")


def sqlite_path(url: str) -> Path | None:
    """The file that a SQLite URL names; None for another engine. Raises SettingsError when it names none."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise SettingsError("store: a SQLite URL must name a file, as in sqlite:////var/lib/trusted-gateway/gateway.db")
    return Path(parsed.database).absolute()


def create(path: Path) -> None:
    """Make an empty file (0600) and its directory (0700), whatever the umask; leave what is there. Raises OSError."""
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
        path.parent.chmod(0o700)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)


def fault(path: Path) -> str | None:
    """Why the file must not be used, if so. SQLite gives `-wal` and `-shm` the mode of the file itself."""
    wal, shm = Path(f"{path}-wal"), Path(f"{path}-shm")
    try:
        directory = path.parent.stat()
        if directory.st_uid != os.geteuid() or directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{path.parent} belongs to another user, or others may write to it"
        for file in (path, wal, shm):
            if reason := _exposed(file):
                return reason
        path.stat()
        # SQLite makes the -wal before the -shm, and removes it after it (hence the second look). So somebody removed it
        # under a running gateway. Who began a new one now would lose what was committed to the old; but when the last
        # process lets go of that, SQLite writes it home, and removes the -shm.
        if not wal.exists() and shm.exists() and not wal.exists():
            return f"{wal} is missing: if that lasts, stop every process that uses {path}, then remove {shm}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return None


def connect(path: Path, timeout: timedelta) -> sqlite3.Connection:
    """Open the file, which must exist, for one thread at a time; `timeout` limits each wait for a lock.

    Raises sqlite3.Error.
    """
    if reason := fault(path):
        raise sqlite3.OperationalError(reason)
    opened = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=timeout.total_seconds(),
        isolation_level=None,  # SQLAlchemy says BEGIN, not the driver
        check_same_thread=False,
    )
    try:
        if opened.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise sqlite3.OperationalError("this file system cannot hold a write-ahead log")
        for pragma in PRAGMAS:
            opened.execute(f"PRAGMA {pragma}")
        opened.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log, so that `identity` holds
    except BaseException:
        opened.close()
        raise
    return opened


def identity(path: Path) -> tuple[int, ...]:
    """Which files the path stands for. It stays the same as long as a connection is open, or they were replaced."""
    try:
        return tuple(os.stat(name).st_ino for name in (path, f"{path}-wal"))
    except OSError:
        return ()


def bar(path: Path) -> None:
    """The files were replaced under us: see that `fault` keeps everybody out until the last has let go of the old."""
    with suppress(OSError):
        Path(f"{path}-shm").touch(0o600)


def _exposed(file: Path) -> str | None:
    with suppress(FileNotFoundError):
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode):
            return f"{file} is no regular file"
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return f"{file} belongs to another user, or others may use it: it must be ours, with mode 0600"
    return None

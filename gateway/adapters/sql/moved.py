"""`ports.Moved` for SQLite."""

import sqlite3
from datetime import timedelta

from gateway.adapters.sql.engine import across_forks
from gateway.adapters.sql.sqlite_file import connect, identity, sqlite_path
from gateway.core.errors import SettingsError


class SqliteMoved:
    """Whether any connection, of any process, has committed since the last call: `PRAGMA data_version`, some 5 µs.

    The first call says yes, and so does every doubt: a file that cannot be read or was replaced. For one caller at a
    time. Raises SettingsError when `url` is not of SQLite.
    """

    def __init__(self, url: str) -> None:
        path = sqlite_path(url)
        if path is None:
            raise SettingsError("store: only SQLite tells of changes by data_version")
        self._path = path
        self.begin()
        across_forks(self)

    def begin(self) -> None:
        """Start with no connection."""
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[int, ...] = ()
        self._seen: object = None

    def let_go(self) -> None:
        """Close the connection; the next call connects again."""
        if self._connection:
            self._connection.close()
        self.begin()

    def __call__(self) -> bool:
        try:
            if self._connection is None:
                self._connection = connect(self._path, timedelta(0))
                self._files = identity(self._path)
            elif self._files != identity(self._path):
                raise sqlite3.OperationalError("the file was replaced")
            now: object = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self.let_go()
            return True
        before, self._seen = self._seen, now
        return before != now

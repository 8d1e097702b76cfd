"""Engines: one for reads, one for writes; their every failure is one Refusal. Only here is asked which engine it is."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.adapters.sql import sqlite_file
from gateway.core.errors import Refusal

PATIENCE = timedelta(seconds=5)


def open_engine(url: str, patience: timedelta = PATIENCE, *, write: bool = False) -> Engine:
    """An engine for reads, some 16 threads at once, or for writes, one at a time; it connects when it is first used.

    Whatever fails in it raises Refusal `store_unavailable` within `patience`, and is connected anew the next time; only
    a violated constraint (IntegrityError) or a value out of range (DataError) stays the caller's own. Raises
    SettingsError for a URL that names no database.
    """
    path = sqlite_file.sqlite_path(url)
    # A wait for the pool and a wait for a lock may follow one another: together they stay within `patience`.
    options: dict[str, Any] = {"creator": lambda: sqlite_file.connect(path, patience * 4 / 5)} if path else {}
    engine = create_engine(
        url,
        hide_parameters=True,  # an error's text must not show a row
        pool_size=1 if write else 20,
        max_overflow=0 if write else 20,
        pool_timeout=patience.total_seconds() / 5,
        pool_use_lifo=True,
        **options,
    )
    event.listen(engine, "handle_error", _refuse)
    if path:
        # A write takes the lock at once: one that reads first could find, when it wants the lock, that it read in vain.
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        event.listen(engine, "checkout", lambda opened, entry, proxy: _same_files(path, entry))
    return engine


def insert_if_absent(table: Table, dialect: str) -> Any:
    """INSERT that does nothing when a unique value of the row is there already."""
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]
    return insert(table).on_conflict_do_nothing()


def _refuse(context: ExceptionContext) -> Refusal | None:
    error = context.sqlalchemy_exception
    if not isinstance(error, DBAPIError) or isinstance(error, IntegrityError | DataError):
        return None
    # SQLite may have rolled back by itself. Nothing more happens in this transaction, though one swallow the Refusal.
    context.is_disconnect = True
    name = getattr(error.orig, "sqlite_errorname", type(error.orig).__name__)
    return Refusal("store_unavailable", reason="store_failed", error=name)


def _same_files(path: Path, entry: ConnectionPoolEntry) -> None:
    files = sqlite_file.identity(path)
    if entry.info.setdefault("files", files) != files:
        sqlite_file.bar(path)
        entry.invalidate()
        let_go()
        raise Refusal("store_unavailable", reason="store_replaced")


class Holder(Protocol):
    """Something that holds connections, in a process that may fork."""

    def let_go(self) -> None:
        """Close those that are not in use; the next use connects again."""

    def begin(self) -> None:
        """Start with none, in the child of a fork."""


_HOLDERS: WeakSet[Holder] = WeakSet()


def across_forks(holder: Holder) -> None:
    """See that no connection of `holder` lives through a fork.

    To forget it in the child would not do: SQLite keeps a table of the locks that its process holds, the child inherits
    the table but not the locks, and from then on writes into a file that it believes to have locked.
    """
    _HOLDERS.add(holder)


def let_go() -> None:
    """Close every connection of this process that is not in use."""
    for holder in list(_HOLDERS):
        holder.let_go()


def _begin() -> None:
    for holder in list(_HOLDERS):
        holder.begin()


os.register_at_fork(before=let_go, after_in_child=_begin)

"""Rows that nobody needs any more are forgotten, a few at each tick of housekeeping."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

from gateway.ports import Rows, Store, Transaction

R = TypeVar("R")
BATCH = 500
"""Rows that are looked at, at a time."""


class Pruning(Generic[R]):
    """The rows of one kind: `key` names their primary key, `over` says which are over.

    It goes from batch to batch, and round again. What it saw may have come back to life until it is removed, so each
    row is judged anew in the transaction that removes it.
    """

    def __init__(self, rows: Callable[[Transaction], Rows[R]], key: str, over: Callable[[R, datetime], bool]) -> None:
        self._rows = rows
        self._key = key
        self._over = over
        self._after: str | None = None

    def tick(self, store: Store, now: datetime) -> None:
        """Look at the next batch. Raises Refusal."""
        with store.read() as tx:
            seen = self._rows(tx).find(limit=BATCH, after=self._after)
        if keys := [self._named(row) for row in seen if self._over(row, now)]:
            store.write(lambda tx: self._remove(self._rows(tx), keys, now))
        self._after = self._named(seen[-1]) if len(seen) == BATCH else None

    def _remove(self, rows: Rows[R], keys: list[str], now: datetime) -> None:
        for key in keys:
            row = rows.get(**{self._key: key})
            if row is not None and self._over(row, now):
                rows.remove(row)

    def _named(self, row: R) -> str:
        key: Any = getattr(row, self._key)
        return str(key)

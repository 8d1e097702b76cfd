"""`ports.Store` in SQL. Reads go side by side, each on a connection of its own; one thread writes for all."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import TypeVar

from sqlalchemy import exc

from gateway.adapters.sql.engine import PATIENCE, across_forks, open_engine
from gateway.adapters.sql.transaction import Batch, snapshot
from gateway.adapters.sql.writer import Job, Writer
from gateway.core.audit import Event
from gateway.core.errors import Refusal
from gateway.ports import Clock, Transaction

T = TypeVar("T")
Unit = Callable[[Transaction], T]
Observer = Callable[[int, float, Sequence[Event] | None], None]
"""Told of each commit: how many units, how many seconds, and which records it made durable, or None when it failed."""


class SqlStore:
    """`ports.Store` on the database at `url`, whose schema `migrate` made. Its audit records go to `chain`.

    It connects, and starts its thread, when it is first used; in a fork's child it begins anew. Fork only while no
    transaction runs.
    """

    def __init__(self, url: str, chain: str, clock: Clock, patience: timedelta = PATIENCE) -> None:
        self._url = url
        self._chain = chain
        self._clock = clock
        self._patience = patience
        self.observe: Observer | None = None
        self.begin()
        across_forks(self)

    def begin(self) -> None:
        """Start with no connection and no thread."""
        self._reads = open_engine(self._url, self._patience)
        self._writes = open_engine(self._url, self._patience, write=True)
        self._writer = Writer(self._commit)

    def let_go(self) -> None:
        """Close the connections that are not in use; the next use connects again."""
        self._reads.dispose()
        self._writes.dispose()

    def close(self) -> None:
        """Write what is queued, waiting at most `patience`, and let go. From then on writes are refused."""
        self._writer.close(self._patience.total_seconds())
        self.let_go()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One snapshot. Raises Refusal `store_unavailable`."""
        try:
            with self._reads.connect() as connection, connection.begin():
                yield snapshot(connection)
        except (exc.TimeoutError, exc.PendingRollbackError) as error:
            raise _refusal(error) from error

    def write(self, unit: Unit[T]) -> T:
        """Run `unit` and return its value once it is durable, waiting at most `patience`.

        Everybody's writes wait for `unit`, so let it wait for nothing: no network, no other read or write of the store.
        Raises what `unit` raises (and nothing is changed then), or Refusal `store_unavailable` or `clock_untrusted`.
        A unit that had begun when the wait was over may become durable all the same, as when an answer is lost.
        """
        answer = self.submit(unit)
        try:
            return answer.result(self._patience.total_seconds())
        except TimeoutError:
            if answer.cancel() or not answer.done():
                raise Refusal("store_unavailable", reason="store_slow") from None
            return answer.result()

    def submit(self, unit: Unit[T]) -> "Future[T]":
        """As `write`, for those who cannot wait: the future is settled when the unit is durable, or has failed."""
        return self._writer.submit(unit)

    def _commit(self, jobs: Sequence[Job]) -> None:
        settle: list[Callable[[], None]] = []
        events: list[Event] | None = None
        begun = perf_counter()
        try:
            with self._writes.begin() as connection:
                batch = Batch(connection, self._chain, self._clock())
                for unit, answer in jobs:
                    if answer.set_running_or_notify_cancel():
                        settle.append(batch.run(unit, answer))
                written = batch.finish()
            events = written
        except BaseException as error:
            for _, answer in jobs:
                if answer.running() or (not answer.cancelled() and answer.set_running_or_notify_cancel()):
                    answer.set_exception(_refusal(error))
        else:
            for tell in settle:
                tell()
        if self.observe:
            self.observe(len(jobs), perf_counter() - begun, events)


def _refusal(error: BaseException) -> Refusal:
    """A Refusal of its own for each caller: exceptions that threads share garble one another's tracebacks."""
    if isinstance(error, Refusal):
        fresh = Refusal(error.code, error.detail, reason=error.reason, **error.context)
    else:
        fresh = Refusal("store_unavailable", reason="store_failed", error=type(error).__name__)
    fresh.__cause__ = error
    return fresh

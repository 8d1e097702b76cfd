"""The audit log in the store: read as it lies there, and, in a write, chained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, insert, select, update

from gateway.adapters.sql.schema import AUDIT_HEAD, AUDIT_RECORD
from gateway.core import audit
from gateway.core.audit import Event, Head, Record
from gateway.core.errors import Refusal

TOLERANCE = timedelta(seconds=60)
Line = tuple[str, int, str, str]

LATEST = select(func.max(AUDIT_HEAD.c.at))
HEADS = select(AUDIT_HEAD).order_by(AUDIT_HEAD.c.chain)
OUR_HEAD = select(AUDIT_HEAD).where(AUDIT_HEAD.c.chain == bindparam("ours")).with_for_update()
MOVE_HEAD = update(AUDIT_HEAD).where(AUDIT_HEAD.c.chain == bindparam("ours"))


class ReadLog:
    """`ports.AuditLog` in a read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, event: Event) -> None:
        raise TypeError("a read appends nothing")

    def lines(self, after: Mapping[str, int], limit: int) -> Sequence[Line]:
        row = AUDIT_RECORD.c
        found: list[Line] = []
        chain: str | None = ""
        while len(found) < limit:
            # From chain to chain by the index: DISTINCT would walk the whole log, and the heads might hide a chain.
            chain = self._connection.scalar(select(func.min(row.chain)).where(row.chain > chain))
            if chain is None:
                break
            query = select(AUDIT_RECORD).where(row.chain == chain, row.seq > after.get(chain, 0)).order_by(row.seq)
            found += (tuple(line) for line in self._connection.execute(query.limit(limit - len(found))))
        return found

    def heads(self) -> Sequence[Head]:
        return [Head(*row) for row in self._connection.execute(HEADS)]


class ChainedLog(ReadLog):
    """`ports.AuditLog` in a batch of writes: `append` keeps records in memory, `flush` writes all of them at once.

    The head is read in the transaction, under its lock, so that processes which share a chain cannot fork it. Raises
    Refusal `clock_untrusted` when `now` is more than 60 s behind the latest time in the log.
    """

    def __init__(self, connection: Connection, chain: str, now: datetime) -> None:
        super().__init__(connection)
        latest = connection.scalar(LATEST)
        if latest is not None and latest - now > TOLERANCE:
            raise Refusal("clock_untrusted", now=now.isoformat(), latest=latest.isoformat())
        row = connection.execute(OUR_HEAD, {"ours": chain}).one_or_none()
        self._chain = chain
        self._now = now
        self._stored = self._head = Head(*row) if row else None
        self._pending: list[Record] = []

    def append(self, event: Event) -> None:
        record = audit.append(self._head, self._chain, event, self._now)
        at = max(self._head.at, self._now) if self._head else self._now
        self._head = Head(self._chain, record.seq, record.hash, at)
        self._pending.append(record)

    def lines(self, after: Mapping[str, int], limit: int) -> Sequence[Line]:
        new = [(r.chain, r.seq, r.line, r.hash) for r in self._pending if r.seq > after.get(r.chain, 0)]
        return sorted([*super().lines(after, limit), *new])[:limit]

    def heads(self) -> Sequence[Head]:
        others = [head for head in super().heads() if head.chain != self._chain]
        return sorted([*others, *filter(None, [self._head])], key=lambda head: head.chain)

    def mark(self) -> tuple[Head | None, int]:
        """Where the log stands now, for `back_to`."""
        return self._head, len(self._pending)

    def back_to(self, mark: tuple[Head | None, int]) -> None:
        """Forget what was appended since `mark`."""
        self._head, kept = mark
        del self._pending[kept:]

    def flush(self) -> None:
        """Write what was appended; nothing may be appended after it."""
        if self._head is None or self._head == self._stored:
            return
        lines = [{"chain": r.chain, "seq": r.seq, "line": r.line, "hash": r.hash} for r in self._pending]
        self._connection.execute(insert(AUDIT_RECORD), lines)
        if self._stored:
            self._connection.execute(MOVE_HEAD, {"ours": self._chain} | asdict(self._head))
        else:
            self._connection.execute(insert(AUDIT_HEAD), asdict(self._head))

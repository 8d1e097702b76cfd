"""The audit log in the store: read as it lies there, and, in a write, chained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, tuple_, union, update

from gateway.adapters.sql.schema import AUDIT_HEAD, AUDIT_INDEX, AUDIT_RECORD
from gateway.core import audit
from gateway.core.audit import Event, Head, Place, Record, Wanted
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

    def rows(self, chain: str, after: int, limit: int) -> Sequence[tuple[int, str, str]]:
        row = AUDIT_RECORD.c
        query = select(row.seq, row.line, row.hash).where(row.chain == chain, row.seq > after).order_by(row.seq)
        return [(seq, line, hash_) for seq, line, hash_ in self._connection.execute(query.limit(limit))]

    def hashes(self, chain: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
        row = AUDIT_RECORD.c
        query = select(row.seq, row.hash).where(row.chain == chain, row.seq > after).order_by(row.seq).limit(limit)
        return [(seq, hash_) for seq, hash_ in self._connection.execute(query)]

    def search(self, wanted: Wanted, limit: int) -> Sequence[tuple[Place, str]]:
        index, record = AUDIT_INDEX.c, AUDIT_RECORD.c
        places = select(index.at, index.chain, index.seq).order_by(index.at, index.chain, index.seq).limit(limit)
        if wanted.since:
            places = places.where(index.at >= wanted.since)
        if wanted.until:
            places = places.where(index.at < wanted.until)
        for column, value in (
            (index.subject, wanted.subject),
            (index.object, wanted.object),
            (index.request_id, wanted.request_id),
        ):
            if value is not None:
                places = places.where(column == value)
        if wanted.after:
            at, chain, seq = wanted.after.at, wanted.after.chain, wanted.after.seq
            behind = or_(index.at > at, (index.at == at) & (tuple_(index.chain, index.seq) > (chain, seq)))
            places = places.where(index.at >= at, behind)
        if wanted.about:
            # One index each, read in order up to the limit. OR would sort all that there is of a busy instance.
            each = (places.where(column == wanted.about).subquery() for column in (index.subject, index.object))
            found = union(*map(select, each)).subquery().c
        else:
            found = places.subquery().c
        query = select(found.at, found.chain, found.seq, record.line).join(
            AUDIT_RECORD, (record.chain == found.chain) & (record.seq == found.seq)
        )
        query = query.order_by(found.at, found.chain, found.seq).limit(limit)
        return [(Place(at, chain, seq), line) for at, chain, seq, line in self._connection.execute(query)]

    def forget(self, chain: str, through: int, limit: int) -> int:
        raise TypeError("a read changes nothing")


class ChainedLog(ReadLog):
    """`ports.AuditLog` in a batch of writes: `append` keeps records in memory, `flush` writes all of them at once.

    The head is read in the transaction, under its lock, so that processes which share a chain cannot fork it. Raises
    Refusal `clock_untrusted` when `now` is more than 60 s behind the latest time in the log.
    """

    def __init__(self, connection: Connection, chain: str, now: datetime, before_change: Callable[[], None]) -> None:
        super().__init__(connection)
        self._before_change = before_change
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

    def forget(self, chain: str, through: int, limit: int) -> int:
        row = AUDIT_RECORD.c
        query = select(row.seq).where(row.chain == chain, row.seq <= through).order_by(row.seq).limit(limit)
        found = self._connection.scalars(query).all()
        self._before_change()
        for table in (AUDIT_RECORD, AUDIT_INDEX) if found else ():
            self._connection.execute(delete(table).where(table.c.chain == chain, table.c.seq <= found[-1]))
        return len(found)

    @property
    def appended(self) -> list[Event]:
        """What will be, or was, written."""
        return [record.event for record in self._pending]

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
        self._connection.execute(insert(AUDIT_INDEX), [_indexed(r) for r in self._pending])
        if self._stored:
            self._connection.execute(MOVE_HEAD, {"ours": self._chain} | asdict(self._head))
        else:
            self._connection.execute(insert(AUDIT_HEAD), asdict(self._head))


def _indexed(record: Record) -> dict[str, Any]:
    event = record.event
    return {
        "chain": record.chain, "seq": record.seq, "at": record.at,
        "subject": event.subject, "object": event.object, "request_id": event.request_id,
    }  # fmt: skip

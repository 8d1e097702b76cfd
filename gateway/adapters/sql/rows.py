"""The rows of one kind, for every dataclass of `core.model` alike."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Executable, Select, Table, and_, bindparam, delete, func, select, update

from gateway.adapters.sql.engine import insert_if_absent
from gateway.adapters.sql.schema import TABLES
from gateway.core.model import Instance, Lease

R = TypeVar("R")
Shape = frozenset[tuple[str, bool]]  # which fields are compared, and whether with None


class SqlRows(Generic[R]):
    """`ports.Rows` over one table. `before_change` runs before each statement that changes something."""

    def __init__(self, kind: Callable[..., R], connection: Connection, before_change: Callable[[], None]) -> None:
        self._kind = kind
        self._connection = connection
        self._before_change = before_change
        self._table = TABLES[kind]
        self._sql = _statements(self._table, connection.dialect.name)

    def get(self, **key: Any) -> R | None:
        """The one row whose fields equal `key`. Raises MultipleResultsFound when more than one does."""
        if not key:
            raise TypeError("get needs a key")
        found = self._connection.execute(_selection(self._table, _shape(key)), key).one_or_none()
        return self._kind(*found) if found else None

    def find(self, *, limit: int | None = None, after: str | None = None, **equal: Any) -> Sequence[R]:
        query = _selection(self._table, _shape(equal), limit is not None, after is not None)
        found = self._connection.execute(query, {**equal, "limit": limit, "after": after})
        return [self._kind(*row) for row in found]

    def add(self, row: R) -> bool:
        return self._change(self._sql.add, self._values(row))

    def swap(self, old: R, new: R) -> bool:
        """Compare and swap: the whole old row stands in the WHERE, so no update can be lost. The key stays the same."""
        before, after = self._values(old), self._values(new)
        if before[self._sql.key] != after.pop(self._sql.key):
            raise ValueError("a swap cannot change the key")
        return self._change(self._sql.swap, after | {f"old_{name}": value for name, value in before.items()})

    def remove(self, row: R) -> bool:
        return self._change(self._sql.remove, {"old_key": getattr(row, self._sql.key)})

    def _values(self, row: R) -> dict[str, Any]:
        return {name: getattr(row, name) for name in self._sql.names}

    def _change(self, statement: Executable, values: Mapping[str, Any]) -> bool:
        self._before_change()
        return self._connection.execute(statement, values).rowcount == 1


class SqlLeases(SqlRows[Lease]):
    """`ports.Leases`."""

    def live(self, instance: str, now: datetime) -> Sequence[Lease]:
        table = TABLES[Lease]
        query = select(table).where(table.c.instance == instance, table.c.expires_at > now).order_by(table.c.id)
        return [Lease(*row) for row in self._connection.execute(query)]

    def count_live(self, instance: str, now: datetime) -> int:
        table = TABLES[Lease]
        query = select(func.count()).where(table.c.instance == instance, table.c.expires_at > now)
        return self._connection.scalars(query).one()

    def newest(self, instance: str, plan_sha256: str, now: datetime) -> Lease | None:
        places = {"instance": instance, "plan": plan_sha256, "now": now}
        found = self._connection.execute(_newest_lease(), places).one_or_none()
        return Lease(*found) if found else None

    def spent(self, now: datetime, limit: int) -> Sequence[Lease]:
        table = TABLES[Lease]
        over = select(table).where(table.c.expires_at <= now, table.c.sealed_session.is_not(None))
        return [Lease(*row) for row in self._connection.execute(over.order_by(table.c.expires_at).limit(limit))]


class SqlInstances(SqlRows[Instance]):
    """`ports.Instances`."""

    def revoked_since(self, moment: datetime) -> Sequence[str]:
        table = TABLES[Instance]
        query = select(table.c.id).where(table.c.revoked_at >= moment).order_by(table.c.id)
        return self._connection.scalars(query).all()


class _Statements(NamedTuple):
    key: str
    names: tuple[str, ...]
    add: Executable
    swap: Executable
    remove: Executable


# Building a statement costs more than running it: each is built once.
@cache
def _statements(table: Table, dialect: str) -> _Statements:
    (key,) = table.primary_key
    others = [column for column in table.c if column is not key]
    same = [key == bindparam(f"old_{key.name}")]
    same += [column.is_not_distinct_from(bindparam(f"old_{column.name}", type_=column.type)) for column in others]
    return _Statements(
        key=key.name,
        names=tuple(table.c.keys()),
        add=insert_if_absent(table, dialect),
        swap=update(table).where(*same).values({column: bindparam(column.name) for column in others}),
        remove=delete(table).where(key == bindparam("old_key")),
    )


@cache
def _newest_lease() -> Select[Any]:
    lease = TABLES[Lease].c
    query = select(TABLES[Lease]).where(
        lease.plan_sha256 == bindparam("plan"),
        lease.instance == bindparam("instance"),
        lease.expires_at > bindparam("now"),
        lease.sealed_session.is_not(None),
    )
    return query.order_by(lease.expires_at.desc(), lease.id).limit(1)


def _shape(equal: Mapping[str, Any]) -> Shape:
    return frozenset((name, value is None) for name, value in equal.items())


@cache
def _selection(table: Table, shape: Shape, limited: bool = False, behind: bool = False) -> Select[Any]:
    (key,) = table.primary_key
    equal = [table.c[name].is_(None) if none else table.c[name] == bindparam(name) for name, none in shape]
    query = select(table).where(and_(True, *equal)).order_by(key)
    if behind:
        query = query.where(key > bindparam("after"))
    return query.limit(bindparam("limit")) if limited else query

"""The rows of one kind, for every dataclass of `core.model` alike."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Executable, Select, Table, and_, bindparam, delete, func, select, update

from gateway.adapters.sql.engine import insert_if_absent
from gateway.adapters.sql.schema import TABLES
from gateway.core.model import Certificate, CertificateState, Instance, Lease

R = TypeVar("R")
Shape = frozenset[tuple[str, bool]]  # which fields are compared, and whether with None
Changes = tuple[tuple[str, Any, Any], ...]
_BYTES = object()  # a sealed value that there was
_FEW, _CHUNK = 8, 500  # rows: so few are changed one by one; so many by one statement at most


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

    def count(self, **equal: Any) -> int:
        query = _selection(self._table, _shape(equal)).order_by(None).with_only_columns(func.count())
        return self._connection.scalars(query, equal).one()

    def add(self, row: R) -> bool:
        return self._change(self._sql.add, [self._values(row)])

    def swap(self, old: R, new: R) -> bool:
        """Compare and swap: the whole old row stands in the WHERE, so no update can be lost. The key stays the same."""
        return self._change(self._sql.swap, [self._swapped(old, new)])

    def swap_all(self, pairs: Sequence[tuple[R, R]]) -> bool:
        """Rows that change alike change in one statement, which sets and compares what changes, but no bytes."""
        alike: dict[Changes, list[tuple[R, R]]] = defaultdict(list)
        single: list[tuple[R, R]] = []
        for pair in pairs:
            changes = self._changes(*pair)
            (single if changes is None else alike[changes]).append(pair)
        done = True
        for changes, group in alike.items():
            if len(group) < _FEW or not changes:
                single += group
                continue
            columns, key = self._table.c, self._table.c[self._sql.key]
            same = [columns[name].is_not_distinct_from(old) for name, old, _ in changes if old is not _BYTES]
            statement = update(self._table).where(*same).values({columns[name]: new for name, _, new in changes})
            keys = [getattr(old, self._sql.key) for old, _ in group]
            self._before_change()
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                done &= self._connection.execute(statement.where(key.in_(chunk))).rowcount == len(chunk)
        return self._change(self._sql.swap, [self._swapped(*pair) for pair in single]) and done

    def remove(self, row: R) -> bool:
        return self.remove_all([row])

    def remove_all(self, rows: Sequence[R]) -> bool:
        return self._change(self._sql.remove, [{"old_key": getattr(row, self._sql.key)} for row in rows])

    def _changes(self, old: R, new: R) -> Changes | None:
        """(field, before, after) of what changes; None when the key does, or what is compared as a whole."""
        found: list[tuple[str, Any, Any]] = []
        for name in self._sql.names:
            before, after = getattr(old, name), getattr(new, name)
            if before is after or before == after:
                continue
            if name == self._sql.key or isinstance(before, Mapping) or isinstance(after, Mapping):
                return None
            found.append((name, _BYTES if isinstance(before, bytes) else before, after))
        return tuple(found)

    def _swapped(self, old: R, new: R) -> dict[str, Any]:
        before, after = self._values(old), self._values(new)
        if before[self._sql.key] != after.pop(self._sql.key):
            raise ValueError("a swap cannot change the key")
        return after | {f"old_{name}": value for name, value in before.items()}

    def _values(self, row: R) -> dict[str, Any]:
        return {name: getattr(row, name) for name in self._sql.names}

    def _change(self, statement: Executable, values: Sequence[Mapping[str, Any]]) -> bool:
        """Whether each of the values changed a row. Many together cost a fifth of one by one."""
        if not values:
            return True
        self._before_change()
        found = self._connection.execute(statement, values if len(values) > 1 else values[0])
        return found.rowcount == len(values)


class SqlLeases(SqlRows[Lease]):
    """`ports.Leases`."""

    def live(self, instance: str, now: datetime) -> Sequence[Lease]:
        table = TABLES[Lease]
        query = select(table).where(table.c.instance == instance, table.c.expires_at > now).order_by(table.c.id)
        return [Lease(*row) for row in self._connection.execute(query)]

    def find_live(
        self,
        now: datetime,
        *,
        revoked_too: bool = False,
        limit: int | None = None,
        after: str | None = None,
        **equal: Any,
    ) -> Sequence[Lease]:
        columns = TABLES[Lease].c
        query = _selection(self._table, _shape(equal), limit is not None, after is not None)
        query = query.where(columns.expires_at > bindparam("now"))
        if not revoked_too:
            query = query.where(columns.revoked_at.is_(None))
        found = self._connection.execute(query, {**equal, "limit": limit, "after": after, "now": now})
        return [Lease(*row) for row in found]

    def count_live(self, instance: str, now: datetime) -> int:
        table = TABLES[Lease]
        query = select(func.count()).where(table.c.instance == instance, table.c.expires_at > now)
        return self._connection.scalars(query).one()

    def newest(self, instance: str, plan_sha256: str, now: datetime) -> Lease | None:
        places = {"instance": instance, "plan": plan_sha256, "now": now}
        found = self._connection.execute(_newest_lease(), places).one_or_none()
        return Lease(*found) if found else None

    def revoked_since(self, moment: datetime) -> Sequence[str]:
        table = TABLES[Lease]
        query = select(table.c.instance).where(table.c.revoked_at >= moment).distinct().order_by(table.c.instance)
        return self._connection.scalars(query).all()

    def revoked(self, instance: str, now: datetime) -> Sequence[str]:
        lease = TABLES[Lease].c
        query = select(lease.id).where(
            lease.instance == instance, lease.expires_at > now, lease.revoked_at.is_not(None)
        )
        return self._connection.scalars(query.order_by(lease.id)).all()

    def spent(self, now: datetime, limit: int) -> Sequence[Lease]:
        table = TABLES[Lease]
        over = select(table).where(table.c.expires_at <= now, table.c.sealed_session.is_not(None))
        return [Lease(*row) for row in self._connection.execute(over.order_by(table.c.expires_at).limit(limit))]


class SqlCertificates(SqlRows[Certificate]):
    """`ports.Certificates`."""

    def count_in_force(self, kind: str, now: datetime) -> int:
        table = TABLES[Certificate]
        query = select(func.count()).where(
            table.c.kind == kind, table.c.state == CertificateState.ACTIVE, table.c.not_after >= now
        )
        return self._connection.scalars(query).one()


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

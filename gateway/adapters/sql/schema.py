"""The tables: one for each dataclass of `core.model`, field for column, the first the primary key; and the audit log.

A change here needs a migration beside it; a test compares the two.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Column, Dialect, Index, LargeBinary, MetaData, Table, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from gateway.core import model, operator_model

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# Ordered by code point wherever it runs, so that a cursor (`Rows.find(after=…)`) means the same to every engine.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as whole microseconds since 1970. Raises ValueError for a naive one."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[Mapping[str, Any]]):
    """A mapping of plain values, kept as canonical text: equal mappings are equal bytes, so they can be compared."""

    impl = TEXT
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return json.dumps(dict(value), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Word(TypeDecorator[StrEnum]):
    """A member of a StrEnum, kept as its text."""

    impl = TEXT
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.words(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


def _type(kind: Any) -> TypeEngine[Any] | type[TypeEngine[Any]]:
    if get_origin(kind) is Mapping:
        return Json
    if issubclass(kind, StrEnum):
        return Word(kind)
    plain: dict[Any, type[TypeEngine[Any]] | TypeEngine[Any]]
    plain = {str: TEXT, int: BigInteger, bytes: LargeBinary, datetime: Instant}
    return plain[kind]


def _table(name: str, kind: type, *indexes: Index) -> Table:
    hints = get_type_hints(kind)
    columns = []
    for position, field in enumerate(fields(kind)):
        hint = hints[field.name]
        optional = NoneType in get_args(hint)
        column_type = _type(get_args(hint)[0] if optional else hint)
        columns.append(Column(field.name, column_type, primary_key=position == 0, nullable=optional))
    return Table(name, METADATA, *columns, *indexes)


METADATA = MetaData(naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"})

TABLES: Mapping[Any, Table] = {
    model.SealRecord: _table("seal_record", model.SealRecord),
    model.Signer: _table("signer", model.Signer),
    model.UpstreamKey: _table("upstream_key", model.UpstreamKey),
    model.Profile: _table("profile", model.Profile),
    model.ProfileVersion: _table("profile_version", model.ProfileVersion, Index(None, "name")),
    model.Ticket: _table("ticket", model.Ticket, Index(None, "id", unique=True), Index(None, "instance_id")),
    model.Instance: _table("instance", model.Instance, Index(None, "instance_id"), Index(None, "revoked_at")),
    model.Certificate: _table("certificate", model.Certificate, Index(None, "subject"), Index(None, "issuer", "state")),
    model.Nonce: _table("nonce", model.Nonce, Index(None, "expires_at")),
    model.Lease: _table(
        "lease",
        model.Lease,
        Index(None, "instance", "expires_at"),
        Index(None, "plan_sha256", "expires_at"),
        Index(None, "expires_at"),
        Index(None, "revoked_at"),
        Index(None, "access_key_id"),
    ),
    model.Flight: _table("flight", model.Flight),
    model.BearerToken: _table("bearer_token", model.BearerToken, Index(None, "instance"), Index(None, "expires_at")),
    model.DummyKey: _table("dummy_key", model.DummyKey, Index(None, "instance"), Index(None, "expires_at")),
    model.Meter: _table("meter", model.Meter, Index(None, "until")),
    operator_model.Operator: _table("operator", operator_model.Operator),
    operator_model.Role: _table("role", operator_model.Role),
    operator_model.Approval: _table("approval", operator_model.Approval, Index(None, "state")),
    operator_model.KeptAnswer: _table("kept_answer", operator_model.KeptAnswer, Index(None, "expires_at")),
    operator_model.Revocation: _table("revocation", operator_model.Revocation, Index(None, "state")),
    operator_model.Cut: _table("cut", operator_model.Cut, Index(None, "account"), Index(None, "until")),
    operator_model.Fence: _table("fence", operator_model.Fence),
    operator_model.Rotation: _table("rotation", operator_model.Rotation, Index(None, "state")),
    operator_model.Launch: _table("launch", operator_model.Launch),
    operator_model.Checkpoint: _table("checkpoint", operator_model.Checkpoint),
    operator_model.Finding: _table("finding", operator_model.Finding, Index(None, "kind")),
    operator_model.Cursor: _table("cursor", operator_model.Cursor),
    model.Crl: _table("crl", model.Crl),
}

AUDIT_RECORD = Table(
    "audit_record",
    METADATA,
    Column("chain", TEXT, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("line", TEXT, nullable=False),
    Column("hash", TEXT, nullable=False),
)

# Where to look for a record. It is made of the lines and proves nothing: what is found is read from `audit_record`.
AUDIT_INDEX = Table(
    "audit_index",
    METADATA,
    Column("chain", TEXT, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("subject", TEXT, nullable=True),
    Column("object", TEXT, nullable=True),
    Column("request_id", TEXT, nullable=False),
    Index(None, "at"),
    Index(None, "subject", "at"),
    Index(None, "object", "at"),
    Index(None, "request_id"),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("chain", TEXT, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", TEXT, nullable=False),
    Column("at", Instant, nullable=False),
    Index(None, "at"),
)

"""Operators and their roles, plans that go on after a crash, what stands at AWS, checkpoints."""

import json
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
INTEGER = sa.BigInteger()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("lease", sa.Column("revoked_at", INTEGER, nullable=True))
    op.create_index("ix_lease_revoked_at", "lease", ["revoked_at"])
    op.create_index("ix_lease_access_key_id", "lease", ["access_key_id"])
    op.add_column("profile", sa.Column("revoked", TEXT, nullable=True))
    _rebuild(
        "upstream_key",
        [
            sa.Column("name", TEXT, nullable=False),
            sa.Column("account", TEXT, nullable=False),
            sa.Column("access_key_id", TEXT, nullable=False),
            sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
            sa.Column("created_at", INTEGER, nullable=False),
            sa.Column("created_by", TEXT, nullable=False),
            sa.Column("purpose", TEXT, nullable=False),
            sa.Column("state", TEXT, nullable=False),
        ],
        "name, account, access_key_id, sealed_secret, created_at, created_by, 'vend', 'active'",
    )
    # Until now every operator was an administrator, and had one role.
    _rebuild(
        "operator",
        [
            sa.Column("name", TEXT, nullable=False),
            sa.Column("document", TEXT, nullable=False),
            sa.Column("version", INTEGER, nullable=False),
            sa.Column("state", TEXT, nullable=False),
            sa.Column("created_at", INTEGER, nullable=False),
            sa.Column("created_by", TEXT, nullable=False),
            sa.Column("revoked_at", INTEGER, nullable=True),
            sa.Column("revoked_by", TEXT, nullable=True),
        ],
        """name, '{"roles":["' || role || '"]}', 1, 'active', created_at, '', NULL, NULL""",
    )
    op.create_table(
        "role",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("changed_at", INTEGER, nullable=False),
        sa.Column("changed_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_role"),
    )
    op.create_table(
        "approval",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("permission", TEXT, nullable=False),
        sa.Column("object", TEXT, nullable=False),
        sa.Column("request_sha256", TEXT, nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.Column("asked_by", TEXT, nullable=False),
        sa.Column("asked_at", INTEGER, nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("given_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
    )
    op.create_index("ix_approval_state", "approval", ["state"])
    op.create_table(
        "kept_answer",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("request_sha256", TEXT, nullable=False),
        sa.Column("status", INTEGER, nullable=False),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kept_answer"),
    )
    op.create_index("ix_kept_answer_expires_at", "kept_answer", ["expires_at"])
    op.create_table(
        "revocation",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revocation"),
    )
    op.create_index("ix_revocation_state", "revocation", ["state"])
    op.create_table(
        "cut",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("before", INTEGER, nullable=False),
        sa.Column("until", INTEGER, nullable=False),
        sa.Column("revocation", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cut"),
    )
    op.create_index("ix_cut_account", "cut", ["account"])
    op.create_index("ix_cut_until", "cut", ["until"])
    op.create_table(
        "fence",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("policy_arn", TEXT, nullable=True),
        sa.Column("document_sha256", TEXT, nullable=False),
        sa.Column("attached", TEXT, nullable=False),
        sa.Column("applied_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_fence"),
    )
    op.create_table(
        "rotation",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rotation"),
    )
    op.create_index("ix_rotation_state", "rotation", ["state"])
    op.create_table(
        "launch",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=False),
        sa.Column("instance_id", TEXT, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("ticket", TEXT, nullable=True),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_launch"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.Column("size", INTEGER, nullable=False),
        sa.Column("root", TEXT, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoint"),
    )
    op.create_table(
        "finding",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("first_at", INTEGER, nullable=False),
        sa.Column("last_at", INTEGER, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_finding"),
    )
    op.create_index("ix_finding_kind", "finding", ["kind"])
    op.create_table(
        "cursor",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("positions", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cursor"),
    )
    op.create_table(
        "audit_index",
        sa.Column("chain", TEXT, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.Column("subject", TEXT, nullable=True),
        sa.Column("object", TEXT, nullable=True),
        sa.Column("request_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("chain", "seq", name="pk_audit_index"),
    )
    _index_the_log()
    for columns in (["at"], ["subject", "at"], ["object", "at"], ["request_id"]):
        op.create_index(f"ix_audit_index_{'_'.join(columns)}", "audit_index", columns)


def _index_the_log() -> None:
    """Of every record that is there. One that cannot be read is left to `audit verify`, which names it."""
    record = sa.table("audit_record", *map(sa.column, ("chain", "seq", "line")))
    index = sa.table("audit_index", *map(sa.column, ("chain", "seq", "at", "subject", "object", "request_id")))
    connection = op.get_bind()
    for chain in connection.scalars(sa.select(record.c.chain).distinct()).all():
        last = None
        while True:
            query = sa.select(record.c.seq, record.c.line).where(record.c.chain == chain).order_by(record.c.seq)
            rows = connection.execute((query if last is None else query.where(record.c.seq > last)).limit(5000)).all()
            if not rows:
                break
            last = rows[-1].seq
            if found := [each for row in rows if (each := _indexed(chain, row.seq, row.line))]:
                connection.execute(sa.insert(index), found)


def _indexed(chain: str, seq: int, line: str) -> dict[str, object] | None:
    try:
        body = json.loads(line)
        at = (datetime.fromisoformat(body["at"]) - EPOCH) // MICROSECOND
        return {"chain": chain, "seq": seq, "at": at} | {key: body[key] for key in ("subject", "object", "request_id")}
    except (ValueError, KeyError, TypeError):
        return None


def _rebuild(name: str, columns: list[sa.Column[object]], selected: str) -> None:
    """The table with these columns, its rows taken over: SQLite adds no column that must not be null."""
    op.rename_table(name, f"{name}_before")
    names = ", ".join(column.name for column in columns)
    if op.get_bind().dialect.name == "postgresql":  # there the index of the old table keeps its name
        op.execute(f"ALTER INDEX pk_{name} RENAME TO pk_{name}_before")
    op.create_table(name, *columns, sa.PrimaryKeyConstraint("name", name=f"pk_{name}"))
    op.execute(f"INSERT INTO {name} ({names}) SELECT {selected} FROM {name}_before")  # noqa: S608  # names of our own
    op.drop_table(f"{name}_before")

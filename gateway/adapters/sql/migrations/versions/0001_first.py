"""The first schema. Frozen: it says what was released, and imports nothing of ours."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BYTES = sa.LargeBinary()
INTEGER = sa.BigInteger()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = TEXT  # canonical text
TIME = INTEGER  # microseconds since 1970


def upgrade() -> None:
    _table("seal_record", name=TEXT, kind=TEXT, parameters=JSON, wrapped=BYTES)
    _table("signer", name=TEXT, certificate=BYTES, sealed_key=BYTES)
    _table(
        "upstream_key",
        name=TEXT,
        account=TEXT,
        access_key_id=TEXT,
        sealed_secret=BYTES,
        created_at=TIME,
        created_by=TEXT,
    )
    _table("profile", name=TEXT, version=INTEGER, document=JSON, applied_at=TIME, applied_by=TEXT)
    _table(
        "ticket",
        sha256=TEXT,
        id=TEXT,
        profile=TEXT,
        instance_id=[TEXT],
        created_at=TIME,
        created_by=TEXT,
        expires_at=TIME,
        state=TEXT,
        redeemed_by=[TEXT],
        key_sha256=[TEXT],
        serial=[TEXT],
    )
    _index("ticket", "id", unique=True)
    _index("ticket", "instance_id")
    _table(
        "instance",
        id=TEXT,
        account=TEXT,
        region=TEXT,
        instance_id=TEXT,
        profile=TEXT,
        state=TEXT,
        key_sha256=TEXT,
        enrolled_at=TIME,
        claims=JSON,
        reenroll_until=[TIME],
        revoked_at=[TIME],
        revoked_by=[TEXT],
    )
    _index("instance", "instance_id")
    _index("instance", "revoked_at")
    _table(
        "certificate",
        serial=TEXT,
        issuer=TEXT,
        kind=TEXT,
        subject=TEXT,
        sha256=TEXT,
        der=BYTES,
        key_sha256=TEXT,
        not_before=TIME,
        not_after=TIME,
        state=TEXT,
        successor=[TEXT],
        revoked_at=[TIME],
        reason=[TEXT],
    )
    _index("certificate", "subject")
    _index("certificate", "issuer", "state")
    _table("nonce", sha256=TEXT, expires_at=TIME)
    _index("nonce", "expires_at")
    _table(
        "lease",
        id=TEXT,
        instance=TEXT,
        profile=TEXT,
        grant=TEXT,
        upstream=TEXT,
        role=TEXT,
        session_name=TEXT,
        access_key_id=TEXT,
        issued_at=TIME,
        expires_at=TIME,
    )
    _index("lease", "instance", "expires_at")
    _table("operator", name=TEXT, role=TEXT, created_at=TIME)
    _table("crl", issuer=TEXT, number=INTEGER, this_update=TIME, next_update=TIME, der=BYTES)
    _table("audit_record", keys=2, chain=TEXT, seq=INTEGER, line=TEXT, hash=TEXT)
    _table("audit_head", chain=TEXT, seq=INTEGER, hash=TEXT, at=TIME)
    _index("audit_head", "at")


def _table(table: str, /, keys: int = 1, **columns: Any) -> None:
    """The first `keys` columns are the primary key; a type in brackets may be null."""
    names = list(columns)
    op.create_table(
        table,
        *(
            sa.Column(name, kind[0], nullable=True) if isinstance(kind, list) else sa.Column(name, kind, nullable=False)
            for name, kind in columns.items()
        ),
        sa.PrimaryKeyConstraint(*names[:keys], name=f"pk_{table}"),
    )


def _index(table: str, *columns: str, unique: bool = False) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns, unique=unique)

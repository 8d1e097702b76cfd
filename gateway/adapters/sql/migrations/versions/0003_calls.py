"""Calls: leases whose session the gateway keeps to itself, dummy keys, and what limits remember."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INTEGER = sa.BigInteger()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("lease", sa.Column("held", TEXT, nullable=True))
    op.create_table(
        "dummy_key",
        sa.Column("access_key_id", TEXT, nullable=False),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("key_sha256", TEXT, nullable=False),
        sa.Column("grant", TEXT, nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("access_key_id", name="pk_dummy_key"),
    )
    op.create_index("ix_dummy_key_instance", "dummy_key", ["instance"])
    op.create_index("ix_dummy_key_expires_at", "dummy_key", ["expires_at"])
    op.create_table(
        "meter",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("until", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_meter"),
    )
    op.create_index("ix_meter_until", "meter", ["until"])

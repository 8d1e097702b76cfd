"""Delivery: leases hold their sealed session, profiles have a history, mints under way and bearer tokens are known."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INTEGER = sa.BigInteger()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("lease", sa.Column("plan_sha256", TEXT, nullable=True))
    op.add_column("lease", sa.Column("sealed_session", sa.LargeBinary(), nullable=True))
    op.create_index("ix_lease_expires_at", "lease", ["expires_at"])
    op.create_index("ix_lease_plan_sha256_expires_at", "lease", ["plan_sha256", "expires_at"])
    op.create_table(
        "profile_version",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("applied_at", INTEGER, nullable=False),
        sa.Column("applied_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_profile_version"),
    )
    op.create_index("ix_profile_version_name", "profile_version", ["name"])
    op.create_table(
        "flight",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("ends_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_flight"),
    )
    op.create_table(
        "bearer_token",
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_bearer_token"),
    )
    op.create_index("ix_bearer_token_instance", "bearer_token", ["instance"])
    op.create_index("ix_bearer_token_expires_at", "bearer_token", ["expires_at"])
    # What was applied before there was a history is the first of it.
    op.execute(
        "INSERT INTO profile_version (id, name, version, document, applied_at, applied_by) "
        "SELECT name || '/' || substr('00000000' || version, -8), name, version, document, applied_at, applied_by "
        "FROM profile"
    )

"""Alembic's entry: it migrates on the connection, and in the transaction, that `migrate` gives."""

from alembic import context

from gateway.adapters.sql.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()

"""The schema of a database: brought to what this code knows, or checked against it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.sqlite_file import create, fault, sqlite_path
from gateway.core.errors import SettingsError


def migrate(url: str) -> None:
    """Bring the schema up to this code's, in one transaction; make an SQLite file that is missing.

    Raises SettingsError when the file may not be used or its schema is newer than this code, Refusal
    `store_unavailable` when the engine fails.
    """
    if path := sqlite_path(url):
        try:
            create(path)
        except OSError as error:
            raise SettingsError(f"store: {error.filename}: {error.strerror}") from error
    _usable(url)
    engine = open_engine(url, write=True)
    try:
        with engine.begin() as connection:
            _revision(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def check(url: str) -> None:
    """Raise SettingsError unless the schema is the one that this code knows (and the file one that may be used)."""
    _usable(url)
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            found = _revision(connection)
    finally:
        engine.dispose()
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if found != head:
        state = f"is at {found}, older than this gateway's {head}" if found else "was never made"
        raise SettingsError(f"store: the schema {state}; run 'trusted-gateway init'")


def _usable(url: str) -> None:
    path = sqlite_path(url)
    if path and (reason := fault(path)):
        raise SettingsError(f"store: {reason}")


def _revision(connection: Connection) -> str | None:
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SettingsError(f"store: the schema is at {found}, which is newer than this gateway: update the gateway")
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config

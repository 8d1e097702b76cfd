"""The schema: what the migrations make is what the code expects, and nothing else is accepted."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from gateway.adapters.sql.migrate import check, migrate
from gateway.adapters.sql.schema import METADATA
from gateway.adapters.sql.sqlite_file import create
from gateway.core.errors import Refusal, SettingsError
from tests.contracts.processes import Tell, child


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store/gateway.db"


def say(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def differences(url: str) -> list[object]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    return list(found)


def test_the_migrations_make_the_schema(url: str) -> None:
    migrate(url)
    assert differences(url) == []
    say(url, "ALTER TABLE lease ADD COLUMN extra TEXT")
    say(url, "DROP INDEX ix_ticket_id")
    assert len(differences(url)) == 2


def test_migrating_again_changes_nothing(url: str) -> None:
    migrate(url)
    say(url, "INSERT INTO meter VALUES ('ann', 0)")
    migrate(url)
    check(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM meter")).all() == [("ann",)]
    engine.dispose()


def test_two_processes_migrate_at_once(url: str) -> None:
    def body(tell: Tell) -> None:
        migrate(url)

    with child(body) as first, child(body) as second:
        assert (first.wait(), second.wait()) == (0, 0)
    check(url)


def test_a_schema_that_was_never_made(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        check(url)
    create(tmp_path / "store" / "gateway.db")
    with pytest.raises(SettingsError, match="never made"):
        check(url)
    migrate(url)
    check(url)


def test_a_newer_schema_is_left_alone(url: str) -> None:
    migrate(url)
    say(url, "UPDATE alembic_version SET version_num = '9999'")
    for refuse in (check, migrate):
        with pytest.raises(SettingsError, match="newer"):
            refuse(url)


def test_an_older_schema_is_not_served(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(url)
    monkeypatch.setattr("alembic.script.ScriptDirectory.get_current_head", lambda self: "9999")
    with pytest.raises(SettingsError, match="at 0004, older than this gateway's 9999"):
        check(url)


def test_a_place_where_no_file_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"store: .*No such file"):
        migrate(f"sqlite:///{tmp_path}/missing/store/gateway.db")


def test_a_file_that_is_no_database(url: str, tmp_path: Path) -> None:
    path = tmp_path / "store" / "gateway.db"
    create(path)
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Refusal) as raised:
        migrate(url)
    assert raised.value.context == {"error": "SQLITE_NOTADB"}

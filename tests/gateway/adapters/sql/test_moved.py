import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.moved import SqliteMoved
from gateway.adapters.sql.store import SqlStore
from gateway.core.errors import SettingsError
from tests.contracts.processes import Tell, child
from tests.contracts.samples import SetClock, ticket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store" / "gateway.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{path}", "n/1", SetClock())
    yield store
    store.close()


def add(store: SqlStore, key: str) -> None:
    store.write(lambda tx: tx.tickets.add(ticket(key)))


def test_it_tells_of_every_commit_once(path: Path, store: SqlStore) -> None:
    moved = SqliteMoved(f"sqlite:///{path}")
    assert [moved(), moved()] == [True, False]
    add(store, "ours")
    assert [moved(), moved()] == [True, False]

    with child(lambda tell: add(SqlStore(f"sqlite:///{path}", "n/2", SetClock()), "theirs")) as other:
        assert other.wait() == 0
    assert moved()  # the fork closed its connection, and a doubt is a yes

    def body(tell: Tell) -> None:
        os.read(reading, 1)
        add(SqlStore(f"sqlite:///{path}", "n/2", SetClock()), "theirs later")

    reading, writing = os.pipe()
    with child(body) as other:
        assert [moved(), moved()] == [True, False]
        os.write(writing, b"x")
        assert other.wait() == 0
        assert [moved(), moved()] == [True, False]
    with store.read() as tx:
        assert len(tx.tickets.find()) == 3
    assert not moved()


def test_every_doubt_is_a_yes(path: Path, store: SqlStore) -> None:
    moved = SqliteMoved(f"sqlite:///{path}")
    assert [moved(), moved()] == [True, False]
    away = path.rename(path.with_name("away.db"))
    assert [moved(), moved(), moved()] == [True, True, True]
    away.rename(path)
    assert [moved(), moved()] == [True, False]


def test_only_sqlite_can_be_asked() -> None:
    with pytest.raises(SettingsError):
        SqliteMoved("postgresql+psycopg://localhost/gateway")

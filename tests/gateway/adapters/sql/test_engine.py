"""The SQLite file: how it is made, who may use it, and what its errors tell."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.adapters.sql.migrate import check, migrate
from gateway.adapters.sql.sqlite_file import sqlite_path
from gateway.adapters.sql.store import SqlStore
from gateway.core.errors import Refusal, SettingsError
from tests.contracts.processes import Tell, child
from tests.contracts.samples import SetClock, ticket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store" / "gateway.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_ours_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "store" / "gateway.db"

    def body(tell: Tell) -> None:
        os.umask(umask)
        migrate(f"sqlite:///{path}")
        store = SqlStore(f"sqlite:///{path}", "n/1", SetClock())
        store.write(lambda tx: tx.tickets.add(ticket()))
        modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(["gateway.db", "gateway.db-wal", "gateway.db-shm"], "0o600")

    with child(body) as process:
        assert process.wait() == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def group_may_read(path: Path) -> None:
    path.chmod(0o640)


def world_may_write(path: Path) -> None:
    path.chmod(0o602)


def belongs_to_another(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 65534, 65534)


def symbolic_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere.db")))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o600)


def log_is_a_link(path: Path) -> None:
    Path(f"{path}-wal").symlink_to("/etc/passwd")


def log_is_gone(path: Path) -> None:
    Path(f"{path}-shm").touch(0o600)


def missing(path: Path) -> None:
    path.unlink()


def shared_directory(path: Path) -> None:
    path.parent.chmod(0o770)


@pytest.mark.parametrize(
    "harm",
    [
        group_may_read,
        world_may_write,
        belongs_to_another,
        symbolic_link,
        directory,
        log_is_a_link,
        log_is_gone,
        missing,
        shared_directory,
    ],
)
def test_a_file_that_others_could_use_is_refused(path: Path, harm: Callable[[Path], None]) -> None:
    url = f"sqlite:///{path}"
    store = SqlStore(url, "n/1", SetClock())
    check(url)
    assert store.write(lambda tx: tx.tickets.add(ticket()))
    store.let_go()
    harm(path)
    with pytest.raises(SettingsError, match=r"store: .*gateway\.db|store: .*store belongs"):
        check(url)
    with pytest.raises(Refusal) as raised:
        store.write(lambda tx: tx.tickets.add(ticket("t-2")))
    assert raised.value.code == "store_unavailable"
    assert "gateway.db" not in str(raised.value), "where the store lies is nobody's business"
    if harm is not missing:
        with pytest.raises(SettingsError):
            migrate(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_a_database_is_a_file(url: str) -> None:
    with pytest.raises(SettingsError, match="must name a file"):
        sqlite_path(url)


def test_no_error_shows_a_row(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}", "n/1", SetClock())
    with pytest.raises(Exception, match="NOT NULL constraint failed") as raised:
        store.write(lambda tx: tx.tickets.add(ticket("canary-value", id=None)))
    assert "canary-value" not in str(raised.value) + repr(raised.value)
    store.close()

"""The contract on an SQLite file, and what can befall such a file (threats H05, I01)."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection

from gateway.adapters.sql.migrate import migrate
from gateway.adapters.sql.store import SqlStore
from gateway.core import verification
from gateway.core.errors import Refusal
from gateway.core.model import Ticket, TicketState
from gateway.ports import Transaction
from tests.contracts.processes import Tell, child
from tests.contracts.samples import NOW, SetClock, ticket
from tests.contracts.store import OpenStore, StoreContract, add, adding, held, log, requests, rows

SHORT = timedelta(milliseconds=400)
NOBODY = 65534


def database(store: Path) -> Path:
    migrate(f"sqlite:///{store}/gateway.db")
    return store / "gateway.db"


def refused(store: SqlStore, key: str = "refused", size: int = 0) -> Refusal:
    with pytest.raises(Refusal) as raised:
        add(store, key, size)
    assert raised.value.code == "store_unavailable"
    return raised.value


def whole(store: SqlStore, path: Path) -> None:
    """Nothing is half done: each row has its record, each record its row, and the file is sound."""
    assert [row.sha256 for row in rows(store, "tickets")] == sorted(requests(log(store)))
    assert verification.verify(log(store)).faults == ()
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class TestSqlite(StoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return database(tmp_path / "store")

    @pytest.fixture
    def url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    def test_connections_are_durable(self, store: SqlStore) -> None:
        with store._writes.connect() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 4000}

    @pytest.mark.threat("H05", "I01")
    def test_a_lock_held_elsewhere_refuses_writes_in_time(self, open_store: OpenStore, path: Path) -> None:
        store = open_store(patience=SHORT)
        add(store, "before")

        def body(tell: Tell) -> None:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            tell("locked")
            signal.pause()

        with child(body) as locker:
            locker.lines.readline()
            for _ in range(2):
                begun = time.monotonic()
                refused(store)
                assert time.monotonic() - begun < SHORT.total_seconds() + 2
            assert len(rows(store, "tickets")) == 1  # a read needs no lock
        store.submit(lambda tx: None).result(5)
        assert add(store, "after")
        whole(store, path)

    @pytest.mark.threat("H05")
    def test_a_file_held_exclusively_refuses_reads_in_time(self, open_store: OpenStore, path: Path) -> None:
        store = open_store(patience=SHORT)

        def body(tell: Tell) -> None:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            tell("locked")
            signal.pause()

        with child(body) as locker:
            locker.lines.readline()
            begun = time.monotonic()
            with pytest.raises(Refusal) as raised:
                rows(store, "tickets")
            assert raised.value.code == "store_unavailable"
            assert raised.value.context == {"error": "SQLITE_BUSY"}
            assert time.monotonic() - begun < SHORT.total_seconds() + 2
        assert rows(store, "tickets") == []

    @pytest.mark.threat("H05", "I01")
    def test_a_disk_that_is_full(self, open_store: OpenStore, clock: SetClock) -> None:
        mount = Path(tempfile.mkdtemp(prefix="gateway-"))
        command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(mount)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount here")
        try:
            path = database(mount)
            ballast = mount / "ballast"
            ballast.write_bytes(b"\0" * 600_000)
            store = SqlStore(f"sqlite:///{path}", "n/1", clock)
            with pytest.raises(Refusal) as raised:
                all(add(store, f"{n:04}", size=20_000) for n in range(1000))
            assert raised.value.context == {"error": "SQLITE_FULL"}
            refused(store, size=20_000)
            written = len(rows(store, "tickets"))
            assert 0 < written < 1000
            ballast.unlink()
            assert add(store, "z-after", size=20_000)
            assert len(rows(store, "tickets")) == written + 1
            whole(store, path)
            store.close()
        finally:
            subprocess.run(["umount", "-l", mount], check=True)
            mount.rmdir()

    @pytest.mark.threat("H05", "I01")
    def test_a_write_that_the_system_refuses(self, open_store: OpenStore, path: Path) -> None:
        def body(tell: Tell) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = open_store()
            assert add(store, "before")
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            for n in range(3):
                refused(store, f"refused-{n}", size=300_000)
            assert [row.sha256 for row in rows(store, "tickets")] == ["before"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert add(store, "z-after", size=300_000)
            whole(store, path)

        with child(body) as limited:
            assert limited.wait() == 0

    @pytest.mark.threat("H05", "I01")
    def test_a_file_that_is_read_only(self, clock: SetClock) -> None:
        directory = Path(tempfile.mkdtemp(prefix="gateway-"))
        path = database(directory)
        if os.geteuid() == 0:  # whom file modes do not stop
            for name in (directory, path):
                os.chown(name, NOBODY, NOBODY)

        def body(tell: Tell) -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            store = SqlStore(f"sqlite:///{path}", "n/1", clock)
            assert add(store, "before")
            store.let_go()
            path.chmod(0o400)
            for _ in range(2):
                assert refused(store).context == {"error": "SQLITE_READONLY"}
                assert len(rows(store, "tickets")) == 1
            for file in directory.iterdir():
                file.chmod(0o600)
            assert add(store, "z-after")
            whole(store, path)

        try:
            with child(body) as unprivileged:
                assert unprivileged.wait() == 0
        finally:
            shutil.rmtree(directory)

    @pytest.mark.threat("H05")
    @pytest.mark.parametrize("removed", [["-wal"], ["-wal", "-shm"]])
    def test_a_log_removed_under_us_loses_nothing(self, open_store: OpenStore, path: Path, removed: list[str]) -> None:
        """Each process must let go of the old log, and it be written home, before anybody begins a new one."""
        store = open_store("n/1")

        def body(tell: Tell) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            other = open_store("n/2")
            assert add(other, "b")
            tell("ready")
            signal.sigwait([signal.SIGUSR1])
            assert refused(other).reason == "store_replaced"
            assert add(other, "c")

        with child(body) as idle:
            idle.lines.readline()
            assert add(store, "a")
            assert len(rows(store, "tickets")) == 2
            for suffix in removed:
                Path(f"{path}{suffix}").unlink()
            assert refused(store).reason == "store_replaced"
            for _ in range(3):
                assert refused(store).reason == "store_failed"
            os.kill(idle.pid, signal.SIGUSR1)
            assert idle.wait() == 0
        assert [row.sha256 for row in rows(store, "tickets")] == ["a", "b", "c"]
        assert add(store, "d")
        whole(store, path)

    @pytest.mark.threat("H05")
    def test_a_file_that_is_gone(self, store: SqlStore, path: Path) -> None:
        add(store, "a")
        moved = path.rename(path.with_name("moved.db"))
        for _ in range(3):
            refused(store)
            with pytest.raises(Refusal):
                rows(store, "tickets")
        assert not path.exists()
        moved.rename(path)
        assert add(store, "b")
        whole(store, path)

    @pytest.mark.threat("I01")
    def test_who_swallows_a_failure_gains_nothing(self, store: SqlStore, path: Path) -> None:
        """SQLite may end the transaction by itself; what follows, and all that it held, must not count as done."""

        def unit(tx: Transaction) -> str:
            connection: Connection = tx.tickets._connection  # type: ignore[attr-defined]  # reaches below the port, on purpose
            assert tx.tickets.add(ticket("half"))
            connection.connection.driver_connection.rollback()  # type: ignore[union-attr]  # it is connected here
            with suppress(Refusal):
                connection.exec_driver_sql("no such statement")
            return "done"

        with held(store):
            before, swallowing, after = (
                store.submit(adding("before")),
                store.submit(unit),
                store.submit(adding("after")),
            )
        for answer in (before.exception(), swallowing.exception(), after.exception()):
            assert isinstance(answer, Refusal)
        assert rows(store, "tickets") == []
        assert add(store, "next")
        whole(store, path)

    def test_nothing_of_a_fork_shares_a_lock(self, store: SqlStore) -> None:
        """SQLite's own table of locks is inherited; /proc/locks says what the child really holds."""
        add(store, "a")
        with store.read() as tx:
            tx.tickets.find()

        def body(tell: Tell) -> None:
            with store.read() as tx:
                tx.tickets.find()
                assert f" {os.getpid()} " in Path("/proc/locks").read_text()

        with child(body) as forked:
            assert forked.wait() == 0


class RowsMachine(RuleBasedStateMachine):
    """Rows against a dict, over any number of committed and failed units."""

    store: ClassVar[SqlStore]
    keys = st.sampled_from("abcdef")
    tickets = st.builds(
        lambda key, profile, instance, state, micro: ticket(
            key, profile=profile, instance_id=instance, state=state, expires_at=NOW + timedelta(microseconds=micro)
        ),
        keys,
        st.sampled_from(["", "web", "ö\0\n'\""]),
        st.sampled_from([None, "", "i-1"]),
        st.sampled_from(TicketState),
        st.integers(-(2**50), 2**50),
    )

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Ticket] = {}
        self.store.write(lambda tx: [tx.tickets.remove(row) for row in tx.tickets.find()])

    @rule(row=tickets)
    def add(self, row: Ticket) -> None:
        assert self.store.write(lambda tx: tx.tickets.add(row)) is (row.sha256 not in self.model)
        self.model.setdefault(row.sha256, row)

    @rule(old=tickets, new=tickets, current=st.booleans())
    def swap(self, old: Ticket, new: Ticket, current: bool) -> None:
        old = self.model.get(old.sha256, old) if current else old
        new = ticket(old.sha256, profile=new.profile, instance_id=new.instance_id, state=new.state)
        fits = self.model.get(old.sha256) == old
        assert self.store.write(lambda tx: tx.tickets.swap(old, new)) is fits
        if fits:
            self.model[old.sha256] = new

    @rule(row=tickets)
    def remove(self, row: Ticket) -> None:
        assert self.store.write(lambda tx: tx.tickets.remove(row)) is (self.model.pop(row.sha256, None) is not None)

    @rule(row=tickets)
    def fail(self, row: Ticket) -> None:
        def unit(tx: Transaction) -> None:
            tx.tickets.remove(row)
            tx.tickets.add(row)
            assert tx.tickets.get(sha256=row.sha256) == row
            raise LookupError

        with pytest.raises(LookupError):
            self.store.write(unit)

    @rule(profile=st.sampled_from(["", "web"]), instance=st.sampled_from([None, "", "i-1"]), after=st.none() | keys,
          limit=st.none() | st.integers(0, 3))  # fmt: skip
    def find(self, profile: str, instance: str | None, after: str | None, limit: int | None) -> None:
        expected = [
            row
            for key, row in sorted(self.model.items())
            if row.profile == profile and row.instance_id == instance and (after is None or key > after)
        ]
        with self.store.read() as tx:
            found = tx.tickets.find(profile=profile, instance_id=instance, after=after, limit=limit)
        assert found == expected[:limit]

    @invariant()
    def same(self) -> None:
        with self.store.read() as tx:
            assert {row.sha256: row for row in tx.tickets.find()} == self.model
            assert all(tx.tickets.get(sha256=key) == self.model.get(key) for key in "abcdef")


class TestRows(RowsMachine.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it at run time
    settings = settings(max_examples=25, stateful_step_count=30)

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def opened(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        path = database(tmp_path_factory.mktemp("rows") / "store")
        RowsMachine.store = SqlStore(f"sqlite:///{path}", "n/1", SetClock())
        yield
        RowsMachine.store.close()

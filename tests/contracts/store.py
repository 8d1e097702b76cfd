"""What every `ports.Store` in SQL must do. A back end subclasses `StoreContract` and gives one fixture, `url`: a
migrated, empty database of its own."""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy import event as sql_event
from sqlalchemy.exc import MultipleResultsFound, StatementError

from gateway.adapters.sql import writer
from gateway.adapters.sql.store import SqlStore
from gateway.core import verification
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import CertificateState, TicketState
from gateway.ports import Transaction
from tests.contracts.processes import Tell, child
from tests.contracts.samples import CERTIFICATE, LATER, NOW, ROWS, SetClock, event, instance, lease, operator, ticket

SECOND = timedelta(seconds=1)


class OpenStore(Protocol):
    def __call__(self, chain: str = "n/1", patience: timedelta = 5 * SECOND) -> SqlStore: ...


class StoreContract:
    @pytest.fixture
    def clock(self) -> SetClock:
        return SetClock()

    @pytest.fixture
    def open_store(self, url: str, clock: SetClock) -> Iterator[OpenStore]:
        opened = []

        def open_one(chain: str = "n/1", patience: timedelta = 5 * SECOND) -> SqlStore:
            opened.append(SqlStore(url, chain, clock, patience))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_store: OpenStore) -> SqlStore:
        return open_store()

    # Rows

    @pytest.mark.parametrize("kind", ROWS)
    def test_a_row_comes_back_as_it_was_added(self, store: SqlStore, kind: str) -> None:
        row = ROWS[kind]
        key = fields(row)[0].name
        assert store.write(lambda tx: getattr(tx, kind).add(row)) is True
        with store.read() as tx:
            rows = getattr(tx, kind)
            assert rows.get(**{key: getattr(row, key)}) == row
            assert rows.get(**{key: "another"}) is None
            assert rows.find() == [row]

    def test_add_keeps_the_row_that_is_there(self, store: SqlStore) -> None:
        first, second = ticket(), ticket(profile="other")
        assert store.write(lambda tx: (tx.tickets.add(first), tx.tickets.add(second))) == (True, False)
        assert store.write(lambda tx: tx.tickets.add(ticket("t-2", id=first.id))) is False
        assert rows(store, "tickets") == [first]

    @pytest.mark.parametrize("field", [field.name for field in fields(CERTIFICATE)][1:])
    def test_swap_compares_every_field(self, store: SqlStore, field: str) -> None:
        value: Any = {
            "state": CertificateState.ACTIVE,
            "der": b"other",
            "successor": None,
            "revoked_at": None,
            "reason": None,
            "not_before": NOW - timedelta(microseconds=1),
            "not_after": LATER + SECOND,
        }.get(field, "other")
        stale = replace(CERTIFICATE, **{field: value})
        assert store.write(lambda tx: tx.certificates.add(CERTIFICATE))
        assert store.write(lambda tx: tx.certificates.swap(stale, replace(stale, kind="lost"))) is False
        assert rows(store, "certificates") == [CERTIFICATE]
        assert store.write(lambda tx: tx.certificates.swap(CERTIFICATE, stale)) is True
        assert rows(store, "certificates") == [stale]

    def test_swap_compares_nothing_and_mappings(self, store: SqlStore) -> None:
        row = instance()
        same = replace(row, claims=dict(reversed(list(row.claims.items()))))
        other = replace(row, claims={**row.claims, "image": "ami-2"})
        assert store.write(lambda tx: tx.instances.add(row))
        assert store.write(lambda tx: tx.instances.swap(replace(row, revoked_by="ann"), other)) is False
        assert store.write(lambda tx: tx.instances.swap(other, row)) is False
        assert store.write(lambda tx: tx.instances.swap(same, other)) is True

    @pytest.mark.parametrize("many", [3, 1200])
    def test_many_are_swapped_and_removed_as_one_is(self, store: SqlStore, many: int) -> None:
        before = [ticket(f"{number:05}") for number in range(many)]
        after = [replace(row, state=TicketState.REVOKED) for row in before]
        store.write(lambda tx: [tx.tickets.add(row) for row in before])
        stale = [replace(row, state=TicketState.REDEEMED) for row in before]
        assert store.write(lambda tx: tx.tickets.swap_all(list(zip(stale, after, strict=True)))) is False
        assert rows(store, "tickets") == before
        assert store.write(lambda tx: tx.tickets.swap_all(list(zip(before, after, strict=True)))) is True
        assert rows(store, "tickets") == after
        assert store.write(lambda tx: tx.tickets.remove_all([*after[1:], ticket("none")])) is False
        assert rows(store, "tickets") == after[:1]
        assert store.write(lambda tx: tx.tickets.swap_all([]) and tx.tickets.remove_all([])) is True
        with pytest.raises(ValueError, match="key"):
            store.write(lambda tx: tx.tickets.swap_all([(row, ticket("x")) for row in after]))

    def test_swap_and_remove_without_the_row(self, store: SqlStore) -> None:
        assert store.write(lambda tx: tx.tickets.swap(ticket(), ticket(profile="x"))) is False
        assert store.write(lambda tx: tx.tickets.remove(ticket())) is False
        with pytest.raises(ValueError, match="key"):
            store.write(lambda tx: tx.tickets.swap(ticket("a"), ticket("b")))
        assert rows(store, "tickets") == []

    def test_remove_goes_by_key(self, store: SqlStore) -> None:
        store.write(lambda tx: [tx.tickets.add(ticket(key)) for key in ("a", "b")])
        assert store.write(lambda tx: tx.tickets.remove(ticket("a", profile="changed meanwhile"))) is True
        assert rows(store, "tickets") == [ticket("b")]

    def test_find(self, store: SqlStore) -> None:
        keys = ["B", "Z", "a", "b", "ä", "\U0001f511"]  # by code point, on every engine
        odd = {key: ticket(key, instance_id="i-1" if key in "aZ" else None) for key in keys}
        store.write(lambda tx: [tx.tickets.add(odd[key]) for key in reversed(keys)])
        with store.read() as tx:

            def found(**how: Any) -> list[str]:
                return [row.sha256 for row in tx.tickets.find(**how)]

            assert found() == keys
            assert found(limit=2) == ["B", "Z"]
            assert found(limit=2, after="Z") == ["a", "b"]
            assert found(after="\U0001f511") == found(limit=0) == []
            assert found(instance_id="i-1") == ["Z", "a"]
            assert found(instance_id=None, after="B", limit=1) == ["b"]
            assert found(instance_id="i-1", profile="none") == []
            with pytest.raises(KeyError):
                tx.tickets.find(no_such_field=1)
            with pytest.raises(MultipleResultsFound):
                tx.tickets.get(instance_id="i-1")
            with pytest.raises(TypeError):
                tx.tickets.get()

    def test_a_time_without_a_zone_is_refused(self, store: SqlStore) -> None:
        naive = datetime(2026, 11, 23)
        with pytest.raises(StatementError, match="time zone"):
            store.write(lambda tx: tx.operators.add(operator(created_at=naive)))
        assert rows(store, "operators") == []

    def test_the_newest_lease_of_a_plan(self, store: SqlStore) -> None:
        kept = {"instance": "i", "plan_sha256": "p", "sealed_session": b"x"}
        old, new = lease("a", **kept, expires_at=NOW + timedelta(seconds=1)), lease("b", **kept)
        others = (
            lease("c", **kept | {"instance": "another"}),
            lease("d", **kept | {"plan_sha256": "another"}),
            lease("e", **kept | {"sealed_session": None}, expires_at=LATER + timedelta(hours=1)),
        )
        store.write(lambda tx: [tx.leases.add(row) for row in (new, old, *others)])
        with store.read() as tx:
            assert tx.leases.newest("i", "p", NOW) == new
            assert tx.leases.newest("i", "p", LATER) is None, "it is over at its end"
            assert tx.leases.newest("i", "nobody's", NOW) is None
        store.write(lambda tx: tx.leases.remove(new))
        with store.read() as tx:
            assert tx.leases.newest("i", "p", NOW) == old

    def test_spent_leases(self, store: SqlStore) -> None:
        sorts = (("a", b"x", NOW), ("b", b"x", LATER), ("c", None, NOW), ("d", b"x", NOW))
        rows = [lease(name, sealed_session=sealed, expires_at=ends) for name, sealed, ends in sorts]
        store.write(lambda tx: [tx.leases.add(row) for row in rows])
        with store.read() as tx:
            assert [row.id for row in tx.leases.spent(NOW, 10)] == ["a", "d"]
            assert len(tx.leases.spent(NOW, 1)) == 1
            assert tx.leases.spent(NOW - timedelta(microseconds=1), 10) == []

    def test_live_leases(self, store: SqlStore) -> None:
        ended, live, other = lease("a", expires_at=NOW), lease("b"), lease("c", instance="another")
        ended, live = replace(ended, instance="i"), replace(live, instance="i")
        store.write(lambda tx: [tx.leases.add(row) for row in (live, ended, other)])
        with store.read() as tx:
            assert tx.leases.live("i", NOW) == [live]
            assert [tx.leases.count_live(each, NOW) for each in ("i", "another", "nobody")] == [1, 1, 0]
            assert tx.leases.live("i", NOW - timedelta(microseconds=1)) == [ended, live]
            assert tx.leases.live("i", LATER) == []

    def test_revoked_since(self, store: SqlStore) -> None:
        revoked = [instance(key, revoked_at=NOW + n * SECOND) for n, key in enumerate("abc")]
        store.write(lambda tx: [tx.instances.add(row) for row in (instance("never"), *revoked)])
        with store.read() as tx:
            assert tx.instances.revoked_since(NOW + SECOND) == [row.id for row in revoked[1:]]
            assert tx.instances.revoked_since(NOW + 3 * SECOND) == []

    # Transactions

    @pytest.mark.threat("H07")
    def test_of_32_who_swap_one_wins(self, store: SqlStore) -> None:
        store.write(lambda tx: tx.tickets.add(ticket()))
        start = threading.Barrier(32)

        def redeem(n: int) -> bool:
            start.wait()
            return store.write(lambda tx: tx.tickets.swap(ticket(), ticket(redeemed_by=f"i-{n}")))

        with ThreadPoolExecutor(32) as pool:
            won = list(pool.map(redeem, range(32)))
        assert won.count(True) == 1
        assert rows(store, "tickets") == [ticket(redeemed_by=f"i-{won.index(True)}")]

    def test_a_unit_that_raises_changes_nothing(self, store: SqlStore) -> None:
        mine = Refusal("ticket_used", "mine")

        def unit(tx: Transaction) -> None:
            assert tx.instances.add(instance())
            assert tx.tickets.remove(ticket())
            tx.audit.append(event())
            assert tx.instances.get(id=instance().id) == instance()
            raise mine

        store.write(lambda tx: tx.tickets.add(ticket()))
        with pytest.raises(Refusal) as raised:
            store.write(unit)
        assert raised.value is mine
        assert (rows(store, "instances"), rows(store, "tickets"), log(store)) == ([], [ticket()], [])

    def test_units_of_one_batch_fail_alone(self, store: SqlStore) -> None:
        def unit(name: str, *, fails: bool) -> Callable[[Transaction], str]:
            def run(tx: Transaction) -> str:
                tx.audit.append(event(name))
                tx.instances.add(instance(name))
                if fails:
                    raise LookupError(name)
                tx.audit.append(event(name, Kind.FACT))
                return name

            return run

        with commits() as seen:
            with held(store):
                answers = [store.submit(unit(name, fails=name in "bd")) for name in "abcde"]
            results = [answer.exception() or answer.result() for answer in answers]
        assert [str(result) for result in results] == list("abcde")
        assert [isinstance(result, LookupError) for result in results] == [False, True, False, True, False]
        assert [row.instance_id for row in rows(store, "instances")] == ["a", "c", "e"]
        verdict = verification.verify(log(store))
        assert (bool(verdict), verdict.records, seen.count("store-writer")) == (True, 6, 2)

    def test_even_a_unit_that_exits_leaves_the_writer_alive(self, store: SqlStore) -> None:
        with pytest.raises(SystemExit):
            store.write(lambda tx: sys.exit(1))
        assert store.write(lambda tx: 1) == 1

    def test_a_read_is_one_snapshot_and_changes_nothing(self, store: SqlStore) -> None:
        with store.read() as tx:
            assert tx.tickets.find() == []
            store.write(lambda tx: tx.tickets.add(ticket()))
            assert tx.tickets.find() == []
            with pytest.raises(TypeError):
                tx.tickets.add(ticket("t-2"))
            with pytest.raises(TypeError):
                tx.tickets.remove(ticket())
            with pytest.raises(TypeError):
                tx.audit.append(event())
        assert rows(store, "tickets") == [ticket()]

    def test_many_callers_share_a_commit(self, store: SqlStore) -> None:
        with commits() as seen, ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda n: append(store, f"{n}"), range(1280)))
        assert verification.verify(log(store)).records == 1280
        assert seen.count("store-writer") < 1280 / 4

    # Waiting

    @pytest.mark.threat("I02")
    def test_who_waited_too_long_is_refused_and_the_unit_never_runs(self, open_store: OpenStore) -> None:
        store = open_store(patience=SECOND / 10)
        with held(store), pytest.raises(Refusal, match="store") as raised:
            store.write(lambda tx: tx.tickets.add(ticket()))
        assert (raised.value.code, raised.value.reason) == ("store_unavailable", "store_slow")
        store.submit(lambda tx: tx.tickets.add(ticket("t-2"))).result(5)
        assert rows(store, "tickets") == [ticket("t-2")]

    @pytest.mark.threat("I02")
    def test_a_unit_that_has_begun_holds_nobody_longer(self, open_store: OpenStore) -> None:
        store = open_store(patience=SECOND / 10)
        go = threading.Event()
        with pytest.raises(Refusal, match="store"):
            store.write(lambda tx: go.wait(5))
        go.set()
        assert store.submit(lambda tx: 1).result(5) == 1

    def test_a_unit_may_raise_timeout_itself(self, store: SqlStore) -> None:
        def unit(tx: Transaction) -> None:
            raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match="mine"):
            store.write(unit)

    def test_the_queue_is_bounded(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writer, "QUEUE", 3)
        with held(store):
            waiting = [store.submit(lambda tx: 1) for _ in range(3)]
            with pytest.raises(Refusal) as raised:
                store.write(lambda tx: 1)
        assert raised.value.reason == "store_queue_full"
        assert [answer.result(5) for answer in waiting] == [1, 1, 1]

    def test_close_writes_what_is_queued(self, open_store: OpenStore) -> None:
        store = open_store()
        with held(store) as go:
            answers = [store.submit(adding(f"{n}")) for n in range(50)]
            closing = threading.Thread(target=store.close)
            closing.start()
            go()
            closing.join(5)
        assert all(answer.result(0) for answer in answers)
        assert len(rows(open_store(), "tickets")) == 50
        for _ in range(2):
            store.close()
            with pytest.raises(Refusal) as raised:
                store.write(lambda tx: 1)
            assert raised.value.reason == "store_closed"

    # Processes

    @pytest.mark.threat("H07", "I03")
    @pytest.mark.parametrize("round_", range(20))
    def test_what_was_answered_outlives_a_kill(self, open_store: OpenStore, round_: int) -> None:
        def body(tell: Tell) -> None:
            store = open_store(f"n/{round_}")

            def write(n: int) -> None:
                add(store, f"{n}")
                tell(f"{n}")

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(write, range(1000)))

        with child(body) as killed:
            told = {killed.lines.readline().decode().strip() for _ in range(1 + round_ * 2)}
            killed.kill()
            told |= {line.decode().strip() for line in killed.lines}
            assert killed.wait() == -9
        store = open_store("after")
        kept = {row.sha256 for row in rows(store, "tickets")}
        written = log(store)
        assert told <= kept, "an answer without its row"
        assert kept == set(requests(written)), "a row without its record"
        assert verification.verify(written)
        assert store.write(lambda tx: tx.tickets.add(ticket("next")))

    @pytest.mark.parametrize("shared", [False, True], ids=["own chains", "one chain"])
    def test_two_processes_write_at_once(self, open_store: OpenStore, shared: bool) -> None:
        def writing(name: str) -> Callable[[Tell], None]:
            def body(tell: Tell) -> None:
                store = open_store("n/0" if shared else f"n/{name}")
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(lambda n: append(store, f"{name}-{n}"), range(200)))

            return body

        with child(writing("a")) as a, child(writing("b")) as b:
            assert (a.wait(), b.wait()) == (0, 0)
        written = log(open_store())
        verdict = verification.verify(written)
        assert verdict.faults == ()
        assert len(set(requests(written))) == verdict.records == 400
        assert {chain: seq for chain, (seq, _) in verdict.heads.items()} == (
            {"n/0": 400} if shared else {"n/a": 200, "n/b": 200}
        )

    def test_a_fork_begins_anew(self, store: SqlStore) -> None:
        store.write(lambda tx: tx.tickets.add(ticket("before")))
        assert len(rows(store, "tickets")) == 1

        def body(tell: Tell) -> None:
            assert store.write(lambda tx: tx.tickets.add(ticket("child")))
            assert len(rows(store, "tickets")) == 2
            store.close()

        with child(body) as forked:
            assert forked.wait() == 0
        assert store.write(lambda tx: tx.tickets.add(ticket("parent")))
        assert len(rows(store, "tickets")) == 3

    # The clock

    @pytest.mark.parametrize("behind", [0, 59, 60])
    def test_a_clock_a_little_behind_is_fine(self, store: SqlStore, clock: SetClock, behind: int) -> None:
        append(store, "x")
        clock.now = NOW - behind * SECOND
        append(store, "x")
        with store.read() as tx:
            (head,) = tx.audit.heads()
        assert (head.seq, head.at) == (2, NOW)

    def test_a_clock_61_s_behind_refuses_every_write(self, open_store: OpenStore, clock: SetClock) -> None:
        store, other = open_store("n/1"), open_store("n/2")
        append(store, "x")
        clock.now = NOW - 61 * SECOND
        for behind in (store, other):
            with pytest.raises(Refusal) as raised:
                behind.write(lambda tx: tx.tickets.add(ticket()))
            assert raised.value.code == "clock_untrusted"
        assert rows(store, "tickets") == []
        clock.now = NOW
        assert store.write(lambda tx: tx.tickets.add(ticket()))

    # The audit log

    def test_the_log_reads_on_from_where_one_was(self, open_store: OpenStore) -> None:
        for chain in ("n/2", "n/1", "n/2"):
            writing = open_store(chain)
            for n in range(3):
                append(writing, f"{n}")
        store = open_store()
        with store.read() as tx:
            everything = tx.audit.lines({}, 100)
            assert [(chain, seq) for chain, seq, _, _ in everything] == [
                *(("n/1", n) for n in (1, 2, 3)),
                *(("n/2", n) for n in (1, 2, 3, 4, 5, 6)),
            ]
            assert tx.audit.lines({"n/1": 2, "n/2": 5}, 100) == [everything[2], everything[8]]
            assert tx.audit.lines({"n/1": 1, "unknown": 9}, 3) == everything[1:4]
            assert [(head.chain, head.seq, head.hash) for head in tx.audit.heads()] == [
                ("n/1", 3, everything[2][3]),
                ("n/2", 6, everything[8][3]),
            ]

    def test_a_write_sees_what_it_appended(self, store: SqlStore) -> None:
        def unit(tx: Transaction) -> None:
            tx.audit.append(event("second"))
            seen = tx.audit.lines({"n/1": 1}, 10)
            assert requests((line, hash_) for _, _, line, hash_ in seen) == ["second"]
            assert [(head.seq, head.hash) for head in tx.audit.heads()] == [(2, seen[0][3])]
            assert tx.audit.lines({}, 1)[0][1] == 1

        append(store, "first")
        store.write(unit)
        assert verification.verify(log(store)).records == 2

    @pytest.mark.threat("I04")
    @pytest.mark.parametrize(
        ("tampering", "named"),
        [
            ("UPDATE audit_record SET line = replace(line, 'r-4', 'r-X') WHERE seq = 4", "n/1 #4"),
            ("DELETE FROM audit_record WHERE seq = 4", "n/1 #5"),
            ("UPDATE audit_record SET seq = CASE seq WHEN 4 THEN -5 WHEN 5 THEN -4 END WHERE seq IN (4, 5);"
             "UPDATE audit_record SET seq = -seq WHERE seq < 0", "n/1 #5"),
            ("UPDATE audit_record SET seq = seq + 1 WHERE seq = 9;"
             "INSERT INTO audit_record SELECT chain, 9, line, hash FROM audit_record WHERE seq = 3", "n/1 #3"),
            ("UPDATE audit_record SET chain = 'n/2' WHERE seq = 4", "n/1 #5"),
            ("DELETE FROM audit_record WHERE seq > 6;"
             "UPDATE audit_head SET seq = 6, hash = (SELECT hash FROM audit_record WHERE seq = 6)", "n/1 #7"),
        ],
        ids=["changed", "removed", "reordered", "replayed", "spliced", "truncated"],
    )  # fmt: skip
    def test_tampering_is_found(self, url: str, store: SqlStore, tampering: str, named: str) -> None:
        for n in range(1, 10):
            append(store, f"r-{n}")
        witness = verification.witness_of_heads(verification.verify(log(store)).heads)
        assert verification.verify(log(store), [witness])
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in tampering.split(";"):
                connection.execute(text(statement))
        engine.dispose()
        assert verification.verify(log(store), [witness]).faults[0].startswith(named)

    @pytest.mark.threat("I04")
    def test_a_lost_head_refuses_rather_than_forks(self, url: str, store: SqlStore) -> None:
        append(store, "x")
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM audit_head"))
        engine.dispose()
        with pytest.raises(Refusal) as raised:
            add(store, "x")
        assert (raised.value.code, rows(store, "tickets")) == ("store_unavailable", [])


def append(store: SqlStore, request_id: str) -> None:
    store.write(lambda tx: tx.audit.append(event(request_id)))


def add(store: SqlStore, key: str, size: int = 0) -> bool:
    """Add a ticket and its audit record."""

    def unit(tx: Transaction) -> bool:
        tx.audit.append(event(key))
        return tx.tickets.add(ticket(key, created_by="x" * size))

    return store.write(unit)


def adding(key: str) -> Callable[[Transaction], bool]:
    return lambda tx: tx.tickets.add(ticket(key))


def rows(store: SqlStore, kind: str) -> list[Any]:
    with store.read() as tx:
        return list(getattr(tx, kind).find())


def log(store: SqlStore) -> list[tuple[str, str]]:
    """The whole audit log, as `verification.verify` takes it."""
    with store.read() as tx:
        return [(line, hash_) for _, _, line, hash_ in tx.audit.lines({}, 1_000_000)]


def requests(lines: Iterable[tuple[str, str]]) -> list[str]:
    return [json.loads(line)["request_id"] for line, _ in lines]


@contextmanager
def held(store: SqlStore) -> Iterator[Callable[[], None]]:
    """Keep the writer busy, so that what is submitted meanwhile is one batch; call what this gives to end it early."""
    begun, go = threading.Event(), threading.Event()

    def unit(tx: Transaction) -> None:
        begun.set()
        go.wait(10)

    answer = store.submit(unit)
    assert begun.wait(5)
    try:
        yield go.set
    finally:
        go.set()
        answer.result(5)


@contextmanager
def commits() -> Iterator[list[str]]:
    """Grows by the thread's name with each commit of an engine in this process."""
    seen: list[str] = []

    def note(connection: Any) -> None:
        seen.append(threading.current_thread().name)

    sql_event.listen(Engine, "commit", note)
    try:
        yield seen
    finally:
        sql_event.remove(Engine, "commit", note)

"""The log on its way out, on a real store: at least once, one worker at a time, and what becomes of those who wait."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters import clock
from gateway.adapters.audit_file import AuditFile
from gateway.adapters.sql.store import SqlStore
from gateway.core.audit import Event, Kind, Name
from gateway.core.audit_formats import Format, Outgoing
from gateway.core.errors import Refusal
from gateway.core.sinks import TURN, Lag, SinkFailed, SinkKind, SinkRules, demand_export
from gateway.flows.export import Export, Pump
from gateway.flows.journal import Journal
from gateway.ports import Sink
from tests.gateway.flows.conftest import START, Gateway

RULES = SinkRules("siem", SinkKind.FILE, Format.RAW, required=True, within=timedelta(seconds=60), options={})


class Killed(BaseException):
    """As SIGKILL: nothing after it happens."""


@dataclass
class Taking:
    """`ports.Sink` that remembers; `fails` is raised instead, `dies` after it took all."""

    taken: list[Outgoing] = field(default_factory=list)
    fails: SinkFailed | None = None
    dies: bool = False

    def deliver(self, batch: Sequence[Outgoing]) -> None:
        if self.fails:
            raise self.fails
        self.taken += batch
        if self.dies:
            raise Killed

    def close(self) -> None:
        pass


def pump(gateway: Gateway, sink: Sink, worker: str = "worker-0") -> Pump:
    return Pump(RULES, sink, gateway.store, gateway.time, clock.random_bytes, worker)


def record(gateway: Gateway, count: int = 1) -> None:
    for _ in range(count):
        event = Event(Kind.DECISION, Name.OPERATOR_INSTANCE_LIST, True, "ok", clock.request_id())
        gateway.store.write(lambda tx: tx.audit.append(event))  # noqa: B023


def drain(each: Pump) -> None:
    while each.step():
        pass


def lines(gateway: Gateway) -> list[str]:
    with gateway.store.read() as tx:
        return [f"{hash_} {line}" for _, _, line, hash_ in tx.audit.lines({}, 100_000)]


def test_everything_is_delivered_once_and_in_order(gateway: Gateway) -> None:
    record(gateway, 2500)
    sink = Taking()
    drain(pump(gateway, sink))
    assert [each.text for each in sink.taken] == lines(gateway)
    record(gateway)
    drain(pump(gateway, sink))
    assert [each.text for each in sink.taken] == lines(gateway), "a new pump goes on where the last one was"


def test_who_is_killed_between_delivery_and_cursor_delivers_again_and_loses_nothing(gateway: Gateway) -> None:
    record(gateway, 10)
    sink = Taking(dies=True)
    with pytest.raises(Killed):
        pump(gateway, sink).step()
    sink.dies = False
    drain(pump(gateway, sink))  # its successor has its name, and takes the turn over at once
    assert {each.text for each in sink.taken} == set(lines(gateway))
    assert len(sink.taken) == 2 * len(lines(gateway)), "at least once: the hash tells that it is the same"


def test_one_worker_at_a_time_and_another_when_it_is_gone(gateway: Gateway) -> None:
    record(gateway, 3)
    first, second = Taking(), Taking()
    drain(pump(gateway, first, "worker-0"))
    record(gateway, 3)
    other = pump(gateway, second, "worker-1")
    assert not other.step()
    assert second.taken == [], "it is another's turn"
    assert other.lag.records == 3, "but it knows how far the sink is behind"
    gateway.time.passes(TURN)
    drain(other)
    assert [each.text for each in first.taken + second.taken] == lines(gateway)


def test_two_who_both_believe_that_it_is_their_turn(gateway: Gateway) -> None:
    """The clock of one is wrong: then some is delivered twice, and still nothing is lost."""
    record(gateway, 5)
    sink = Taking()
    one, other = pump(gateway, sink, "worker-0"), pump(gateway, sink, "worker-1")
    drain(one)
    record(gateway, 5)
    gateway.time.passes(TURN)
    drain(other)
    record(gateway, 5)
    gateway.time.passes(TURN)
    drain(one)
    assert {each.text for each in sink.taken} == set(lines(gateway))


def in_chains(gateway: Gateway, count: int) -> None:
    """A record in each of so many chains."""
    for number in range(count):
        store = SqlStore(gateway.url, f"node-2.worker-{number}", gateway.time)
        event = Event(Kind.DECISION, Name.OPERATOR_INSTANCE_LIST, True, "ok", clock.request_id())
        store.write(lambda tx: tx.audit.append(event))  # noqa: B023
        store.close()


def test_a_bucket_that_takes_an_object_for_each_chain_is_never_longer_than_its_turn(gateway: Gateway) -> None:
    in_chains(gateway, 30)
    other_gets: list[bool] = []

    class Bucket(Taking):
        """A second and a third for each object; the other worker looks meanwhile."""

        def deliver(self, batch: Sequence[Outgoing]) -> None:
            for _ in {each.chain for each in batch}:
                gateway.time.passes(timedelta(seconds=1.3))
                other_gets.append(other.step())
            super().deliver(batch)

    first, second = Bucket(), Taking()
    rules = replace(RULES, kind=SinkKind.S3)
    one = Pump(rules, first, gateway.store, gateway.time, clock.random_bytes, "worker-0")
    other = Pump(rules, second, gateway.store, gateway.time, clock.random_bytes, "worker-1")
    drain(one)
    assert len(other_gets) >= 30
    assert not any(other_gets)
    assert second.taken == []
    assert [each.text for each in first.taken] == lines(gateway)
    assert one.lag.records == 0


def test_what_a_bucket_took_before_it_failed_is_not_put_again(gateway: Gateway) -> None:
    in_chains(gateway, 4)

    class Bucket(Taking):
        def deliver(self, batch: Sequence[Outgoing]) -> None:
            if len(self.taken) >= 2 and self.fails:
                raise self.fails
            self.taken += batch

    sink = Bucket(fails=SinkFailed("sink_failed"))
    each = Pump(replace(RULES, kind=SinkKind.S3), sink, gateway.store, gateway.time, clock.random_bytes, "worker-0")
    with pytest.raises(SinkFailed):
        each.step()
    assert (each.lag.records > 0, each.lag.fault) == (True, "sink_failed")
    sink.fails = None
    drain(each)
    assert sorted(found.text for found in sink.taken) == sorted(lines(gateway))
    assert each.lag.fault is None


def test_a_look_asks_in_proportion_to_the_chains(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(chains: int) -> int:
        in_chains(gateway, chains)
        with gateway.store.read() as tx:
            connection = type(tx.audit._connection)  # type: ignore[attr-defined]
        count, scalar, execute = [0], connection.scalar, connection.execute

        def counting(before: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **named: Any) -> Any:
                count[0] += 1
                return before(*args, **named)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(connection, "scalar", counting(scalar))
            patch.setattr(connection, "execute", counting(execute))
            pump(gateway, Taking())._look()
        return count[0]

    few, many = asked(5), asked(20)
    assert many < 4.5 * few


@pytest.mark.threat("I04")
@pytest.mark.parametrize("form", list(Format))
def test_I04_a_row_that_somebody_broke_does_not_stop_the_export(gateway: Gateway, tmp_path: Path, form: Format) -> None:
    record(gateway, 3)
    database = sqlite3.connect(gateway.url.removeprefix("sqlite:///"), isolation_level=None)
    database.execute("UPDATE audit_record SET line = 'caf\u00e9' || char(10) || 'x' WHERE seq = 2")
    database.close()
    path = tmp_path / "audit.log"
    sink = AuditFile(path)
    drain(Pump(replace(RULES, form=form), sink, gateway.store, gateway.time, clock.random_bytes, "worker-0"))
    sink.close()
    assert len(path.read_text().splitlines()) == len(lines(gateway))


def test_a_failure_is_on_record_once_and_so_is_its_end(gateway: Gateway) -> None:
    sink = Taking(fails=SinkFailed("sink_slow"))
    each = pump(gateway, sink)
    for _ in range(3):
        with pytest.raises(SinkFailed):
            each.step()
        gateway.time.passes(TURN)
    assert each.lag.fault == "sink_slow"
    sink.fails = None
    drain(each)
    assert each.lag.fault is None
    told = [(body["allowed"], body["reason"]) for body in gateway.records() if body["name"] == "gateway:audit:export"]
    assert told == [(False, "sink_slow"), (True, "recovered")]


@pytest.mark.threat("I02")
def test_I02_while_a_required_sink_is_behind_nothing_is_given_and_cutting_off_goes_on(gateway: Gateway) -> None:
    sink = Taking(fails=SinkFailed("sink_failed"))
    export = Export([pump(gateway, sink)])
    each = export._pumps[0]
    journal = Journal(gateway.store, gate=export.demand)

    def ask(name: Name) -> str:
        try:
            with journal.call(name, clock.request_id(), "127.0.0.1") as call:
                journal.allow(call)
        except Refusal as refusal:
            return refusal.code
        return "ok"

    record(gateway)
    with pytest.raises(SinkFailed):
        each.step()
    assert ask(Name.INSTANCE_CREDENTIALS_VEND) == "ok", "within what is tolerated"
    gateway.time.passes(timedelta(seconds=61))
    with pytest.raises(SinkFailed):
        each.step()
    for name in (Name.INSTANCE_CREDENTIALS_VEND, Name.OPERATOR_TICKET_CREATE, Name.INSTANCE_CERTIFICATE_ENROLL):
        assert ask(name) == "audit_behind"
    refused = gateway.records()[-1]
    assert (refused["allowed"], refused["reason"]) == (False, "audit_behind"), "which is on record, too"
    for name in (Name.OPERATOR_INSTANCE_REVOKE, Name.OPERATOR_KEY_COMPROMISE, Name.OPERATOR_GATEWAY_STATUS):
        assert ask(name) == "ok"
    for name in (Name.OPERATOR_SESSION_CREATE, Name.OPERATOR_APPROVAL_GIVE):
        assert ask(name) == "ok", "who cuts off has to come in, and may need a second person"
    sink.fails = None
    drain(each)
    assert ask(Name.INSTANCE_CREDENTIALS_VEND) == "ok"


ALWAYS = {
    "operator:session:create", "operator:session:end", "operator:certificate:renew", "operator:approval:list",
    "operator:approval:give", "operator:revocation:list", "operator:key:disable", "operator:key:compromise",
    "operator:audit:read", "operator:audit:export", "operator:audit:reconcile", "operator:gateway:status",
    "operator:gateway:metrics", "operator:gateway:initialize", "operator:api:read", "instance:revocation:watch",
}  # fmt: skip


def test_what_a_sink_never_refuses_is_this_and_what_revokes() -> None:
    lag = Lag(1, START)

    def refuses(name: Name) -> bool:
        with suppress(Refusal):
            demand_export(RULES, lag, START + timedelta(seconds=61), name)
            return False
        return True

    assert {name for name in Name if not refuses(name)} == ALWAYS | {name for name in Name if name.endswith(":revoke")}


@pytest.mark.threat("I02")
def test_I02_a_pump_that_hangs_for_ever_counts_as_behind(gateway: Gateway) -> None:
    each = pump(gateway, Taking())
    each.demand(Name.INSTANCE_CREDENTIALS_VEND)
    gateway.time.passes(timedelta(seconds=61))
    with pytest.raises(Refusal, match="audit log is not exported"):
        each.demand(Name.INSTANCE_CREDENTIALS_VEND)


def test_a_sink_that_is_not_required_refuses_nobody(gateway: Gateway) -> None:
    """The control."""
    free = SinkRules("siem", SinkKind.FILE, Format.RAW, required=False, within=timedelta(seconds=60), options={})
    each = Pump(free, Taking(), gateway.store, gateway.time, clock.random_bytes, "w")
    gateway.time.passes(timedelta(days=1))
    each.demand(Name.INSTANCE_CREDENTIALS_VEND)


def test_the_threads_export_to_a_real_file(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    sink = AuditFile(path)
    export = Export([pump(gateway, sink)])
    record(gateway, 50)
    export.start()
    wanted = lines(gateway)
    for _ in range(1000):
        if path.exists() and len(path.read_text().splitlines()) == len(wanted):
            break
        export._stopping.wait(0.01)
    export.stop()
    assert path.read_text().splitlines() == wanted
    sink.close()

"""Health that tells the truth: each check, when what it checks is not as it should be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from gateway.adapters import clock
from gateway.adapters.seal_passphrase import MasterKey
from gateway.core.audit_formats import Format
from gateway.core.errors import Refusal
from gateway.core.sinks import Lag, SinkKind, SinkRules
from gateway.flows.health import AFRESH, DISK_EMPTY, DISK_LOW, Health, State, Surroundings
from gateway.flows.publish import EVERY, NEXT_UPDATE
from gateway.wire.secret import Secret
from tests.gateway.flows.conftest import Gateway
from tests.gateway.flows.test_checkpoint import EVERY as CHECKPOINT_EVERY
from tests.gateway.flows.test_checkpoint import checkpoints, happen


@dataclass
class Gauges:
    """`ports.Metrics`."""

    values: dict[tuple[str, ...], float] = field(default_factory=dict)

    def count(self, name: str, *labels: str, by: float = 1) -> None: ...

    def observe(self, name: str, value: float, *labels: str) -> None: ...

    def gauge(self, name: str, value: float, *labels: str) -> None:
        self.values[name, *labels] = value


@dataclass
class World:
    gateway: Gateway
    gauges: Gauges = field(default_factory=Gauges)
    free: int = DISK_LOW
    sinks: dict[str, tuple[SinkRules, Lag]] = field(default_factory=dict)
    shut: int = 0

    def __post_init__(self) -> None:
        self.gateway.identities("gateway.example").current()
        self.gateway.publish.crl()
        around = Surroundings(lambda: self.free, lambda: self.sinks, lambda: self.shut)
        self.health = Health(
            self.gateway.store, self.gateway.vault, self.gateway.time, self.gauges, around, "node-1", "worker-0",
            CHECKPOINT_EVERY,
        )  # fmt: skip

    def state(self, check: str) -> State:
        self.gateway.time.passes(AFRESH)
        return self.health.checks()[check].state


@pytest.fixture
def world(gateway: Gateway) -> World:
    return World(gateway)


def test_all_is_good(world: World) -> None:
    assert {name: check.says for name, check in world.health.checks().items() if check.state} == {}
    assert world.gauges.values["health", "store"] == 0


@pytest.mark.threat("B09")
def test_B09_when_the_crl_is_not_published_for_two_periods(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    time, publish = world.gateway.time, world.gateway.publish

    def fails(*_: object, **__: object) -> int:
        raise Refusal("store_unavailable", reason="store_failed")

    monkeypatch.setattr(publish, "crl", fails)
    time.passes(EVERY + timedelta(minutes=5))
    assert publish.due()
    assert world.state("crl") is State.GOOD, "one that is late is no alarm"
    time.passes(EVERY)
    assert world.state("crl") is State.DEGRADED
    left = world.gauges.values["crl_next_update_seconds",]
    assert 20 * 3600 < left < NEXT_UPDATE.total_seconds(), "long before the list is over"
    assert world.gauges.values["crl_age_seconds",] > 2 * 3600
    time.passes(NEXT_UPDATE)
    assert world.state("crl") is State.FAILING
    assert world.gauges.values["crl_next_update_seconds",] < 0
    monkeypatch.undo()
    publish.crl(only_if_due=True)
    assert world.state("crl") is State.GOOD, "it recovers alone"


def test_a_store_that_can_be_read_and_not_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.state("store") is State.GOOD

    def refuses(_: Callable[..., object]) -> None:
        raise Refusal("store_unavailable")

    monkeypatch.setattr(world.gateway.store, "write", refuses)
    assert world.state("store") is State.FAILING
    assert world.state("crl") is State.GOOD
    monkeypatch.undo()
    assert world.state("store") is State.GOOD


def test_a_clock_that_stands_behind_the_log(world: World) -> None:
    world.health.checks()
    world.gateway.time.passes(timedelta(minutes=-2))
    checks = world.health.checks()
    assert checks["clock"].state is checks["store"].state is State.FAILING
    world.gateway.time.passes(timedelta(minutes=2))
    assert world.state("clock") is State.GOOD


def test_a_seal_that_does_not_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.state("seal") is State.GOOD
    other = MasterKey(Secret(clock.random_bytes(32)), clock.random_bytes)
    monkeypatch.setattr(world.health, "_vault", _Mixed(world.gateway.vault, other))
    assert world.state("seal") is State.FAILING


@dataclass
class _Mixed:
    sealing: MasterKey
    opening: MasterKey

    def seal(self, context: str, plain: Secret) -> bytes:
        return self.sealing.seal(context, plain)

    def open(self, context: str, sealed: bytes) -> Secret:
        return self.opening.open(context, sealed)


def test_a_certificate_that_ends(world: World) -> None:
    world.gateway.time.passes(timedelta(days=77))
    assert world.state("certificates") is State.DEGRADED
    world.gateway.time.passes(timedelta(days=14))
    assert world.state("certificates") is State.FAILING
    assert world.gauges.values["certificate_ends_seconds", "server"] < 0
    assert world.gauges.values["certificate_ends_seconds", "root"] > 0


def test_a_disk_that_runs_full(world: World) -> None:
    assert world.state("disk") is State.GOOD
    world.free = DISK_LOW - 1
    assert world.state("disk") is State.DEGRADED
    world.free = DISK_EMPTY - 1
    assert world.state("disk") is State.FAILING


@pytest.mark.parametrize(("required", "state"), [(False, State.DEGRADED), (True, State.FAILING)])
def test_a_sink_that_is_behind(world: World, required: bool, state: State) -> None:
    rules = SinkRules("siem", SinkKind.FILE, Format.RAW, required, timedelta(seconds=60), {})
    world.sinks["siem"] = (rules, Lag())
    assert world.state("sinks") is State.GOOD
    world.sinks["siem"] = (rules, Lag(7, world.gateway.time(), "sink_slow"))
    assert world.state("sinks") is State.DEGRADED, "it fails, but is not behind"
    world.gateway.time.passes(timedelta(seconds=60))
    assert world.state("sinks") is state
    assert world.gauges.values["audit_sink_behind_records", "siem"] == 7


@pytest.mark.threat("I05")
def test_I05_when_no_checkpoint_can_be_made(world: World) -> None:
    made, time = checkpoints(world.gateway), world.gateway.time
    happen(world.gateway, 2)
    made.tick()
    assert world.state("checkpoints") is State.GOOD
    time.passes(5 * CHECKPOINT_EVERY)
    assert world.state("checkpoints") is State.GOOD, "nothing happened: there is nothing to sign"
    happen(world.gateway, 2)
    assert world.state("checkpoints") is State.GOOD, "it is due, and not late"
    time.passes(CHECKPOINT_EVERY)
    assert world.state("checkpoints") is State.DEGRADED
    made.tick()
    assert world.state("checkpoints") is State.GOOD


def test_aws_is_only_told_of(world: World) -> None:
    world.shut = 2
    assert world.state("aws") is State.DEGRADED
    assert world.gauges.values["aws_breakers_open", "worker-0"] == 2


def test_who_asks_often_does_not_write_often(world: World) -> None:
    def written() -> object:
        with world.gateway.store.read() as tx:
            found = tx.cursors.get(name="health/node-1.worker-0")
        return found and found.at

    world.health.checks()
    before = written()
    world.gateway.time.passes(AFRESH / 2)
    world.health.checks()
    assert written() == before
    world.gateway.time.passes(AFRESH)
    world.health.checks()
    assert written() != before

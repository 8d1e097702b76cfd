"""Credentials: one request in flight, the old ones for as long as they live, and never blank ones or expired ones."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.credentials import Credentials, Supply, Unavailable
from agent.errors import Fault, Problem
from agent.pace import LONGEST, Backoff, part_of_life
from agent.serve import documents
from agent.world import World
from gateway.wire.messages import CredentialsAnswer, instant


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


class Upstream:
    """Vends credentials of a given life, or raises `fault`; counts; may be held up by `gate`."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.life, self.fault = clock, timedelta(hours=1), None
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    fault: Fault | None

    def __call__(self, grant: str) -> CredentialsAnswer:
        self.calls += 1
        assert self.gate.wait(5)
        if self.fault:
            raise self.fault
        return CredentialsAnswer("lease", f"ASIA{self.calls}", "secret", "session", instant(self.clock() + self.life))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream(clock: Clock) -> Upstream:
    return Upstream(clock)


@pytest.fixture
def supply(clock: Clock, upstream: Upstream) -> Supply:
    return Supply("app", upstream, World(clock, lambda: 0.0, lambda: "token"))


DOWN = Fault("gateway_unreachable", "down")


def key_of(supply: Supply) -> str:
    return supply.lend(0.0).access_key_id


def test_the_body_is_what_the_container_provider_reads(supply: Supply, clock: Clock) -> None:
    supply.refresh()
    assert json.loads(documents.container(supply.lend())) == {
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "secret",
        "Token": "session",
        "Expiration": instant(clock() + timedelta(hours=1)),
    }


@pytest.mark.parametrize(
    ("life", "due"),
    [
        (timedelta(hours=1), timedelta(minutes=30)),
        (timedelta(minutes=20), timedelta(minutes=10)),
        (timedelta(hours=12), timedelta(hours=11.5)),
    ],
)
def test_refreshed_with_half_an_hour_left_or_half_of_a_shorter_life(
    supply: Supply, upstream: Upstream, clock: Clock, life: timedelta, due: timedelta
) -> None:
    upstream.life = life
    supply.refresh()
    clock.now += due - timedelta(seconds=1)
    assert not supply._is_due()
    clock.forward(seconds=1)
    assert supply._is_due()


def test_a_fleet_does_not_refresh_at_one_moment(upstream: Upstream, clock: Clock) -> None:
    dues = set()
    for chance in (0.0, 0.3, 0.99):
        supply = Supply("app", upstream, World(clock, lambda chance=chance: chance, lambda: ""))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        supply.refresh()
        dues.add(supply._due - clock())
    assert len(dues) == 3
    assert timedelta(minutes=27) <= min(dues) < max(dues) == timedelta(minutes=30)


def test_a_failed_refresh_keeps_the_old_ones_while_they_live(supply: Supply, upstream: Upstream, clock: Clock) -> None:
    supply.refresh()
    upstream.fault = DOWN
    clock.forward(minutes=40)
    supply.refresh()
    assert key_of(supply) == "ASIA1"
    clock.forward(minutes=19, seconds=59)
    assert key_of(supply) == "ASIA1"
    clock.forward(seconds=1)
    with pytest.raises(Unavailable):
        supply.lend(0.0)
    upstream.fault = None
    supply.refresh()
    assert key_of(supply) == "ASIA3"


@pytest.mark.parametrize("expiration", ["", "soon", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"])
def test_credentials_without_a_future_are_not_taken(upstream: Upstream, clock: Clock, expiration: str) -> None:
    supply = Supply("app", lambda _: CredentialsAnswer("l", "a", "s", "t", expiration), World(clock, lambda: 0.0, str))
    supply.refresh()
    with pytest.raises(Unavailable):
        supply.lend(0.0)
    assert supply._due > clock(), "and it is not asked again at once"


@pytest.mark.parametrize("blank", ["access_key_id", "secret_access_key", "session_token"])
def test_credentials_with_a_blank_are_not_taken(supply: Supply, upstream: Upstream, clock: Clock, blank: str) -> None:
    supply.refresh()
    kept = supply.lend(0.0)
    supply._fetch = lambda grant: replace(upstream(grant), **{blank: ""})
    supply.refresh()
    assert supply.lend(0.0) == kept
    assert supply.supplied().problem == "answer_malformed"


def test_a_short_life_does_not_make_it_hammer(supply: Supply, upstream: Upstream, clock: Clock) -> None:
    """As a role gives it whose sessions live for 15 minutes: eight requests in an hour, however often it is asked."""
    upstream.life = timedelta(minutes=15)
    for _ in range(3600):
        if supply._is_due():
            supply.refresh()
        assert supply.lend(0.0).expires - clock() >= timedelta(minutes=7)
        clock.forward(seconds=1)
    assert upstream.calls == 8


def test_a_refusal_for_good_is_told_as_one_and_ends_the_old_ones(supply: Supply, upstream: Upstream) -> None:
    supply.refresh()
    upstream.fault = Problem("grant_refused", 403)
    supply.refresh()
    with pytest.raises(Unavailable) as told:
        supply.lend(0.0)
    assert told.value.refused
    assert supply.settled


def test_a_refusal_of_aws_leaves_the_old_ones(supply: Supply, upstream: Upstream) -> None:
    supply.refresh()
    upstream.fault = Problem("upstream_refused", 502)
    supply.refresh()
    assert key_of(supply) == "ASIA1"


def test_cold_waits_no_longer_than_it_may_and_names_when(supply: Supply, upstream: Upstream) -> None:
    upstream.gate.clear()
    thread = threading.Thread(target=supply.refresh)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Unavailable) as told:
        supply.lend(0.2)
    assert time.monotonic() - began >= 0.2
    assert not told.value.refused
    assert told.value.retry_after >= 1
    upstream.gate.set()
    thread.join()
    assert key_of(supply) == "ASIA1"


def test_cold_during_back_off_answers_at_once_with_the_wait(supply: Supply, upstream: Upstream) -> None:
    upstream.fault = Problem("upstream_unavailable", 503, retry_after=30)
    supply.refresh()
    began = time.monotonic()
    with pytest.raises(Unavailable) as told:
        supply.lend()
    assert time.monotonic() - began < 10
    assert told.value.retry_after >= 30
    assert upstream.calls == 1, "asking does not press the gateway"


def test_j09_a_hundred_wait_and_one_asks(supply: Supply, upstream: Upstream) -> None:
    upstream.gate.clear()
    thread = threading.Thread(target=supply.run, daemon=True)
    thread.start()
    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(supply.lend) for _ in range(100)]
        upstream.gate.set()
        bodies = {each.result() for each in waiting}
    assert len(bodies) == 1
    assert upstream.calls == 1
    supply.stop()
    thread.join(2)


def test_a_clock_that_was_set_back_voids_what_was_reckoned_by_it(supply: Supply, clock: Clock) -> None:
    supply.refresh()
    assert not supply._is_due()
    clock.forward(hours=-2)
    assert supply._is_due()
    supply.refresh()
    assert not supply._is_due()


def test_a_stopped_supply_serves_nothing_even_if_an_answer_was_on_its_way(supply: Supply, upstream: Upstream) -> None:
    upstream.gate.clear()
    thread = threading.Thread(target=supply.refresh)
    thread.start()
    supply.stop()
    upstream.gate.set()
    thread.join()
    with pytest.raises(Unavailable):
        supply.lend(0.0)
    assert supply._held is None


def test_no_secret_is_printed(supply: Supply) -> None:
    supply.refresh()
    assert "secret" not in repr(supply._held) + repr(supply.supplied())


@pytest.fixture
def credentials(upstream: Upstream, clock: Clock) -> Iterator[Credentials]:
    credentials = Credentials(upstream, World(clock, lambda: 0.0, str))
    yield credentials
    credentials.offer(())


def test_grants_come_and_go(credentials: Credentials, upstream: Upstream) -> None:
    credentials.offer(("one", "two"))
    one = credentials.lend("one")
    credentials.lend("two")
    credentials.offer(("one", "three"))
    assert credentials.lend("one") == one, "what stays is not fetched again"
    credentials.lend("three")
    assert upstream.calls == 3
    with pytest.raises(Unavailable) as told:
        credentials.lend("two")
    assert told.value.refused
    assert [supplied.name for supplied in credentials.supplied()] == ["one", "three"]


# ── pace


def test_back_off_doubles_to_a_cap_with_jitter_and_begins_anew() -> None:
    low, high = Backoff(lambda: 0.0, cap=8), Backoff(lambda: 1.0, cap=8)
    assert [low.failed() for _ in range(6)] == [0.5, 1, 2, 4, 4, 4]
    assert [high.failed() for _ in range(6)] == [1, 2, 4, 8, 8, 8]
    high.reset()
    assert high.failed() == 1


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    backoff = Backoff(lambda: 0.5)
    assert backoff.failed(Problem("too_many_requests", 429, retry_after=20)) == 20.5
    assert backoff.failed(Problem("too_many_requests", 429, retry_after=1e9)) <= LONGEST + 1
    assert backoff.failed(Problem("too_many_requests", 429, retry_after=0)) == 3.0


def test_a_refusal_for_good_is_asked_more_and_more_rarely() -> None:
    lasting, passing = Backoff(lambda: 1.0), Backoff(lambda: 1.0)
    assert max(lasting.failed(Problem("ticket_used", 409)) for _ in range(5000)) == LONGEST
    assert max(passing.failed(Problem("draining", 503)) for _ in range(5000)) == 60.0


def test_part_of_life() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert part_of_life(begin, begin + timedelta(hours=24), 0.5) == begin + timedelta(hours=12)

"""What was vended is given again: to whom, for how long, and to nobody else. While AWS is away, what still lives."""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.adapters.sql.store import SqlStore
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import MARGIN, SHORTEST_LIFE, Order, is_fresh
from gateway.core.model import Flight, InstanceState, Lease, Profile, Session, SessionRequest
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.journal import Journal
from gateway.flows.vault import SealedSessions
from gateway.flows.vend import FLIGHT, Vend
from tests.gateway.flows.conftest import PROFILE, START, Gateway

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
READ_ONE = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/reports/a"}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def give(gateway: Gateway, identity: Identity, order: Order | None = None, vend: Vend | None = None) -> Lease:
    call = gateway.call()
    with gateway.journal.call(call.name, call.request_id, call.source) as opened:
        given = (vend or gateway.vend()).give(opened, identity, order or Order("reports"))
    assert given.session.access_key_id == given.lease.access_key_id
    assert given.session.expires_at == given.lease.expires_at
    return given.lease


def apply(gateway: Gateway, **changes: Any) -> None:
    """The profile, with changes in its one grant."""
    (grant,) = PROFILE["grants"]
    with gateway.store.read() as tx:
        before = tx.profiles.get(name="web")
    assert before is not None
    after = Profile("web", before.version + 1, {**PROFILE, "grants": [{**grant, **changes}]}, gateway.time(), "alice")
    assert gateway.store.write(lambda tx: tx.profiles.swap(before, after))


def reasons(gateway: Gateway) -> list[tuple[str, bool, str]]:
    """Kind, allowed and reason of what was recorded about vending."""
    return [
        (each["kind"], each["allowed"], each["reason"])
        for each in gateway.records()
        if each["name"] == "instance:credentials:vend"
    ]


# Given again


def test_who_asks_for_the_same_gets_the_same_and_aws_is_asked_once(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.time.passes(10 * MINUTE)
    assert give(gateway, identity) == first
    assert len(gateway.aws.asked) == 1
    assert reasons(gateway) == [
        ("decision", True, "ok"),
        ("intent", True, "asked"),
        ("outcome", True, "vended"),
        ("decision", True, "vended_again"),
    ]
    again = gateway.records()[-1]
    assert again["facts"]["lease"] == first.id
    assert again["facts"]["access_key_id"] == first.access_key_id


def test_it_outlives_the_process_and_is_shared_with_the_next_one(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    another = SqlStore(gateway.url, "another", gateway.time)
    try:
        there = replace(gateway, store=another, journal=Journal(another))
        assert give(there, identity).id == first.id
    finally:
        another.close()
    assert len(gateway.aws.asked) == 1


@pytest.mark.threat("D02")
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(Order("reports", seconds=900), id="duration"),
        pytest.param(Order("reports", policy=policy(READ_ONE)), id="policy"),
    ],
)
def test_D02_another_order_is_another_session(gateway: Gateway, order: Order) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    other = give(gateway, identity, order)
    assert other.id != first.id
    assert len(gateway.aws.asked) == 2
    assert [give(gateway, identity).id, give(gateway, identity, order).id] == [first.id, other.id]
    assert len(gateway.aws.asked) == 2


@pytest.mark.threat("D02")
@pytest.mark.parametrize(
    "changes",
    [
        {"role": "arn:aws:iam::111122223333:role/another"},
        {"region": "eu-west-1"},
        {"duration": "2h"},
        {"policy": policy(READ_ONE)},
        {"policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]},
        {"external_id": "theirs"},
        {"tags": {"team": "payments"}},
        {"session_name": "${instance.id}-web"},
        {"conditions": {"not_after": "2030-06-01T00:00:00Z"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_D02_a_grant_that_was_changed_gives_nothing_that_was_there_before(
    gateway: Gateway, changes: dict[str, Any]
) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    apply(gateway, **changes)
    assert give(gateway, identity).id != first.id
    apply(gateway)
    assert give(gateway, identity).id == first.id, "the control: as it was, it is the same again"


@pytest.mark.threat("D01", "D02")
def test_D02_another_instance_never_gets_it(gateway: Gateway) -> None:
    one, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    first, second = give(gateway, one), give(gateway, other)
    assert first.id != second.id
    assert [asked.session_name for asked in gateway.aws.asked] == [one.instance.instance_id, other.instance.instance_id]


@pytest.mark.threat("K01")
def test_K01_a_sealed_session_that_was_moved_to_another_lease_does_not_open(gateway: Gateway) -> None:
    one, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    first, second = give(gateway, one), give(gateway, other)
    moved = replace(second, sealed_session=first.sealed_session)
    assert gateway.store.write(lambda tx: tx.leases.swap(second, moved))
    with pytest.raises(Refusal) as refused:
        give(gateway, other)
    assert (refused.value.code, refused.value.reason) == ("internal_error", "sealed_value_altered")
    assert give(gateway, one).id == first.id


def test_what_lies_in_the_store_holds_no_secret_in_the_clear(gateway: Gateway) -> None:
    lease = give(gateway, gateway.enrolled())
    assert lease.sealed_session
    assert b"a secret" not in lease.sealed_session
    assert b"a token" not in lease.sealed_session


# How long


def lease_of(life: timedelta, id_: str = "0000" + "0" * 28) -> Lease:
    return Lease(id_, "i", "p", "g", "u", "r", "s", "A", START, START + life)


@pytest.mark.parametrize(
    ("life", "floor"), [(HOUR, MARGIN), (12 * HOUR, MARGIN), (15 * MINUTE, timedelta(minutes=7.5))]
)
def test_with_less_than_the_stated_life_left_it_is_not_given_again(life: timedelta, floor: timedelta) -> None:
    for id_ in ("0000" + "0" * 28, "8000" + "0" * 28, "ffff" + "0" * 28):
        lease = lease_of(life, id_)
        last = max(s for s in range(int(life.total_seconds())) if is_fresh(lease, START + timedelta(seconds=s)))
        left = life - timedelta(seconds=last)
        assert floor * 1.15 <= left <= floor * 1.36
    assert is_fresh(lease_of(life), START)


def test_those_made_together_are_not_renewed_together() -> None:
    at = START + HOUR - MARGIN * 1.25
    fresh = [is_fresh(lease_of(HOUR, f"{i:04x}" + "0" * 28), at) for i in range(0, 0x10000, 0x100)]
    assert 0.3 < sum(fresh) / len(fresh) < 0.7


def test_a_session_is_made_anew_before_the_old_one_is_of_no_use(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.time.passes(HOUR - MARGIN - MINUTE)  # when an agent comes for the next
    second = give(gateway, identity)
    assert second.id != first.id
    assert second.expires_at - gateway.time() > HOUR - timedelta(seconds=1)


def test_what_is_over_is_emptied(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.time.passes(50 * MINUTE)
    second = give(gateway, identity)
    gateway.time.passes(11 * MINUTE)
    Housekeeping(gateway.publish, gateway.store, gateway.time).tick()
    with gateway.store.read() as tx:
        kept = {lease.id: lease.sealed_session for lease in tx.leases.find()}
    assert kept == {first.id: None, second.id: second.sealed_session}


# Not to whom was cut off


@pytest.mark.threat("D15")
def test_D15_a_revocation_empties_it_and_who_comes_back_gets_another(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.revoke(identity.instance.instance_id)
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert refused.value.code == "instance_revoked"
    assert reasons(gateway)[-1] == ("decision", False, "revoked_while_vending")
    with gateway.store.read() as tx:
        now = tx.instances.get(id=identity.instance.id)
        (lease,) = tx.leases.find()
        certificate = tx.certificates.get(serial=identity.certificate.serial)
    assert now is not None
    assert certificate is not None
    assert lease.sealed_session is None
    # Even if it were not empty: from before this enrolment, it is another machine's.
    assert gateway.store.write(lambda tx: tx.leases.swap(lease, first))
    gateway.time.passes(MINUTE)
    back = replace(now, state=InstanceState.ENROLLED, enrolled_at=gateway.time())
    assert gateway.store.write(
        lambda tx: tx.instances.swap(now, back) and tx.certificates.swap(certificate, identity.certificate)
    )
    assert give(gateway, Identity(back, identity.certificate)).id != first.id


@pytest.mark.threat("D15")
def test_D15_who_is_revoked_at_the_very_moment_is_not_given_it_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = gateway.enrolled()
    give(gateway, identity)
    opened = SealedSessions.open

    def revoked_meanwhile(sealed: SealedSessions, lease: Lease) -> Session:
        gateway.revoke(identity.instance.instance_id)
        return opened(sealed, lease)

    monkeypatch.setattr(SealedSessions, "open", revoked_meanwhile)
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert (refused.value.code, refused.value.reason) == ("instance_revoked", "revoked_while_vending")


def test_a_way_that_the_grant_does_not_have(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    apply(gateway, doors=["container"])
    with pytest.raises(Refusal) as refused:
        give(gateway, identity, Order("reports", door="vault"))
    assert (refused.value.code, refused.value.reason) == ("grant_refused", "door")
    assert give(gateway, identity, Order("reports", door="container"))


def test_a_condition_counts_for_what_is_there_already(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    apply(gateway, conditions={"source_addresses": ["127.0.0.0/8"]})
    give(gateway, identity)
    call = replace(gateway.call(), source="192.0.2.1")
    with pytest.raises(Refusal) as refused:
        gateway.vend().give(call, identity, Order("reports"))
    assert refused.value.reason == "condition_source_address"
    assert len(gateway.aws.asked) == 1


# One call in flight


@pytest.mark.threat("D14", "J09")
def test_D14_many_who_ask_for_the_same_at_once_make_one_call(gateway: Gateway) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    go_on = threading.Event()
    gateway.aws.meanwhile = lambda: go_on.wait(10)
    second = SqlStore(gateway.url, "another", gateway.time)
    nodes = [gateway, replace(gateway, store=second, journal=Journal(second))]
    try:
        with ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(give, nodes[i % 2], (identity, other)[i % 4 // 2]) for i in range(24)]
            go_on.set()
            leases = {each.result(30).id for each in asked}
    finally:
        second.close()
    assert len(leases) == 2
    assert len(gateway.aws.asked) == 2
    with gateway.store.read() as tx:
        assert tx.flights.find() == []


def test_a_mint_whose_process_died_is_begun_again_when_its_time_is_over(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    plan = give(gateway, identity).plan_sha256
    assert plan
    gateway.time.passes(50 * MINUTE)
    lost = Flight(plan, "of a process that died", gateway.time() + FLIGHT)
    assert gateway.store.write(lambda tx: tx.flights.add(lost))
    gateway.time.passes(FLIGHT)
    give(gateway, identity)
    assert len(gateway.aws.asked) == 2
    with gateway.store.read() as tx:
        assert tx.flights.find() == []


def test_a_mint_that_took_too_long_leaves_the_next_one_alone(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    next_one: list[Flight] = []

    def too_long() -> None:
        gateway.time.passes(FLIGHT)
        with gateway.store.read() as tx:
            (mine,) = tx.flights.find()
        next_one.append(Flight(mine.key, "the next one", gateway.time() + FLIGHT))
        assert gateway.store.write(lambda tx: tx.flights.swap(mine, next_one[0]))

    gateway.aws.meanwhile = too_long
    give(gateway, identity)
    with gateway.store.read() as tx:
        assert tx.flights.find() == next_one


def test_who_waits_in_vain_is_told_to_come_back(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    assert first.plan_sha256
    gateway.time.passes(50 * MINUTE)
    another = Flight(first.plan_sha256, "another", gateway.time() + HOUR)
    assert gateway.store.write(lambda tx: tx.flights.add(another))
    monkeypatch.setattr("gateway.flows.vend._PATIENCE", 0.2)
    monkeypatch.setattr("gateway.flows.vend._TRIES", 0.1)
    assert give(gateway, identity).id == first.id, "what lives is given meanwhile"
    assert reasons(gateway)[-1] == ("decision", True, "vended_while_aws_away")
    gateway.time.now = first.expires_at - SHORTEST_LIFE / 2
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert (refused.value.code, refused.value.reason) == ("upstream_unavailable", "mint_failed")
    assert refused.value.retry_after
    assert len(gateway.aws.asked) == 1


@pytest.mark.threat("D13", "D14")
def test_one_instance_cannot_use_up_the_patience_of_sts(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.flows.vend.MOST_LIVE", 2)
    identity, other = gateway.enrolled(), gateway.enrolled("i-0123456789abcdef1")
    first = give(gateway, identity)
    give(gateway, identity, Order("reports", seconds=900))
    with pytest.raises(Refusal) as refused:
        give(gateway, identity, Order("reports", seconds=901))
    assert (refused.value.code, refused.value.reason) == ("too_many_requests", "leases_too_many")
    assert give(gateway, identity).id == first.id, "what is there is given all the same"
    assert give(gateway, other)
    gateway.time.passes(16 * MINUTE)
    assert give(gateway, identity, Order("reports", seconds=901)), "one of them is over"


# While AWS is away


def away(code: str = "upstream_unavailable") -> Callable[[], None]:
    def fail() -> None:
        raise Refusal(code, reason="aws_later", retry_after=5)

    return fail


@pytest.mark.threat("D13")
def test_D13_while_aws_is_away_what_lives_is_given_and_the_log_says_so(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.time.passes(50 * MINUTE)
    gateway.aws.meanwhile = away()
    with caplog.at_level(logging.WARNING):
        assert give(gateway, identity).id == first.id
    assert f"lease {first.id} is given again" in caplog.text
    assert reasons(gateway)[-3:] == [
        ("decision", True, "ok"),
        ("intent", True, "asked"),
        ("outcome", True, "vended_while_aws_away"),
    ]
    gateway.aws.meanwhile = lambda: None
    assert give(gateway, identity).id != first.id, "and when it is back, there is a new one at once"


@pytest.mark.threat("D05", "D13")
def test_D05_what_is_nearly_over_is_given_to_nobody(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = give(gateway, identity)
    gateway.aws.meanwhile = away()
    gateway.time.now = first.expires_at - SHORTEST_LIFE
    assert give(gateway, identity).id == first.id
    gateway.time.now += timedelta(microseconds=1)
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert refused.value.code == "upstream_unavailable"
    with gateway.store.read() as tx:
        assert tx.flights.find() == [], "the next one may try at once"


def test_when_aws_says_no_what_lives_is_not_given_either(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    give(gateway, identity)
    gateway.time.passes(50 * MINUTE)
    gateway.aws.meanwhile = away("upstream_refused")
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert refused.value.code == "upstream_refused"


@pytest.mark.threat("D15")
def test_D15_who_was_revoked_while_aws_is_away_gets_nothing(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    give(gateway, identity)
    gateway.time.passes(50 * MINUTE)

    def revoked_and_away() -> None:
        after = replace(identity.instance, state=InstanceState.REVOKED, revoked_at=gateway.time())
        assert gateway.store.write(lambda tx: tx.instances.swap(identity.instance, after))
        raise Refusal("upstream_unavailable")

    gateway.aws.meanwhile = revoked_and_away
    with pytest.raises(Refusal) as refused:
        give(gateway, identity)
    assert refused.value.code == "instance_revoked"


@pytest.mark.threat("D05")
def test_D05_a_session_of_another_length_lets_the_next_one_try(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    right: Callable[[SessionRequest], datetime] = gateway.aws.ends
    gateway.aws.ends = lambda request: right(request) - HOUR
    with pytest.raises(Refusal):
        give(gateway, identity)
    gateway.aws.ends = right
    assert give(gateway, identity)

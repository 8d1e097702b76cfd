"""Launching: what is sent and what is kept, what is refused, and what happens when it breaks off in between."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from gateway.core.admission import check_ticket
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.model import KeyState, Profile, TicketState
from gateway.core.revocation import WHOLE
from gateway.flows.launch import Order
from tests.gateway.adapters.test_secret_detector import SECRETS
from tests.gateway.flows.conftest import ACCOUNT, PROFILE, REGION
from tests.gateway.flows.fleet import ALICE, ANYTHING, FAR, LAUNCH, Fleet, fleet_fixture, only  # noqa: F401  # a fixture

MINE, OTHERS = "i-00000000000000001", "i-0fedcba9876543210"


def test_a_machine_is_launched_with_a_ticket_that_is_for_it_alone(fleet: Fleet) -> None:
    (server,) = fleet.launch(name="web").servers
    (order,) = fleet.fake.orders
    assert (server.machine.instance_id, server.machine.image, server.profile) == (MINE, LAUNCH["image"], "web")
    assert order.tags == {"team": "a", "Name": "web"}
    assert order.user_data.splitlines() == ["#cloud-config", order.user_data.splitlines()[-1]]
    (secret,) = fleet.tickets_sent()
    (ticket,) = fleet.rows("tickets")
    assert ticket.sha256 == sha256(secret.encode()).hexdigest()
    assert (ticket.state, ticket.instance_id, ticket.profile) == (TicketState.OPEN, MINE, "web")
    now = fleet.gateway.time()
    assert check_ticket(ticket, MINE, "k", now) is ticket
    with pytest.raises(Refusal):
        check_ticket(ticket, OTHERS, "k", now)
    (row,) = fleet.rows("launches")
    assert (row.id, row.profile, row.ticket, row.by) == (
        server.machine.id,
        "web",
        ticket.id,
        "spiffe://td/operator/alice",
    )


def test_what_is_recorded_holds_no_ticket(fleet: Fleet) -> None:
    fleet.launch(user_data="#!/bin/sh\necho a-text-of-the-operators\n")
    decision, _, outcome = records = fleet.told(Name.OPERATOR_SERVER_LAUNCH)
    assert [each["kind"] for each in records] == ["decision", "intent", "outcome"]
    assert (decision["facts"]["account"], decision["facts"]["region"]) == (ACCOUNT, REGION)
    assert outcome["facts"]["aws_request_id"]
    (secret,) = fleet.tickets_sent()
    assert secret not in str(records)
    assert "operators" not in str([each["facts"] for each in records])


def test_several_have_a_ticket_each_and_numbered_names(fleet: Fleet) -> None:
    done = fleet.launch(count=20, name="web")
    assert sorted(each.machine.name for each in done.servers) == sorted(f"web-{i}" for i in range(1, 21))
    assert len(set(fleet.tickets_sent())) == len({order.client_token for order in fleet.fake.orders}) == 20
    assert {row.instance_id for row in fleet.rows("tickets")} == {each.machine.instance_id for each in done.servers}


def test_the_profiles_user_data_is_sent_unless_the_order_has_its_own(fleet: Fleet) -> None:
    fleet.profile(user_data="#!/bin/sh\necho profile\n")
    fleet.launch()
    fleet.launch(user_data="#!/bin/sh\necho order\n")
    first, second = fleet.fake.orders
    assert first.user_data.splitlines()[:-1] == ["#!/bin/sh", "echo profile"]
    assert second.user_data.splitlines()[:-1] == ["#!/bin/sh", "echo order"]


@pytest.mark.parametrize("what", SECRETS)
def test_user_data_with_a_secret_in_it_is_refused_and_never_told(fleet: Fleet, what: str) -> None:
    refusal = fleet.refused(user_data=f"#!/bin/sh\n{SECRETS[what]}\n")
    assert refusal.code == "user_data_refused"
    assert all(fault.startswith("user_data, line ") for fault in refusal.faults)
    assert (fleet.fake.orders, fleet.rows("tickets"), fleet.rows("launches")) == ([], [], [])
    (record,) = fleet.told(Name.OPERATOR_SERVER_LAUNCH)
    assert (record["kind"], record["allowed"], record["facts"]["code"]) == ("decision", False, "user_data_refused")
    told = f"{record} {refusal} {refusal.detail} {refusal.faults} {refusal.context}"
    assert not [word for word in SECRETS[what].split() if len(word) >= 12 and word in told]


def test_a_secret_that_came_into_a_profile_is_not_launched_with(fleet: Fleet) -> None:
    """By an older gateway, whose detector knew less: `profile apply` refuses it today."""
    fleet.profile(user_data=SECRETS["AWS secret, not quoted"])
    assert fleet.refused().code == "user_data_refused"


@pytest.mark.parametrize("extra", ["#trusted-gateway {}", "a\0b", "x" * 15361])
def test_user_data_that_is_none_is_refused(fleet: Fleet, extra: str) -> None:
    assert fleet.refused(user_data=extra).code == "malformed_request"
    assert fleet.fake.orders == []


@pytest.mark.threat("G10")
@pytest.mark.parametrize(
    "place",
    [{"regions": [FAR]}, {"tags": {"team": "b"}}, {"tags": {"Name": "batch-*"}}, {"accounts": ["444455556666"]}],
)
def test_G10_nothing_is_launched_outside_the_conditions(fleet: Fleet, place: dict[str, Any]) -> None:
    refusal = fleet.refused(only(**place), name="web")
    assert (refusal.code, refusal.reason) == ("operator_forbidden", "server_outside_conditions")
    assert (fleet.fake.orders, fleet.rows("tickets")) == ([], [])
    inside = only(regions=[REGION], accounts=[ACCOUNT], tags={"team": "a", "Name": "web*"})
    assert len(fleet.launch(inside, name="web", count=2).servers) == 2


def test_a_profile_has_to_say_how(fleet: Fleet) -> None:
    fleet.apply(PROFILE)
    assert fleet.refused().code == "launch_missing"
    fleet.profile(region="ap-south-1")
    assert (fleet.refused().code, fleet.refused().reason) == ("launch_missing", "launch_region")
    fleet.profile(region=FAR)
    assert fleet.launch().servers[0].machine.region == FAR


def test_a_revoked_profile_launches_nothing(fleet: Fleet) -> None:
    def stop(tx: Any) -> bool:
        row = tx.profiles.get(name="web")
        return bool(tx.profiles.swap(row, replace(row, revoked={WHOLE: "2030-01-01T00:00:00Z"})))

    assert fleet.gateway.store.write(stop)
    assert (fleet.refused().code, fleet.refused().reason) == ("profile_unknown", "profile_revoked")


def test_a_profile_that_changes_under_a_launch_launches_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fleet.launches._seat

    def meanwhile(*arguments: Any) -> Any:
        fleet.profile(type="t3.large")
        return real(*arguments)

    monkeypatch.setattr(fleet.launches, "_seat", meanwhile)
    assert (fleet.refused().code, fleet.fake.orders, fleet.rows("tickets")) == ("conflict", [], [])


def test_a_disabled_key_launches_nothing(fleet: Fleet) -> None:
    fleet.key("main", state=KeyState.DISABLED)
    assert fleet.refused().code == "upstream_key_disabled"
    assert fleet.fake.orders == []


def test_the_same_idempotency_key_launches_nothing_twice(fleet: Fleet) -> None:
    first = fleet.launch(key="k", count=2)
    again = fleet.launch(key="k", count=2)
    assert [each.machine.id for each in first.servers] == [each.machine.id for each in again.servers]
    assert (len(fleet.fake.machines), len(fleet.fake.orders), len(fleet.rows("tickets"))) == (2, 2, 2)
    other = fleet.launch(key="another")
    assert other.servers[0].machine.id not in {each.machine.id for each in first.servers}
    fleet.launch()
    fleet.launch()
    assert len(fleet.fake.machines) == 5


def test_a_key_that_is_free_again_finds_no_ticket_of_another_order(fleet: Fleet) -> None:
    """AWS refuses the first order, and the desk lets the key go; the next order under it is of another profile."""

    def no(what: str, _: str) -> None:
        raise Refusal("upstream_refused", "AWS answered 'InsufficientInstanceCapacity'", aws_code="Insufficient")

    document = {**PROFILE, "name": "small", "launch": LAUNCH}
    small = Profile("small", 1, document, fleet.gateway.time(), ALICE)
    assert fleet.gateway.store.write(lambda tx: tx.profiles.add(small))
    likes, fleet.fake.refuses = fleet.fake.refuses, no
    assert fleet.refused(key="k").code == "upstream_refused"
    fleet.fake.refuses = likes
    call = fleet.call(Name.OPERATOR_SERVER_LAUNCH)
    (server,) = fleet.launches.run(call, ANYTHING, Order("small"), "k").servers
    (sent,) = fleet.tickets_sent()[-1:]
    with fleet.gateway.store.read() as tx:
        ticket = tx.tickets.get(sha256=sha256(sent.encode()).hexdigest())
    assert ticket
    assert (ticket.profile, ticket.instance_id) == ("small", server.machine.instance_id)


@pytest.mark.parametrize("redeemed", [False, True])
def test_a_crash_behind_aws_is_resumed_with_the_same_machine(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, redeemed: bool
) -> None:
    """The machine is there, and neither its row nor its outcome was written. It may have enrolled meanwhile."""

    def crash(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fleet.launches, "_remember", crash)
        with pytest.raises(KeyboardInterrupt):
            fleet.launch(key="k")
    assert (len(fleet.fake.machines), fleet.rows("launches")) == (1, [])
    (ticket,) = fleet.rows("tickets")
    assert (ticket.state, ticket.instance_id) == (TicketState.OPEN, None)
    if redeemed:
        fleet.gateway.store.write(lambda tx: tx.tickets.swap(ticket, _redeemed(ticket, MINE)))
    fleet.gateway.time.passes(timedelta(minutes=20))
    (server,) = fleet.launch(key="k").servers
    assert server.machine.instance_id == MINE
    assert (len(fleet.fake.machines), len(set(fleet.tickets_sent()))) == (1, 1)
    (ticket,) = fleet.rows("tickets")
    assert ticket.instance_id == MINE
    assert redeemed or ticket.expires_at > fleet.gateway.time()


def _redeemed(ticket: Any, instance_id: str) -> Any:
    name = f"spiffe://td/aws/{ACCOUNT}/{REGION}/{instance_id}"
    return replace(ticket, state=TicketState.REDEEMED, redeemed_by=name, key_sha256="k", serial="1")


def test_a_ticket_that_leaked_and_was_used_is_noticed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fleet.fake.run

    def run(*arguments: Any) -> Any:
        made = real(*arguments)
        (ticket,) = fleet.rows("tickets")
        fleet.gateway.store.write(lambda tx: tx.tickets.swap(ticket, _redeemed(ticket, OTHERS)))
        return made

    monkeypatch.setattr(fleet.fake, "run", run)
    fleet.launch()
    *_, outcome = fleet.told(Name.OPERATOR_SERVER_LAUNCH)
    assert outcome["facts"]["ticket_redeemed_by"].endswith(OTHERS)
    (ticket,) = fleet.rows("tickets")
    assert ticket.instance_id is None


def test_a_ticket_that_was_revoked_meanwhile_stays_so(fleet: Fleet) -> None:
    fleet.launch(key="k")
    (ticket,) = fleet.rows("tickets")
    fleet.gateway.store.write(lambda tx: tx.tickets.swap(ticket, replace(ticket, state=TicketState.REVOKED)))
    with pytest.raises(Refusal) as caught:
        fleet.launch(key="k")
    assert (caught.value.code, caught.value.reason) == ("conflict", "ticket_revoked")


def test_what_aws_refuses_leaves_a_ticket_that_nobody_has_and_that_ends(fleet: Fleet) -> None:
    def no(what: str, _: str) -> None:
        raise Refusal("upstream_refused", "AWS answered 'InsufficientInstanceCapacity'", aws_code="Insufficient")

    fleet.fake.refuses = no
    assert fleet.refused().code == "upstream_refused"
    *_, outcome = fleet.told(Name.OPERATOR_SERVER_LAUNCH)
    assert (outcome["kind"], outcome["allowed"]) == ("outcome", False)
    assert fleet.rows("launches") == []
    (ticket,) = fleet.rows("tickets")
    assert ticket.expires_at == fleet.gateway.time() + timedelta(minutes=15)


def test_when_some_are_refused_the_others_are_told(fleet: Fleet) -> None:
    asked: list[str] = []

    def second(what: str, _: str) -> None:
        asked.append(what)
        if len(asked) == 2:
            raise Refusal("upstream_refused", "AWS answered 'InstanceLimitExceeded'")

    fleet.fake.refuses = second
    done = fleet.launch(count=3)
    assert (len(done.servers), [each.code for each in done.refused]) == (2, ["upstream_refused"])
    outcomes = [each["allowed"] for each in fleet.told(Name.OPERATOR_SERVER_LAUNCH) if each["kind"] == "outcome"]
    assert sorted(outcomes) == [False, True, True]

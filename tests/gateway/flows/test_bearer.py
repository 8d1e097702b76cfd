"""Bearer tokens by the second: how long one lasts, whom it serves, how many there may be, and what is left of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.adapters import clock
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import CertificateState, InstanceState
from gateway.flows import pruning
from gateway.flows.bearer import LIFE, MOST, Bearer, Given
from gateway.flows.housekeeping import Housekeeping
from gateway.wire.secret import Secret
from tests.gateway.flows.conftest import Gateway

SECOND = timedelta(seconds=1)


def flow(gateway: Gateway) -> Bearer:
    return Bearer(gateway.store, gateway.journal, gateway.time, clock.random_bytes)


def given(gateway: Gateway, identity: Identity) -> Given:
    call = gateway.call(Name.INSTANCE_TOKEN_CREATE)
    with gateway.journal.call(call.name, call.request_id, call.source) as opened:
        return flow(gateway).create(opened, identity)


def refused(gateway: Gateway, identity: Identity, secret: Secret) -> str:
    with pytest.raises(Refusal) as found:
        flow(gateway).check(gateway.call(), identity, secret)
    assert found.value.code == "token_refused"
    return found.value.reason


@pytest.mark.parametrize(
    ("certificate", "token"),
    [(timedelta(hours=24), LIFE), (LIFE, LIFE), (timedelta(minutes=20), timedelta(minutes=20))],
)
def test_a_token_lasts_an_hour_and_never_longer_than_its_certificate(
    gateway: Gateway, certificate: timedelta, token: timedelta
) -> None:
    identity = gateway.enrolled(life=certificate)
    made = given(gateway, identity)
    assert made.row.expires_at <= identity.certificate.not_after
    assert timedelta(0) <= gateway.time() + token - made.row.expires_at <= SECOND, "certificates count whole seconds"
    gateway.time.now = made.row.expires_at - timedelta(microseconds=1)
    assert flow(gateway).check(gateway.call(), identity, made.secret) == made.row
    gateway.time.now = made.row.expires_at
    assert refused(gateway, identity, made.secret) == "token_expired"


@pytest.mark.threat("D01")
def test_D01_a_token_serves_the_certificate_that_it_was_given_to(gateway: Gateway) -> None:
    """Not another instance's, and not another one of the same instance."""
    identity, other = gateway.enrolled(), gateway.enrolled("i-0fedcba9876543210")
    made = given(gateway, identity)
    assert refused(gateway, other, made.secret) == "token_of_another_certificate"
    second = Identity(identity.instance, other.certificate)
    assert refused(gateway, second, made.secret) == "token_of_another_certificate"
    foreign = Identity(other.instance, identity.certificate)
    assert refused(gateway, foreign, made.secret) == "token_of_another_certificate"
    assert flow(gateway).check(gateway.call(), identity, made.secret) == made.row


def test_no_token_and_an_unknown_one_are_told_apart_in_the_log_only(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    assert refused(gateway, identity, Secret("")) == "token_missing"
    assert refused(gateway, identity, Secret("s." + "A" * 43)) == "token_unknown"


def test_every_token_is_another_and_of_256_bits(gateway: Gateway) -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return clock.random_bytes(count)

    identity, found = gateway.enrolled(), set()
    for _ in range(5):
        made = Bearer(gateway.store, gateway.journal, gateway.time, random).create(gateway.call(), identity)
        with made.secret as plain:
            found.add(plain)
            assert plain.decode() not in f"{made} {made.secret!r} {made.row}"
    assert (len(found), asked) == (5, [32] * 5)


def test_of_too_many_the_oldest_goes_and_only_of_this_instance(gateway: Gateway) -> None:
    identity, other = gateway.enrolled(), gateway.enrolled("i-0fedcba9876543210")
    others = given(gateway, other)
    made = []
    for _ in range(MOST + 2):
        gateway.time.passes(SECOND)
        made.append(given(gateway, identity))
    assert [refused(gateway, identity, each.secret) for each in made[:2]] == ["token_unknown"] * 2
    assert all(flow(gateway).check(gateway.call(), identity, each.secret) for each in made[2:])
    assert flow(gateway).check(gateway.call(), other, others.secret)


@pytest.mark.threat("B05")
@pytest.mark.parametrize("state", ["revoked", "superseded", "instance revoked"])
def test_B05_who_lost_standing_meanwhile_gets_no_token(gateway: Gateway, state: str) -> None:
    """The caller was identified before; the transaction looks again."""
    identity = gateway.enrolled()
    instance, certificate = identity.instance, identity.certificate
    with gateway.store.read() as tx:
        row, paper = tx.instances.get(id=instance.id), tx.certificates.get(serial=certificate.serial)
    assert row
    assert paper
    if state == "instance revoked":
        changed = replace(row, state=InstanceState.REVOKED)
        assert gateway.store.write(lambda tx: tx.instances.swap(row, changed))
    else:
        ended = replace(paper, state=CertificateState(state))
        assert gateway.store.write(lambda tx: tx.certificates.swap(paper, ended))
    with pytest.raises(Refusal):
        given(gateway, identity)
    with gateway.store.read() as tx:
        assert tx.bearer_tokens.find() == []
    assert [(each["kind"], each["allowed"]) for each in gateway.records()[-1:]] == [("decision", False)]


def test_revoking_twice_is_refused_and_recorded(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    made = given(gateway, identity)
    call = gateway.call(Name.INSTANCE_TOKEN_REVOKE)
    flow(gateway).revoke(call, identity, made.secret)
    assert gateway.records()[-1]["object"] == f"token/{made.row.sha256[:16]}"
    again = gateway.call(Name.INSTANCE_TOKEN_REVOKE)
    with pytest.raises(Refusal), gateway.journal.call(again.name, again.request_id, again.source) as opened:
        flow(gateway).revoke(opened, identity, made.secret)
    last = gateway.records()[-1]
    assert (last["kind"], last["allowed"], last["reason"]) == ("decision", False, "token_unknown")


def test_housekeeping_forgets_what_is_over_and_nothing_else(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    identity = gateway.enrolled()
    for _ in range(5):
        given(gateway, identity)
    gateway.time.passes(timedelta(minutes=30))
    young = [given(gateway, identity).row.sha256 for _ in range(3)]
    keeping = Housekeeping(gateway.publish, gateway.store, gateway.time)
    for _ in range(5):
        keeping.tick()
    assert len(kept(gateway)) == 8, "nothing was over"
    gateway.time.passes(timedelta(minutes=30))
    for _ in range(5):  # two at a time, and round again
        keeping.tick()
    assert kept(gateway) == sorted(young)


def kept(gateway: Gateway) -> list[str]:
    with gateway.store.read() as tx:
        return [row.sha256 for row in tx.bearer_tokens.find()]

"""Vending by the minute: what AWS's answer must be to be handed out, and what happens while it is made."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import CertificateState, InstanceState
from gateway.flows.vend import SKEW
from gateway.wire.messages import CredentialsAnswer, CredentialsRequest, instant
from tests.gateway.flows.conftest import Gateway

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


def vend(gateway: Gateway, identity: Identity, seconds: int | None = None) -> CredentialsAnswer:
    call = gateway.call()
    with gateway.journal.call(call.name, call.request_id, call.source) as opened:
        return gateway.vend().vend(opened, identity, CredentialsRequest("reports", seconds))


@pytest.mark.threat("D05")
@pytest.mark.parametrize(
    ("differs", "handed_out"),
    [
        (timedelta(0), True),
        (SKEW, True),
        (SKEW + SECOND, False),
        (SECOND - SKEW, True),
        (-SKEW - SECOND, False),
        (-HOUR, False),
        (timedelta(days=36525), False),
    ],
)
@pytest.mark.parametrize("seconds", [None, 900])
def test_D05_a_session_is_handed_out_only_if_it_lasts_as_asked(
    gateway: Gateway, differs: timedelta, handed_out: bool, seconds: int | None
) -> None:
    identity = gateway.enrolled()
    gateway.time.passes(timedelta(milliseconds=750))  # to a whole second, as AWS's ends are
    gateway.aws.ends = lambda request: gateway.time() + request.duration + differs
    if handed_out:
        answer = vend(gateway, identity, seconds)
        with gateway.store.read() as tx:
            (lease,) = tx.leases.find()
        assert instant(lease.expires_at) == answer.expiration
        assert gateway.records()[-1]["reason"] == "vended"
        return
    with pytest.raises(Refusal) as refused:
        vend(gateway, identity, seconds)
    assert (refused.value.code, refused.value.reason) == ("upstream_refused", "session_of_another_length")
    with gateway.store.read() as tx:
        assert tx.leases.find() == []
    *_, decision, intent, outcome = gateway.records()
    assert [each["kind"] for each in (decision, intent, outcome)] == ["decision", "intent", "outcome"]
    assert outcome["facts"]["access_key_id"] == "ASIA1", "what AWS may honour is on record"


@pytest.mark.threat("D15")
def test_what_is_cut_off_while_the_session_is_made_is_given_to_nobody(gateway: Gateway) -> None:
    identity = gateway.enrolled()

    def revoke_instance() -> None:
        after = replace(identity.instance, state=InstanceState.REVOKED, revoked_at=gateway.time())
        assert gateway.store.write(lambda tx: tx.instances.swap(identity.instance, after))

    gateway.aws.meanwhile = revoke_instance
    with pytest.raises(Refusal) as refused:
        vend(gateway, identity)
    assert (refused.value.code, refused.value.reason) == ("instance_revoked", "revoked_while_vending")

    other = gateway.enrolled("i-0123456789abcdef1")

    def revoke_certificate() -> None:
        after = replace(other.certificate, state=CertificateState.REVOKED, revoked_at=gateway.time())
        assert gateway.store.write(lambda tx: tx.certificates.swap(other.certificate, after))

    gateway.aws.meanwhile = revoke_certificate
    with pytest.raises(Refusal) as refused:
        vend(gateway, other)
    assert refused.value.reason == "revoked_while_vending"
    with gateway.store.read() as tx:
        assert len(tx.leases.find()) == 2, "AWS honours them: they are on record"
    assert [each["allowed"] for each in gateway.records() if each["kind"] == "outcome"] == [False, False]


def test_a_certificate_renewed_meanwhile_is_no_reason_to_refuse(gateway: Gateway) -> None:
    identity = gateway.enrolled()

    def renew() -> None:
        after = replace(identity.certificate, state=CertificateState.SUPERSEDED, successor="1")
        assert gateway.store.write(lambda tx: tx.certificates.swap(identity.certificate, after))

    gateway.aws.meanwhile = renew
    assert vend(gateway, identity).access_key_id == "ASIA1"

"""Who gets past the desk: the operator of the certificate, with the roles of the store, from here, at this time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certs import keys
from certs.names import OperatorName
from certs.profiles import OPERATOR
from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.core.model import CertificateState
from gateway.core.operator_model import Launch, Operator, OperatorState, Role
from gateway.core.revocation import Target
from gateway.flows.admit import Admit, Admitted
from gateway.flows.identify import Identify
from gateway.ports import Transaction
from tests.gateway.flows.conftest import Gateway

LIST = Name.OPERATOR_SERVER_LIST


def certified(gateway: Gateway, name: str, *roles: str, **document: Any) -> bytes:
    """An operator with a certificate (DER)."""
    row = Operator(name, {"roles": list(roles), **document}, 1, OperatorState.ACTIVE, gateway.time(), "")
    key, subject = keys.generate().public_key(), OperatorName("td", name)
    made = gateway.issue.certificate("services", OPERATOR, subject, key, gateway.time(), timedelta(hours=12))
    assert gateway.store.write(lambda tx: tx.operators.add(row) and tx.certificates.add(made))
    return made.der


def admit(gateway: Gateway, der: bytes | None, permission: Name = LIST, source: str = "127.0.0.1") -> Admitted:
    call = replace(gateway.call(permission), source=source)
    return Admit(gateway.store, Identify(gateway.store, gateway.time), gateway.time).operator(call, der, permission)


def refused(gateway: Gateway, der: bytes | None, permission: Name = LIST, **more: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as found:
        admit(gateway, der, permission, **more)
    return found.value.code, found.value.reason


def test_a_role_of_the_store_counts_from_the_next_request_on(gateway: Gateway) -> None:
    der = certified(gateway, "bob", "fleet")
    assert refused(gateway, der) == ("operator_forbidden", "permission_missing")
    row = Role("fleet", {"permissions": ["operator:server:list"], "regions": ["eu-central-1"]}, 1, gateway.time(), "")
    assert gateway.store.write(lambda tx: tx.roles.add(row))
    rights = admit(gateway, der).rights
    assert rights.covers(LIST, "111122223333", "eu-central-1", {})
    assert not rights.covers(LIST, "111122223333", "us-east-1", {})
    assert refused(gateway, der, Name.OPERATOR_SERVER_STOP)[1] == "permission_missing"
    assert gateway.store.write(lambda tx: tx.roles.remove(row))
    assert refused(gateway, der)[1] == "permission_missing"


def test_conditions_are_asked_with_the_clock_and_the_peer(gateway: Gateway) -> None:
    # The gateway's clock stands on Tuesday 2030-01-01, 12:00 UTC.
    der = certified(gateway, "bob", "monitor", hours=["tue 12:00-13:00 UTC"], source_addresses=["10.0.0.0/8"])
    assert admit(gateway, der, source="10.0.0.1").operator.name == "bob"
    assert refused(gateway, der, source="127.0.0.1") == ("operator_forbidden", "source_address")
    gateway.time.passes(timedelta(hours=1))
    assert refused(gateway, der, source="10.0.0.1") == ("operator_forbidden", "outside_hours")


def revoke(gateway: Gateway) -> None:
    gateway.revoke("bob", Target.OPERATOR)


def end_certificate(gateway: Gateway) -> None:
    with gateway.store.read() as tx:
        (certificate,) = tx.certificates.find(subject=OperatorName("td", "bob").uri)
    gateway.revoke(certificate.serial, Target.CERTIFICATE)


def demote(gateway: Gateway) -> None:
    with gateway.store.read() as tx:
        bob = tx.operators.get(name="bob")
    assert bob
    assert gateway.store.write(lambda tx: tx.operators.swap(bob, replace(bob, document={"roles": []}, version=2)))


def narrow(gateway: Gateway) -> None:
    with gateway.store.read() as tx:
        row = tx.roles.get(name="fleet")
    assert row
    narrower = {**row.document, "regions": ["eu-central-1"]}
    assert gateway.store.write(lambda tx: tx.roles.swap(row, replace(row, document=narrower, version=2)))


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (lambda _: None, None),
        (revoke, "certificate_revoked"),
        (end_certificate, "certificate_revoked"),
        (demote, "permission_missing"),
        (narrow, "rights_changed"),
        (lambda gateway: gateway.time.passes(timedelta(hours=1)), "outside_hours"),
        (lambda gateway: gateway.time.passes(timedelta(hours=13)), "certificate_expired"),
    ],
)
def test_nothing_is_done_behind_a_revocations_back(
    gateway: Gateway, meanwhile: Callable[[Gateway], object], reason: str | None
) -> None:
    """What happens between the desk and the transaction that decides counts for that."""
    der = certified(gateway, "bob", "fleet", hours=["tue 12:00-13:00 UTC"])
    row = Role("fleet", {"permissions": ["operator:server:list"]}, 1, gateway.time(), "")
    assert gateway.store.write(lambda tx: tx.roles.add(row))
    asked = replace(gateway.call(LIST), source="127.0.0.1")
    done = Launch("aws/1/r/i-1", "1", "r", "i-1", "web", None, "bob", gateway.time())

    def unit(tx: Transaction) -> None:
        assert tx.launches.add(done)
        tx.audit.append(call.event(Kind.DECISION))

    found = None
    try:
        with gateway.journal.call(asked.name, asked.request_id, asked.source) as call:
            Admit(gateway.store, Identify(gateway.store, gateway.time), gateway.time).operator(call, der, LIST)
            meanwhile(gateway)
            gateway.journal.write(call, unit)
    except Refusal as refusal:
        found = refusal.reason
    assert found == reason
    record = gateway.records()[-1]
    assert (record["kind"], record["allowed"], record["reason"]) == ("decision", reason is None, reason or "ok")
    with gateway.store.read() as tx:
        assert tx.launches.find() == ([] if reason else [done])


def test_who_is_none_gets_nothing(gateway: Gateway) -> None:
    der = certified(gateway, "bob", "administrator")
    assert admit(gateway, der).rights.permits(Name.OPERATOR_KEY_ROTATE)
    assert refused(gateway, None)[0] == "certificate_required"
    with gateway.store.read() as tx:
        bob, certificate = tx.operators.get(name="bob"), tx.certificates.get(subject=OperatorName("td", "bob").uri)
    assert bob
    assert certificate
    gone = replace(bob, state=OperatorState.REVOKED)
    assert gateway.store.write(lambda tx: tx.operators.swap(bob, gone))
    assert refused(gateway, der) == ("operator_forbidden", "operator_revoked")
    odd = replace(gone, state=OperatorState.ACTIVE, document={"roles": ["administrator"], "is_admin": True})
    assert gateway.store.write(lambda tx: tx.operators.swap(gone, odd))
    assert refused(gateway, der) == ("operator_forbidden", "operator_outdated")
    old = replace(certificate, state=CertificateState.REVOKED)
    assert gateway.store.write(lambda tx: tx.certificates.swap(certificate, old))
    assert refused(gateway, der)[0] == "certificate_revoked"


@pytest.mark.threat("G01")
def test_G01_an_instances_certificate_is_no_operators(gateway: Gateway) -> None:
    assert refused(gateway, gateway.enrolled().certificate.der)[0] == "certificate_unknown"

"""Revocation when what follows it goes wrong, and the CRL in time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from certs import chain
from certs.errors import ChainRefused
from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order as LeaseOrder
from gateway.core.model import CertificateState, InstanceState
from gateway.core.operator_model import PlanState
from gateway.core.revocation import Target
from gateway.flows.housekeeping import Housekeeping
from gateway.flows.journal import Call
from gateway.flows.publish import EVERY, NEXT_UPDATE, Publish
from gateway.flows.revoke import Order
from gateway.ports import Transaction
from gateway.wire.messages import instant
from tests.gateway.flows.conftest import Gateway


def revoke(gateway: Gateway, identity: Identity) -> dict[str, Any]:
    return gateway.revoke(identity.instance.instance_id)


def layer(receipt: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in receipt["layers"] if each["layer"] == name)
    return found


def crl_number(receipt: dict[str, Any]) -> int:
    number: int = layer(receipt, "crl")["facts"]["number"]
    return number


def listed(gateway: Gateway) -> set[str]:
    crl = x509.load_der_x509_crl(gateway.publish.current().der)
    return {f"{entry.serial_number:x}" for entry in crl}


class Failing(Publish):
    """Fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def due(self) -> bool:
        self.asked += 1
        return True

    def crl(self, *, only_if_due: bool = False) -> int:
        raise self.error


@pytest.mark.threat("B09")
@pytest.mark.parametrize("error", [Refusal("store_unavailable"), ValueError("of the linter"), OSError("of the disk")])
def test_B09_whatever_becomes_of_the_crl_the_revocation_is_done_and_said_so(gateway: Gateway, error: Exception) -> None:
    identity = gateway.enrolled()
    with gateway.journal.call(Name.OPERATOR_INSTANCE_REVOKE, "r", None) as call:
        order = Order(Target.INSTANCE, identity.instance.instance_id)
        receipt = gateway.revoking(Failing(error)).revoke(call, order)
    tried = layer(receipt, "crl")
    why = error.reason if isinstance(error, Refusal) else type(error).__name__
    assert (tried["state"], tried["problem"], tried["tries"]) == ("trying", why, 1)
    assert layer(receipt, "gateway")["state"] == "done"
    assert receipt["state"] == "running"
    with gateway.store.read() as tx:
        found = tx.instances.get(id=identity.instance.id)
    assert found is not None
    assert found.state is InstanceState.REVOKED
    assert gateway.publish.due()
    gateway.time.passes(timedelta(seconds=1))
    Housekeeping(gateway.publish, gateway.store, gateway.time, gateway.revoking().resume).tick()
    assert listed(gateway) == {identity.certificate.serial}
    assert not gateway.publish.due()
    with gateway.store.read() as tx:
        (row,) = tx.revocations.find()
    assert row.state is PlanState.DONE


@pytest.mark.threat("B09")
@pytest.mark.parametrize("error", [Refusal("store_unavailable"), ValueError("of the linter"), KeyError("of ours")])
def test_B09_housekeeping_goes_on_after_any_failure(gateway: Gateway, error: Exception) -> None:
    failing = Failing(error)
    housekeeping = Housekeeping(failing, gateway.store, gateway.time)
    housekeeping.tick()
    housekeeping.tick()
    assert failing.asked == 2


def test_a_second_revocation_changes_nothing(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    first = revoke(gateway, identity)
    with gateway.store.read() as tx:
        instance, certificate = tx.instances.find(), tx.certificates.find()
    gateway.time.passes(timedelta(minutes=1))
    second = revoke(gateway, identity)
    with gateway.store.read() as tx:
        assert (tx.instances.find(), tx.certificates.find()) == (instance, certificate)
    assert {**second, "at": first["at"]} == first, "the first receipt again"
    assert first["cut"]["certificates"] == [identity.certificate.serial]


def test_what_ended_already_is_not_revoked_and_what_was_superseded_is(gateway: Gateway) -> None:
    identity = gateway.enrolled()
    superseded = replace(identity.certificate, state=CertificateState.SUPERSEDED, successor="1")
    over = replace(superseded, serial="abc", sha256="d" * 64, not_after=gateway.time() - timedelta(seconds=1))
    gateway.store.write(lambda tx: tx.certificates.swap(identity.certificate, superseded) and tx.certificates.add(over))
    assert revoke(gateway, identity)["cut"]["certificates"] == [identity.certificate.serial]
    assert listed(gateway) == {identity.certificate.serial}


@pytest.mark.threat("B07")
def test_B07_an_entry_stays_until_a_list_after_the_certificates_end(gateway: Gateway) -> None:
    brief = gateway.enrolled("i-0123456789abcdef0", timedelta(hours=1))
    long = gateway.enrolled("i-0123456789abcdef1")
    unrevoked = gateway.enrolled("i-0123456789abcdef2")
    for identity in (brief, long):
        revoke(gateway, identity)
    both = {brief.certificate.serial, long.certificate.serial}
    for ahead in (timedelta(hours=1, seconds=1), NEXT_UPDATE - timedelta(seconds=2)):
        gateway.time.passes(ahead)
        gateway.publish.crl()
        assert listed(gateway) == both
    gateway.time.passes(timedelta(seconds=2))
    gateway.publish.crl()
    assert listed(gateway) == {long.certificate.serial}
    found = gateway.certificate(brief.certificate.serial)
    assert found is not None
    assert found.state is CertificateState.REVOKED, "off the list, and refused all the same"
    assert unrevoked.certificate.serial not in both


@pytest.mark.threat("B08")
def test_B08_numbers_rise_and_there_is_always_a_list_that_is_valid_for_a_while(gateway: Gateway) -> None:
    assert gateway.publish.due()
    numbers = []
    identity = gateway.enrolled()
    for hour in range(3):
        Housekeeping(gateway.publish, gateway.store, gateway.time).tick()
        crl = x509.load_der_x509_crl(gateway.publish.current().der)
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        assert crl.next_update_utc is not None
        assert crl.last_update_utc <= gateway.time() < crl.next_update_utc
        assert crl.next_update_utc - gateway.time() > NEXT_UPDATE / 2
        assert not gateway.publish.due()
        gateway.time.passes(EVERY - timedelta(seconds=1))
        assert not gateway.publish.due()
        gateway.time.passes(timedelta(seconds=1))
        assert gateway.publish.due(), hour
    assert numbers == [1, 2, 3]
    certificate = x509.load_der_x509_certificate(identity.certificate.der)
    issuer, root = (x509.load_der_x509_certificate(gateway.issue.certificate_of(n)) for n in ("instances", "root"))
    assert gateway.publish.crl(only_if_due=True) == 4
    assert gateway.publish.crl(only_if_due=True) == 4, "another worker was first"
    good = x509.load_der_x509_crl(gateway.publish.current().der)
    chain.verify(certificate, [issuer], root, gateway.time(), [good])
    revoke(gateway, identity)
    listing = x509.load_der_x509_crl(gateway.publish.current().der)
    with pytest.raises(ChainRefused, match="revoked"):
        chain.verify(certificate, [issuer], root, gateway.time(), [listing])


def test_what_is_given_while_a_revocation_waits_for_its_turn_is_meant(gateway: Gateway) -> None:
    """Between its arrival and its transaction: else AWS would go on honouring that."""
    identity = gateway.enrolled()
    begun, write = gateway.time(), gateway.journal.write

    def waits(call: Call, unit: Callable[[Transaction], Any]) -> Any:
        if call.name is Name.OPERATOR_EVERYTHING_REVOKE:
            gateway.time.passes(timedelta(seconds=4))
            gateway.vend().give(gateway.call(), identity, LeaseOrder("reports"))
        return write(call, unit)

    gateway.journal.write = waits  # type: ignore[method-assign]
    receipt = gateway.revoke("", Target.EVERYTHING)
    with gateway.store.read() as tx:
        (lease,), (cut,) = tx.leases.find(), tx.cuts.find()
    assert [each["lease"] for each in receipt["cut"]["sessions"]] == [lease.id]
    assert begun < lease.issued_at < cut.before
    assert receipt["revoked_at"] == instant(lease.issued_at)
    assert layer(receipt, "gateway")["ms"] == 4000, "measured from its arrival"

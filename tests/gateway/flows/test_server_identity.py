"""The listeners' certificate: kept while it is good, replaced in time, one for all workers."""

from datetime import timedelta

import pytest
from cryptography import x509

from certs.keys import load_private_pem
from gateway.core.errors import Refusal
from gateway.core.model import Signer
from gateway.flows.server_identity import LIFE, ServerIdentity
from tests.gateway.flows.conftest import Gateway


def leaf(identity: ServerIdentity) -> x509.Certificate:
    certificate, issuer = x509.load_pem_x509_certificates(identity.chain.encode())
    certificate.verify_directly_issued_by(issuer)
    with identity.key as key:
        assert load_private_pem(key).public_key() == certificate.public_key()
    return certificate


def test_it_is_made_once_and_kept(gateway: Gateway) -> None:
    first = leaf(gateway.identities("gateway.example", "127.0.0.1").current())
    assert first == leaf(gateway.identities("gateway.example", "127.0.0.1").current())
    certified = [each for each in gateway.records() if each["name"] == "gateway:server:certify"]
    assert [each["facts"]["serial"] for each in certified] == [f"{first.serial_number:x}"]
    assert gateway.certificate(f"{first.serial_number:x}") is not None


def test_it_is_replaced_after_two_thirds_of_its_life(gateway: Gateway) -> None:
    identities = gateway.identities("gateway.example")
    first = leaf(identities.current())
    gateway.time.passes(LIFE * 2 / 3 - timedelta(seconds=1))
    assert leaf(identities.current()) == first
    gateway.time.passes(timedelta(seconds=2))
    second = leaf(identities.current())
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    assert leaf(identities.current()) == second


def test_other_names_make_another(gateway: Gateway) -> None:
    first = leaf(gateway.identities("gateway.example").current())
    second = leaf(gateway.identities("gateway.example", "10.0.0.1").current())
    assert first != second
    names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]


def test_of_two_workers_that_make_one_the_second_shows_what_the_first_made(gateway: Gateway) -> None:
    slow, fast = gateway.identities("gateway.example"), gateway.identities("gateway.example")
    made: list[ServerIdentity] = []
    replace = slow._replace

    def overtaken(before: Signer | None) -> Signer:
        made.append(fast.current())
        return replace(before)

    slow._replace = overtaken  # type: ignore[method-assign]  # a stand-in for this test
    assert leaf(slow.current()) == leaf(made[0])
    assert len([each for each in gateway.records() if each["name"] == "gateway:server:certify"]) == 1


@pytest.mark.threat("K01")
def test_K01_a_key_that_was_moved_here_is_refused(gateway: Gateway) -> None:
    identities = gateway.identities("gateway.example")
    identities.current()
    with gateway.store.read() as tx:
        server, services = tx.signers.get(name="server.node-1"), tx.signers.get(name="services")
    assert server is not None
    assert services is not None
    moved = type(server)(server.name, server.certificate, services.sealed_key)
    assert gateway.store.write(lambda tx: tx.signers.swap(server, moved))
    with pytest.raises(Refusal) as refused:
        identities.current()
    assert refused.value.reason == "sealed_value_altered"
    assert gateway.store.write(lambda tx: tx.signers.swap(moved, server))
    leaf(identities.current())

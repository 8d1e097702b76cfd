"""The way back without a ticket, by a proof of the key; and renewal."""

import base64
import ssl
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certs import csr, keys
from deploy.demo.ec2_document import SignedDocument
from deploy.demo.visitor import Answer, Visitor, evidence_of
from gateway.adapters import clock
from gateway.adapters.sql.store import SqlStore
from gateway.ceremonies import unseal
from gateway.core import nonce
from gateway.wire.messages import EnrollRequest, KeyProof, RenewRequest, encode, reenroll_statement
from tests.end_to_end.counted import Counted, counted_fixture  # noqa: F401  # a fixture
from tests.end_to_end.crowd import all_send, order_ticket, second_node, wait_until
from tests.end_to_end.rough import Rough, brief_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import World


def fresh_nonce(visitor: Visitor) -> str:
    found: str = visitor.call("POST", "/v1/nonces").body["nonce"]
    return found


def proven(key: ec.EllipticCurvePrivateKey, document: SignedDocument, nonce: str) -> EnrollRequest:
    """What an agent sends that comes back without a ticket."""
    evidence, request = evidence_of(document), csr.make(key)
    signature = key.sign(reenroll_statement(nonce, request, evidence.document), ec.ECDSA(SHA256()))
    return EnrollRequest(request, evidence, proof=KeyProof(nonce, base64.b64encode(signature).decode()))


def send(visitor: Visitor, request: EnrollRequest) -> Answer:
    return visitor.call("POST", "/v1/enroll", encode(request))


def serials(world: World, instance_id: str, state: str = "active") -> set[str]:
    """The certificates of an instance that are in this state."""
    return {
        row["serial"] for row in world.rows("certificate", state=state) if row["subject"].endswith(f"/{instance_id}")
    }


def test_an_instance_comes_back_by_its_key(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    (first,) = serials(world, launched.id)
    old = world.visitor()
    old.present(str(visitor.certificate), visitor.key)
    assert old.call("GET", "/v1/grants").status == 200
    calls = counted.door.calls
    assert visitor.come_back(launched.document).status == 201
    assert counted.door.calls - calls == 1
    assert serials(world, launched.id, "superseded") == {first}
    (second,) = serials(world, launched.id)
    outcome = world.audit(kind="outcome", object=world.rows("certificate", serial=second)[0]["subject"])[-1]
    assert (outcome["reason"], outcome["facts"]["serial"]) == ("enrolled_again", second)
    assert visitor.call("GET", "/v1/grants").status == 200
    counted.refuses(lambda: old.call("GET", "/v1/grants"), 401, "certificate_superseded")


def test_who_was_never_here_does_not_come_back(counted: Counted) -> None:
    document = counted.world.launch().document
    counted.refuses(lambda: counted.world.visitor().come_back(document), 403, "proof_refused", "instance_unknown")


def test_a_request_brings_a_ticket_or_a_proof(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    request = proven(visitor.key, launched.document, fresh_nonce(visitor))
    for wrong in (replace(request, ticket=counted.ticket()), replace(request, proof=None)):
        counted.refuses(partial(send, visitor, wrong), 400, "malformed_request")
    assert send(visitor, request).status == 201


@pytest.mark.threat("A09")
def test_A09_a_request_that_was_accepted_is_not_accepted_again(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    request = proven(visitor.key, launched.document, fresh_nonce(visitor))
    assert send(visitor, request).status == 201
    for caller in (visitor, world.visitor()):
        counted.refuses(partial(send, caller, request), 403, "proof_refused", "nonce_spent")
    # The same nonce in another request, and written in another way (base64url leaves bits unused).
    again = proven(visitor.key, launched.document, request.proof.nonce) if request.proof else request
    counted.refuses(partial(send, visitor, again), 403, "proof_refused", "nonce_spent")
    assert visitor.come_back(launched.document).status == 201


@pytest.mark.threat("A09")
def test_A09_of_many_who_send_it_at_once_one_is_let_in(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    body = encode(proven(visitor.key, launched.document, fresh_nonce(visitor)))
    answers = all_send([world.visitor() for _ in range(8)], "/v1/enroll", [body] * 8)
    assert sorted((answer.status, answer.code or "") for answer in answers) == [
        (201, ""),
        *[(403, "proof_refused")] * 7,
    ]
    assert len(serials(world, launched.id)) == 1


@pytest.mark.threat("A09")
def test_A09_nor_by_another_gateway_or_after_a_restart(counted: Counted, tmp_path: Path) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    request = proven(visitor.key, launched.document, fresh_nonce(visitor))
    assert send(visitor, request).status == 201
    with second_node(world, tmp_path / "second") as second:  # begun after it, as after a restart
        elsewhere = world.visitor(second.instance)
        counted.refuses(partial(send, elsewhere, request), 403, "proof_refused", "nonce_spent")
        assert send(elsewhere, proven(visitor.key, launched.document, fresh_nonce(visitor))).status == 201
        elsewhere.close()


def nonce_key(world: World) -> Any:
    """What nonces are made with: only a thief of everything has it."""
    store = SqlStore(f"sqlite:///{world.site.database}", "test", clock.now)
    try:
        return unseal(store, world.site.passphrase).derive("nonce")
    finally:
        store.close()


@pytest.mark.threat("A09")
def test_A09_a_nonce_is_good_for_a_minute_and_at_its_gateway(counted: Counted) -> None:
    world, key = counted.world, nonce_key(counted.world)
    launched, visitor = world.enrolled()
    minute, foreign = timedelta(minutes=1), type(key)(bytes(32))

    def made(age: timedelta, by: Any = key) -> EnrollRequest:
        return proven(visitor.key, launched.document, nonce.make(by, clock.random_bytes(16), clock.now() - age))

    for request, reason in (
        (made(timedelta(hours=1)), "nonce_expired"),
        (made(minute), "nonce_expired"),
        (made(-2 * minute), "nonce_expired"),
        (made(timedelta(0), foreign), "nonce_unknown"),
        (proven(visitor.key, launched.document, "A" * 54), "nonce_unknown"),
        (proven(visitor.key, launched.document, "A"), "nonce_unknown"),
    ):
        counted.refuses(partial(send, visitor, request), 403, "proof_refused", reason)
    assert send(visitor, made(timedelta(0))).status == 201


def test_a_proof_is_of_this_key_this_request_and_this_document(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    other, thief = world.launch(), keys.generate()
    request = proven(visitor.key, launched.document, fresh_nonce(visitor))
    proof = request.proof
    assert proof
    by_thief = proven(thief, launched.document, proof.nonce).proof
    assert by_thief
    for reason, wrong in (
        ("proof_signature", replace(request, proof=by_thief)),
        ("proof_signature", replace(request, csr=csr.make(visitor.key))),
        ("proof_signature", replace(request, csr=csr.make(thief))),
        ("proof_signature", replace(request, evidence=evidence_of(other.document))),
        ("proof_signature", replace(request, proof=replace(proof, nonce=fresh_nonce(visitor)))),
        ("proof_signature", replace(request, proof=replace(proof, signature="AAAA"))),
        ("instance_unknown", proven(visitor.key, other.document, fresh_nonce(visitor))),
    ):
        counted.refuses(partial(send, visitor, wrong), 403, "proof_refused", reason)
    assert send(visitor, request).status == 201


def test_a_key_that_was_lost_is_replaced_once_when_an_operator_allows_it(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    newcomers = [world.visitor() for _ in range(8)]

    def refused() -> None:
        counted.refuses(
            lambda: newcomers[0].come_back(launched.document), 409, "instance_enrolled", "proof_by_another_key"
        )

    refused()
    assert visitor.call("GET", "/v1/grants").status == 200
    world.site.cli("instance", "allow-reenroll", launched.id)
    bodies = [encode(proven(each.key, launched.document, fresh_nonce(each))) for each in newcomers]
    answers = all_send(newcomers, "/v1/enroll", bodies)
    assert sorted((answer.status, answer.code or "") for answer in answers) == [
        (201, ""),
        *[(409, "instance_enrolled")] * 7,
    ]
    assert len(serials(world, launched.id)) == 1
    refused_again = next(each for each, answer in zip(newcomers, answers, strict=True) if answer.status != 201)
    counted.refuses(
        lambda: refused_again.come_back(launched.document), 409, "instance_enrolled", "proof_by_another_key"
    )
    # The old key is as lost as its certificate, which does not lead to the new one either.
    counted.refuses(lambda: visitor.call("GET", "/v1/grants"), 401, "certificate_superseded")
    counted.refuses(lambda: visitor.come_back(launched.document), 409, "instance_enrolled", "proof_by_another_key")


def test_who_was_revoked_does_not_come_back(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    world.site.cli("revoke", "instance", launched.id)
    counted.refuses(lambda: visitor.come_back(launched.document), 403, "instance_revoked")
    counted.refuses(visitor.renew, 403, "instance_revoked")
    assert "instance_revoked" in world.site.cli("instance", "allow-reenroll", launched.id, status=1)
    counted.refuses(lambda: world.visitor().come_back(launched.document), 403, "instance_revoked")


def test_what_was_terminated_does_not_come_back(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    ec2 = world.cloud.root("ec2")
    ec2.stop_instances(InstanceIds=[launched.id])
    refused = partial(counted.refuses, lambda: visitor.come_back(launched.document), 403, "evidence_refused")
    refused("instance_not_running", aws=1)
    ec2.terminate_instances(InstanceIds=[launched.id])
    refused("instance_not_running", aws=1)
    # It is AWS that says so: our own record of it has not changed.
    assert visitor.call("GET", "/v1/grants").status == 200


def test_renewal_replaces_the_certificate_at_once(counted: Counted) -> None:
    world = counted.world
    launched, old = world.enrolled()
    (first,) = serials(world, launched.id)
    assert old.call("GET", "/v1/grants").status == 200
    line, calls = old.connect().sock, counted.door.calls
    answer = old.call("POST", "/v1/renew", RenewRequest(csr.make(old.key)))
    assert answer.status == 200
    (second,) = serials(world, launched.id)
    assert second != first
    assert counted.door.calls == calls

    new = world.visitor()
    new.present(answer.body["certificate"] + answer.body["issuer"], old.key)
    assert new.call("GET", "/v1/grants").status == 200
    counted.refuses(lambda: old.call("GET", "/v1/grants"), 401, "certificate_superseded")
    counted.refuses(lambda: old.call("POST", "/v1/credentials", {"grant": "reports"}), 401, "certificate_superseded")
    assert old.connect().sock is line  # all of it on one connection

    # If the answer was lost on its way, the old certificate gets the very same successor.
    again = old.call("POST", "/v1/renew", RenewRequest(csr.make(old.key)))
    assert (again.status, again.body) == (200, answer.body)
    assert serials(world, launched.id) == {second}

    # But only the next one: a certificate that was replaced twice leads nowhere.
    assert new.renew().status == 200
    counted.refuses(
        lambda: old.call("POST", "/v1/renew", RenewRequest(csr.make(old.key))), 401, "certificate_superseded"
    )
    assert len(serials(world, launched.id)) == 1


def test_many_renewals_at_once_give_one_certificate(counted: Counted) -> None:
    world = counted.world
    launched, visitor = world.enrolled()
    callers = [world.visitor() for _ in range(8)]
    for caller in callers:
        caller.present(str(visitor.certificate), visitor.key)
    answers = all_send(callers, "/v1/renew", [encode(RenewRequest(csr.make(visitor.key)))] * 8)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["certificate"] for answer in answers}) == 1
    assert len(serials(world, launched.id)) == 1


@pytest.mark.threat("B12")
def test_B12_renewal_is_for_the_same_key(counted: Counted) -> None:
    visitor = counted.world.enrolled()[1]
    other = counted.world.enrolled()[1]
    for key in (keys.generate(), other.key):
        request = RenewRequest(csr.make(key))
        counted.refuses(partial(visitor.call, "POST", "/v1/renew", request), 400, "csr_refused", "csr_other_key")
    counted.refuses(
        lambda: counted.world.visitor().call("POST", "/v1/renew", RenewRequest(csr.make(visitor.key))),
        401,
        "certificate_required",
    )
    assert visitor.renew().status == 200


@pytest.mark.threat("B12")
def test_B12_a_certificate_that_ran_out_is_not_renewed(brief: Rough) -> None:
    """Neither on a connection that was open in time, nor on a new one. The key, with evidence, is the way back."""
    world = brief.world
    launched, visitor, ticket = world.launch(), world.visitor(), order_ticket(brief.operator)["ticket"]
    assert visitor.enroll(launched.document, ticket).status == 201
    assert visitor.call("GET", "/v1/grants").status == 200
    certificate = x509.load_pem_x509_certificate(str(visitor.certificate).encode())
    wait_until(certificate.not_valid_after_utc + timedelta(seconds=1))
    before = world.everything_but_the_log()
    answer = visitor.call("POST", "/v1/renew", RenewRequest(csr.make(visitor.key)))
    assert (answer.status, answer.code) == (401, "certificate_expired")
    assert answer.headers["connection"] == "close"
    with pytest.raises((ssl.SSLError, ConnectionError)):  # TLS itself refuses it
        visitor.renew()
    back = world.visitor()
    back.key = visitor.key
    late = back.enroll(launched.document, ticket)
    assert (late.status, late.code) == (409, "ticket_used")
    assert world.everything_but_the_log() == before
    assert back.come_back(launched.document).status == 201
    assert back.renew().status == 200

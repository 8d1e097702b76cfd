"""From boot to a certificate, and from a restart back to it."""

import json
import time
from collections import deque

import pytest

from agent.identity import FILE, Pending
from tests.agent.conftest import Machine, full_disk, until
from tests.agent.fake_gateway import SECRET_CANARY, FakeGateway, Refusal, running
from tests.agent.pki import Pki

APP = "/v1/credentials/app"


# ── enrolment


def test_boot_enrol_serve(machine: Machine) -> None:
    daemon = machine.agent()
    assert daemon.lifecycle.state == "enrolled"
    assert machine.get(APP).status == 200
    assert machine.gateway.paths()[:2] == ["GET /v1/ca", "POST /v1/enroll"]
    assert machine.kept()["state"] == "enrolled"


@pytest.mark.parametrize(
    ("user_data", "problem"),
    [(None, "ticket_missing"), (b"#!/bin/sh\n", "ticket_missing"), (b"#trusted-gateway {}", "user_data_malformed")],
)
def test_user_data_that_is_of_no_use(machine: Machine, user_data: bytes | None, problem: str) -> None:
    machine.metadata.user_data = user_data
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == problem)
    assert daemon.lifecycle.state == "starting"
    assert machine.gateway.paths() == []


def test_user_data_without_a_ticket_enrols_nobody(machine: Machine) -> None:
    machine.launch_with(None)
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "ticket_missing")
    assert machine.gateway.paths() == []


def test_a_ticket_that_is_refused_is_not_tried_in_a_tight_loop(machine: Machine) -> None:
    machine.launch_with("unknown")
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "ticket_invalid")
    until(lambda: machine.gateway.count("/v1/ca") >= 2)
    time.sleep(0.3)
    assert machine.gateway.count("/v1/ca") <= 3
    assert daemon.lifecycle.state == "starting"


def test_retry_after_is_honoured(machine: Machine) -> None:
    machine.gateway.refusals["/v1/enroll"] = deque([Refusal("too_many_requests", headers={"Retry-After": "1"})])
    began = time.monotonic()
    machine.agent()
    assert time.monotonic() - began >= 1
    assert machine.gateway.count("/v1/enroll") == 2


def csr_key(body: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_csr(json.loads(body)["csr"].encode()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_retry_after_a_crash_shows_the_same_key(machine: Machine) -> None:
    """The answer was lost and so was the agent: the ticket serves the same key again."""
    machine.gateway.sticky["/v1/enroll"] = Refusal("store_unavailable")
    first = machine.agent(ready=False)
    machine.gateway.wait_for("/v1/enroll")
    first.close()
    assert machine.kept()["state"] == "pending"
    machine.gateway.sticky.clear()
    machine.agent()
    asked = [csr_key(seen.body) for seen in machine.gateway.seen if seen.path == "/v1/enroll"]
    assert len(asked) >= 2
    assert len(set(asked)) == 1


def test_a_spent_ticket_and_the_key_that_it_enrolled(machine: Machine) -> None:
    """The certificate was lost before it was kept, and by now the ticket is over: the proof of the key does."""
    key = machine.enrolled_before()["key"]
    (machine.state_dir / FILE).write_text(json.dumps({"state": "pending", "key": key}))
    machine.gateway.tickets.clear()
    machine.agent()
    assert machine.gateway.paths()[:4] == ["GET /v1/ca", "POST /v1/enroll", "POST /v1/nonces", "POST /v1/enroll"]


def test_a_spent_ticket_and_another_key(machine: Machine) -> None:
    machine.enrolled_before()
    (machine.state_dir / FILE).unlink()
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "ticket_used")
    assert daemon.lifecycle.state == "starting"


def test_the_pending_key_is_saved_before_it_is_shown(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch)
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "write_failed")
    assert machine.gateway.paths() == []
    assert isinstance(daemon.lifecycle._standing.held, Pending)


# ── restart


def test_a_restart_takes_up_what_was_kept(machine: Machine) -> None:
    before = machine.enrolled_before()
    machine.agent()
    assert "POST /v1/enroll" not in machine.gateway.paths()
    assert machine.kept() == before


def test_a_restart_needs_no_metadata_service(machine: Machine) -> None:
    machine.enrolled_before()
    machine.metadata.overrides["/latest/api/token"] = 500
    machine.agent()
    assert machine.get(APP).status == 200


def test_user_data_may_move_the_gateway(machine: Machine, pki: Pki) -> None:
    machine.enrolled_before()
    with running(FakeGateway(pki)) as moved:
        moved.current = machine.gateway.current
        machine.launch_with(None, gateway=moved.address)
        machine.agent().close()
        assert "POST /v1/credentials" in moved.paths()
    assert machine.gateway.paths() == []


def test_user_data_may_name_quite_another_gateway_with_a_ticket_of_its_own(machine: Machine) -> None:
    before = machine.enrolled_before()
    with running(FakeGateway(Pki())) as other:
        machine.launch_with(None, gateway=other.address, ca_sha256=other.pki.pin)
        machine.agent().close()
        assert other.paths() == [], "without a ticket there is nothing to go there for"
        machine.launch_with("ticket-one", gateway=other.address, ca_sha256=other.pki.pin)
        machine.agent().close()
    assert machine.kept()["key"] != before["key"]


def test_memory_only_leaves_nothing_on_disk(machine: Machine) -> None:
    daemon = machine.agent(key_storage="memory")
    assert machine.get(APP).status == 200
    held = daemon.lifecycle.identity
    assert held is not None
    assert not machine.state_dir.exists()
    assert held.key.encode() not in machine.files()
    assert SECRET_CANARY.encode() not in machine.files()


def test_on_disk_there_are_key_and_certificate_and_no_ticket_and_no_credentials(machine: Machine) -> None:
    daemon = machine.agent()
    found = machine.files()
    held = daemon.lifecycle.identity
    assert held is not None
    assert held.key.encode() in found
    assert b"ticket-one" not in found
    assert SECRET_CANARY.encode() not in found
    assert b"canarySessionToken" not in found

"""The client of the gateway: who it talks to (J05), and what it makes of the answers."""

import base64
import contextlib
import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import client as client_module
from agent.client import Client, fetch_root
from agent.enrollment import enroll, new_key
from agent.errors import Fault, Problem
from agent.settings import Address
from gateway.wire.checkpoint import LONGEST_ANSWER, ChainHashes, ChainState, CheckpointAnswer, write
from gateway.wire.messages import Evidence, NonceAnswer, UserData, encode
from tests.agent.conftest import Machine, until
from tests.agent.fake_gateway import FakeGateway, Plain, Refusal, running
from tests.agent.pki import Pki
from tests.agent.test_identity import identity

TICKET = "ticket-one"
EVIDENCE = Evidence("aws-ec2-identity-document", base64.b64encode(b"canary document").decode(), "AAAA")


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[Client]:
    client = Client(Address.parse(gateway.address), gateway.pki.root.der)
    yield client
    client.close()


def try_to_enroll(address: str, pin: str) -> None:
    enroll(UserData(address, pin, TICKET), TICKET, new_key(), EVIDENCE, datetime.now(UTC))


# ── J05: no ticket, no evidence and no proof before the gateway has proved itself


def test_j05_control_the_right_gateway_gets_the_ticket_on_a_verified_connection(gateway: FakeGateway) -> None:
    try_to_enroll(gateway.address, gateway.pki.pin)
    assert gateway.paths() == ["GET /v1/ca", "POST /v1/enroll"]
    assert TICKET.encode() in gateway.seen[1].body


def test_j05_another_root_than_the_pinned_one(gateway: FakeGateway) -> None:
    with pytest.raises(Fault, match="pin_mismatch"):
        try_to_enroll(gateway.address, "0" * 64)
    assert gateway.paths() == ["GET /v1/ca"]
    assert gateway.seen[0].body == b""


def test_j05_the_right_root_shown_by_a_server_that_it_did_not_sign(pki: Pki) -> None:
    with running(FakeGateway(pki, Pki().server_context("127.0.0.1", ask=False))) as impostor:
        with pytest.raises(Fault, match="gateway_untrusted"):
            try_to_enroll(impostor.address, pki.pin)
        assert impostor.paths() == ["GET /v1/ca"]


@pytest.mark.parametrize(
    ("names", "life"),
    [
        (("127.0.0.2", "localhost"), timedelta(days=1)),
        (("gateway.internal",), timedelta(days=1)),
        (("127.0.0.1",), -timedelta(hours=1)),
    ],
    ids=["wrong address", "wrong name", "expired"],
)
def test_j05_a_server_certificate_that_is_not_for_this_host_now(
    pki: Pki, names: tuple[str, ...], life: timedelta
) -> None:
    with running(FakeGateway(pki, pki.server_context(*names, life=life))) as impostor:
        with pytest.raises(Fault, match="gateway_untrusted"):
            try_to_enroll(impostor.address, pki.pin)
        assert impostor.paths() == ["GET /v1/ca"]


def test_j05_a_client_certificate_is_no_server_certificate(pki: Pki) -> None:
    """An instance that turns its own certificate into a gateway's: same root, another purpose."""
    stolen = identity(pki)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client_module._present(context, stolen.bundle)
    with running(FakeGateway(pki, context)) as impostor:
        with pytest.raises(Fault, match="gateway_untrusted"):
            try_to_enroll(impostor.address, pki.pin)
        assert impostor.paths() == ["GET /v1/ca"]


def test_j05_a_redirect_to_plain_text_is_not_followed(gateway: FakeGateway) -> None:
    plain = Plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    try:
        for path in ("/v1/ca", "/v1/enroll"):
            gateway.sticky = {path: Refusal("x", 307, {"Location": f"http://{plain.address}{path}"}, b"")}
            with pytest.raises(Problem) as told:
                try_to_enroll(gateway.address, gateway.pki.pin)
            assert (told.value.code, told.value.status) == ("unexpected_answer", 307)
        assert plain.received == b""
    finally:
        plain.close()


def test_j05_a_server_without_tls_sees_no_ticket() -> None:
    plain = Plain(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n")
    try:
        with pytest.raises(Fault, match="gateway_unreachable"):
            try_to_enroll(plain.address, "0" * 64)
        until(lambda: plain.received)
        assert TICKET.encode() not in plain.received
        assert b"/v1/" not in plain.received
    finally:
        plain.close()


def test_j05_tls_1_2_is_refused(pki: Pki) -> None:
    context = pki.server_context("127.0.0.1")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(FakeGateway(pki, context)) as old:
        with pytest.raises(Fault, match="gateway_unreachable"):
            fetch_root(Address.parse(old.address), pki.pin)
        assert old.paths() == []


def test_j05_the_system_and_the_environment_add_no_root(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Pki()
    (tmp_path / "roots.pem").write_text(other.root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    with running(FakeGateway(pki, other.server_context("127.0.0.1"))) as impostor:
        with pytest.raises(Fault, match="gateway_untrusted"):
            Client(Address.parse(impostor.address), pki.root.der).call("GET", "/v1/grants")
        with contextlib.closing(Client(Address.parse(impostor.address), other.root.der)) as control:
            control.call("GET", "/v1/ca")


def test_j05_a_machine_with_the_wrong_pin_enrols_nowhere_and_does_not_hurry(machine: Machine) -> None:
    machine.launch_with("ticket-one", ca_sha256="0" * 64)
    daemon = machine.agent(ready=False)
    until(lambda: daemon.lifecycle.problem == "pin_mismatch")
    machine.gateway.wait_for("/v1/ca", times=2)
    assert set(machine.gateway.paths()) == {"GET /v1/ca"}
    assert machine.gateway.count("/v1/ca") <= 3


# ── connections


def test_a_connection_is_kept_and_replaced_when_the_gateway_closed_it(gateway: FakeGateway, client: Client) -> None:
    client.call("GET", "/v1/ca")
    first = client._idle[0]
    client.call("GET", "/v1/ca")
    assert client._idle == [first]
    gateway.stop()
    gateway.start()
    client.call("GET", "/v1/ca")
    assert client._idle != [first]


def test_a_closed_client_keeps_no_connection(client: Client) -> None:
    client.close()
    client.call("GET", "/v1/ca")
    assert client._idle == []


def test_a_time_out_is_told_and_not_tried_again(gateway: FakeGateway, client: Client) -> None:
    client.call("GET", "/v1/ca")
    gateway.delay["/v1/ca"] = 0.5
    with pytest.raises(Fault, match="gateway_unreachable"):
        client.call("GET", "/v1/ca", timeout=0.1)
    assert gateway.count("/v1/ca") == 2


def test_nobody_there() -> None:
    with pytest.raises(Fault, match="Connection refused"):
        fetch_root(Address("127.0.0.1", 9), "0" * 64)


# ── answers


def test_a_problem_document_is_understood(gateway: FakeGateway, client: Client) -> None:
    gateway.sticky["/v1/ca"] = Refusal("too_many_requests", headers={"Retry-After": "7"})
    with pytest.raises(Problem) as told:
        client.call("GET", "/v1/ca")
    problem = told.value
    assert (problem.code, problem.status, problem.retry_after, problem.passing) == ("too_many_requests", 429, 7.0, True)
    assert problem.hint


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("x", 502, {"Content-Type": "text/html"}, b"<html>"),
        Refusal("x", 403, raw=b"not json"),
        Refusal("x", 403, raw=b"[]"),
        Refusal("x", 403, raw=b'{"code": "Evil\\u001b[31m"}'),
        Refusal("x", 403, raw=b'{"code": 7}'),
        Refusal("x", 403, {"Retry-After": "-1"}, b"{}"),
    ],
)
def test_any_other_refusal_is_an_unexpected_answer(gateway: FakeGateway, client: Client, refusal: Refusal) -> None:
    gateway.sticky["/v1/ca"] = refusal
    with pytest.raises(Problem) as told:
        client.call("GET", "/v1/ca")
    assert (told.value.code, told.value.status, told.value.retry_after) == ("unexpected_answer", refusal.status, 0.0)
    assert str(told.value).isprintable()


def test_the_gateways_words_are_printable_and_short(gateway: FakeGateway, client: Client) -> None:
    raw = b'{"code": "conflict", "detail": "a\\u001b[2Jb\\nc' + b"x" * 1000 + b'"}'
    gateway.sticky["/v1/ca"] = Refusal("x", 409, raw=raw)
    with pytest.raises(Problem) as told:
        client.call("GET", "/v1/ca")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 300


def test_an_answer_that_is_not_understood_is_a_fault(client: Client) -> None:
    with pytest.raises(Fault, match="answer_malformed"):
        client.ask(NonceAnswer, "GET", "/v1/ca")
    assert client.ask(NonceAnswer, "POST", "/v1/nonces").nonce


def test_an_endless_answer_is_cut(gateway: FakeGateway, client: Client) -> None:
    gateway.sticky["/v1/ca"] = Refusal("x", 200, raw=b"x" * 65536)
    assert len(client.call("GET", "/v1/ca")) == 65536
    gateway.sticky["/v1/ca"] = Refusal("x", 200, raw=b"x" * 65537)
    before = len(gateway.seen)
    with pytest.raises(Fault, match="answer_malformed"):
        client.call("GET", "/v1/ca")
    assert len(gateway.seen) == before + 1, "another connection would bring the same"
    with pytest.raises(Fault, match="answer_malformed"):
        fetch_root(Address.parse(gateway.address), gateway.pki.pin)


def test_a_checkpoint_of_a_thousand_chains_is_heard(gateway: FakeGateway, client: Client) -> None:
    """With a proof for each, as flows/checkpoint.py::show answers. The query changes nothing."""
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    names = [f"node-{n}.worker-0" for n in range(1000)]
    statement = write(1, "2026-11-23T12:00:00.000000+00:00", {name: ChainState(1, *["0" * 64] * 2) for name in names})
    proofs = tuple(ChainHashes(name, ("0" * 64,) * 20) for name in names)
    answer = CheckpointAnswer(statement, "AAAA", pem, pem, proofs)
    gateway.sticky["/v1/checkpoint"] = Refusal("x", 200, raw=encode(answer))
    assert client.ask(CheckpointAnswer, "GET", "/v1/checkpoint?after=1") == answer
    gateway.sticky["/v1/checkpoint"] = Refusal("x", 200, raw=b" " * (LONGEST_ANSWER + 1))
    with pytest.raises(Fault, match="answer_malformed"):
        client.call("GET", "/v1/checkpoint")


def test_the_key_reaches_openssl_without_a_file(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    held = identity(pki)
    opened: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def record(context: ssl.SSLContext, path: str) -> None:
        opened.append(os.readlink(path))
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", record)
    Client(Address("127.0.0.1", 1), held.root_der, held.bundle)
    assert opened == ["/memfd:certificate (deleted)"]
    assert opened[0] not in _open_files()


def _open_files() -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(each.readlink()))
    return found

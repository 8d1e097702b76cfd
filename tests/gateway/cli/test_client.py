"""Commands that ask a gateway: what it says is shown and not obeyed, and why it does not answer is told."""

import http.client
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs import keys
from gateway.wire import problems
from tests.gateway.cli.conftest import ERROR, FakeGateway, Run
from tests.gateway.web_server.pki import make

EVIL = "\x1b[2J\x1b]0;owned\x07\u202eevil\u2028\x00\x9b\ud800\r\nerror: faked"
INERT = r"\x1b[2J\x1b]0;owned\x07\u202eevil\u2028\x00\x9b\ud800\r\nerror: faked"
ID = "i-0123456789abcdef0"
AT = "2026-11-22T02:31:10Z"

INSTANCE: dict[str, Any] = {
    "id": EVIL, "instance_id": EVIL, "account": EVIL, "region": EVIL, "profile": EVIL, "state": EVIL,
    "enrolled_at": AT, "revoked_at": AT, "revoked_by": EVIL, "claims": {},
    "certificates": [{"serial": EVIL, "state": EVIL, "not_after": AT}],
    "leases": [{"lease": EVIL, "grant": EVIL, "until": AT}],
}  # fmt: skip
SESSION = dict.fromkeys(("access_key_id", "grant", "role", "session_name", "lease"), EVIL) | {"until": AT}
RECORD = {
    "chain": "node-1.worker-0", "seq": 1, "hash": EVIL,
    "line": json.dumps({"at": AT, "kind": EVIL, "name": EVIL, "allowed": True, "reason": EVIL, "subject": EVIL,
                        "source": None, "object": EVIL, "facts": {}}),
}  # fmt: skip
STATUS = {
    "instances": {"enrolled": EVIL, "revoked": EVIL}, "certificates_active": EVIL,
    "crl": {"number": EVIL, "next_update": AT},
    "upstream_keys": [{"name": EVIL, "access_key_id": EVIL, "account": EVIL}],
    "audit": {"node-1.worker-0": {"records": 1, "hash": EVIL}},
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "id": EVIL, "kind": EVIL, "name": EVIL, "by": EVIL, "reason": EVIL, "dry_run": False, "revoked_at": AT,
    "cut": {"instances": [EVIL], "sessions": [EVIL]}, "until": AT,
    "layers": [
        {"layer": "gateway", "state": "done", "ms": 1.5, "tries": 1, "facts": {"refuses": EVIL}},
        {"layer": "crl", "state": EVIL, "ms": None, "tries": 2, "facts": {"published": True, "number": EVIL},
         "problem": EVIL},
        {"layer": "agents", "state": "trying", "ms": None, "tries": 1,
         "facts": {"agents": 2, "told": EVIL, "untold": [EVIL], "stops_within_seconds": EVIL}},
        {"layer": "aws", "state": "waiting", "ms": None, "tries": 1,
         "facts": {"waits_for": EVIL, "accounts": [{"account": EVIL, "state": EVIL, "why": EVIL}]}},
        {"layer": EVIL, "state": "not_served", "ms": None, "tries": 0, "facts": {"why": EVIL}},
    ],
    "remains": [SESSION | {"what": "session"}, SESSION | {"what": "signatures"}],
}  # fmt: skip
TICKET = {"ticket": EVIL, "user_data": EVIL, "id": EVIL, "profile": EVIL, "instance_id": EVIL, "expires_at": AT}
ASKS = [
    (["status"], STATUS),
    (["instance", "list"], {"instances": [INSTANCE], "next": None}),
    (["instance", "show", ID], INSTANCE),
    (["instance", "allow-reenroll", ID], {"until": AT}),
    (["revoke", "instance", ID], RECEIPT),
    (["revoke", "grant", "web/reports"], RECEIPT),
    (["revoke", "everything", "--yes"], RECEIPT),
    (["revocation", "show", "r-1"], RECEIPT),
    (["revocation", "list"], {"revocations": [RECEIPT], "next": None}),
    (["ticket", "create", "--profile", "web"], TICKET),
    (["ticket", "create", "--profile", "web", "--only-secret"], TICKET),
    (["ticket", "create", "--profile", "web", "--user-data"], TICKET),
    (["audit", "tail"], {"records": [RECORD], "heads": [{"chain": "node-1.worker-0", "seq": 1, "hash": EVIL}]}),
]
EACH = pytest.mark.parametrize(("arguments", "answer"), ASKS, ids=[" ".join(arguments) for arguments, _ in ASKS])


@EACH
@pytest.mark.threat("C17")
def test_what_a_gateway_says_is_shown_and_not_obeyed(
    operator: Path, gateway: FakeGateway, run: Run, arguments: list[str], answer: dict[str, Any]
) -> None:
    gateway.answer = answer
    text = run(*arguments).succeeds()
    assert text.replace("\n", "").isprintable()
    assert "error: faked" not in text.splitlines()
    if "allow-reenroll" not in arguments:
        assert INERT.partition("\\u2028")[0] in text  # a table breaks long cells


@EACH
def test_json_is_what_the_gateway_said_in_plain_characters(
    operator: Path, gateway: FakeGateway, run: Run, arguments: list[str], answer: dict[str, Any]
) -> None:
    gateway.answer = answer
    text = run(*arguments, "--json").succeeds()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    said = json.loads(text)
    lists = {f"{name} list": answer.get(f"{name}s") for name in ("instance", "revocation")}
    expected = lists | {"audit tail": json.loads(str(RECORD["line"]))}
    assert said == expected.get(" ".join(arguments[:2]), answer)


@EACH
def test_a_refusal_is_told_with_its_code_and_its_hint(
    operator: Path, gateway: FakeGateway, run: Run, arguments: list[str], answer: dict[str, Any]
) -> None:
    gateway.status, gateway.answer = 404, problems.document("instance_unknown", detail=EVIL)
    text = run(*arguments).fails("instance_unknown")
    assert INERT in text
    assert f"hint: {problems.PROBLEMS['instance_unknown'].hint}\n" in text


STRANGE = [b"", b"<html>", b"[]", b"null", b"3", b'"x"', b"{}", b"[" * 100_000, b'{"records": 3}', b"\xff", b"{" * 9]


@pytest.mark.parametrize("raw", STRANGE)
def test_an_answer_that_is_none(operator: Path, gateway: FakeGateway, run: Run, raw: bytes) -> None:
    gateway.answer = raw
    run("status").fails("gateway_strange")
    gateway.status = 302
    assert run("status").status == 1


@EACH
def test_an_answer_in_which_something_is_missing(
    operator: Path, gateway: FakeGateway, run: Run, arguments: list[str], answer: dict[str, Any]
) -> None:
    gateway.answer = {}
    run(*arguments).fails("gateway_strange")
    gateway.answer = dict.fromkeys(answer)
    said = run(*arguments)
    assert ERROR.fullmatch(said.err) if said.status else "-" in said.out


def test_a_problem_that_is_none(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.status, gateway.answer = 500, {"detail": ["x"], "code": {"a": EVIL}, "hint": 3}
    assert run("status").status == 1
    gateway.answer = {"detail": None, "code": EVIL}
    said = run("status")
    assert said.status == 1
    assert INERT in said.err


@EACH
def test_a_gateway_that_is_down(
    operator: Path, run: Run, gateway: FakeGateway, arguments: list[str], answer: dict[str, Any]
) -> None:
    gateway.answer = answer
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        assert nobody in run("--gateway", nobody, *arguments).fails("gateway_unreachable")
    run(*arguments).succeeds()


def test_a_gateway_that_breaks_off(operator: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.listen(1)
        listener.close()
        run("--gateway", address, "status").fails("gateway_unreachable")


@pytest.mark.threat("G17", "J05")
def test_a_gateway_of_another_ca_or_another_name_gets_no_request(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path
) -> None:
    gateway.answer = STATUS
    port = gateway.address.rpartition(":")[2]
    assert "certificate of our CA" in run("--gateway", f"localhost:{port}", "status").fails("gateway_untrusted")
    other = tmp_path / "other"
    other.mkdir()
    (operator / "ca.pem").write_bytes((make(other).folder / "ca.pem").read_bytes())
    run("status").fails("gateway_untrusted")
    assert gateway.asked == []


@pytest.mark.parametrize("name", ["operator.key", "operator.crt", "ca.pem", "gateway"])
def test_an_operators_directory_in_which_something_is_missing(operator: Path, run: Run, name: str) -> None:
    (operator / name).rename(operator / "away")
    run("status").fails("operator_missing")
    (operator / name).write_bytes(b"\xff\xfe not PEM")
    assert run("status").status == 1
    (operator / name).unlink()
    (operator / name).mkdir()
    run("status").fails("operator_missing")


def test_an_operators_directory_that_is_none(run: Run, tmp_path: Path) -> None:
    run("--operator-dir", tmp_path / "absent", "status").fails("operator_missing")
    run("--operator-dir", "/dev/null", "status").fails("operator_missing")
    run("--operator-dir", tmp_path / "absent", "--gateway", "127.0.0.1:1", "status").fails("operator_missing")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "127.0.0.1",
        "127.0.0.1:x",
        ":8444",
        "127.0.0.1:８４４４",
        "a b:1",
        "a\r\nb:1",
        "a/b:1",
        "u@h:1",
        "[::1:1",
    ],
)
def test_an_address_that_is_none(operator: Path, gateway: FakeGateway, run: Run, address: str) -> None:
    (operator / "gateway").write_text(address)
    run("status").fails("address_invalid")
    if address:
        run("--gateway", address, "status").fails("address_invalid")
    assert gateway.asked == []


def test_an_operators_certificate_that_ran_out_is_told_as_that(operator: Path, run: Run) -> None:
    """The gateway, which may not even say why it breaks off, is no part of it."""
    key, now = keys.generate(), datetime.now(UTC)
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1).public_key(key.public_key())
    )
    for days, code in ((-1, "operator_certificate_expired"), (1, "gateway_unreachable")):
        ends = now + timedelta(days=days)
        certificate = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(ends).sign(key, hashes.SHA256())
        (operator / "operator.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        (operator / "operator.key").write_bytes(keys.dump_private_pem(key))
        text = run("--gateway", "127.0.0.1:1", "status").fails(code)
        assert ("operator certify" in text) == (days < 0)


@pytest.mark.parametrize("code", ["certificate_required", "certificate_superseded", "certificate_unknown"])
def test_an_operator_whose_certificate_is_refused_is_sent_to_the_gateways_host(
    operator: Path, gateway: FakeGateway, run: Run, code: str
) -> None:
    gateway.status, gateway.answer = 401, problems.document(code)
    assert "operator certify" in run("status").fails(code)


@pytest.mark.parametrize(
    "named",
    ["", "..", "../status", "a/../b", "i 0", "i-0%2f", "i-0?x=1", "i-0#x", "i-０", EVIL, "-", "/i-0", "i-0/"],
)
def test_an_instance_id_that_is_none_is_not_sent(operator: Path, gateway: FakeGateway, run: Run, named: str) -> None:
    for command in (["instance", "show"], ["instance", "allow-reenroll"], ["revoke", "instance"]):
        if named != "-":
            run(*command, "--", named.replace("\x00", "")).fails("instance_unknown")
    assert gateway.asked == []


def test_an_instance_is_named_by_its_id_or_its_spiffe_id(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answer = INSTANCE
    run("instance", "show", ID).succeeds()
    run("instance", "show", f"spiffe://trusted-gateway.internal/aws/123456789012/us-east-1/{ID}").succeeds()
    assert [path for _, path, _ in gateway.asked] == [
        f"/v1/instances/{ID}",
        f"/v1/instances/aws/123456789012/us-east-1/{ID}",
    ]


@pytest.mark.parametrize("life", ["", "0s", "-1m", "15", "15 m", "1d", "1.5h", "１５m", "15m\n", "9999999s"])
def test_a_life_that_is_none(operator: Path, gateway: FakeGateway, run: Run, life: str) -> None:
    run("ticket", "create", "--profile", "web", "--life", life).fails("duration_invalid")
    assert gateway.asked == []


TICKETS: dict[str, Any] = {
    "tickets": [
        {"id": EVIL, "profile": EVIL, "instance_id": None, "state": EVIL, "created_by": EVIL, "expires_at": AT,
         "redeemed_by": EVIL},
    ],
    "next": None,
}  # fmt: skip
LEASES: dict[str, Any] = {
    "leases": [
        {"id": EVIL, "instance": EVIL, "profile": EVIL, "grant": EVIL, "access_key_id": EVIL, "expires_at": AT,
         "revoked_at": None},
    ],
    "next": None,
}  # fmt: skip


@pytest.mark.parametrize(("noun", "answer"), [("ticket", TICKETS), ("lease", LEASES)])
@pytest.mark.threat("C17")
def test_a_list_is_shown_and_not_obeyed(
    operator: Path, gateway: FakeGateway, run: Run, noun: str, answer: dict[str, Any]
) -> None:
    gateway.answer = answer
    text = run(noun, "list").succeeds()
    assert text.replace("\n", "").isprintable()
    assert INERT.partition("\\u2028")[0] in text
    said = run(noun, "list", "--json").succeeds()
    assert json.loads(said) == answer[f"{noun}s"]


def test_a_list_is_read_page_by_page_with_its_filters(operator: Path, gateway: FakeGateway, run: Run) -> None:
    gateway.answer = {"tickets": [], "next": None}
    assert run("ticket", "list", "--state", "open", "--profile", "a&b").succeeds() == "no such ticket\n"
    assert gateway.asked[-1][1] == "/v1/tickets?limit=100&state=open&profile=a%26b"
    gateway.answers = {
        "GET /v1/leases?limit=100": {"leases": [], "next": "the cursor"},
        "GET /v1/leases?limit=100&after=the+cursor": {"leases": [], "next": None},
    }
    assert run("lease", "list", "--all").succeeds() == "no such lease\n"
    assert [path for _, path, _ in gateway.asked[-2:]] == [path[4:] for path in gateway.answers]


def test_a_change_whose_answer_was_lost_is_sent_once_more_with_the_same_key(
    operator: Path, gateway: FakeGateway, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = http.client.HTTPSConnection.getresponse
    lost = [1, 2]

    def lose(connection: http.client.HTTPSConnection) -> http.client.HTTPResponse:
        found = answers(connection)
        if lost:
            lost.pop()
            raise http.client.RemoteDisconnected("lost")
        return found

    monkeypatch.setattr(http.client.HTTPSConnection, "getresponse", lose)
    gateway.answer = TICKET
    run("ticket", "create", "--profile", "web").fails("gateway_unreachable")
    keys = [fields["Idempotency-Key"] for fields in gateway.fields]
    assert len(keys) == 2, "once more, and no more"
    assert len(set(keys)) == 1
    lost.append(1)
    run("ticket", "create", "--profile", "web").succeeds()
    again = [fields["Idempotency-Key"] for fields in gateway.fields[2:]]
    assert len(again) == 2
    assert len({*keys, *again}) == 2, "another change has another key"
    gateway.answer = {"tickets": [], "next": None}
    run("ticket", "list").succeeds()
    assert "Idempotency-Key" not in gateway.fields[-1]

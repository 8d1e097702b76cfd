"""login, logout, and renewal without a word: what they refuse they leave as it was; nothing secret is left behind."""

import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs import keys
from gateway.cli import device
from gateway.cli.client import Client, OperatorDirectory
from gateway.cli.failure import Failure
from gateway.wire import problems
from tests.gateway.cli.conftest import FakeGateway, Run
from tests.openid import AUDIENCE, OpenId, openid

RENEW, LOGIN, LOGOUT = "/v1/operators/self/renew", "/v1/login", "/v1/logout"
STATUS: dict[str, Any] = {
    "instances": {"enrolled": 0, "revoked": 0}, "certificates_active": 0, "crl": None, "upstream_keys": [], "audit": {},
}  # fmt: skip
NEW = {
    "operator": "anne",
    "certificate": "new\n",
    "issuer": "above\n",
    "root": "root\n",
    "not_after": "2030-01-01T00:00:00Z",
}


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenId]:
    """A provider that the system trusts; nobody waits for it."""
    with openid(tmp_path / "openid") as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
        monkeypatch.setattr("gateway.cli.device.time.sleep", lambda _: None)
        yield running


def certify(directory: Path, since: timedelta, life: timedelta, *, written: timedelta = timedelta(hours=2)) -> bytes:
    """A certificate for a key in this directory, that began `since` ago, in a file of this age."""
    key, begins, name = keys.generate(), datetime.now(UTC) - since, x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(begins).not_valid_after(begins + life)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (directory / "operator.crt").write_bytes(pem)
    (directory / "operator.key").write_bytes(keys.dump_private_pem(key))
    at = time.time() - written.total_seconds()
    os.utime(directory / "operator.crt", (at, at))
    return pem


def paths(gateway: FakeGateway) -> list[str]:
    return [path for _, path, _ in gateway.asked]


# Renewal


DAY, HALF = timedelta(hours=12), timedelta(hours=6)


@pytest.fixture(autouse=True)
def anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake gateway asks for certificates of its own CA only: here it is nobody whom it answers."""
    own = OperatorDirectory.context
    monkeypatch.setattr(OperatorDirectory, "context", lambda self, **_: own(self, anonymous=True))


def test_a_certificate_in_its_second_half_is_renewed_without_a_word(
    operator: Path, gateway: FakeGateway, run: Run
) -> None:
    certify(operator, HALF + timedelta(minutes=1), DAY)
    gateway.answers = {RENEW: NEW, "/v1/status": STATUS}
    with_it = run("status").succeeds()
    assert paths(gateway) == [RENEW, "/v1/status"]
    assert (operator / "operator.crt").read_text() == "new\nabove\n"
    assert stat.S_IMODE((operator / "operator.crt").stat().st_mode) == 0o600
    assert run("status").succeeds() == with_it  # and not again
    assert paths(gateway)[2:] == ["/v1/status"]


@pytest.mark.parametrize(
    ("since", "life", "written"),
    [
        (HALF - timedelta(minutes=1), DAY, timedelta(hours=6)),  # too early
        (timedelta(minutes=40), timedelta(hours=1), timedelta(hours=2)),  # came by a token
        (timedelta(hours=9), DAY, timedelta(minutes=59)),  # nobody looked
        (timedelta(hours=13), DAY, timedelta(hours=13)),  # too late: that is for the command to say
    ],
)
def test_another_certificate_is_not(
    operator: Path, gateway: FakeGateway, run: Run, since: timedelta, life: timedelta, written: timedelta
) -> None:
    before = certify(operator, since, life, written=written)
    gateway.answers = {RENEW: NEW, "/v1/status": STATUS}
    run("status").succeeds()
    assert paths(gateway) == ["/v1/status"]
    assert (operator / "operator.crt").read_bytes() == before


@pytest.mark.parametrize("answer", [(403, problems.document("operator_forbidden")), (200, b"<"), (200, {}), (500, [])])
def test_a_renewal_that_fails_is_nobodys_business(operator: Path, gateway: FakeGateway, run: Run, answer: Any) -> None:
    before = certify(operator, HALF + timedelta(minutes=1), DAY)
    gateway.answers = {RENEW: answer, "/v1/status": STATUS}
    run("status").succeeds()
    assert paths(gateway) == [RENEW, "/v1/status"]
    assert (operator / "operator.crt").read_bytes() == before
    assert run("operator", "renew").status == 1  # who asks for it hears of it


def test_renewing_on_purpose(operator: Path, gateway: FakeGateway, run: Run) -> None:
    certify(operator, timedelta(minutes=1), DAY)
    gateway.answers = {RENEW: NEW}
    assert run("operator", "renew").succeeds().startswith("operator anne is certified until 2030-01-01T00:00:00Z")


def test_who_is_overtaken_by_a_renewal_goes_on_with_the_new_certificate(operator: Path, gateway: FakeGateway) -> None:
    gateway.status, gateway.answer = 401, problems.document("certificate_superseded")
    client = Client(OperatorDirectory(operator))
    with pytest.raises(Failure):
        client.call("GET", "/v1/status")
    assert len(gateway.asked) == 1
    os.utime(operator / "operator.crt")  # another command wrote it
    with pytest.raises(Failure):
        client.call("GET", "/v1/status")
    assert len(gateway.asked) == 3
    client.close()


# login


def test_an_operators_own_certificate_is_not_overwritten(operator: Path, gateway: FakeGateway, run: Run) -> None:
    before = certify(operator, timedelta(hours=1), DAY)
    run("login", "--token-file", "-").fails("operator_exists")
    assert (gateway.asked, (operator / "operator.crt").read_bytes()) == ([], before)


@pytest.mark.threat("G17")
def test_G17_a_token_that_is_refused_leaves_no_key(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path
) -> None:
    for name in ("operator.crt", "operator.key"):
        (operator / name).unlink()
    (tmp_path / "token").write_text("a.canary-token.c\n")
    gateway.answers = {
        f"GET {LOGIN}": {"issuer": "https://login.example", "client_id": None, "scopes": "openid", "root": ""},
        f"POST {LOGIN}": (403, problems.document("sign_in_refused")),
    }
    before = os.umask(0)
    text = run("login", "--token-file", tmp_path / "token").fails("sign_in_refused")
    os.umask(before)
    assert "canary" not in text
    assert sorted(path.name for path in operator.iterdir()) == ["ca.pem", "gateway"]
    body = gateway.asked[-1][2]
    assert body["token"] == "a.canary-token.c"
    assert body["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    run("login").fails("provider_strange")  # no client is named, so there is nobody to ask as
    run("login", "--token-file", tmp_path / "absent").fails("file_unreadable")
    (tmp_path / "huge").write_text("x" * 16385)
    run("login", "--token-file", tmp_path / "huge").fails("file_unreadable")


@pytest.mark.threat("G17")
def test_G17_a_link_in_place_of_the_key_is_not_followed(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path
) -> None:
    (operator / "operator.crt").unlink()
    (operator / "operator.key").unlink()
    (operator / "operator.key").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "token").write_text("a.b.c\n")
    gateway.answers = {f"GET {LOGIN}": {"issuer": "", "client_id": None, "scopes": "", "root": ""}}
    run("login", "--token-file", tmp_path / "token").fails("file_unsafe")
    assert not (tmp_path / "elsewhere").exists()
    assert paths(gateway) == [LOGIN]  # no token was sent


@pytest.mark.threat("G17", "J05")
def test_G17_no_token_goes_to_who_cannot_show_that_it_is_the_gateway(
    operator: Path, gateway: FakeGateway, run: Run, tmp_path: Path
) -> None:
    certify(operator, timedelta(hours=2), timedelta(hours=1))
    (tmp_path / "token").write_text("a.b.c\n")
    arguments = ("login", "--token-file", tmp_path / "token")
    (operator / "ca.pem").write_bytes((operator / "operator.crt").read_bytes())
    run(*arguments).fails("gateway_untrusted")
    (operator / "ca.pem").unlink()
    assert "--ca-sha256" in run(*arguments).fails("gateway_untrusted")
    assert gateway.asked == []
    for root in ("", "no PEM", (operator / "operator.crt").read_text()):
        gateway.answers = {f"GET {LOGIN}": {"root": root}}
        run(*arguments, "--ca-sha256", "0" * 64).fails("gateway_untrusted")
    assert {(method, body) for method, _, body in gateway.asked} == {("GET", None)}
    assert not (operator / "ca.pem").exists()


# The device grant


def test_a_person_agrees_at_the_provider(provider: OpenId, capsys: pytest.CaptureFixture[str]) -> None:
    provider.device.token = "a.b.c"
    assert device.token(provider.issuer, AUDIENCE, "openid") == "a.b.c"
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Open {provider.issuer}/activate and type WDJB-MJHT\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("access_denied", "login_denied"),
        ("expired_token", "login_timeout"),
        ("authorization_pending", "login_timeout"),
        ("slow_down", "login_timeout"),
        ("\x1b[2Jevil", "provider_strange"),
    ],
)
def test_a_person_does_not_agree(provider: OpenId, error: str, code: str) -> None:
    provider.device.error = error
    with pytest.raises(Failure) as caught:
        device.token(provider.issuer, AUDIENCE, "openid")
    assert caught.value.code == code
    assert "\x1b" not in str(caught.value)
    assert provider.device.polls <= 60


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.test"},
        {"device_authorization_endpoint": None},
        {"device_authorization_endpoint": "http://127.0.0.1/device"},
        {"token_endpoint": "file:///etc/passwd"},
        {"device_authorization_endpoint": 7},
    ],
)
def test_a_provider_that_leads_elsewhere_is_not_followed(provider: OpenId, metadata: dict[str, Any]) -> None:
    provider.metadata = metadata
    with pytest.raises(Failure) as caught:
        device.token(provider.issuer, AUDIENCE, "openid")
    assert caught.value.code == "provider_strange"


def test_a_provider_of_another_ca_is_asked_nothing(provider: OpenId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Failure) as caught:
        device.token(provider.issuer, AUDIENCE, "openid")
    assert (caught.value.code, provider.asked) == ("provider_unreachable", [])


# logout


def test_a_certificate_that_no_token_gave_is_not_given_up_unasked(
    operator: Path, gateway: FakeGateway, run: Run
) -> None:
    certify(operator, timedelta(hours=1), DAY)
    said = run("logout")
    assert said.names_faults("confirmation_required")
    assert (gateway.asked, (operator / "operator.key").exists()) == ([], True)
    gateway.answers = {LOGOUT: {"serial": "1"}}
    run("logout", "--yes").succeeds()
    assert paths(gateway) == [LOGOUT]
    assert sorted(path.name for path in operator.iterdir()) == ["ca.pem", "gateway"]


@pytest.mark.parametrize("code", ["certificate_expired", "certificate_revoked", "certificate_unknown"])
def test_what_is_over_already_is_forgotten(operator: Path, gateway: FakeGateway, run: Run, code: str) -> None:
    certify(operator, timedelta(minutes=30), timedelta(hours=1))
    gateway.answers = {LOGOUT: (401, problems.document(code))}
    run("logout").succeeds()
    assert not (operator / "operator.key").exists()


def test_a_gateway_that_does_not_hear_of_it_is_told_and_the_key_is_gone_all_the_same(
    operator: Path, gateway: FakeGateway, run: Run
) -> None:
    certify(operator, timedelta(minutes=30), timedelta(hours=1))
    gateway.answers = {LOGOUT: (503, problems.document("store_unavailable"))}
    assert "not revoked" in run("logout").fails("store_unavailable")
    assert not (operator / "operator.key").exists()
    assert not (operator / "operator.crt").exists()

"""Who comes in by which certificate: on both listeners, for as long as it is valid, and for nothing that it says."""

import http.client
import json
import socket
import ssl
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import csr, keys
from deploy.demo.cloud import ACCOUNT, REGION
from deploy.demo.visitor import Answer, Visitor
from gateway.adapters import clock
from gateway.wire.messages import CredentialsRequest, RenewRequest
from tests.end_to_end.forged import (
    CLIENT,
    SERVER,
    Forged,
    authority_like,
    context_of,
    named,
    row_of,
    self_signed,
    uri_of,
)
from tests.end_to_end.rough import Rough, brief_fixture, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import GRANT, OTHER_PROFILE, PROFILE, remember

INSTANCE_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/grants", None),
    ("GET", "/v1/watch", None),
    ("POST", "/v1/credentials", CredentialsRequest(GRANT)),
    ("POST", "/v1/renew", RenewRequest("x")),
)
ADMIN_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/status", None),
    ("GET", "/v1/profiles", None),
    ("GET", "/v1/profiles/web", None),
    ("GET", "/v1/profiles/web/versions", None),
    ("PUT", "/v1/profiles/web", {}),
    ("PUT", "/v1/profiles/web?dry_run=true", {}),
    ("POST", "/v1/profiles/web/rollback", {"version": 1}),
    ("POST", "/v1/tickets", {"profile": PROFILE}),
    ("GET", "/v1/instances", None),
    ("GET", "/v1/instances/i-00000000000000000", None),
    ("POST", "/v1/revocations/instances/i-00000000000000000", None),
    ("POST", "/v1/instances/i-00000000000000000/allow-reenroll", None),
    ("GET", "/v1/audit", None),
)


def shut_out(visitor: Visitor, method: str = "GET", path: str = "/v1/grants") -> bool:
    """Did TLS itself refuse? (With TLS 1.3 a client hears of it when it first reads.)"""
    try:
        visitor.call(method, path)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


def refusal(rough: Rough, visitor: Visitor, method: str = "GET", path: str = "/v1/grants", body: Any = None) -> str:
    """Status and code of a refusal: with one record in the log, a store that did not change, and AWS not asked."""
    world, asked = rough.world, len(rough.door.asked)
    before = world.everything_but_the_log()
    answer = visitor.call(method, path, body)
    assert len(rough.door.asked) == asked
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    (record,) = world.audit(answer.body["instance"])
    assert (record["kind"], record["allowed"], record["source"]) == ("decision", False, "127.0.0.1")
    assert record["facts"]["code"] == answer.code
    assert world.everything_but_the_log() == before
    return f"{answer.status} {answer.code}"


def served(visitor: Visitor) -> Answer:
    """The healthy client beside the intruder."""
    answer = visitor.call("GET", "/v1/grants")
    assert answer.status == 200, answer
    return answer


class Line:
    """A TLS connection whose session can be taken up again."""

    def __init__(self, context: ssl.SSLContext, address: str, session: ssl.SSLSession | None = None) -> None:
        host, port = address.split(":")
        raw = socket.create_connection((host, int(port)), timeout=10)
        self._socket = context.wrap_socket(raw, server_hostname=host, session=session)

    def grants(self) -> str:
        """GET /v1/grants: status and, of a problem, its code."""
        self._socket.sendall(b"GET /v1/grants HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        body = json.loads(response.read())
        return f"{response.status} {body.get('code', '')}".strip()

    @property
    def session(self) -> ssl.SSLSession:
        """For another connection of the same context."""
        assert self._socket.session is not None
        return self._socket.session

    @property
    def resumed(self) -> bool:
        return bool(self._socket.session_reused)

    def close(self) -> None:
        self._socket.close()


# B01: what is no certificate of ours


@pytest.mark.threat("B01", "I06")
@pytest.mark.parametrize(("method", "path", "body"), INSTANCE_ROUTES)
def test_no_certificate_is_refused_on_every_route_of_the_instance_listener(
    rough: Rough, method: str, path: str, body: Any
) -> None:
    world = rough.world
    assert refusal(rough, world.visitor(), method, path, body) == "401 certificate_required"


@pytest.mark.threat("B01", "I06")
@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ROUTES)
def test_no_certificate_is_refused_on_every_route_of_the_admin_listener(
    rough: Rough, method: str, path: str, body: Any
) -> None:
    world = rough.world
    assert refusal(rough, world.visitor(world.site.admin), method, path, body) == "401 certificate_required"


@pytest.mark.threat("B01")
def test_the_routes_above_are_all_that_there_are(rough: Rough) -> None:
    """Negative control: the very same requests are answered otherwise to who has the right certificate."""
    world = rough.world
    _, visitor = rough.enrolled()
    assert [visitor.call(*route).status for route in INSTANCE_ROUTES if route[1] != "/v1/watch"] == [200, 200, 400]
    operator = world.operator()
    codes = [operator.call(*route).status for route in ADMIN_ROUTES]
    assert codes == [200, 200, 200, 200, 400, 400, 200, 201, 200, 404, 404, 404, 200]


@pytest.mark.threat("B01")
def test_certificates_of_strangers_end_in_the_handshake(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    with world.ca() as (issuer, _):
        pass
    own = x509.load_pem_x509_certificate((visitor.certificate or "").encode())
    uri = uri_of(own)
    like_own = Forged((uri,), own.subject, serial=own.serial_number)
    stranger = keys.generate()
    others_issuer = authority_like(issuer.certificate, stranger)
    strangers = {
        "self-signed": self_signed(like_own),
        "another CA with the same names, and the same serial": like_own.signed(others_issuer, stranger),
        "the same, under our own issuer's certificate": like_own.signed(issuer.certificate, stranger),
        "an enrolled instance as CA": like_own.signed(own, visitor.key),
        "serverAuth only, by the real issuer": Forged((uri,), own.subject, (SERVER,)).signed(
            issuer.certificate, issuer.key
        ),
        "expired, by the real issuer": Forged((uri,), own.subject, begin=-timedelta(2), end=-timedelta(1)).signed(
            issuer.certificate, issuer.key
        ),
        "not yet valid, by the real issuer": Forged(
            (uri,), own.subject, begin=timedelta(hours=1), end=timedelta(2)
        ).signed(issuer.certificate, issuer.key),
    }
    strangers["an enrolled instance as CA"].above = [own, issuer.certificate]
    before, records = world.everything_but_the_log(), len(world.audit())
    for what, held in strangers.items():
        for address in (world.site.instance, world.site.admin):
            assert shut_out(held.visitor(world, address)), what
    assert world.everything_but_the_log() == before
    assert len(world.audit()) == records  # no request was ever begun
    assert served(visitor).body["profile"] == PROFILE
    assert launched.id in uri


@pytest.mark.threat("B01", "B22")
@pytest.mark.parametrize("usages", [(), (CLIENT, SERVER), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, CLIENT)])
def test_other_usages_by_the_real_issuer_are_not_on_record(
    rough: Rough, usages: tuple[x509.ObjectIdentifier, ...]
) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    own = x509.load_pem_x509_certificate((visitor.certificate or "").encode())
    with world.ca() as (issuer, _):
        held = Forged((uri_of(own),), own.subject, usages).signed(issuer.certificate, issuer.key)
    assert refusal(rough, held.visitor(world)) == "401 certificate_unknown"
    served(visitor)


@pytest.mark.threat("B01", "G01")
def test_an_operator_is_nobody_on_the_instance_listener_and_an_instance_nobody_on_the_admin_one(rough: Rough) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    operator = world.operator()
    assert operator.certificate
    assert visitor.certificate
    stray_operator, stray_instance = world.visitor(), world.visitor(world.site.admin)
    stray_operator.present(operator.certificate, operator.key)
    stray_instance.present(visitor.certificate, visitor.key)
    records = len(world.audit())
    assert shut_out(stray_operator)
    assert shut_out(stray_instance, path="/v1/status")
    assert len(world.audit()) == records
    served(visitor)
    assert operator.call("GET", "/v1/status").status == 200


@pytest.mark.threat("G01")
def test_neither_listener_has_the_routes_of_the_other(rough: Rough) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    assert refusal(rough, visitor, "GET", "/v1/status") == "404 not_found"
    assert refusal(rough, visitor, "POST", "/v1/tickets", {"profile": PROFILE}) == "404 not_found"
    assert refusal(rough, world.operator(), "GET", "/v1/grants") == "404 not_found"
    assert refusal(rough, world.operator(), "POST", "/v1/credentials", CredentialsRequest(GRANT)) == "404 not_found"


@pytest.mark.threat("B21")
def test_tls_1_2_is_refused_on_both_listeners(rough: Rough) -> None:
    world = rough.world
    for address in (world.site.instance, world.site.admin):
        host, port = address.split(":")
        for newest, accepted in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
            context = world.site.context()
            context.maximum_version = newest
            with socket.create_connection((host, int(port)), timeout=5) as raw:
                if accepted:
                    with context.wrap_socket(raw, server_hostname=host) as line:
                        assert line.version() == "TLSv1.3"
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(raw, server_hostname=host)


# B02, B03: for as long as it is valid


@pytest.mark.threat("B02", "B03", "B12", "B21")
def test_a_certificate_that_runs_out_ends_its_own_connection_and_its_resumed_sessions(
    brief: Rough, tmp_path: Path
) -> None:
    _, visitor = brief.enrolled()
    renewing = brief.world.visitor()
    renewing.present(visitor.certificate or "", visitor.key)
    served(renewing)
    ends = x509.load_pem_x509_certificate((visitor.certificate or "").encode()).not_valid_after_utc
    context = context_of(brief.world, visitor, tmp_path)
    first = Line(context, brief.world.site.instance)
    assert first.grants() == "200"
    early = Line(context, brief.world.site.instance, first.session)
    assert early.resumed
    assert early.grants() == "200"  # the control: a resumed session is good while the certificate is
    connection = visitor.connect()
    answers: list[tuple[datetime, Answer]] = []
    while not answers or answers[-1][1].status == 200:
        begun = clock.now()
        assert begun < ends + timedelta(seconds=1), "served after its end"
        assert visitor.connect() is connection, "it is one connection"
        answers.append((begun, visitor.call("GET", "/v1/grants")))
        time.sleep(0.05)
    begun, last = answers[-1]
    assert len(answers) > 10
    assert (last.status, last.code, last.headers["connection"]) == (401, "certificate_expired", "close")
    assert begun > ends - timedelta(seconds=0.5), "refused too early"
    assert all(before <= ends for before, _ in answers[:-1]), "served after its end"
    (record,) = brief.world.audit(last.body["instance"])
    assert (record["reason"], record["allowed"]) == ("certificate_expired", False)
    renewal = RenewRequest(csr.make(renewing.key))
    assert refusal(brief, renewing, "POST", "/v1/renew", renewal) == "401 certificate_expired"
    for line in (first, early):
        assert line.grants() == "401 certificate_expired"
    late = Line(context, brief.world.site.instance, first.session)
    assert late.resumed
    assert late.grants() == "401 certificate_expired"
    for line in (first, early, late):
        line.close()
    assert shut_out(visitor), "a full handshake shows an expired certificate"
    _, fresh = brief.enrolled()
    served(fresh)


# B22: for nothing that it says

TRUST = f"spiffe://trusted-gateway.internal/aws/{ACCOUNT}/{REGION}/"


@pytest.mark.threat("B22", "B01")
def test_names_that_can_be_read_in_two_ways_are_unknown(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    _, neighbour = rough.enrolled(OTHER_PROFILE)
    own = x509.load_pem_x509_certificate((visitor.certificate or "").encode())
    uri, other = uri_of(own), uri_of(x509.load_pem_x509_certificate((neighbour.certificate or "").encode()))
    subjects = {
        "two URIs": ((uri, other), own.subject),
        "no URI": ((), own.subject),
        "another instance's URI": ((other,), own.subject),
        "two common names": ((uri,), x509.Name([*named(launched.id), *named("admin")])),
        "NUL in the common name": ((uri,), named(f"{launched.id}\0.admin")),
        "an e-mail address in the common name": ((uri,), named(f"{launched.id}/emailAddress=admin")),
        "a homoglyph in a BMPString": ((uri,), named("\u0456" + launched.id[1:], _ASN1Type.BMPString)),
        "an empty subject": ((uri,), x509.Name([])),
        "an operator's URI": (("spiffe://trusted-gateway.internal/operator/alice",), named("alice")),
    }
    with world.ca() as (issuer, _):
        for what, (uris, subject) in subjects.items():
            for serial in (x509.random_serial_number(), own.serial_number):
                held = Forged(uris, subject, serial=serial).signed(issuer.certificate, issuer.key)
                assert refusal(rough, held.visitor(world)) == "401 certificate_unknown", what
    served(visitor)


@pytest.mark.threat("B22")
def test_identity_is_what_the_store_says_and_not_what_the_certificate_says(rough: Rough) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    _, neighbour = rough.enrolled(OTHER_PROFILE)
    own = x509.load_pem_x509_certificate((visitor.certificate or "").encode())
    other = uri_of(x509.load_pem_x509_certificate((neighbour.certificate or "").encode()))
    with world.ca() as (issuer, store):
        held = Forged((other,), named("admin")).signed(issuer.certificate, issuer.key)
        remember(store, row_of(held, uri_of(own)))
    caller = held.visitor(world)
    assert served(caller).body["profile"] == PROFILE  # the neighbour's, whom the certificate names, is another
    assert world.audit(name="instance:grant:list")[-1]["subject"] == uri_of(own)


@pytest.mark.threat("B22")
def test_what_is_on_record_as_another_kind_is_unknown(rough: Rough) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    uri = uri_of(x509.load_pem_x509_certificate((visitor.certificate or "").encode()))
    with world.ca() as (issuer, store):
        held = Forged((uri,), named("x")).signed(issuer.certificate, issuer.key)
        remember(store, row_of(held, uri, kind="operator"))
        orphan = Forged((TRUST + "i-0123456789abcdef0",), named("x")).signed(issuer.certificate, issuer.key)
        remember(store, row_of(orphan, TRUST + "i-0123456789abcdef0"))
    assert refusal(rough, held.visitor(world)) == "401 certificate_unknown"
    assert refusal(rough, orphan.visitor(world)) == "401 certificate_unknown"


@pytest.mark.threat("B22", "G01")
def test_an_operator_who_is_not_on_record_is_unknown(rough: Rough) -> None:
    world = rough.world
    with world.ca("services") as (issuer, _):
        held = Forged(("spiffe://trusted-gateway.internal/operator/alice",), named("alice")).signed(
            issuer.certificate, issuer.key
        )
    stranger = held.visitor(world, world.site.admin)
    assert refusal(rough, stranger, "GET", "/v1/status") == "401 certificate_unknown"
    assert refusal(rough, stranger, "POST", "/v1/tickets", {"profile": PROFILE}) == "401 certificate_unknown"
    assert rough.operator.call("GET", "/v1/status").status == 200


@pytest.mark.threat("C01")
def test_headers_that_claim_a_certificate_are_not_believed(rough: Rough) -> None:
    world = rough.world
    _, visitor = rough.enrolled()
    pem = (visitor.certificate or "").replace("\n", "%0A")
    claims = {"X-SSL-Client-Cert": pem, "X-Forwarded-Client-Cert": f"Cert={pem}", "X-Amzn-Mtls-Clientcert": pem}
    stranger = world.visitor()
    answer = stranger.call(
        "GET", "/v1/grants", headers={**claims, "X-SSL-Client-Verify": "SUCCESS", "Remote-User": "a"}
    )
    assert (answer.status, answer.code) == (401, "certificate_required")
    _, neighbour = rough.enrolled(OTHER_PROFILE)
    assert neighbour.call("GET", "/v1/grants", headers=claims).body["profile"] == OTHER_PROFILE

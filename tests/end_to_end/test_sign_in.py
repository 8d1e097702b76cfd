"""Operators come in by tokens of a real provider, into a gateway of two workers, over real sockets; and leave."""

import base64
import http.client
import json
import os
import re
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from certs import csr, keys
from certs.names import OperatorName
from certs.profiles import OPERATOR
from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Answer, Visitor
from gateway.adapters import clock
from gateway.core.operator_model import OperatorState
from gateway.flows.issue import Issue
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world
from tests.openid import AUDIENCE, OpenId, new_key, openid

P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # the order of the curve


@dataclass
class Site:
    """A gateway, and the provider that it believes."""

    world: World
    provider: OpenId

    def token(self, name: str, **changed: Any) -> str:
        """A token for an operator of this name; `jti` makes each another one."""
        claims = {"preferred_username": name, "sub": f"subject-of-{name}", "jti": os.urandom(8).hex(), **changed}
        return self.provider.token(**claims)

    def login(self, token: str, visitor: Visitor | None = None, headers: dict[str, str] | None = None) -> Answer:
        """POST /v1/login; a certificate that comes is used from then on."""
        visitor = visitor or self.world.visitor(self.world.site.admin)
        answer = visitor.call("POST", "/v1/login", {"token": token, "csr": csr.make(visitor.key)}, headers=headers)
        if answer.status == 201:
            visitor.present(answer.body["certificate"] + answer.body["issuer"], visitor.key)
        return answer

    def signed_in(self, name: str, **changed: Any) -> Visitor:
        """Somebody who is in."""
        visitor = self.world.visitor(self.world.site.admin)
        answer = self.login(self.token(name, **changed), visitor)
        assert answer.status == 201, answer.body
        return visitor

    def operator(self, name: str) -> dict[str, Any]:
        """The row, with its document read."""
        (row,) = self.world.rows("operator", name=name)
        return {**row, "document": json.loads(row["document"])}

    def cli(
        self, directory: Path, *arguments: str, given: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """A command of an operator who has nothing but a directory of its own."""
        program = [self.world.site.command[0], "--operator-dir", str(directory), *arguments]
        known = {**self.world.site.environment(), **environment}
        return subprocess.run(program, env=known, input=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sign-in")
    with openid(folder / "openid") as provider:
        oidc = {
            "issuer": provider.issuer,
            "client_id": AUDIENCE,
            "ca": str(provider.ca),
            "roles.admins": "administrator",
        }
        oidc |= {"roles.watchers": "monitor", "roles.ghosts": "of-nobody"}
        top = {f"oidc.{name}": value for name, value in oidc.items()}
        with make_world(folder / "gateway", cloud, seeded, authority, top=top) as world:
            yield Site(world, provider)


@pytest.fixture(scope="module")
def limited(site: Site) -> Site:
    """With the limits that are usual, from now on: the tests with them are the last ones of this module."""
    path = site.world.site.settings
    site.world.hang_up()
    site.world.site.stop()
    path.write_text(re.sub(r"(?m)^failures_per_minute(_overall)? = .*$", "", path.read_text()))
    site.world.site.start()
    return site


def said(answer: Answer) -> tuple[int, dict[str, Any]]:
    """What an answer says, without what is different in each."""
    return answer.status, {name: value for name, value in answer.body.items() if name != "instance"}


def reason(site: Site, answer: Answer) -> str:
    """Why, in the audit log: one decision it is, and no more."""
    records = site.world.audit(answer.body["instance"])
    assert [record["kind"] for record in records] == ["decision"], records
    assert (records[0]["name"], records[0]["allowed"]) == ("operator:session:create", False)
    return str(records[0]["reason"])


# The first test: the workers have no keys of the provider yet


def test_a_provider_that_hangs_keeps_nobody_out_who_is_in(site: Site) -> None:
    operator = site.world.operator()
    site.provider.how = "hang"
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(site.login, site.token("anne")) for _ in range(8)]
        assert operator.call("GET", "/v1/status").status == 200
        answers = [each.result() for each in waiting]
    assert {(answer.status, answer.code) for answer in answers} == {(503, "provider_unavailable")}
    assert {answer.headers["retry-after"] for answer in answers} == {"10"}
    site.provider.how, good, deadline = "well", 0, time.monotonic() + 60
    while good < 8:  # in a row: both workers have asked again
        answer = site.login(site.token("early"))
        assert answer.status in (201, 503)
        assert time.monotonic() < deadline
        good = good + 1 if answer.status == 201 else 0
        time.sleep(0.1)


# In, and out


def test_a_token_becomes_a_certificate_that_ends_with_it(site: Site) -> None:
    visitor = site.world.visitor(site.world.site.admin)
    token = site.token("anne", exp=int(time.time()) + 300)
    answer = site.login(token, visitor)
    assert (answer.status, answer.body["operator"]) == (201, "anne")
    made = x509.load_pem_x509_certificate(answer.body["certificate"].encode())
    assert made.not_valid_after_utc.timestamp() <= time.time() + 300
    assert visitor.call("GET", "/v1/status").status == 200
    row = site.operator("anne")
    identity = {"issuer": site.provider.issuer, "subject": "subject-of-anne"}
    assert row["document"] == {"roles": ["administrator"], "identity": identity}
    found = site.world.audit(name="operator:session:create", kind="decision", object="operator/anne", allowed=True)
    (decision,) = (record for record in found if record["facts"]["created"])
    assert [r["kind"] for r in site.world.audit(decision["request_id"])] == ["decision", "intent", "outcome"]
    assert (decision["subject"], decision["allowed"]) == (made.extensions.get_extension_for_class(
        x509.SubjectAlternativeName).value[0].value, True)  # fmt: skip
    assert token not in json.dumps(site.world.audit()) + site.world.site.log.read_text()


def test_an_hour_is_the_longest(site: Site) -> None:
    visitor = site.world.visitor(site.world.site.admin)
    answer = site.login(site.token("anne", exp=int(time.time()) + 86400), visitor)
    made = x509.load_pem_x509_certificate(answer.body["certificate"].encode())
    assert made.not_valid_after_utc.timestamp() <= time.time() + 3600


def test_the_provider_decides_who_may_do_what_at_each_sign_in(site: Site) -> None:
    visitor = site.signed_in("bert", groups=["admins"])
    assert visitor.call("GET", "/v1/profiles").status == 200
    weaker = site.signed_in("bert", groups=["watchers", "ghosts"])
    assert site.operator("bert")["document"]["roles"] == ["monitor"]
    for each in (visitor, weaker):  # the certificate before has no more than the person has
        answer = each.call("GET", "/v1/profiles")
        assert (answer.status, answer.code) == (403, "operator_forbidden")
    none = site.login(site.token("bert", groups=["unmapped"]))
    assert (none.status, none.code) == (403, "sign_in_refused")
    assert site.operator("bert")["document"]["roles"] == []
    for each in (visitor, weaker):
        assert each.call("GET", "/v1/status").code == "operator_forbidden"


def test_who_leaves_is_out_at_once(site: Site) -> None:
    visitor, other = site.signed_in("carl"), site.signed_in("carl")
    answer = visitor.call("POST", "/v1/logout")
    assert answer.status == 200
    (record,) = site.world.audit(name="operator:session:end")
    assert (record["allowed"], record["facts"]["serial"]) == (True, answer.body["serial"])
    assert visitor.call("GET", "/v1/status").code == "certificate_revoked"  # on the same connection
    assert visitor.call("POST", "/v1/logout").code == "certificate_revoked"
    assert other.call("GET", "/v1/status").status == 200


@pytest.mark.threat("G01")
def test_G01_who_has_no_certificate_or_another_one_leaves_nothing(site: Site) -> None:
    stranger = site.world.visitor(site.world.site.admin)
    assert stranger.call("POST", "/v1/logout").code == "certificate_required"
    assert stranger.call("POST", "/v1/operators/self/renew").code == "certificate_required"
    _, instance = site.world.enrolled()
    for method, path in (("GET", "/v1/login"), ("POST", "/v1/login"), ("POST", "/v1/logout")):
        assert instance.call(method, path).code == "not_found"
    elsewhere = site.world.visitor(site.world.site.admin)
    elsewhere.present(instance.certificate or "", instance.key)
    with pytest.raises((OSError, http.client.HTTPException)):
        site.login(site.token("anne"), elsewhere)


def test_without_a_provider_nobody_signs_in(rough: Rough) -> None:
    stranger = rough.world.visitor(rough.world.site.admin)
    order = {"token": "e30.e30.e30", "csr": csr.make(stranger.key)}
    for answer in (stranger.call("GET", "/v1/login"), stranger.call("POST", "/v1/login", order)):
        assert (answer.status, answer.code) == (404, "not_found")


# A token is good once


def _twin(token: str) -> str:
    """The same token with another signature that holds: for ECDSA, (r, n - s)."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    r, s = decode_dss_signature(encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])))
    other = r.to_bytes(32) + (P256 - s).to_bytes(32)
    return f"{signed}.{base64.urlsafe_b64encode(other).decode().rstrip('=')}"


def test_a_token_is_good_once_in_every_worker_and_however_it_is_written(site: Site) -> None:
    token = site.token("dora")
    assert _twin(token) != token
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(site.login, [token, _twin(token)] * 8))
    assert sorted(answer.status for answer in answers) == [201] + [403] * 15
    workers = {record["chain"] for record in site.world.audit(reason="token_used")}
    assert len(workers) == 2, "both workers were asked"
    again = site.login(token)
    assert (again.code, reason(site, again)) == ("sign_in_refused", "token_used")
    assert site.login(_twin(site.token("dora"))).status == 201  # the twin is a good token, when it comes first


# Who is refused hears why from nobody


def _refusals(site: Site) -> dict[str, str]:
    """A token for each reason."""
    forged = new_key()
    return {
        "token_algorithm": "eyJhbGciOiJub25lIn0.e30.eA",
        "token_signature": site.provider.token(key=forged),
        "token_claims": site.token("anne", aud="other"),
        "token_expired": site.token("anne", exp=int(time.time()) - 60),
        "token_too_old": site.token("anne", iat=int(time.time()) - 7200),
        "token_key_unknown": site.provider.token(key=new_key(kid="three")),
        "token_sub": site.token("anne", sub="s" * 300),
        "name_taken": site.token("alice"),
        "name_unusable": site.token("../anne"),
        "roles_malformed": site.token("anne", groups="admins"),
        "roles_missing": site.token("nobody", groups=[]),
        "operator_revoked": site.token("gone"),
    }


@pytest.mark.threat("G07")
def test_G07_every_refusal_is_the_same_and_the_log_has_the_reason(site: Site) -> None:
    site.signed_in("gone")
    with site.world.ca("services") as (_, store), store.read() as tx:
        row = tx.operators.get(name="gone")
    with site.world.ca("services") as (_, store):
        assert row is not None
        assert store.write(lambda tx: tx.operators.swap(row, replace(row, state=OperatorState.REVOKED)))
    before = site.world.rows("operator")
    answers = {why: site.login(token) for why, token in _refusals(site).items()}
    first, *others = (said(answer) for answer in answers.values())
    assert (first[0], first[1]["code"]) == (403, "sign_in_refused")
    assert "detail" not in first[1]
    assert all(other == first for other in others)
    assert {why: reason(site, answer) for why, answer in answers.items()} == {why: why for why in answers}
    assert site.world.rows("operator") == before


@pytest.mark.threat("G07")
def test_G07_known_and_unknown_names_are_answered_alike_two_hundred_times(site: Site) -> None:
    def answers(name: str) -> set[str]:
        visitor = site.world.visitor(site.world.site.admin)
        return {json.dumps(said(site.login(site.token(name, groups=[]), visitor))) for _ in range(200)}

    assert answers("alice") == answers("unknown") == answers("Alice ")


def test_what_is_no_request_is_refused_before_anything(site: Site) -> None:
    visitor = site.world.visitor(site.world.site.admin)
    good = {"token": site.token("anne"), "csr": csr.make(visitor.key)}
    for changed in (
        {"token": "x"},
        {"token": "a.b.c\n"},
        {"token": 7},
        {"token": "a.b." + "c" * 16384},
        {"role": "administrator"},
    ):
        answer = visitor.call("POST", "/v1/login", good | changed)
        assert (answer.status, answer.code) == (400, "malformed_request"), changed
        assert "c" * 100 not in json.dumps(answer.body)
    refused = visitor.call("POST", "/v1/login", good | {"csr": "no request"})
    assert (refused.status, refused.code) == (400, "csr_refused")
    assert site.login(good["token"]).status == 201  # it was not used up


def test_a_key_is_one_persons(site: Site) -> None:
    visitor = site.signed_in("emil")
    visitor.close()
    other = site.world.visitor(site.world.site.admin)
    other.key = visitor.key
    answer = site.login(site.token("frida"), other)
    assert (answer.status, answer.code) == (400, "csr_refused")


# Renewal


def test_a_certificate_is_renewed_for_the_same_key_and_the_old_one_is_out(site: Site) -> None:
    site.world.site.cli("operator", "certify", "alice", unseal=True)
    operator = site.world.operator()
    before = (operator.certificate or "", operator.key)
    answer = operator.call("POST", "/v1/operators/self/renew")
    assert (answer.status, answer.body["operator"]) == (200, "alice")
    made = x509.load_pem_x509_certificate(answer.body["certificate"].encode())
    assert made.public_key() == operator.key.public_key()
    assert timedelta(hours=11) < made.not_valid_after_utc - clock.now() <= timedelta(hours=12)
    assert operator.call("GET", "/v1/status").code == "certificate_superseded"
    again = operator.call("POST", "/v1/operators/self/renew")  # the answer had been lost
    assert again.body["certificate"] == answer.body["certificate"]
    operator.present(answer.body["certificate"] + answer.body["issuer"], operator.key)
    assert operator.call("GET", "/v1/status").status == 200
    records = [r for r in site.world.audit(name="operator:certificate:renew") if r["kind"] == "outcome"]
    assert [record["reason"] for record in records[-2:]] == ["renewed", "given_again"]
    third = operator.call("POST", "/v1/operators/self/renew")
    assert third.status == 200
    operator.present(*before)
    assert operator.call("POST", "/v1/operators/self/renew").code == "certificate_superseded"
    site.world.site.cli("operator", "certify", "alice", unseal=True)


def test_who_signs_in_by_tokens_signs_in_again(site: Site) -> None:
    visitor = site.signed_in("anne")
    answer = visitor.call("POST", "/v1/operators/self/renew")
    assert (answer.status, answer.code) == (403, "operator_forbidden")
    assert site.world.audit(answer.body["instance"])[0]["reason"] == "sign_in_again"


# By the command line


@pytest.mark.threat("G17")
def test_G17_a_machine_signs_in_with_a_token_from_standard_input(site: Site, tmp_path: Path) -> None:
    directory, token = tmp_path / "operator", site.token("gina")
    done = site.cli(
        directory, "--gateway", site.world.site.admin, "login", "--ca-sha256", site.world.fingerprint,
        "--token-file", "-",
        given=token + "\n",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("operator gina is certified until ")
    assert {path.name for path in directory.iterdir()} == {"operator.key", "operator.crt", "ca.pem", "gateway"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not [path for path in directory.iterdir() if token in path.read_text()]
    assert site.cli(directory, "status").returncode == 0
    again = site.cli(directory, "login", "--token-file", "-", given=token)
    assert (again.returncode, again.stdout) == (1, "")
    assert "(sign_in_refused)" in again.stderr
    assert site.cli(directory, "status").returncode == 0  # what was there is as it was
    done = site.cli(directory, "logout")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in directory.iterdir()} == {"ca.pem", "gateway"}
    assert "(operator_missing)" in site.cli(directory, "status").stderr


@pytest.mark.threat("G17")
def test_G17_another_ca_than_the_one_that_was_named_gets_no_token(site: Site, tmp_path: Path) -> None:
    directory, token = tmp_path / "operator", site.token("gina")
    wrong = ("--gateway", site.world.site.admin, "login", "--ca-sha256", "0" * 64, "--token-file", "-")
    done = site.cli(directory, *wrong, given=token)
    assert (done.returncode, "(gateway_untrusted)" in done.stderr) == (1, True)
    assert list(directory.iterdir()) == []
    assert site.login(token).status == 201  # nobody saw it


def test_a_person_signs_in_at_the_provider(site: Site, tmp_path: Path) -> None:
    directory = tmp_path / "operator"
    site.provider.device.token = site.token("hana", groups=["watchers"])
    done = site.cli(
        directory, "--gateway", site.world.site.admin, "login", "--ca-sha256", site.world.fingerprint, "--json",
        SSL_CERT_FILE=str(site.provider.ca),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"Open {site.provider.issuer}/activate and type WDJB-MJHT\n"
    assert json.loads(done.stdout)["operator"] == "hana"
    assert site.cli(directory, "status").returncode == 0


# Brute force

ALIKE = ("anne", "Anne", " anne ", "ANNE", "\uff41nne")  # the last in full width


def _from(site: Site, source: str, token: str) -> int:
    """POST /v1/login from another address of this machine; anew while the worker asks for the provider's keys (503)."""
    context = ssl.create_default_context(cadata=site.world.root)
    connection = http.client.HTTPSConnection(
        site.world.site.admin, context=context, timeout=30, source_address=(source, 0)
    )
    try:
        body = json.dumps({"token": token, "csr": csr.make(keys.generate())})
        headers = {"Content-Type": "application/json", "X-Forwarded-For": os.urandom(4).hex()}
        deadline = time.monotonic() + 30
        while True:
            connection.request("POST", "/v1/login", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 503 or time.monotonic() > deadline:
                return answer.status
            time.sleep(0.1)
    finally:
        connection.close()


@pytest.mark.threat("G06")
def test_G06_certificates_that_we_did_not_issue_are_counted_and_ours_are_not(limited: Site) -> None:
    site = limited
    with site.world.ca("services") as (_, store):
        from gateway.ceremonies import unseal

        issue, key = Issue(store, unseal(store, site.world.site.passphrase), clock.random_bytes, None), keys.generate()
        name = OperatorName("trusted-gateway.internal", "anne")
        stolen = issue.certificate("services", OPERATOR, name, key.public_key(), clock.now(), timedelta(hours=1))
        chain = ssl.DER_cert_to_PEM_cert(stolen.der) + ssl.DER_cert_to_PEM_cert(issue.certificate_of("services"))
    administrator = site.world.operator()
    thief = site.world.visitor(site.world.site.admin)
    thief.present(chain, key)
    codes = [thief.call("GET", "/v1/status").code for _ in range(70)]
    assert codes[0] == "certificate_unknown"
    assert set(codes[-5:]) == {"too_many_requests"}
    assert {administrator.call("GET", "/v1/status").status for _ in range(5)} == {200}
    administrator.close()


@pytest.mark.threat("G06")
def test_G06_who_only_fails_is_slowed_down_and_nobody_else_is(limited: Site) -> None:
    site = limited
    inside, administrator = site.signed_in("anne"), site.world.operator()
    bad = [site.provider.token(key=new_key(), preferred_username=alike) for alike in ALIKE]
    with ThreadPoolExecutor(8) as pool:
        # One account from many addresses, however its name is written. Each worker counts for itself, up to 30.
        places = [f"127.0.1.{number}" for number in range(1, 76)]
        found = list(pool.map(lambda n: _from(site, places[n], bad[n % len(bad)]), range(75)))
        assert set(found) == {403, 429}
        assert found.count(403) <= 60
        assert _from(site, "127.0.2.1", site.provider.token(key=new_key(), preferred_username="other")) == 403
        # One address, many accounts; what a header says of the source is nobody's source.
        many = [site.provider.token(key=new_key(), preferred_username=f"name-{n}") for n in range(75)]
        found = list(pool.map(lambda token: _from(site, "127.0.3.1", token), many))
        assert set(found) == {403, 429}
        assert found.count(403) <= 60
        # What who is slowed down hears is the same for a name that is known and for one that is not.
        assert list(pool.map(site.login, bad * 15))  # both workers know this address by now
        unknown, known = site.login(many[0]), site.login(bad[0])
        assert {answer.status for answer in (unknown, known)} == {429}
        assert said(unknown) == said(known)
        assert known.headers["retry-after"] == "60"
        # Whoever has a good token or certificate is let in, from the very address, for the very account.
        assert site.login(site.token("anne")).status == 201
        for each in (inside, administrator):
            assert {each.call("GET", "/v1/status").status for _ in range(5)} == {200}
            each.close()

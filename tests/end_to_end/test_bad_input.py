"""Bad input, on every route: a clear answer with a stable code, nothing changed, one record. See bad_input.py."""

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import textwrap
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs import csr, keys
from deploy.demo.cloud import IMAGE, REGION, prefix_policy
from deploy.demo.ec2_document import DocumentAuthority, SignedDocument, identity_document
from deploy.demo.visitor import Visitor, evidence_of
from gateway.core.operator_model import Approval, ApprovalState, Operator, OperatorState, PlanState, Role, Rotation
from gateway.core.rotation import Progress
from gateway.wire import calls, messages
from gateway.wire.messages import CredentialsRequest, EnrollRequest
from gateway.wire.problems import MEDIA_TYPE, PROBLEMS, URN
from tests.end_to_end.anywhere import holder_of
from tests.end_to_end.bad_input import CANARY, JSON, ROUTES, Route, Row, Scene, Sent, rows
from tests.end_to_end.world import GRANT, PROFILE, Launched, World
from tests.foreign import Asking, parameters
from tests.gateway.flows import calling
from tests.gateway.flows.calling import SECRET
from tests.gateway.web_server.client import Answer, connected, read_one

WAYS = {"signed": "sign", "carried": "proxy", "token": "token"}
KEYS = {"signed": "TGDKSIGNEDSIGNEDSIGN", "carried": "TGDKCARRIEDCARRIEDCA"}
READS = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
SPARE = "spare"  # a profile that no instance has
WAITING = "ap-0123456789abcdef"
ROTATION = "of-a-key"
CASES = [(route, row) for route in ROUTES for row in rows(route)]


def _name(route: Route) -> str:
    return f"{route.listener} {route.method} {route.rule}"


def _each(cases: list[tuple[Route, Row]]) -> list[Any]:
    ids = [f"{_name(route)}: {row.fault}" for route, row in cases]
    return [pytest.param(*case, id=name) for case, name in zip(cases, ids, strict=True)]


# What the table's requests are made of


@pytest.fixture(scope="module")
def scene(world: World) -> Scene:
    """A ticket that no bad request may spend, instances that none may touch, and what somebody forged."""
    newcomer, other = world.launch(), world.launch()
    enrolled, visitor = world.enrolled()
    revoked, _ = world.enrolled()
    by_name = world.ticket(instance=revoked.id)
    world.site.cli("revoke", "instance", revoked.id)
    used = world.ticket()
    assert world.visitor().enroll(world.launch().document, used).status == 201
    expired = world.ticket(life="1s")
    key = keys.generate()
    nonce = world.visitor().call("POST", "/v1/nonces").body["nonce"]
    stranger = base64.b64encode(keys.generate().sign(b"another statement", ec.ECDSA(hashes.SHA256()))).decode()
    with world.ca() as (_, store):
        bob = Operator("bob", {"roles": ["operator"]}, 1, OperatorState.ACTIVE, datetime.now(UTC), "")
        assert store.write(lambda tx: tx.operators.add(bob))
    _people(world)
    made: Scene = {
        "csr": csr.make(key),
        "evidence": messages.encode(EnrollRequest("", evidence_of(newcomer.document), ticket="t")),
        "ticket": world.ticket(),
        "ticket expired": expired,
        "ticket of another": world.ticket(instance=other.id),
        "ticket revoked": by_name,
        "ticket used": used,
        "proof": {"nonce": nonce, "signature": stranger},
        "newcomer": newcomer,
        "enrolled": enrolled.id,
        "revoked": revoked.id,
        "victim": world.enrolled()[0].id,
        "of leases": visitor.call("POST", "/v1/credentials", CredentialsRequest(GRANT)).body["lease"],
        "of tickets": json.loads(world.site.cli("ticket", "create", "--profile", PROFILE, "--json"))["id"],
        "of revocations": world.rows("revocation")[0]["id"],
        "serial": f"{x509.load_pem_x509_certificate((visitor.certificate or '').encode()).serial_number:x}",
        "csr of the enrolled": csr.make(visitor.key),
        "holder": holder_of(visitor),
        "tokens": {
            method: visitor.call("POST", "/v1/auth/cert/login", {}).body["auth"]["client_token"]
            for method in ("GET", "POST", "PUT")
        },
        **_calling(world),
        **_launching(world),
        **_leaving(world),
        "operator": _client(world, world.operator()),
        "instance": _client(world, visitor),
        "": _client(world, world.visitor()),
    }
    return made | _evidence(world, newcomer, enrolled) | {f"csr {what}": pem for what, pem in _requests(key).items()}


def _calling(world: World) -> Scene:
    """An instance whose calls are signed or carried, with a dummy key for each."""
    policy = prefix_policy(world.seeded.bucket, "reports/")
    lines = ['name = "calling"']
    for name, way in WAYS.items():
        lines += ["[[grants]]", f'name = "{name}"', f'role = "{world.seeded.role_arn}"', f'region = "{REGION}"']
        lines += [f'deliver = "{way}"', f"policy = '''{policy}'''"]
    path = world.site.folder / "calling.toml"
    path.write_text("\n".join(lines))
    world.site.cli("profile", "apply", str(path))
    _, visitor = world.enrolled("calling")
    for name, key in KEYS.items():
        told = {"grant": name, "access_key_id": key, "secret_access_key": SECRET}
        assert visitor.call("POST", "/v1/dummy-keys", told).status == 201
    return {"caller": _client(world, visitor)}


def _leaving(world: World) -> Scene:
    """Operators whose certificates may end: rena renews hers, lea gives hers up."""
    found = {}
    for name in ("rena", "lea"):
        visitor = world.visitor(world.site.admin)
        order = {"name": name, "csr": csr.make(visitor.key), "roles": ["monitor"]}
        answer = world.operator().call("POST", "/v1/operators", order)
        visitor.present(answer.body["certificate"] + answer.body["issuer"], visitor.key)
        found[name] = _client(world, visitor)
    return found


def _people(world: World) -> None:
    """An operator, a role that nobody has, a request that waits for another person than alice, and what she did."""
    now = datetime.now(UTC)
    dora = Operator("dora", {"roles": ["monitor"]}, 1, OperatorState.ACTIVE, now, "")
    rolled = Role("rolled", {"permissions": ["operator:server:list"]}, 1, now, "")
    shown = {"method": "POST", "path": "/v1/tickets", "query": "", "body": {"profile": PROFILE}}
    what, ends = ("operator:ticket:create", "/v1/tickets", "0" * 64, shown), now + timedelta(hours=1)
    waiting = Approval(WAITING, *what, "dora", now, ends, ApprovalState.OPEN, {})
    document = Progress("trusted-gateway", "AKIAOLD", None, {}, new="AKIANEW").document()
    rotation = Rotation(ROTATION, "main", "alice", now, PlanState.DONE, document)
    with world.ca() as (_, store):
        assert store.write(lambda tx: tx.operators.add(dora) and tx.roles.add(rolled) and tx.approvals.add(waiting))
        assert store.write(lambda tx: tx.rotations.add(rotation))


def _launching(world: World) -> Scene:
    """A profile whose machines can be launched."""
    path = world.site.folder / "launching.toml"
    grant = f'name = "g"\nrole = "{world.seeded.role_arn}"\nregion = "{REGION}"\npolicy_arns = ["{READS}"]\n'
    launch = f'[launch]\nimage = "{IMAGE}"\nregion = "{REGION}"\ntype = "t3.micro"\n'
    path.write_text(f'name = "launching"\n{launch}[[grants]]\n{grant}')
    world.site.cli("profile", "apply", str(path))
    return {}


def _call(grant: str, bucket: str) -> calls.Call:
    """A call that its grant allows, signed just now."""
    return calling.request(Signing(KEYS[grant]), target=f"/{bucket}/reports/2026-10.csv", grant=grant)


@dataclass(frozen=True)
class Signing:
    """`calling.Signing`."""

    access_key_id: str

    def now(self) -> datetime:
        return datetime.now(UTC)


def _client(world: World, visitor: Visitor) -> ssl.SSLContext:
    """The TLS context of a caller."""
    context = ssl.create_default_context(cadata=world.root)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if visitor.certificate:
        fd = os.memfd_create("caller", os.MFD_CLOEXEC)
        os.write(fd, visitor.certificate.encode() + keys.dump_private_pem(visitor.key))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
        os.close(fd)
    return context


def _evidence(world: World, newcomer: Launched, enrolled: Launched) -> Scene:
    """Documents and signatures that are not what they should be."""
    true = newcomer.document

    def signed(authority: DocumentAuthority = world.authority, **other: Any) -> dict[str, Any]:
        return _as_json(authority.sign(identity_document(**{**asdict(newcomer.facts), **other})))

    def encoded(document: bytes) -> str:
        return base64.b64encode(document).decode()

    pkcs7 = base64.b64decode(true.rsa2048)
    text = true.document.decode()
    return {
        "document twice": encoded(text.replace('"region"', '"accountId" : "1",\n  "region"').encode()),
        "document deep": encoded(b'{"region":' * 2000 + b"1" + b"}" * 2000)[:8188],
        "document changed": encoded(text.replace("x86_64", "x86_65").encode()),
        "pkcs7 cut": encoded(pkcs7[:-1]),
        "pkcs7 deep": encoded(b"\x30\x80" * 2000),
        "evidence of another region": signed(region="eu-north-1"),
        "evidence of another signer": signed(DocumentAuthority(REGION)),
        "evidence of no instance": signed(instance_id="i-0fedcba9876543210"),
        "evidence of a foreigner": signed(account="999999999999"),
        "evidence with odd claims": signed(private_ip="010.0.0.1"),
        "evidence of an enrolled instance": _as_json(enrolled.document),
    }


def _as_json(document: SignedDocument) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(messages.encode(evidence_of(document)))
    return found


def _requests(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Certificate requests that ask for more than a key, or are none (threats A18, A19, A21)."""
    plain = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    named = x509.CertificateSigningRequestBuilder().subject_name
    admin = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"admin-{CANARY}")])
    uri = x509.UniformResourceIdentifier("spiffe://trusted-gateway.internal/operator/alice")
    authority = x509.BasicConstraints(ca=True, path_length=None)

    def pem(builder: x509.CertificateSigningRequestBuilder, by: Any = key, digest: Any = None) -> str:
        return builder.sign(by, digest or hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    good = csr.make(key)
    der = x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER)
    another = x509.load_pem_x509_csr(csr.make(keys.generate()).encode()).public_bytes(Encoding.DER)
    begin, end = good.splitlines()[0], good.splitlines()[-1]

    def armoured(raw: bytes) -> str:
        return "\n".join([begin, *textwrap.wrap(base64.b64encode(raw).decode(), 64), end, ""])

    return {
        "of an RSA key": pem(plain, rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "of a P-384 key": pem(plain, ec.generate_private_key(ec.SECP384R1())),
        "with a subject": pem(named(admin)),
        "with a SAN": pem(plain.add_extension(x509.SubjectAlternativeName([uri]), critical=False)),
        "that asks for a CA": pem(plain.add_extension(authority, critical=True)),
        "with SHA-384": pem(plain, digest=hashes.SHA384()),
        "with another's signature": armoured(der[:-40] + another[-40:]),
        "cut short": armoured(der[:-1]),
        "with bytes behind it": armoured(der + b"\0"),
        "twice": good + good,
        "in DER": base64.b64encode(der).decode(),
        "in lower case": good.lower(),
        "of a certificate": good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        "nested 1,000 deep": armoured(b"\x30\x80" * 1000),
    }


def _accepted(world: World, route: Route, scene: Scene) -> Sent:
    """The request that the route accepts."""
    policy = prefix_policy(world.seeded.bucket, "reports/")
    grant = {"name": "g", "role": world.seeded.role_arn, "region": REGION, "policy": policy, "duration": "1h"}
    body: dict[str, Any] | None = {
        "/v1/enroll": {**json.loads(scene["evidence"]), "csr": scene["csr"], "ticket": scene["ticket"]},
        "/v1/renew": {"csr": scene["csr of the enrolled"]},
        "/v1/credentials": {"grant": GRANT, "duration": 900},
        "/v1/dummy-keys": {"grant": "signed", "access_key_id": KEYS["signed"], "secret_access_key": SECRET},
        "/v1/signatures": json.loads(messages.encode(_call("signed", world.seeded.bucket))),
        "/v1/login": {"token": "e30.e30.e30", "csr": scene["csr"]},
        "/v1/tickets": {"profile": "web", "instance_id": scene["enrolled"], "life": 60},
        "/v1/profiles/<name>/rollback": {"version": 1},
        "/v1/reconciliations": {"inventory": True},
        "/v1/servers": {"profile": "launching", "count": 1, "name": "web", "user_data": "#!/bin/sh\nexit 0\n"},
    }.get(route.rule if route.method != "GET" else "")
    if route.method == "PUT" and route.rule == "/v1/profiles/<name>":
        body = {"name": SPARE, "upstream": "main", "attestation": {"max_age": "1h"}, "grants": [grant]}
    if route.rule.startswith(("/v1/operators", "/v1/roles", "/v1/approvals")):
        return _of_people(route)
    profile = SPARE if route.method == "PUT" else "main" if route.rule.startswith("/v1/keys/") else PROFILE
    path = route.rule.replace("<name>", profile).replace("<path:named>", scene["enrolled"]).replace("<role>", GRANT)
    if route.rule.startswith("/v1/keys/"):
        path = path.replace("<id>", WAITING)
    if route.rule.startswith(("/v1/auth/", "/v1/aws/")):
        token = scene["tokens"][route.method if route.rule.endswith("/revoke-self") else "GET"]
        empty = None if route.method == "GET" else b"{}"
        return Sent(route.method, path, fields=(f"Authorization: Bearer {token}",), body=empty)
    if route.rule == "/v1/calls":
        head = calls.in_header(_call("carried", world.seeded.bucket))
        return Sent(route.method, path, fields=(f"{calls.HEAD}: {head}",), body=b"")
    if route.rule == "/sessions":
        asking = Asking(scene["holder"], parameters("instances", "web", world.seeded.role_arn), host="127.0.0.1")
        fields = (f"{k}: {v}" for k, v in asking.sign().items() if k not in ("host", "content-type"))
        return Sent(route.method, path, fields=tuple(fields), media_type=JSON, body=asking.raw)
    if route.rule.startswith("/v1/revocations"):
        path = _revocation(route, path, scene)
    path = path.replace("<id>", ROTATION)
    if body is None:
        is_dry = route.rule.startswith(("/v1/revocations/", "/v1/keys/")) and route.method == "POST"
        dry = "?dry_run=true" if is_dry else ""
        return Sent(route.method, path, query=dry, body=b"" if route.method == "POST" else None)
    return Sent(route.method, path, media_type=JSON, body=json.dumps(body).encode())


def _of_people(route: Route) -> Sent:
    """What the routes about operators, roles and approvals accept; each key is a new one."""
    path = route.rule.replace("/operators/<name>", "/operators/dora").replace("<name>", "rolled")
    path = path.replace("<id>", WAITING)
    request = csr.make(keys.generate())
    bodies: dict[str, dict[str, Any]] = {
        "POST /v1/operators": {"name": "eve", "csr": request, "roles": ["monitor"]},
        "PUT /v1/operators/<name>": {"roles": ["monitor"]},
        "POST /v1/operators/<name>/certificates": {"csr": request},
        "PUT /v1/roles/<name>": {"permissions": ["operator:server:list"]},
    }
    if body := bodies.get(f"{route.method} {route.rule}"):
        return Sent(route.method, path, media_type=JSON, body=json.dumps(body).encode())
    return Sent(route.method, path, body=b"" if route.method == "POST" else None)


def _revocation(route: Route, path: str, scene: Scene) -> str:
    if route.rule.endswith("/operators/<name>"):
        path = path.replace(PROFILE, "bob")
    kind = next((each for each in ("leases", "tickets") if each in path), "revocations")
    path = path.replace("<id>", scene[f"of {kind}"]).replace("<serial>", scene["serial"])
    return path.replace("<profile>", PROFILE).replace("<grant>", GRANT)


def _ask(world: World, route: Route, request: Sent, scene: Scene, *, anonymous: bool = False) -> Answer:
    host, _, port = getattr(world.site, route.listener).rpartition(":")
    secure = route.listener in ("instance", "admin")
    context = scene["" if anonymous else route.caller] if secure else None
    with connected((host, int(port)), context) as sock:
        sock.sendall(request.raw())
        return read_one(sock)


# The tests


@pytest.mark.threat("C05", "C06", "C07", "C08", "C09", "C12", "C17", "C18", "C19", "D06", "G14", "I06")
@pytest.mark.parametrize(("route", "row"), _each(CASES))
def test_bad_input_is_answered_and_changes_nothing(world: World, scene: Scene, route: Route, row: Row) -> None:
    request = row.change(_accepted(world, route, scene), scene)
    before, logged = world.everything_but_the_log(), world.site.log.stat().st_size
    answer = _ask(world, route, request, scene, anonymous=row.fault == "no certificate")
    _is_a_problem(answer, row.answer)
    records = _records(world, answer.problem["instance"])
    noticed = [record for record in records if record["name"] == "instance:key:misuse"]  # beside what was asked
    assert [record["kind"] for record in records if record not in noticed] == ["decision"] * row.recorded
    assert not any(record["allowed"] for record in records)
    assert world.everything_but_the_log() == before
    said = world.site.log.read_bytes()[logged:].decode()
    assert "Traceback" not in said
    assert "failed" not in said
    assert CANARY not in said


def _is_a_problem(answer: Answer, expected: str) -> None:
    """RFC 9457, with our members; not to be cached; and nothing in it that the request brought to harm a reader."""
    found = answer.problem
    assert f"{answer.status} {found['code']}" == expected, found
    kind = PROBLEMS[found["code"]]
    assert found.keys() - {"detail", "faults"} == {"type", "title", "status", "code", "hint", "instance"}
    assert (found["type"], found["title"], found["hint"]) == (URN + kind.code, kind.title, kind.hint)
    assert found["status"] == kind.status == answer.status
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["instance"])
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.keys().isdisjoint({"server", "etag", "set-cookie", "location", "x-odd"})
    assert ("allow" in answer.headers) == (answer.status == 405)
    assert CANARY not in repr(answer)
    assert answer.body.isascii()
    assert all(str(value).isprintable() and len(str(value)) < 4096 for value in found.values())


def _records(world: World, request_id: str) -> list[dict[str, Any]]:
    """The audit records of a request; each of them is one line of plain characters."""
    with world.database() as database:
        query = "SELECT line FROM audit_record WHERE line LIKE ?"
        lines = [line for (line,) in database.execute(query, (f"%{request_id.removeprefix('urn:uuid:')}%",))]
    assert all(line.isascii() and line.isprintable() and CANARY not in line for line in lines)
    return [json.loads(line) for line in lines]


TAGGED = ("/v1/profiles/<name>", "/v1/profiles/<name>/rollback", "/v1/operators/<name>", "/v1/roles/<name>")
ACCEPTED = {f"{method} /v1/auth/token/revoke-self": 204 for method in ("POST", "PUT")} | {
    "POST /sessions": 201,
    "POST /v1/dummy-keys": 201,
    "POST /v1/enroll": 201,
    "POST /v1/tickets": 201,
    "POST /v1/servers": 201,
    "POST /v1/operators": 201,
    "POST /v1/operators/<name>/certificates": 201,
    "GET /v1/servers/<path:named>/output": 502,  # the local AWS has no such operation
    "POST /v1/keys/<name>/rotate": 502,  # its user may do nothing at IAM
    "GET /v1/keys/<name>/rotations/<id>": 404,  # so none was begun
    "GET /livez": 204,
    "GET /v1/login": 404,  # no provider is configured
    "POST /v1/login": 404,
}


@pytest.mark.parametrize("route", ROUTES, ids=_name)
def test_without_its_fault_each_request_is_accepted(world: World, scene: Scene, route: Route) -> None:
    """The negative control. It stands last: with the ticket that all bad requests brought, one can still enrol."""
    request = _accepted(world, route, scene)
    if route.rule.endswith("/terminate"):
        request = replace(request, path=request.path.replace(scene["enrolled"], scene["victim"]))
    if route.rule == "/v1/watch":
        with pytest.raises(TimeoutError):
            _waits(world, route, request, scene)
        return
    answer = _ask(world, route, request, scene)
    assert answer.status == ACCEPTED.get(f"{route.method} {route.rule}", 200), answer.body
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.keys().isdisjoint({"server", "set-cookie"})
    assert ("etag" in answer.headers) == (route.rule in TAGGED and route.method != "DELETE")


def _waits(world: World, route: Route, request: Sent, scene: Scene) -> None:
    host, _, port = world.site.instance.rpartition(":")
    with connected((host, int(port)), scene[route.caller], timeout=0.5) as sock:
        sock.sendall(request.raw())
        read_one(sock)


_ALL_ROUTES = """
import json, sys
from pathlib import Path
from certs import csr, keys
from gateway import bootstrap, ceremonies
from gateway.settings import read
from gateway.wire.secret import Secret

bootstrap.TICK = 0.1
settings = read(json.loads(sys.argv[1]), {})
ceremonies.initialize(settings, Secret("only-for-the-routes"), "alice", csr.make(keys.generate()))
gateway = bootstrap.Gateway(settings, Secret("only-for-the-routes"))
gateway.start(0)
found = set()
for listener in gateway.listeners:
    found |= {(listener.name, method, path) for method, path in listener.inline}
    found |= {(listener.name, "POST", path) for path in listener.streams}
    for rule in listener.wsgi.__self__.url_map.iter_rules():
        found |= {(listener.name, method, rule.rule) for method in rule.methods - {"HEAD", "OPTIONS"}}
gateway.stop()
print(json.dumps(sorted(found)))
"""


def test_every_route_of_every_listener_has_rows(tmp_path: Path, world: World) -> None:
    """The routes are asked of a gateway as `serve` builds it, in a process of its own."""
    document = {
        "names": ["127.0.0.1"],
        "store": f"sqlite:///{tmp_path}/store/gateway.db",
        "aws": {"identity_certificates": str(world.site.folder / "aws-certificates")},
    }
    command = [sys.executable, "-c", _ALL_ROUTES, json.dumps(document)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=Path.cwd())
    found = {tuple(route) for route in json.loads(done.stdout)}
    assert found == {(route.listener, route.method, route.rule) for route in ROUTES}
    assert len(ROUTES) == len(found)
    # What streams is read by rules of its own: test_stream.py has its rows.
    assert all(len(list(rows(route))) >= 20 for route in ROUTES if route.rule != "/v1/calls")


def test_the_table_names_no_fault_twice_and_no_code_that_is_none() -> None:
    for route in ROUTES:
        faults = [row.fault for row in rows(route)]
        assert len(faults) == len(set(faults)), _name(route)
    answers = {row.answer for _, row in CASES}
    assert {f"{PROBLEMS[code].status} {code}" for code in (answer.split()[1] for answer in answers)} == answers
    assert all(answer < "500" or answer == "501 not_implemented" for answer in answers)

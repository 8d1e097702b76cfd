"""I05: what a caller sends is in no place in the clear, wherever in a request he puts it: every route, every field."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs import keys
from deploy.demo.cloud import Cloud, Seeded
from deploy.demo.ec2_document import DocumentAuthority
from gateway.core.audit_formats import Format
from tests.end_to_end.bad_input import JSON, ROUTES, Route, Scene, Sent
from tests.end_to_end.test_bad_input import _accepted as accepted
from tests.end_to_end.test_bad_input import _ask as ask
from tests.end_to_end.test_bad_input import scene  # noqa: F401  # a fixture
from tests.end_to_end.tour import plain_get
from tests.end_to_end.world import World
from tests.end_to_end.world import world as make_world

NAMES = ("path, as a name", "name, as a name", "grant, as a name", "profile, as a name")
HEADERS = (
    "User-Agent", "Cookie", "Authorization", "Proxy-Authorization", "X-Vault-Token", "X-Amz-Security-Token", "Referer",
    "X-Forwarded-For", "X-Ssl-Client-Cert", "Idempotency-Key", "Approval", "If-Match", "X-Amz-Date", "Accept",
    "Traceparent",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority
) -> Iterator[World]:
    """One of its own, in place of everybody's."""
    with make_world(tmp_path_factory.mktemp("canaries") / "gateway", cloud, seeded, authority) as running:
        yield running


class Canaries:
    """Secrets, each sent in one place only: in the form of an AWS secret key, or of a ticket (could be a name)."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def new(self, where: str, *, lower: bool = False) -> str:
        """Another one. `where` is what a failure says."""
        mixed = "Canary" + base64.b64encode(os.urandom(24)).decode().replace("+", "A").replace("/", "B")
        made = os.urandom(24).hex() if lower else mixed
        self.sent[made] = where + lower * ", as a name"
        return made

    def found(self, place: str, content: bytes) -> set[tuple[str, str]]:
        """(where it was sent, where it is) of each that is there: as it is, in hexadecimal, or in base64."""
        return {
            (where, place)
            for canary, where in self.sent.items()
            for form in (canary.encode(), canary.encode().hex().encode(), base64.b64encode(canary.encode()))
            if form in content
        }


def with_canaries(route: Route, good: Sent, canaries: Canaries) -> Iterator[Sent]:
    """Requests that are refused, each with canaries in other places."""
    name = f"{route.method} {route.rule}"
    fields = []
    for header in HEADERS:
        canary = canaries.new(f"{name}: {header}")
        fields.append(f"{header}: {'Bearer ' if header == 'Authorization' else ''}{canary}")
    spoilt = replace(good, query=f"?odd={canaries.new(name + ': query').replace('/', '%2F')}&odd=1")
    yield replace(spoilt, fields=(*fields[:12],))
    yield replace(spoilt, fields=(*good.fields, *fields[12:]))
    for lower in (False, True):
        canary = canaries.new(f"{name}: path", lower=lower)
        yield replace(good, path=f"/{canary}", body=good.body)
        yield replace(good, path=f"{good.path}/{canary}")
    method = "X" + os.urandom(8).hex().translate(str.maketrans("0123456789abcdef", "GHIJKLMNOPABCDEF"))
    canaries.sent[method] = f"{name}: method"
    yield replace(good, method=method)
    if good.media_type != JSON or not isinstance(message := json.loads(good.body or b"null"), dict):
        if good.body is not None:
            yield replace(good, body=canaries.new(f"{name}: body").encode(), media_type="text/plain")
        return
    for lower in (False, True):
        for place in places(message):
            where = f"{name}: body, {'.'.join(map(str, place))}"
            yield replace(good, body=json.dumps(put(message, place, canaries.new(where, lower=lower))).encode())
    odd = canaries.new(f"{name}: nested")
    yield replace(good, body=json.dumps(message | {odd: {"a": [{"b": odd}]}}).encode())
    for kind, raw in (("text", b"%s"), ("bytes", b'{"odd": "%s\xff"}'), ("list", b'["%s"]'), ("cut", b'{"a": "%s')):
        yield replace(good, body=raw % canaries.new(f"{name}: {kind}").encode())
    yield replace(good, media_type=f"text/{canaries.new(name + ': media type')}")
    if "csr" in message:
        yield replace(good, body=json.dumps(message | {"csr": csr_for(canaries.new(f"{name}: CSR"))}).encode())


def places(message: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value."""
    pairs = message.items() if isinstance(message, dict) else enumerate(message) if isinstance(message, list) else ()
    for key, value in pairs:
        yield (*above, key)
        yield from places(value, (*above, key))


def put(message: Any, place: tuple[str | int, ...], value: str) -> Any:
    """A copy with another value there."""
    copy = json.loads(json.dumps(message))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def csr_for(name: str) -> str:
    """A request with this common name, and the same as a DNS name."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(keys.generate(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def written(world: World, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that the gateway has written, or tells about itself."""
    for path in world.site.folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
    with world.database() as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):
                yield table, b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in row)
    yield "metrics", plain_get(f"http://{world.site.local}/metrics").body
    yield "health", json.dumps(json.loads(plain_get(f"http://{world.site.local}/healthz").body)).encode()
    for form in Format:
        world.site.cli("audit", "export", "--format", form, str(folder / form))
        yield f"export {form}", (folder / form).read_bytes()


@pytest.mark.timeout(600)
@pytest.mark.threat("I05")
def test_I05_no_field_of_no_route_leaves_what_it_held(world: World, scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    canaries = Canaries()
    for route in ROUTES:
        if route.listener not in ("instance", "admin") or route.rule == "/v1/watch":
            continue
        good = accepted(world, route, scene)
        for request in with_canaries(route, good, canaries):
            for anonymous in {False, route.caller == ""}:
                answer = ask(world, route, request, scene, anonymous=anonymous)
                assert answer.status < 500 or answer.status in (501, 502), (route, request, answer)
    leaks = set()
    for place, content in written(world, tmp_path):
        leaks |= canaries.found(place, content)
    # A field that is for a name holds a name: what fits its grammar is on record as what was asked for (docs/audit.md).
    left = sorted({where for where, _ in leaks if not where.endswith(NAMES)})
    assert left == [], "\n".join(left)

"""What calls cost the gateway: a signature for one, and carrying one, beside a plain reverse proxy in the same run.

Real processes: the gateway with one worker, its store on disk, and TLS with client certificates on connections that are
kept. Behind it a sink that verifies every signature stands for S3, over plain HTTP as with nginx; STS is the local
AWS's. Rows take turns, some rounds of each: what else this machine does hits all of them. The CPU is that of the
measured processes alone, and depends less than the rates on what else runs; clients and sink here are the slower part.
"""

import hashlib
import json
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.reference import HEADINGS, PIECE, Row, connected, machine, nginx
from deploy.demo.cloud import REGION, Cloud
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Visitor
from gateway.adapters import clock
from gateway.wire import calls
from gateway.wire.messages import encode
from gateway.wire.sigv4 import UNSIGNED_PAYLOAD, Scope, sign
from tests.end_to_end.crowd import launch, order_ticket
from tests.end_to_end.host import processes
from tests.end_to_end.world import World, world
from tests.gateway.flows.calling import SECRET, request
from tests.gateway.web_server.pki import Pki, make
from tests.sink.server import Sink
from tests.sink.signatures import Key

CLIENTS, ROUNDS, SECONDS = 8, 5, 1.5
KB, LARGE = 1024, 64 * 1024 * 1024
SIGNED, CARRIED = "signed", "carried"
NOTHING = hashlib.sha256(b"").hexdigest()
NGINX_KEY = "AKIABENCHBENCHBENCH0"
ITEM = json.dumps({"TableName": "orders", "Item": {"id": {"S": "4711"}, "note": {"S": "x" * 800}}}).encode()

Headers = tuple[tuple[str, str], ...]


@dataclass
class Client:
    """An instance that speaks for itself: its certificate, and a dummy key for each grant."""

    visitor: Visitor
    host: str
    access_key_id: str = ""

    def now(self) -> datetime:
        return clock.now()

    def connect(self) -> ssl.SSLSocket:
        """A new connection with its certificate."""
        self.visitor.close()
        sock = self.visitor.connect().sock
        assert isinstance(sock, ssl.SSLSocket)
        return sock

    def call(self, grant: str, number: int, *what: Any, **more: Any) -> calls.Call:
        """A call that is signed with the grant's dummy key."""
        self.access_key_id = _key_id(grant, number)
        return request(self, *what, grant=grant, **more)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        gateway, sink, clients = stack.enter_context(running(Path(folder)))
        pki = make(Path(folder))
        plain = stack.enter_context(nginx(Path(folder), urlsplit(sink.endpoint).port or 0, scheme="http"))
        print(machine())
        print(f"{ROUNDS} rounds of {SECONDS} s a row, one worker each; {CLIENTS} clients, one with 64 MB\n")
        bare = [_through(plain, pki, "nginx: GET /livez", "GET", "/livez")] if plain else []
        ours = [livez(gateway, clients), *signatures(gateway, clients)]
        _in_turns([*bare, *ours])
        print(f"{HEADINGS}{'x nginx':>8}{'x livez':>8}")
        for row in (*bare, *ours):
            print(f"{row.told()}{_times(row, bare[0] if bare else None)}{row.times(ours[0]):8.2f}")
        print(f"\n{HEADINGS}{'x nginx':>8}")
        for beside, *rows in carried(gateway, clients, plain, pki):
            found = [row for row in (beside, *rows) if row]
            _in_turns(found)
            for row in found:
                print(f"{row.told()}{_times(row, beside)}", flush=True)


def _times(row: Row, other: Row | None) -> str:
    return f"{row.times(other):8.2f}" if other else f"{'':8}"


def _in_turns(rows: list[Row]) -> None:
    for _ in range(ROUNDS):
        for row in rows:
            row.measure(SECONDS)


# The subjects


@contextmanager
def running(folder: Path) -> Iterator[tuple[World, Sink, list[Client]]]:
    """A gateway, the S3 behind it, and instances that may call."""
    with ExitStack() as stack:
        cloud = stack.enter_context(Cloud(folder / "cloud"))
        sink = stack.enter_context(Sink(cloud.endpoint))
        sink.keys[NGINX_KEY] = Key(SECRET)
        for size in (KB, LARGE):
            sink.put(f"/data/{size}", size)
        authority = DocumentAuthority(REGION)
        options = {"endpoint": sink.endpoint, "workers": 1}
        gateway = stack.enter_context(world(folder / "gateway", cloud, cloud.seed(), authority, **options))
        gateway.site.cli("profile", "apply", str(_profile(folder, gateway)))
        yield gateway, sink, list(_enrolled(gateway))


def livez(gateway: World, clients: list[Client]) -> Row:
    """What a request costs that asks for nothing."""
    return _row(gateway, clients, "GET /livez", lambda client, _: _request("GET", "/livez", client.host))


def signatures(gateway: World, clients: list[Client]) -> list[Row]:
    """POST /v1/signatures."""

    def asking(*what: Any, **more: Any) -> Callable[[Client, int], bytes]:
        def ask(client: Client, number: int) -> bytes:
            body = encode(client.call(SIGNED, number, *what, **more))
            return _request("POST", "/v1/signatures", client.host, _json(body)) + body

        return ask

    put = partial(asking, "PUT", "/data/up", payload=hashlib.sha256(PIECE[:KB]).hexdigest())
    dynamo: Headers = (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.PutItem"))
    return [
        _row(gateway, clients, "signature: S3 GET", asking("GET", f"/data/{KB}")),
        _row(gateway, clients, "signature: S3 PUT, 1 KB", put(headers=(("content-length", str(KB)),))),
        _row(gateway, clients, "signature: S3 PUT, 1 GB", put(headers=(("content-length", str(10**9)),))),
        _row(
            gateway, clients, "signature: DynamoDB PutItem, body",
            asking("POST", "/", service="dynamodb", headers=dynamo, body=ITEM),
        ),
    ]  # fmt: skip


def carried(
    gateway: World, clients: list[Client], plain: tuple[int, int] | None, pki: Pki
) -> Iterator[list[Row | None]]:
    """POST /v1/calls of each kind, behind nginx with the same."""

    def carrying(method: str, target: str, size: int, payload: str, length: Headers) -> Callable[[Client, int], bytes]:
        def carry(client: Client, number: int) -> bytes:
            call = client.call(CARRIED, number, method, target, payload=payload, headers=length)
            return _request("POST", "/v1/calls", client.host, ((calls.HEAD, calls.in_header(call)), *length))

        return carry

    for size, name in ((KB, "1 KB"), (LARGE, "64 MB")):
        hashed = hashlib.sha256(bytes(size)).hexdigest()
        for method, target, body, payload, how in (
            ("GET", f"/data/{size}", 0, NOTHING, "down"),
            ("PUT", "/data/up", size, UNSIGNED_PAYLOAD, "up"),
            ("PUT", "/data/up", size, hashed, "up, its hash checked"),
        ):
            what, many = f"{name} {how}", CLIENTS if size == KB else 1
            length: Headers = (("content-length", str(size)),) if body else ()
            beside = None
            if plain:
                beside = _through(plain, pki, f"nginx: {what}", method, target, payload, length, many, body)
            ask = carrying(method, target, size, payload, length)
            yield [beside, _row(gateway, clients[:many], f"carried: {what}", ask, body)]


def _row(gateway: World, clients: list[Client], name: str, ask: Callable[[Client, int], bytes], body: int = 0) -> Row:
    return Row(
        name,
        lambda: processes(gateway.site),
        lambda number: clients[number].connect(),
        lambda number: ask(clients[number], number),
        len(clients),
        body,
    )


def _through(
    plain: tuple[int, int], pki: Pki, name: str, method: str, target: str,
    payload: str | None = None, length: Headers = (), many: int = CLIENTS, body: int = 0,
) -> Row:  # fmt: skip
    """The same through nginx, which signs nothing: the client has."""
    pid, port = plain
    context = pki.client_context("client")

    def ask(_: int) -> bytes:
        if payload is None:
            return _request(method, target, "aws")
        stamp = clock.now().strftime("%Y%m%dT%H%M%SZ")
        scope = Scope(stamp[:8], REGION, "s3")
        headers = sign(
            method, target, (("host", "aws"), *length), payload, access_key_id=NGINX_KEY, secret=SECRET.encode(),
            token=None, scope=scope, stamp=stamp,
        )  # fmt: skip
        return _request(method, target, "aws", tuple(field for field in headers if field[0] != "host"))

    return Row(name, lambda: [pid], lambda _: connected(context, port), ask, many, body)


# The clients


def _enrolled(gateway: World) -> Iterator[Client]:
    operator = gateway.operator()
    for number, launched in enumerate(launch(gateway, CLIENTS)):
        visitor = gateway.visitor()
        answer = visitor.enroll(launched.document, order_ticket(operator, profile="bench")["ticket"])
        if answer.status != 201:
            raise SystemExit(f"enrolment failed: {answer.body}")
        for grant in (SIGNED, CARRIED):
            visitor.call("POST", "/v1/dummy-keys", calls.DummyKey(grant, _key_id(grant, number), SECRET))
        yield Client(visitor, gateway.site.instance)


def _key_id(grant: str, number: int) -> str:
    return f"TGDK{grant.upper():A<12}{'ABCDEFGHIJKLMNOP'[number] * 4}"


def _profile(folder: Path, gateway: World) -> Path:
    bucket = "arn:aws:s3:::data"
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{bucket}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket},
        {"Effect": "Deny", "Action": "s3:*", "Resource": f"{bucket}/secret/${{instance.id}}/*"},
        {
            "Effect": "Allow",
            "Action": "dynamodb:*Item",
            "Resource": "arn:aws:dynamodb:*:*:table/orders",
            "Condition": {"StringEquals": {"aws:RequestedRegion": REGION}},
        },
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    grants = [
        f'[[grants]]\nname = "{name}"\nrole = "{gateway.seeded.role_arn}"\nregion = "{REGION}"\n'
        f"deliver = \"{way}\"\nunsigned_payload = true\npolicy = '''{policy}'''\n"
        for name, way in ((SIGNED, "sign"), (CARRIED, "proxy"))
    ]
    path = folder / "bench.toml"
    path.write_text('name = "bench"\n' + "\n".join(grants))
    return path


def _json(body: bytes) -> Headers:
    return ("content-type", "application/json"), ("content-length", str(len(body)))


def _request(method: str, target: str, host: str, headers: Headers = ()) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


if __name__ == "__main__":
    main()

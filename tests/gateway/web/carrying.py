"""A gateway that carries calls and decides as a test tells it: a real listener, the real route, fake flows."""

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from gateway.core.audit import Event
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.identify import Identify
from gateway.flows.journal import Call as JournalCall
from gateway.flows.journal import Journal
from gateway.flows.passage import Ended, Passage
from gateway.ports import Store
from gateway.web.carry import CarryRoute
from gateway.web.server.service import Limits, Listener
from gateway.web.upstream.pool import Patience, Pool
from gateway.wire.calls import HEAD, Answer, Call, Header, from_header, in_header
from tests.gateway.web_server.client import Address
from tests.gateway.web_server.client import Answer as Raw
from tests.gateway.web_server.serving import Serving, serving
from tests.gateway.web_server.toy import Toy

HOST = "gateway.test"
QUICK = Patience(
    connect=timedelta(seconds=3),
    first_byte=timedelta(seconds=2),
    between=timedelta(seconds=2),
    continued=timedelta(seconds=1.5),
    idle=timedelta(seconds=5),
)


class Records:
    """`ports.Store`, as far as a journal uses it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, unit: Any) -> Any:
        return unit(SimpleNamespace(audit=SimpleNamespace(append=self.events.append)))


class Known(Identify):
    """Knows everyone who has a certificate."""

    def __init__(self) -> None:
        self.asked = 0
        self.revoked = False

    def instance(self, call: JournalCall, der: bytes | None, *, superseded_too: bool = False) -> Identity:
        self.asked += 1
        if der is None:
            raise Refusal("certificate_required")
        if self.revoked:
            raise Refusal("instance_revoked")
        call.subject = "instance/i-1"
        return cast(Identity, SimpleNamespace())


@dataclass
class Deciding:
    """A `Carrier`. It allows what has a grant other than `none`, and looks into bodies for the grant `look`."""

    passage: Passage
    noticed: list[Call] = field(default_factory=list)
    bodies: list[bytes | None] = field(default_factory=list)
    begun: list[Passage] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    may_begin: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_begin.set()
        self.may_end.set()

    def wants_body(self, call: Call) -> bool:
        return call.grant == "look"

    def notice(self, journal_call: JournalCall, refused: Refusal, call: Call) -> None:
        self.noticed.append(call)

    def begin(self, journal_call: JournalCall, identity: Identity, call: Call, body: bytes | None) -> Passage:
        if call.grant == "none":
            raise Refusal("call_denied")
        self.bodies.append(body)
        self.may_begin.wait(10)
        passage = replace(
            self.passage,
            method=call.method,
            target=call.target,
            headers=(*((each.name, each.value) for each in call.headers), *self.passage.headers),
        )
        self.begun.append(passage)
        return passage

    def end(self, passage: Passage, ended: Ended) -> None:
        self.may_end.wait(10)
        self.ended.append(ended)


@dataclass
class Carrying:
    """The running gateway, and what its fakes have seen."""

    running: Serving
    records: Records
    known: Known
    deciding: Deciding
    pool: Pool

    @property
    def address(self) -> Address:
        return self.running.address

    def connect(self, context: ssl.SSLContext | None, *, timeout: float = 20) -> socket.socket:
        """A client's connection."""
        sock = socket.create_connection(self.address, timeout)
        return sock if context is None else context.wrap_socket(sock, server_hostname="127.0.0.1")


@contextlib.contextmanager
def carrying(
    origin: str,
    *,
    server: ssl.SSLContext,
    upstream: ssl.SSLContext,
    limits: Limits | None = None,
    patience: Patience = QUICK,
    checked: bool = False,
    **passage: Any,
) -> Iterator[Carrying]:
    """A gateway that sends everything to `origin`, whose address is not looked at unless `checked`."""
    made: dict[str, Any] = {
        "headers": (("host", "aws.test"),), "payload_sha256": None, "expect": False, "idempotent": False, **passage
    }  # fmt: skip
    records, known = Records(), Known()
    deciding = Deciding(Passage(origin, "GET", "/", **made))
    pool = Pool(upstream, patience, () if checked else (origin,))
    route = CarryRoute(Journal(cast(Store, records)), known, deciding, pool)
    listener = Listener("instance", Toy().wsgi, server, streams={"/v1/calls": route.answer}, hosts=frozenset({HOST}))
    with serving(listener, limits=limits) as running:
        try:
            yield Carrying(running, records, known, deciding, pool)
        finally:
            running.loop.call_soon_threadsafe(pool.close)


def call(method: str = "GET", target: str = "/", grant: str = "reports", **headers: str) -> Call:
    """A call's head."""
    fields = tuple(Header(name.replace("_", "-"), value) for name, value in headers.items())
    return Call(grant, "s3", "us-east-1", method, target, hashlib.sha256(b"").hexdigest(), fields)


def ask(asked: Call, *headers: str, body: bytes | None = None) -> bytes:
    """The request that carries it."""
    lines = ["POST /v1/calls HTTP/1.1", f"Host: {HOST}", f"{HEAD}: {in_header(asked)}", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def head_of(raw: Raw) -> Answer:
    """What AWS said, in the head of an answer that was carried."""
    assert raw.status == 200, raw.body
    return from_header(Answer, raw.headers[HEAD.lower()])


def code_of(raw: Raw) -> str:
    """The code of a refusal."""
    assert HEAD.lower() not in raw.headers
    return str(raw.problem["code"])


def told(raw: Raw) -> dict[str, Any]:
    """The carried head as JSON, to compare with."""
    found: dict[str, Any] = json.loads(base64.b64decode(raw.headers[HEAD.lower()]))
    return found


def chunks(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def read_answer(sock: socket.socket) -> Raw:
    """The next answer, with its length or in chunks (which are joined). Raises ConnectionError when it is cut off."""
    raw = b""

    def more() -> None:
        nonlocal raw
        piece = sock.recv(65_536)
        if not piece:
            raise ConnectionError("cut off")
        raw += piece

    while b"\r\n\r\n" not in raw:
        more()
    head, _, raw = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    status = int(line.split(" ")[1])
    if status == 100:
        return Raw(100, {}, b"")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers["content-length"])
        while len(raw) < length:
            more()
        assert len(raw) == length, "more than one answer"
        return Raw(status, headers, raw)
    body = b""
    while True:
        while b"\r\n" not in raw:
            more()
        size, _, raw = raw.partition(b"\r\n")
        while len(raw) < int(size, 16) + 2:
            more()
        if not int(size, 16):
            assert raw == b"\r\n", "more than one answer"
            return Raw(status, headers, body)
        body, raw = body + raw[: int(size, 16)], raw[int(size, 16) + 2 :]

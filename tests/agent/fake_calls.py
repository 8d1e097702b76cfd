"""What the fake gateway does with calls: verifies them by the dummy key, signs them with a key that the fake AWS knows,
and sends them there itself when they are to be carried.
"""

import base64
import hashlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from gateway.wire import sigv4
from gateway.wire.calls import HEAD, Answer, Call, Header, Signature, from_header
from gateway.wire.sigv4 import Scope, SigV4Error

AWS_KEY, AWS_SECRET = "ASIAFAKEGATEWAYSKEY0", "secretOfTheGatewaysSession/40letters+abcd"
EXPIRATION = "2099-01-01T00:00:00Z"

_OF_THE_AGENT = ("authorization", "x-amz-date", "host", "content-length")


class Refused(Exception):
    """A problem: its code, and the detail."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail)
        self.code = code


@dataclass
class Carried:
    """AWS's answer: its head, and its body as it comes."""

    head: Answer
    pieces: Iterator[bytes]


@dataclass
class Calls:
    """`origin` is the fake AWS. `way` chooses for each call; `wants_body` asks for those of them that were not sent."""

    origin: str = ""
    ways: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[Call] = field(default_factory=list)
    way: Callable[[Call], str] = lambda _: "sign"
    wants_body: Callable[[Call], bool] = lambda _: False
    decide: Callable[[Call], None] = lambda _: None

    def register(self, message: dict[str, str]) -> bytes:
        """POST /v1/dummy-keys."""
        self.keys[message["access_key_id"]] = message
        return b'{"expiration": "%b"}' % EXPIRATION.encode()

    def check(self, call: Call) -> None:
        """The dummy key's signature, and the body if there is one. Raises Refused."""
        headers = [(header.name, header.value) for header in call.headers]
        try:
            said = sigv4.parse_authorization(call.method, call.target, headers)
            key = self.keys.get(said.access_key_id, {"grant": "", "secret_access_key": "none"})
            secret = key["secret_access_key"].encode()
            sigv4.verify(said, call.method, call.target, headers, call.payload_sha256, secret)
        except SigV4Error as error:
            raise Refused("signature_refused", error.reason) from None
        assert (key["grant"], said.scope.service, said.scope.region) == (call.grant, call.service, call.region)
        assert not {name for name, _ in headers} & {"x-amz-security-token", "expect", "transfer-encoding", "connection"}
        if call.body is not None and len(call.payload_sha256) == 64:
            assert hashlib.sha256(base64.b64decode(call.body)).hexdigest() == call.payload_sha256

    def sign(self, call: Call) -> Signature:
        """POST /v1/signatures."""
        self.asked.append(call)
        self.check(call)
        if call.body is None and self.wants_body(call):
            raise Refused("body_required")
        self.decide(call)
        way = self.way(call)
        if way != "sign":
            return Signature(way, self.origin if way == "token" else None)
        return Signature("sign", self.origin, call.target, self._signed(call))

    def carry(self, headers: Any, body: Iterator[bytes], permit: Callable[[], None]) -> Carried:
        """POST /v1/calls."""
        call = from_header(Call, headers[HEAD])
        self.asked.append(call)
        self.check(call)
        self.decide(call)
        permit()
        connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=20)
        connection.putrequest(call.method, call.target, skip_host=True, skip_accept_encoding=True)
        for header in self._signed(call):
            connection.putheader(header.name, header.value.encode("latin-1"))
        length = headers["Content-Length"]
        if length is None:
            connection.putheader("Transfer-Encoding", "chunked")
        elif length != "0" or call.method in ("PUT", "POST"):
            connection.putheader("Content-Length", length)
        connection.endheaders()
        try:
            for piece in body:
                connection.send(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            if length is None:
                connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        told = [(name.lower(), value) for name, value in answer.getheaders()]
        fields = tuple(Header(name, value) for name, value in told if name not in ("transfer-encoding", "connection"))
        return Carried(Answer(answer.status, fields), _pieces(connection, answer))

    def _signed(self, call: Call) -> tuple[Header, ...]:
        host = urlsplit(self.origin).netloc
        headers = [("host", host), *((h.name, h.value) for h in call.headers if h.name not in _OF_THE_AGENT)]
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        made = sigv4.sign(
            call.method, call.target, headers, call.payload_sha256,
            access_key_id=AWS_KEY, secret=AWS_SECRET.encode(), token="session",
            scope=Scope(stamp[:8], call.region, call.service), stamp=stamp,
        )  # fmt: skip
        return tuple(Header(name, value) for name, value in made if name not in sigv4.NEVER_SIGNED - {"authorization"})


def body_of(headers: Any, file: Any) -> Iterator[bytes]:
    """A request's body, in pieces, without the chunks of HTTP."""
    if (headers.get("Transfer-Encoding") or "").lower() == "chunked":
        while size := int(file.readline().split(b";")[0], 16):
            yield file.read(size)
            file.readline()
        while file.readline().strip():
            """Trailers."""
        return
    left = int(headers.get("Content-Length") or 0)
    while left:
        piece = file.read(min(left, 262144))
        if not piece:
            raise ConnectionError("half a body")
        left -= len(piece)
        yield piece


def _pieces(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read1(262144):
            yield piece
    finally:
        connection.close()

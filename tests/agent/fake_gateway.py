"""A small real gateway for the agent's tests: TLS 1.3 on loopback, certificates of its own, every request kept.

It shares no code with certs/ or with the gateway's own web server.
"""

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.wire import problems
from gateway.wire.calls import HEAD, Call, in_header
from gateway.wire.messages import encode
from gateway.wire.strict import decode
from tests.agent.fake_calls import Calls, Carried, Refused, body_of
from tests.agent.pki import Pki

INSTANCE = "spiffe://trusted-gateway.internal/aws/123456789012/eu-central-1/i-0123456789abcdef0"
URN = "urn:uuid:11111111-2222-3333-4444-555555555555"
SECRET_CANARY = "canarySecretAccessKey"
SESSION_CANARY = "canarySessionToken"


@dataclass(frozen=True)
class Seen:
    """One request, after TLS: `serial` is the client certificate's, None without one."""

    method: str
    path: str
    serial: int | None
    body: bytes
    query: str = ""


@dataclass
class Refusal:
    """An answer that is no success."""

    code: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class FakeGateway:
    """The routes of the instance listener, with handles for a test to turn."""

    def __init__(self, pki: Pki, context: ssl.SSLContext | None = None) -> None:
        self.pki = pki
        self.context = context or pki.server_context("127.0.0.1", "localhost")
        self.seen: list[Seen] = []
        self.tickets: dict[str, str | None] = {"ticket-one": None}  # ticket → SHA-256 of the key it served
        self.grants: list[str] = ["app"]
        self.doors: dict[str, list[str]] = {}  # grant → doors, where they are not the usual ones
        self.calls = Calls()
        self.users: dict[str, list[str]] = {}
        self.certificate_life = timedelta(hours=24)
        self.credentials_life = timedelta(hours=1)
        self.delay: dict[str, float] = {}
        self.cut: dict[str, int] = {}  # path → how many bytes of its body are sent, before the connection ends
        self.refusals: dict[str, deque[Refusal]] = {}  # path → refusals to come, the last one for ever if `sticky`
        self.sticky: dict[str, Refusal] = {}
        self.watch_seconds = 25.0
        self.revoked_leases: list[str] = []
        self.news = threading.Event()
        self.current: int | None = None
        self.superseded: dict[int, str] = {}  # serial → the answer that replaced it
        self.key_sha256: str | None = None
        self.nonces: set[str] = set()
        self.vended = 0
        self._port = 0
        self._sockets: set[socket.socket] = set()

    # ── running

    def start(self) -> None:
        gateway = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def finish_request(self, request: Any, client_address: Any) -> None:
                request.settimeout(60)
                secured = gateway.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                gateway._sockets.add(secured)
                try:
                    secured.do_handshake()
                    super().finish_request(secured, client_address)
                except ssl.SSLError:
                    secured.shutdown(socket.SHUT_WR)
                    while socket.socket.recv(secured, 65536):
                        """The client shall read the alert before it finds the connection closed."""
                finally:
                    gateway._sockets.discard(secured)
                    secured.close()

            def handle_error(self, request: Any, client_address: Any) -> None:
                return None

        self._server = Server(("127.0.0.1", self._port), type("Edge", (_Edge,), {"gateway": self}))
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go down, and take every open connection along."""
        self.news.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for secured in list(self._sockets):
            with contextlib.suppress(OSError):
                secured.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def revoke(self) -> None:
        """The instance is revoked, on every route, from now on."""
        self.revoked = True
        self.news.set()

    def revoke_lease(self, lease: str) -> None:
        """This lease is revoked; its grant stands."""
        self.revoked_leases.append(lease)
        self.news.set()

    revoked = False

    def paths(self, *, since: int = 0) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen[since:]]

    def count(self, path: str) -> int:
        return sum(seen.path == path for seen in self.seen)

    def wait_for(self, path: str, times: int = 1, within: float = 10.0) -> None:
        end = time.monotonic() + within
        while self.count(path) < times:
            assert time.monotonic() < end, f"{path}: seen {self.count(path)} times, not {times}"
            time.sleep(0.005)

    # ── answering

    def answer(self, seen: Seen) -> tuple[int, bytes, dict[str, str]]:
        self.seen.append(seen)
        time.sleep(self.delay.get(seen.path, 0.0))
        try:
            self._check(seen)
            return 200 if seen.path != "/v1/enroll" else 201, self._route(seen), {}
        except _Refuse as refused:
            return _told(refused.refusal)
        except Refused as refused:
            return _told(Refusal(refused.code, raw=problems.encode(refused.code, detail=str(refused), instance=URN)))

    def carry(self, seen: Seen, headers: Any, body: Iterator[bytes], permit: Callable[[], None]) -> Carried | Refusal:
        """AWS's answer to a call that is carried, or a refusal: `permit` is called before the body is looked at."""
        self.seen.append(seen)
        try:
            self._check(seen)
            return self.calls.carry(headers, body, permit)
        except _Refuse as refused:
            return refused.refusal
        except Refused as refused:
            return Refusal(refused.code, raw=problems.encode(refused.code, detail=str(refused), instance=URN))

    def _check(self, seen: Seen) -> None:
        waiting = self.refusals.get(seen.path)
        if waiting:
            raise _Refuse(waiting.popleft())
        if seen.path in self.sticky:
            raise _Refuse(self.sticky[seen.path])
        if seen.path in ("/v1/ca", "/v1/nonces", "/v1/enroll"):
            return
        if seen.serial is None:
            raise _Refuse(Refusal("certificate_required"))
        if self.revoked:
            raise _Refuse(Refusal("instance_revoked"))
        if seen.serial in self.superseded:
            if seen.path != "/v1/renew":
                raise _Refuse(Refusal("certificate_superseded"))
        elif seen.serial != self.current:
            raise _Refuse(Refusal("certificate_unknown"))

    def _route(self, seen: Seen) -> bytes:
        message = json.loads(seen.body) if seen.body else {}
        match seen.method, seen.path:
            case "GET", "/v1/ca":
                return self.pki.root.pem.encode()
            case "POST", "/v1/nonces":
                nonce = base64.urlsafe_b64encode(sha256(str(len(self.seen)).encode()).digest()).decode().rstrip("=")
                self.nonces.add(nonce)
                return json.dumps({"nonce": nonce}).encode()
            case "POST", "/v1/enroll":
                return self._enroll(message)
            case "POST", "/v1/renew":
                assert seen.serial is not None
                if seen.serial not in self.superseded:
                    self.superseded[seen.serial] = self._issue(message["csr"])
                return self.superseded[seen.serial].encode()
            case "GET", "/v1/grants":
                grants = [self._summary(name) for name in self.grants]
                return json.dumps({"profile": "web", "grants": grants}).encode()
            case "POST", "/v1/credentials":
                return self._vend(message["grant"])
            case "POST", "/v1/dummy-keys":
                return self.calls.register(message)
            case "POST", "/v1/signatures":
                return encode(self.calls.sign(decode(Call, message)))
            case "GET", "/v1/watch":
                known = f"{len(self.revoked_leases)}" if self.revoked_leases else ""
                if seen.query == f"after={known}":
                    self.news.wait(self.watch_seconds)
                if self.revoked:
                    raise _Refuse(Refusal("instance_revoked"))
                if not self.revoked_leases or seen.query == f"after={len(self.revoked_leases)}":
                    return b""
                self.news.clear()
                return json.dumps({"after": f"{len(self.revoked_leases)}", "drop": self.revoked_leases}).encode()
        raise _Refuse(Refusal("not_found"))

    def _summary(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {"name": name, "duration": 3600, "users": self.users.get(name, [])}
        told |= {"ways": self.calls.ways[name]} if name in self.calls.ways else {}
        return told | ({"doors": self.doors[name]} if name in self.doors else {})

    def _enroll(self, message: dict[str, Any]) -> bytes:
        key = _key_of(message["csr"])
        known = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        if proof := message.get("proof"):
            statement = b"\n".join(
                part.encode()
                for part in (
                    "trusted-gateway re-enrol v1",
                    proof["nonce"],
                    message["csr"],
                    message["evidence"]["document"],
                )
            )
            try:
                key.verify(base64.b64decode(proof["signature"]), statement, ec.ECDSA(hashes.SHA256()))
                self.nonces.remove(proof["nonce"])
            except (InvalidSignature, KeyError):
                raise _Refuse(Refusal("proof_refused")) from None
            if known != self.key_sha256:
                raise _Refuse(Refusal("proof_refused"))
            if self.revoked:
                raise _Refuse(Refusal("instance_revoked"))
        else:
            ticket = message["ticket"]
            if ticket not in self.tickets:
                raise _Refuse(Refusal("ticket_invalid"))
            if self.tickets[ticket] not in (None, known):
                raise _Refuse(Refusal("ticket_used"))
            self.tickets[ticket] = known
            self.revoked = False
            self.news.clear()
        self.key_sha256 = known
        return self._issue(message["csr"]).encode()

    def _issue(self, csr: str) -> str:
        certificate = self.pki.instances.issue(
            "i-0123456789abcdef0",
            _key_of(csr),
            [x509.UniformResourceIdentifier(INSTANCE)],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            self.certificate_life,
        )
        self.current = certificate.serial_number
        return json.dumps({
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "issuer": self.pki.instances.pem,
            "instance": INSTANCE,
            "profile": "web",
            "not_after": _instant(certificate.not_valid_after_utc),
        })  # fmt: skip

    def _vend(self, grant: str) -> bytes:
        if grant not in self.grants:
            raise _Refuse(Refusal("grant_refused"))
        self.vended += 1
        return json.dumps({
            "lease": f"lease-{self.vended}",
            "access_key_id": f"ASIA{self.vended:016d}",
            "secret_access_key": f"{SECRET_CANARY}{self.vended}",
            "session_token": SESSION_CANARY * 20,
            "expiration": _instant(datetime.now(UTC) + self.credentials_life),
        }).encode()  # fmt: skip


def _told(refusal: Refusal) -> tuple[int, bytes, dict[str, str]]:
    status = refusal.status or problems.PROBLEMS[refusal.code].status
    raw = refusal.raw if refusal.raw is not None else problems.encode(refusal.code)
    return status, raw, {"Content-Type": problems.MEDIA_TYPE, **refusal.headers}


class _Refuse(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class _Edge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    gateway: FakeGateway

    def do_GET(self) -> None:
        if self.path == "/v1/calls":
            self._carry()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        certificate = self.connection.getpeercert(binary_form=True)
        serial = x509.load_der_x509_certificate(certificate).serial_number if certificate else None
        path, _, query = self.path.partition("?")
        status, raw, headers = self.gateway.answer(Seen(self.command, path, serial, body, query))
        if not raw and status == 200:
            status = 204
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if path in self.gateway.cut:
            raw = raw[: self.gateway.cut[path]]
            self.close_connection = True
        self.wfile.write(raw)

    do_POST = do_GET

    def handle_expect_100(self) -> bool:
        return True  # whoever carries says so, once he wants the body

    def _carry(self) -> None:
        certificate = self.connection.getpeercert(binary_form=True)
        serial = x509.load_der_x509_certificate(certificate).serial_number if certificate else None

        def permit() -> None:
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()

        seen = Seen(self.command, self.path, serial, b"")
        body = body_of(self.headers, self.rfile)
        answer = self.gateway.carry(seen, self.headers, body, permit)
        if isinstance(answer, Refusal):
            if self.headers.get("Expect"):
                self.close_connection = True
            else:
                deque(body, 0)
            status, raw, headers = _told(answer)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
            return
        self.send_response(200)
        self.send_header(HEAD, in_header(answer.head))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        return None


def _key_of(csr: str) -> ec.EllipticCurvePublicKey:
    request = x509.load_pem_x509_csr(csr.encode())
    key = request.public_key()
    assert request.is_signature_valid
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def running(gateway: FakeGateway) -> Iterator[FakeGateway]:
    """The gateway, up for the length of a `with`."""
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


class Plain:
    """A listener without TLS that keeps every byte it is sent and answers with `reply`: a man in the middle."""

    def __init__(self, reply: bytes = b"") -> None:
        self.received = b""
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(1)
                    self.received += connection.recv(65536)
                    connection.sendall(self._reply)
                    while more := connection.recv(65536):
                        self.received += more

    def close(self) -> None:
        self._listener.close()

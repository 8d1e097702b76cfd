"""The gateway's client: TLS 1.3, the pinned root, the name in the server's certificate, a few connections kept open.

A `Client` is bound to one certificate for its whole life; who renews makes another. The key reaches OpenSSL by a memfd.
"""

import hashlib
import http.client
import os
import re
import socket
import ssl
import threading
from contextlib import suppress
from email.message import Message
from typing import Any, TypeVar

from agent.errors import Fault, Problem
from agent.settings import Address
from gateway.wire.checkpoint import LONGEST_ANSWER
from gateway.wire.messages import encode
from gateway.wire.problems import MEDIA_TYPE
from gateway.wire.strict import Malformed, decode, loads

PORT = 8443
"""The gateway's port when user-data names none."""
CONNECT = 5.0
"""Seconds to connect, handshake included."""
ANSWER = 10.0
"""Seconds without a byte of an answer."""

_LONGEST = 65536
_LONGER = {"/v1/checkpoint": LONGEST_ANSWER}  # by path
_KEPT = 32

T = TypeVar("T")


class Client:
    """Requests to one gateway. Any thread may call. `bundle` is certificate, issuer and key in PEM, or None.

    Raises Fault `certificate_unusable` when the key is not the certificate's.
    """

    def __init__(self, address: Address, root_der: bytes, bundle: str | None = None) -> None:
        self.address = address
        self._context = _verifying(root_der)
        if bundle is not None:
            _present(self._context, bundle)
        self._idle: list[http.client.HTTPSConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, answer: type[T], method: str, path: str, message: Any = None) -> T:
        """Send a wire message, or nothing, and read the `answer`. Raises Problem and Fault."""
        raw = self.call(method, path, b"" if message is None else encode(message))
        try:
            return decode(answer, loads(raw))
        except Malformed as error:
            raise Fault("answer_malformed", f"{path}: the gateway's answer is not understood: {error}") from None

    def call(self, method: str, path: str, body: bytes = b"", *, timeout: float = ANSWER) -> bytes:
        """The body of a successful answer. Raises Problem when the gateway refuses, Fault when it cannot be heard.

        A connection that the gateway closed while it was idle is replaced: no route minds being asked twice.
        """
        longest = _LONGER.get(path.partition("?")[0], _LONGEST)
        while True:
            connection, kept = self._borrow()
            try:
                status, headers, raw = exchange(connection, method, path, body, timeout, longest)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not kept or isinstance(error, (TimeoutError, TooLong)):
                    raise unheard(self.address, error) from None
            else:
                self._give_back(connection)
                if 200 <= status < 300:
                    return raw
                raise refusal(status, headers, raw)

    def connect(self) -> ssl.SSLSocket:
        """Another connection, verified as all are, for a conversation of the caller's own. Raises Fault."""
        try:
            plain = socket.create_connection((self.address.host, self.address.port), CONNECT)
            return self._context.wrap_socket(plain, server_hostname=self.address.host, suppress_ragged_eofs=False)
        except OSError as error:
            raise unheard(self.address, error) from None

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it is idle."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _borrow(self) -> tuple[http.client.HTTPSConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        return _connection(self.address, self._context), False

    def _give_back(self, connection: http.client.HTTPSConnection) -> None:
        with self._lock:
            if connection.sock is not None and not self._closed and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()


def fetch_root(address: Address, pin: str) -> bytes:
    """First contact: the root certificate (DER) whose lower-case hex SHA-256 is `pin`.

    The server is not verified yet, so this sends one GET and nothing else, and believes only what the pin says.
    Raises Fault: `pin_mismatch` when another root came.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = _connection(address, context)
    try:
        status, headers, raw = exchange(connection, "GET", "/v1/ca", b"", ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise unheard(address, error) from None
    finally:
        connection.close()
    if status != 200:
        raise refusal(status, headers, raw)
    try:
        der = ssl.PEM_cert_to_DER_cert(raw.decode("ascii"))
    except ValueError:
        der = b""
    if hashlib.sha256(der).hexdigest() != pin:
        hint = "Either user-data names another gateway's ca_sha256, or someone stands between. Nothing was sent."
        raise Fault("pin_mismatch", f"{address} showed another root certificate than the one in user-data", hint)
    return der


class TooLong(http.client.HTTPException):
    """There is more of the answer than we are willing to hold."""


def exchange(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: bytes,
    timeout: float,
    longest: int = _LONGEST,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request and its answer: status, headers and body, never a redirect. Raises OSError and HTTPException."""
    if connection.sock is None:
        connection.connect()
        _notice_a_dead_peer(connection)
    connection.sock.settimeout(timeout)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, body if method == "POST" else None, headers)
    answer = connection.getresponse()
    raw = answer.read(longest + 1)
    if len(raw) > longest:
        raise TooLong(path.partition("?")[0])
    return answer.status, answer.headers, raw


def _connection(address: Address, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(address.host, address.port, timeout=CONNECT, context=context)


def _verifying(root_der: bytes) -> ssl.SSLContext:
    """A context that trusts one root, and checks the host's name (RFC 9525); nothing on this system adds to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=root_der)
    except ssl.SSLError:
        raise Fault("root_unusable", "The gateway's root certificate cannot be read") from None
    return context


def _present(context: ssl.SSLContext, bundle: str) -> None:
    """Give the key to OpenSSL, which reads files only, without a file on any disk."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(bundle.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    except ssl.SSLError:
        raise Fault("certificate_unusable", "The certificate and the key do not belong together") from None
    finally:
        os.close(fd)


def _notice_a_dead_peer(connection: http.client.HTTPSConnection) -> None:
    """A long poll is silent for 25 s; a gateway that lost power shall not be taken for a silent one (tcp(7))."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in ((socket.TCP_KEEPIDLE, 3), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        connection.sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


def unheard(address: Address, error: Exception) -> Fault:
    """Why there is no answer that could be read."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "Check the gateway's certificate, its names, and the clocks. Nothing was sent."
        return Fault("gateway_untrusted", f"{address} is not trusted: {error.verify_message}", hint)
    if isinstance(error, ssl.SSLError) and "ALERT_CERTIFICATE_EXPIRED" in (error.reason or ""):
        return Problem("certificate_expired", 401)  # told by TLS, before HTTP could: this machine's clock is slow
    if isinstance(error, TooLong):  # it was heard well: to say that the network is at fault would mislead
        return Fault("answer_malformed", f"{error}: the gateway's answer is too long")
    why = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    hint = "Check the address, the network, and that the gateway runs."
    return Fault("gateway_unreachable", f"{address}: {why or type(error).__name__}", hint)


def refusal(status: int, headers: Message, raw: bytes) -> Problem:
    """What an answer that is no success says. Text of the gateway is cut and printable before it reaches a log."""
    code, detail, request_id = "unexpected_answer", "", ""
    if headers.get_content_type() == MEDIA_TYPE:
        with suppress(Malformed, AttributeError):
            document = loads(raw)
            code = str(document.get("code"))
            detail = "".join(c for c in str(document.get("detail") or "") if c.isprintable())[:200]
            request_id = str(document.get("instance") or "").removeprefix("urn:uuid:")
    if not re.fullmatch(r"[a-z_]{1,64}", code):
        code = "unexpected_answer"
    after = headers.get("Retry-After", "")
    problem = Problem(code, status, detail, float(after) if re.fullmatch(r"[0-9]{1,6}", after) else 0.0)
    if re.fullmatch(r"[0-9a-f-]{1,64}", request_id):
        problem.request_id = request_id
    return problem

"""The container credential provider's server on loopback: a thin edge over `Loopback.answer`.

AWS SDKs and Tools Reference: "Container credential provider".
"""

import io
import json
import logging
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from agent.credentials import Unavailable
from agent.errors import Fault
from agent.serve import guard
from agent.settings import Address
from gateway.wire.secret import Secret

log = logging.getLogger("agent.serve")

LONGEST_HEAD = 5.0
"""Seconds in which a request's head must have come, and an answer must have been taken."""
MOST = 128
"""Local connections at one time; more are closed at once."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Status, JSON body, and headers beside the usual ones."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loopback:
    """What the server serves: a grant's credentials, by the agent's state, and the status document."""

    tokens: Mapping[str, Secret]
    status_token: Secret
    credentials: Callable[[str], bytes]
    state: Callable[[], str]
    status: Callable[[], bytes]

    def answer(self, method: str, target: str, headers: Message, allowed_hosts: frozenset[str]) -> Answer:
        """The answer to one request. Never raises for what a client sent."""
        try:
            guard.check_head(method, headers, allowed_hosts)
            if target == "/status":
                guard.check_token(headers, self.status_token)
                return Answer(200, self.status())
            grant = guard.grant_of(target)
            if grant is None:
                raise guard.Refused(404, "NotFound", "Nothing is here")
            self._check_state()
            guard.check_token(headers, self.tokens.get(grant))
            return Answer(200, self.credentials(grant))
        except guard.Refused as refused:
            return error(refused.status, refused.code, str(refused))
        except Unavailable as none:
            if none.refused:
                return error(403, "AccessDenied", str(none))
            return error(503, "ServiceUnavailable", str(none), retry_after=none.retry_after)

    def _check_state(self) -> None:
        """Before the token: neither a revoked agent nor one that has just started has any."""
        state = self.state()
        if state == "revoked":
            raise guard.Refused(403, "AccessDenied", "The instance is revoked (instance_revoked)")
        if state != "enrolled":
            raise Unavailable("starting", "The agent is not enrolled yet", retry_after=1.0)


def error(status: int, code: str, message: str, *, retry_after: float | None = None) -> Answer:
    """An error that every SDK can read: each reads another spelling."""
    body = json.dumps({"code": code, "Code": code, "message": message, "Message": message}).encode()
    return Answer(status, body, {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))})


class Server(ThreadingMixIn, TCPServer):
    """A thread for each local connection, at most `MOST`. Listens at once, answers from `serve` on.

    Raises Fault `listen_failed`.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = MOST
    loopback: Loopback

    def __init__(self, listen: Address) -> None:
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        self._free = threading.BoundedSemaphore(MOST)
        try:
            super().__init__((listen.host, listen.port), _Edge)
        except OSError as failure:
            hint = "Another agent may run here; set 'listen' to another port, or to port 0."
            raise Fault("listen_failed", f"{listen}: {failure.strerror}", hint) from None
        self.address = Address(listen.host, self.socket.getsockname()[1])
        self.allowed_hosts = guard.hosts(self.address)

    def serve(self, loopback: Loopback) -> None:
        """Answer until `shutdown`."""
        self.loopback = loopback
        self.serve_forever(poll_interval=0.1)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread, if there is room for one more."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left for us
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a mistake of ours is, in one line."""
        kind = sys.exc_info()[0]
        if kind and not issubclass(kind, OSError):
            log.error("loopback request failed: %s", kind.__name__)


class _Head(io.RawIOBase):
    """A socket that is read until a deadline, however slowly it drips."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Edge(BaseHTTPRequestHandler):
    """HTTP/1.1, one request a connection, nothing logged that a client wrote."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Head(self.connection, time.monotonic() + LONGEST_HEAD))

    def do_GET(self) -> None:
        """The only method; `send_error` answers every other."""
        target = self.requestline.split()[1]  # self.path was tidied up already
        self._send(self.server.loopback.answer(self.command, target, self.headers, self.server.allowed_hosts))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself: a method (501), a malformed or overlong head."""
        del message, explain  # they quote the client
        if code == 501:
            self._send(error(405, "MethodNotAllowed", "Only GET is served here"))
        else:
            self._send(error(code, "BadRequest", "The request cannot be read"))

    def _send(self, answer: Answer) -> None:
        self.close_connection = True
        self.connection.settimeout(LONGEST_HEAD)
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": "application/json",  # exactly: the Go SDK compares
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **answer.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "trusted-gateway-agent"

    def log_message(self, *_: Any) -> None:
        return None

"""Connections to AWS and to the gateway, kept for the next call only while nothing on them could be taken for another
answer (RFC 9112 section 9.3).
"""

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Hashable
from functools import cache

from agent.calls.body import Body
from agent.calls.line import Line
from agent.calls.outbound import Broken, Fields, Outbound, Reply
from agent.client import CONNECT
from agent.errors import Fault

IDLE = 20.0
"""Seconds for which a connection is kept: as long as S3 keeps its own."""
MOST_IDLE = 64

_ORIGIN = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|((?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}))(?::([0-9]{1,5}))?")


class Pool:
    """Connections by what they lead to. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Hashable, list[Outbound]] = {}
        self._closed = False

    def exchange(
        self, leads_to: Hashable, connect: Callable[[], socket.socket], partner: socket.socket,
        method: str, target: str, headers: Fields, body: Body,
        *, expects: bool, idempotent: bool, patience: float | None = 1.0,
    ) -> tuple[Outbound, Reply]:  # fmt: skip
        """A request, and the head of its answer, on a connection that was kept or is new.

        When one that was kept turns out to be closed, the request goes again on another, if it is idempotent and its
        body is whole still. Raises what `connect` and `Outbound.ask` raise.
        """
        while True:
            connection = self._take(leads_to) or Outbound(Line(connect()))
            connection.line.partner = partner
            try:
                return connection, connection.ask(method, target, headers, body, expects=expects, patience=patience)
            except BaseException as error:
                connection.close()
                stale = isinstance(error, Broken) and error.untouched and connection.used
                if not (stale and idempotent and (body.again or not body.begun)):
                    raise

    def keep(self, leads_to: Hashable, connection: Outbound) -> None:
        """Keep it for another request, if it can be; else close it."""
        if connection.reusable:
            connection.again()
            with self._lock:
                self._weed()
                if not self._closed and len(kept := self._idle.setdefault(leads_to, [])) < MOST_IDLE:
                    kept.append(connection)
                    return
        connection.close()

    def close(self) -> None:
        """Close all that idle, and keep none any more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connection in [each for kept in idle.values() for each in kept]:
            connection.close()

    def _take(self, leads_to: Hashable) -> Outbound | None:
        while True:
            with self._lock:
                kept = self._idle.get(leads_to)
                if not kept:
                    return None
                found = kept.pop()
            if time.monotonic() - found.since < IDLE and found.line.quiet:
                return found
            found.close()

    def _weed(self) -> None:
        """Close what nobody will take: connections that idled for too long, wherever they lead."""
        now = time.monotonic()
        for leads_to, kept in list(self._idle.items()):
            for old in [each for each in kept if now - each.since >= IDLE]:
                kept.remove(old)
                old.close()
            if not kept:
                del self._idle[leads_to]


def connect_to(origin: str) -> socket.socket:
    """A connection to `https://host[:port]`, verified by the system's authorities; plain HTTP to this machine alone.

    Raises Fault, and OSError.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None or int(match[4] or 0) > 65535:
        raise Fault("answer_malformed", "The gateway names an origin that is none")
    scheme, host = match[1], match[2] or match[3]
    if scheme == "http" and not _on_loopback(host):
        raise Fault("answer_malformed", "The gateway names an origin without TLS")
    connection = socket.create_connection((host, int(match[4] or (443 if scheme == "https" else 80))), CONNECT)
    if scheme == "http":
        return connection
    return _tls().wrap_socket(connection, server_hostname=host, suppress_ragged_eofs=False)


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What the server serves: listeners with their inline routes and their WSGI application, and the limits they keep."""

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.web.server.stream import Stream

Environ = dict[str, Any]
WSGI = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the socket: the only source of identity. No header of a request changes it."""

    address: str  # "" on a Unix socket
    port: int
    certificate: bytes | None  # DER of the client certificate of the TLS socket, read once per connection


@dataclass(slots=True)
class Request:
    """One complete request, as an inline handler gets it. Header names are lower case, values without outer blanks."""

    method: str
    target: bytes  # as sent
    path: str  # needs no decoding: see head.py
    query: bytes  # as sent, without the "?"
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    peer: Peer
    listener: str
    request_id: str  # a version 4 UUID
    begun: float = 0.0  # by time.perf_counter, when it was complete; of a stream, when its head was


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. The server adds Content-Length, Date, `Cache-Control: no-store` (unless set here) and nosniff."""

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False  # close the connection after this answer
    length: int | None = None  # Content-Length of an answer to HEAD whose body was not made


InlineHandler = Callable[[Request], Response | Awaitable[Response]]
"""Runs on the event loop, so it must not block. It may raise `core.errors.Refusal`.

An awaitable is awaited even when its client has gone (the answer is then dropped). It is cancelled only when the worker
drains, `Limits.settle` after it began to: effects that must not be interrupted need `asyncio.shield`.
"""

StreamHandler = Callable[["Stream"], Coroutine[Any, Any, None]]
"""Takes a request whose body comes in pieces, and answers in pieces; on the event loop, so it must not block.

It may raise `core.errors.Refusal` before it answers; an exception in the middle of an answer breaks the connection. It
is cancelled when its client has gone.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times, and counts for each listener in each worker. Deadlines are kept to a quarter second."""

    head: int = 16 * 1024
    headers: int = 64  # header fields
    body: int = 64 * 1024
    response: int = 16 * 1024 * 1024  # of a WSGI application; a larger one is a fault of the application
    handshake: timedelta = timedelta(seconds=5)
    head_time: timedelta = timedelta(seconds=5)  # from connecting, or from the first byte of a later request
    body_time: timedelta = timedelta(seconds=30)
    idle: timedelta = timedelta(seconds=75)
    write_time: timedelta = timedelta(seconds=60)  # for the client to take a whole answer
    closing: timedelta = timedelta(seconds=2)  # for the client to take the last answer and let go
    settle: timedelta = timedelta(seconds=1)  # how long a drain leaves idle connections and waiting handlers alone
    connections: int = 4096  # also at most what the file descriptor limit leaves
    threads: int = 16  # for WSGI calls
    queue: int = 64  # WSGI calls waiting for a thread; one more gets 503
    streams: int = 256  # at once; one more gets 503
    stream_head: int = 32 * 1024
    stream_body: int = 5 * 1024**4  # the largest object of S3
    stream_idle: timedelta = timedelta(seconds=30)  # between two pieces of a body; a stream has no limit as a whole


@dataclass(slots=True)
class Counters:
    """What one listener has counted in this worker since its start."""

    connections: int = 0
    handshake_failures: int = 0
    requests: int = 0  # that were complete and passed on
    refused: int = 0  # that the server refused itself: malformed, too large, not for this host
    timeouts: int = 0
    overloaded: int = 0
    failed: int = 0  # exceptions in a handler or an application
    dropped: int = 0  # answers whose client had gone
    evicted: int = 0  # connections closed to make room
    streams: int = 0  # begun
    streamed_in: int = 0  # bytes of bodies of streams
    streamed_out: int = 0


@dataclass(frozen=True)
class Listener:
    """One listening socket. Routes in `inline`, by (method, path), are answered on the loop; the rest by `wsgi`.

    A POST to a path in `streams` is not read whole: its body may be of any length, or chunked, and its head longer.
    `bodies` has the paths whose bodies may be longer than others, in bytes.
    """

    name: str
    wsgi: WSGI
    tls: ssl.SSLContext | None = None
    inline: Mapping[tuple[str, str], InlineHandler] = field(default_factory=dict)
    streams: Mapping[str, StreamHandler] = field(default_factory=dict)
    bodies: Mapping[str, int] = field(default_factory=dict)
    hosts: frozenset[str] | None = None  # Host headers to accept: lower case, no port, no brackets; None accepts any
    counters: Counters = field(default_factory=Counters)
    measured: Callable[[Request | None, Response], None] | None = None  # told of every answer; None: of what was none


class Service(Protocol):
    """What `LoopWorker` is given to serve; built in the master, before the fork."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """In the order of gunicorn's `bind`. Asked for after `start`."""

    @property
    def limits(self) -> Limits: ...

    def start(self, slot: int) -> None:
        """Called in the worker, after the fork and before it accepts; a worker's successor gets the same slot."""

    def tick(self) -> None:
        """Called on the event loop, some times a second: for what only its thread may do. It must not block."""

    def stop(self) -> None:
        """Called in the worker when the last answer has left."""

"""One listening socket in one worker: it accepts connections, bounds how many there are, and keeps their deadlines.

Connections are accepted here and not by the loop's own server: that one gives its socket up for ever when no file
descriptor is left, and it cannot bound connections by not accepting (threats B19, C14, C15).
"""

import asyncio
import contextlib
import logging
import socket
import traceback
from collections.abc import Callable
from typing import Any

from gateway.core.errors import Refusal
from gateway.web.server import answer
from gateway.web.server.connection import Connection
from gateway.web.server.head import HeadReader
from gateway.web.server.pool import Pool
from gateway.web.server.request_ids import request_ids
from gateway.web.server.service import Limits, Listener, Request, Response
from gateway.web.server.stream import Stream

log = logging.getLogger(__name__)

_EXHAUSTED_PAUSE = 0.5  # seconds without accepting, after the system had no file descriptor or memory left


class Door:
    """A listener at work. All of it belongs to the loop's thread, except `from_thread`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: Listener, limits: Limits, sock: socket.socket, capacity: int
    ) -> None:
        self.loop = loop
        self.listener = listener
        self.limits = limits
        self.counters = listener.counters
        self.pool = Pool(listener.name, limits.threads, limits.queue)
        self.address = _address(sock.getsockname())
        self.date = answer.date_line()
        self.draining = False
        self.broken_off = False
        self.last_words = 0  # calls in threads that have to be done before the worker ends
        self.now = loop.time
        self.heads = HeadReader(limits, listener.hosts, listener.streams, listener.bodies)
        self.request_id = request_ids().__next__
        # Seconds, for the loop
        self.head_time = limits.head_time.total_seconds()
        self.body_time = limits.body_time.total_seconds()
        self.idle = limits.idle.total_seconds()
        self.stream_idle = limits.stream_idle.total_seconds()
        self.write_time = limits.write_time.total_seconds()
        self.closing = limits.closing.total_seconds()
        self._handshake = limits.handshake.total_seconds()
        self._socket = sock
        self._capacity = capacity
        self._accepting = False
        self._open = False
        self._connections: set[Connection] = set()
        self.streams: set[Stream] = set()  # under way
        self._arriving: dict[asyncio.Task[None], None] = {}  # in a handshake; the oldest first

    # Accepting

    def open(self) -> None:
        """Accept from now on."""
        self._open = True
        self._resume()

    def close(self) -> None:
        """Accept no more; what is open stays, but every answer is its connection's last."""
        self.draining = True
        self._open = False
        self._pause()
        self._socket.close()

    def _resume(self) -> None:
        if self._open and not self._accepting:
            self._accepting = True
            self.loop.add_reader(self._socket, self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._socket)

    def _accept(self) -> None:
        # One at a time: the workers share this socket, and the less busy one shall take the next.
        if len(self) >= self._capacity:
            self._pause()  # until `forget` or the end of a handshake
            self._make_room()
            return
        try:
            sock, address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            log.warning("cannot accept on %s: %s", self.listener.name, error)
            self._pause()
            self._make_room()
            self.loop.call_later(_EXHAUSTED_PAUSE, self._resume)
            return
        sock.setblocking(False)
        task = self.loop.create_task(self._welcome(sock, _address(address)))
        self._arriving[task] = None
        task.add_done_callback(self._arrived)

    async def _welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        tls: dict[str, Any] = {}
        if self.listener.tls is not None:
            tls = {
                "ssl": self.listener.tls,
                "ssl_handshake_timeout": self._handshake,
                "ssl_shutdown_timeout": self.closing,
            }
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self, address), sock, **tls)
        except OSError as error:  # ssl.SSLError and the time-outs are of this kind
            self.counters.handshake_failures += 1
            log.debug("no handshake on %s with %s: %s", self.listener.name, address[0], error)
            sock.close()

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("accepting on %s failed", self.listener.name, exc_info=error)
        self._resume()

    def _make_room(self) -> None:
        """Part with whoever has kept a place for the longest without using it."""
        if len(self._arriving) > self._capacity // 2:
            next(iter(self._arriving)).cancel()
        elif idle := [connection for connection in self._connections if connection.idle]:
            min(idle, key=lambda connection: connection.deadline).abort()
        else:
            return
        self.counters.evicted += 1

    # Connections

    def __len__(self) -> int:
        return len(self._connections) + len(self._arriving)

    def admit(self, connection: Connection) -> None:
        """The connection can send requests."""
        self.counters.connections += 1
        self._connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        self._connections.discard(connection)
        self._resume()

    def from_thread(self, call: Callable[[Any], None], value: object) -> None:
        """Have the loop call `call(value)`; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker is about to end
            self.loop.call_soon_threadsafe(call, value)

    def problem(self, error: BaseException, request_id: str) -> Response:
        """The answer to an exception. One that is no Refusal is logged: where it happened, but not its text, which may
        quote anything.
        """
        if not isinstance(error, Refusal):
            self.counters.failed += 1
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("request %s failed: %s\n%s", request_id, type(error).__name__, where)
            error = Refusal("internal_error")
        return answer.problem(error, request_id)

    def answered(self, request: Request | None, response: Response) -> None:
        """An answer leaves."""
        if (measured := self.listener.measured) is not None:
            measured(request, response)

    def tick(self, now: float) -> None:
        """Keep the deadlines, and the date; look whether the clients of streams are still there."""
        self.date = answer.date_line()
        for stream in list(self.streams):
            stream.look()
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.expire()

    def settle(self) -> None:
        """Part with idle clients and waiting handlers."""
        for connection in list(self._connections):
            connection.settle()

    def abort(self) -> None:
        """Close every connection at once."""
        self.broken_off = True
        for task in list(self._arriving):
            task.cancel()
        for connection in list(self._connections):
            connection.abort()


def _address(name: Any) -> tuple[str, int]:
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)

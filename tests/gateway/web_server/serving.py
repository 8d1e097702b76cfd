"""A server in a thread of the test's own process: real sockets, real loop, counters in reach."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from gateway.web.server.connection import Connection
from gateway.web.server.server import Server
from gateway.web.server.service import Counters, Limits, Listener
from tests.gateway.web_server.client import Address
from tests.gateway.web_server.toy import Service


@dataclass(frozen=True)
class Serving:
    """A running server."""

    loop: asyncio.AbstractEventLoop
    server: Server
    listeners: list[Listener]
    addresses: list[Address]

    @property
    def address(self) -> Address:
        return self.addresses[0]

    @property
    def counters(self) -> Counters:
        return self.listeners[0].counters

    def connections(self) -> list[Connection]:
        """Of the first listener."""
        return list(self.server._doors[0]._connections)

    def drain(self, seconds: float) -> None:
        """As SIGTERM does; returns when it is done."""
        asyncio.run_coroutine_threadsafe(self.server.drain(seconds), self.loop).result(30)


@contextlib.contextmanager
def serving(*listeners: Listener, limits: Limits | None = None) -> Iterator[Serving]:
    """Serve on ephemeral ports of the loopback."""
    loop = uvloop.new_event_loop()
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in listeners]
    for sock in sockets:
        sock.setblocking(False)
    server = Server(loop, Service(list(listeners), limits or Limits()), sockets)
    addresses: list[Address] = [sock.getsockname() for sock in sockets]
    thread = threading.Thread(target=loop.run_forever, name="serving")
    thread.start()
    loop.call_soon_threadsafe(server.open)
    running = Serving(loop, server, list(listeners), addresses)
    try:
        yield running
    finally:
        running.drain(0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

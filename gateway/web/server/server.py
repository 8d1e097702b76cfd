"""All doors of one worker: their common clock, and how they close."""

import asyncio
import logging
import resource
import socket
from collections.abc import Sequence
from typing import Any

from gateway.web.server.door import Door
from gateway.web.server.service import Service

log = logging.getLogger(__name__)

_TICK = 0.25  # seconds; how exactly deadlines are kept
_RESERVED = 128  # file descriptors for everything that is not a client
_UPSTREAM = 512  # and for what streams lead to, where there are streams
_LAST_WORDS = 1.5  # seconds for the handlers of streams, to end what was broken off


class Server:
    """Serves a service on listening sockets, which are in the order of its listeners."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Service, sockets: Sequence[socket.socket]) -> None:
        listeners = service.listeners
        if len(listeners) != len(sockets):
            raise ValueError(f"{len(listeners)} listeners, but gunicorn binds {len(sockets)} sockets")
        capacity = min(
            service.limits.connections, _descriptors(any(each.streams for each in listeners)) // len(listeners)
        )
        self._loop = loop
        self._service = service
        self._settle = service.limits.settle.total_seconds()
        self._doors = [
            Door(loop, listener, service.limits, sock, capacity)
            for listener, sock in zip(listeners, sockets, strict=True)
        ]
        self._end = 0.0  # of a drain
        loop.set_exception_handler(_report)

    def open(self) -> None:
        """Accept connections."""
        for door in self._doors:
            door.open()
        self._tick()

    async def drain(self, seconds: float) -> None:
        """Accept no more, answer what has begun, close what is idle; after `seconds` break off the rest.

        For the first moments (`Limits.settle`) idle connections stay: a request that is already on its way is answered.
        """
        self._end = self._loop.time() + seconds
        for door in self._doors:
            door.close()
        await self._emptied(self._loop.time() + self._settle)
        for door in self._doors:
            door.settle()
        await self._emptied(self._end)
        for door in self._doors:
            door.abort()
        await asyncio.sleep(0)  # for the loop to do it
        end = self._loop.time() + _LAST_WORDS
        while any(door.streams or door.last_words for door in self._doors) and self._loop.time() < end:
            await asyncio.sleep(0.02)

    def hurry(self) -> None:
        """End a drain that is under way."""
        self._end = 0

    async def _emptied(self, end: float) -> None:
        while any(map(len, self._doors)) and self._loop.time() < min(end, self._end):
            await asyncio.sleep(0.02)

    def _tick(self) -> None:
        now = self._loop.time()
        self._service.tick()
        for door in self._doors:
            door.tick(now)
        self._loop.call_later(_TICK, self._tick)


def _descriptors(streams: bool) -> int:
    """How many connections this process may hold. It takes all that the system allows it: 1,024 is a common default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - _RESERVED - (_UPSTREAM if streams else 0), hard // 2)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no one awaited. A client that broke off is no news; anything else is a fault of ours."""
    error = context.get("exception")
    if isinstance(error, OSError):
        log.debug("connection broken: %s", error)
    else:
        log.error("on the event loop: %s", context.get("message"), exc_info=error)

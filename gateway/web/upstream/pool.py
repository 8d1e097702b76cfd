"""The connections to AWS of one worker: which are idle, how long, and how many; and the deadlines of those in use."""

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from gateway.web.upstream.addresses import Network, in_networks, is_public
from gateway.web.upstream.connect import connect
from gateway.web.upstream.wire import Wire

_TICK = 0.25  # seconds; how exactly deadlines are kept


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each thing may take, and how many connections may lie idle."""

    connect: timedelta = timedelta(seconds=5)
    first_byte: timedelta = timedelta(seconds=60)  # of the answer, from the last byte of the request on
    between: timedelta = timedelta(seconds=60)  # two pieces of an answer, or of a body that is sent
    continued: timedelta = timedelta(seconds=1)  # for 100 Continue
    idle: timedelta = timedelta(seconds=30)
    most_idle: int = 32  # to one origin
    most_idle_in_all: int = 128


@dataclass(slots=True)
class Used:
    """What the pool has counted in this worker since its start."""

    opened: int = 0
    reused: int = 0
    dropped: int = 0  # that were not fit to be used again


class Pool:
    """All of it belongs to the loop's thread. `unchecked` are origins in development, whose addresses may be any;
    `private` are networks in which AWS's hosts may be, beside public addresses.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        patience: Patience,
        unchecked: Collection[str] = (),
        private: Collection[Network] = (),
    ) -> None:
        self.patience = patience
        self.used = Used()
        self._tls = tls
        self._unchecked = frozenset(unchecked)
        self._private = tuple(private)
        self._idle: dict[str, list[Wire]] = {}
        self._all: set[Wire] = set()
        self._ticking = False

    def _may_be_at(self, address: str) -> bool:
        return is_public(address) or in_networks(address, self._private)

    async def take(self, origin: str, *, new: bool = False) -> Wire:
        """An open connection to the origin, one that was used before if there is a sound one. Raises Broken."""
        idle = self._idle.get(origin, [])
        while idle and not new:
            wire = idle.pop()  # the one that was used last is the likeliest to be open
            if wire.fresh:
                self.used.reused += 1
                wire.idle_since = None
                return wire
            self.used.dropped += 1
            wire.close()
        wire = Wire(origin, asyncio.get_running_loop().time, self._lost)
        seconds = self.patience.connect.total_seconds()
        self._all.add(wire)
        try:
            allowed = None if origin in self._unchecked else self._may_be_at
            await connect(wire, self._tls, allowed, seconds)
        except BaseException:
            self._all.discard(wire)
            raise
        self.used.opened += 1
        if not self._ticking:
            self._ticking = True
            self._tick()
        return wire

    def give_back(self, wire: Wire) -> None:
        """The exchange is over: keep the connection if nothing speaks against it, else close it."""
        idle = self._idle.setdefault(wire.origin, [])
        if not wire.reusable:
            self.used.dropped += 1
            wire.close()
        elif (
            len(idle) >= self.patience.most_idle or sum(map(len, self._idle.values())) >= self.patience.most_idle_in_all
        ):
            wire.close()
        else:
            wire.rest()
            idle.append(wire)

    def close(self) -> None:
        """Close every connection at once."""
        for wire in list(self._all):
            wire.close()

    def _lost(self, wire: Wire) -> None:
        self._all.discard(wire)
        idle = self._idle.get(wire.origin, [])
        if wire in idle:
            idle.remove(wire)
        if not idle:
            self._idle.pop(wire.origin, None)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now, longest = loop.time(), self.patience.idle.total_seconds()
        for wire in list(self._all):
            if wire.deadline < now:
                wire.expire()
            elif wire.idle_since is not None and wire.idle_since + longest < now:
                wire.close()
        self._ticking = bool(self._all)
        if self._ticking:
            loop.call_later(_TICK, self._tick)

"""GET /v1/watch: an agent waits here to hear what was revoked. It waits on the event loop and costs no thread.

With `?after=…` in its query it hears of leases, too: 200 with those that it has to drop, and what to say next time.
What stands behind `after` names the set of leases that it knows to be revoked; so nothing can be missed, whatever the
clocks of several nodes say, and nothing is told twice.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.revocation_layers import Telling
from gateway.flows.revoke import Revoke
from gateway.ports import Moved
from gateway.web.server.service import Request, Response
from gateway.wire import messages
from gateway.wire.messages import WatchAnswer
from gateway.wire.strict import text

WAIT = 25.0
POLL = 0.25
AFTER = "[0-9a-f]{0,16}"
_QUERY = re.compile(rf"after=({AFTER})".encode())


@dataclass(frozen=True, slots=True)
class Known:
    """The query of GET /v1/watch. `after` is what the last answer said, nothing at first; without it: no leases."""

    after: str | None = text(pattern=AFTER, default=None)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Who waits, and what it has to drop, with the name of that; no name when it does not ask for it."""

    instance: str
    name: str | None
    drop: tuple[str, ...]


class Watch:
    """The waiting agents of one worker, by instance id, and the thread that looks for whom to wake."""

    def __init__(self, journal: Journal, identify: Identify, revoke: Revoke, telling: Telling) -> None:
        self._journal = journal
        self._identify = identify
        self._revoke = revoke
        self._telling = telling
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = Event()

    def start(self, moved: Moved) -> None:
        """Begin to look, in a thread of its own."""
        Thread(target=self._look, args=(moved,), name="watch", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    async def answer(self, request: Request) -> Response:
        """204 after at most 25 s; 200 as soon as there are leases to drop that the caller does not know of; the Refusal
        `instance_revoked` as soon as it is so.

        The caller is identified when it comes and again when it is woken. Waiting gives nothing away, so only a refusal
        is recorded.
        """
        loop = self._loop = asyncio.get_running_loop()
        after = _after(request.query)
        ends = loop.time() + WAIT
        known = await asyncio.to_thread(self._known, request, after)
        while known.name == after and loop.time() < ends:
            known = await self._next(request, after, known.instance, ends - loop.time())
        if known.name is None or known.name == after:
            return Response(204)
        await asyncio.to_thread(self._telling.told, known.instance, known.drop)
        return Response(200, messages.encode(WatchAnswer(known.name, known.drop)), "application/json")

    async def _next(self, request: Request, after: str | None, instance: str, seconds: float) -> _Waiting:
        """What is known after a while, or as soon as somebody says that it may be something else."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(instance, set())
        waiting.add(woken)
        try:
            # Revoked between the look-up and the waiting? Look again now that nothing can be missed.
            known = await asyncio.to_thread(self._known, request, after)
            if known.name != after:
                return known
            await asyncio.wait_for(woken, seconds)
        except TimeoutError:
            pass
        finally:
            waiting.discard(woken)
            if not waiting and self._waiting.get(instance) is waiting:
                del self._waiting[instance]
        return await asyncio.to_thread(self._known, request, after)

    def _known(self, request: Request, after: str | None) -> _Waiting:
        name = Name.INSTANCE_REVOCATION_WATCH
        with self._journal.call(name, request.request_id, request.peer.address) as call:
            if request.query and after is None:
                raise Refusal("malformed_request", "query: only after=… is known")
            try:
                instance = self._identify.instance(call, request.peer.certificate).instance.id
            except Refusal as refusal:
                if refusal.code == "instance_revoked" and call.subject:
                    self._telling.told_revoked(call.subject)
                raise
        if after is None:
            return _Waiting(instance, None, ())
        drop = self._telling.to_drop(instance)
        return _Waiting(instance, hashlib.sha256(" ".join(drop).encode()).hexdigest()[:16] if drop else "", drop)

    def _look(self, moved: Callable[[], bool]) -> None:
        news = False  # kept while the store does not answer: it says only once that it moved
        while not self._stop.wait(POLL):
            news |= moved()
            try:
                if news and self._waiting:
                    self._wake(self._revoke.told_lately())
                    news = False
            except Refusal:
                continue

    def _wake(self, meant: frozenset[str]) -> None:
        loop = self._loop
        if loop is None:
            return
        for instance in meant & self._waiting.keys():
            loop.call_soon_threadsafe(self._release, instance)

    def _release(self, instance: str) -> None:
        for woken in self._waiting.get(instance, ()):
            if not woken.done():
                woken.set_result(None)


def _after(query: bytes) -> str | None:
    found = _QUERY.fullmatch(query)
    return found[1].decode() if found else None

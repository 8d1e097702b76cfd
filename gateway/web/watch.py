"""GET /v1/watch: an agent waits here to hear that it was revoked. It waits on the event loop and costs no thread."""

import asyncio
from collections.abc import Callable
from threading import Event, Thread

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.revoke import Revoke
from gateway.ports import Moved
from gateway.web.server.service import Request, Response

WAIT = 25.0
POLL = 0.25


class Watch:
    """The waiting agents of one worker, by instance id, and the thread that looks for whom to wake."""

    def __init__(self, journal: Journal, identify: Identify, revoke: Revoke) -> None:
        self._journal = journal
        self._identify = identify
        self._revoke = revoke
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = Event()

    def start(self, moved: Moved) -> None:
        """Begin to look, in a thread of its own."""
        Thread(target=self._look, args=(moved,), name="watch", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    async def answer(self, request: Request) -> Response:
        """204 after at most 25 s; the Refusal `instance_revoked` as soon as it is so.

        The caller is identified when it comes and again when it is woken. Waiting gives nothing away, so only a refusal
        is recorded.
        """
        loop = self._loop = asyncio.get_running_loop()
        identity = await asyncio.to_thread(self._identified, request)
        woken: asyncio.Future[None] = loop.create_future()
        waiting = self._waiting.setdefault(identity.instance.id, set())
        waiting.add(woken)
        try:
            # Revoked between the look-up and the waiting? Look again now that nothing can be missed.
            await asyncio.to_thread(self._identified, request)
            await asyncio.wait_for(woken, WAIT)
        except TimeoutError:
            pass
        finally:
            waiting.discard(woken)
            if not waiting:
                self._waiting.pop(identity.instance.id, None)
        await asyncio.to_thread(self._identified, request)
        return Response(204)

    def _identified(self, request: Request) -> Identity:
        name = Name.INSTANCE_REVOCATION_WATCH
        with self._journal.call(name, request.request_id, request.peer.address) as call:
            return self._identify.instance(call, request.peer.certificate)

    def _look(self, moved: Callable[[], bool]) -> None:
        news = False  # kept while the store does not answer: it says only once that it moved
        while not self._stop.wait(POLL):
            news |= moved()
            try:
                if news and self._waiting:
                    self._wake(self._revoke.revoked_lately())
                    news = False
            except Refusal:
                continue

    def _wake(self, revoked: frozenset[str]) -> None:
        loop = self._loop
        if loop is None:
            return
        for instance in revoked & self._waiting.keys():
            loop.call_soon_threadsafe(self._release, instance)

    def _release(self, instance: str) -> None:
        for woken in self._waiting.get(instance, ()):
            if not woken.done():
                woken.set_result(None)

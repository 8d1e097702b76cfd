"""One connection to AWS, for one exchange after another. Its owner writes, waits and reads; the pool keeps the
deadline.
"""

import asyncio
import math
import select
from collections import deque
from collections.abc import Callable
from typing import cast

from gateway.web.upstream.broken import Broken, TooSlow
from gateway.web.upstream.response import ResponseHead, ResponseReader

_ENOUGH = 256 * 1024  # bytes of an answer that wait to be read; with more, we stop to receive
_PIECE = 64 * 1024  # bytes that may wait to be sent
_SMALL = 16 * 1024
_STALE = frozenset({"no_answer", "connection_lost"})  # how a connection breaks that the other side had closed before


class Wire(asyncio.Protocol):
    """The protocol of one connection. Every wait may raise Broken, and the connection is then closed already.

    `reused`: it has carried an exchange before, so the other side may just have closed it. One task waits at a time.
    """

    __slots__ = (
        "_closed", "_fault", "_now", "_pieces", "_reader", "_reading_paused", "_size", "_transport", "_woken",
        "_writing_paused", "deadline", "idle_since", "interrupt", "origin", "received", "reused",
    )  # fmt: skip

    def __init__(self, origin: str, now: Callable[[], float], closed: Callable[["Wire"], None]) -> None:
        self.origin = origin
        self.reused = False
        self.received = 0  # bytes of the body of this answer
        self.idle_since: float | None = None
        self.deadline = math.inf
        self.interrupt: Callable[[], object] | None = None  # called when there is an answer, or will be none
        self._now = now
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._pieces = deque[bytes]()
        self._size = 0  # bytes in them
        self._fault: Broken | None = None
        self._woken: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False

    # One exchange

    def start(self, method: str, *parts: bytes) -> None:
        """Begin a request: its head, and what is here of its body."""
        self._reader = ResponseReader(method)
        self.received = 0
        self.write(*parts)

    def write(self, *parts: bytes) -> None:
        """Send. Whoever sends much waits for `drained` in between."""
        if self._transport is not None:
            small = sum(map(len, parts)) <= _SMALL  # then to copy costs less than another TLS record
            self._transport.writelines([b"".join(parts)] if small else parts)

    async def drained(self, seconds: float) -> None:
        """The other side has taken most of what was written, or has answered."""
        await self._until(lambda: not self._writing_paused or self.answered, seconds)

    @property
    def answered(self) -> bool:
        """The head of the final answer is here."""
        return self._reader is not None and self._reader.head is not None

    @property
    def told_to_go_on(self) -> bool:
        """100 Continue has come."""
        return self._reader is not None and self._reader.continued

    async def continued(self, seconds: float) -> None:
        """100 Continue has come, or an answer, or the time is over (RFC 9110 section 10.1.1: then one goes on)."""
        try:
            async with asyncio.timeout(seconds):
                await self._until(lambda: self.answered or self.told_to_go_on, math.inf)
        except TimeoutError:
            pass

    async def head(self, seconds: float) -> ResponseHead:
        """The head of the final answer."""
        await self._until(lambda: self.answered, seconds)
        reader = cast(ResponseReader, self._reader)
        return cast(ResponseHead, reader.head)

    async def read(self, seconds: float) -> bytes:
        """The next piece of the answer's body, b"" at its end."""
        reader = cast(ResponseReader, self._reader)
        await self._until(lambda: self._pieces or reader.complete, seconds)
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if not self._pieces:
            self._resume()
        return piece

    def at_once(self) -> bytes | None:
        """The whole body, when all of it is here; else None, and nothing is taken."""
        if self._reader is None or not self._reader.complete:
            return None
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._resume()
        return body

    @property
    def reusable(self) -> bool:
        """The exchange is over, and the connection where it was before."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._reader is not None
            and self._reader.reusable
            and not (self._pieces or self._writing_paused or self._reading_paused)
        )

    # For the pool

    def rest(self) -> None:
        """From now on it is idle: a byte that comes without a question poisons it (threat F03)."""
        self._reader = None
        self.interrupt = None
        self.reused = True
        self.idle_since = self._now()
        self.deadline = math.inf

    @property
    def fresh(self) -> bool:
        """Idle, open, and nothing has come that the loop has not seen yet."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def close(self) -> None:
        """At once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._woken is None or not self._woken.done():  # else something has come after all
            self._fail(TooSlow("upstream_timeout"))

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_PIECE)

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._fault is not None:
            self.close()
            return
        try:
            piece = self._reader.feed(data)
        except Broken as broken:
            self._fail(broken)
            return
        if piece:
            self.received += len(piece)
            self._size += len(piece)
            self._pieces.append(piece)
            if self._size > _ENOUGH and not self._reading_paused and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
        self._notify()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._notify()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._fault is None and self._reader is not None:
            try:
                if error is not None and not self._reader.complete:
                    raise Broken("connection_lost")
                self._reader.end()
            except Broken as broken:
                self._fault = self._judged(broken)
        self._closed(self)
        self._notify()

    # Within

    def _judged(self, broken: Broken) -> Broken:
        begun = self._reader is not None and self._reader.begun
        return Broken(broken.word, stale=self.reused and not begun and broken.word in _STALE)

    def _resume(self) -> None:
        if self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _fail(self, broken: Broken) -> None:
        if self._fault is None:
            self._fault = broken
        self.close()
        self._notify()

    def _notify(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
        if self.interrupt is not None and (self.answered or self._fault is not None):
            self.interrupt()

    async def _until(self, true: Callable[[], object], seconds: float) -> None:
        """Wait for it, one at a time. Raises Broken."""
        self.deadline = self._now() + seconds
        try:
            while not true():
                if self._fault is not None:
                    raise self._fault
                if self._transport is None:
                    raise Broken("connection_lost")
                self._woken = asyncio.get_running_loop().create_future()
                await self._woken
        finally:
            self._woken = None
            self.deadline = math.inf

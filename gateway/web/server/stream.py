"""One request whose body comes in pieces, and whose answer leaves in pieces: constant memory, however long they are.

A stream has its connection's transport for as long as its handler runs. Who is too fast is made to wait, on both sides;
who is too slow meets a deadline; who goes away cancels the handler.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gateway.core.errors import Refusal
from gateway.web.server import answer
from gateway.web.server.framing import BadFraming, Chunked, Fixed, Framing
from gateway.web.server.head import Head
from gateway.web.server.service import Request, Response, StreamHandler

if TYPE_CHECKING:
    from gateway.web.server.connection import Connection
    from gateway.web.server.door import Door

_ENOUGH = 256 * 1024  # bytes of a body that wait for the handler; with more, we stop to read
_SMALL = 16 * 1024
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR

T = TypeVar("T")


class Stream(asyncio.Protocol):
    """What a `StreamHandler` is given. All of it belongs to the loop's thread.

    `length` is that of the request's body, None while only its last chunk will tell.
    """

    __slots__ = (
        "_answered", "_connection", "_door", "_due", "_expects", "_expired", "_fault", "_framing", "_gone", "_pieces",
        "_reading", "_reading_paused", "_task", "_transport", "_waiting", "_writing", "close", "length", "request",
        "rest", "writing_paused",
    )  # fmt: skip

    def __init__(
        self, door: "Door", connection: "Connection", transport: asyncio.Transport, request: Request, head: Head
    ) -> None:
        self.request = request
        self.length = None if head.chunked else head.length
        self.close = False  # the connection ends with this answer
        self.rest = b""  # what came behind the body
        self.writing_paused = False
        self._door = door
        self._connection = connection
        self._transport = transport
        self._framing: Framing = Chunked(longest=door.limits.stream_body) if head.chunked else Fixed(head.length)
        self._expects = head.awaits_continue
        self._pieces = deque[bytes]()
        self._waiting = 0  # bytes in them
        self._fault: Refusal | None = None  # of the body
        self._reading: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing: asyncio.Future[None] | None = None
        self._answered = False
        self._due: int | None = 0  # bytes of the answer that are not written yet, None for chunks without end
        self._gone = False
        self._expired = False
        self._task: asyncio.Task[None] | None = None

    def start(self, handler: StreamHandler, received: bytes) -> None:
        """Take the transport, and have the handler begin. `received` is what came behind the head."""
        door = self._door
        if len(door.streams) >= door.limits.streams:
            door.counters.overloaded += 1
            handler = _too_many
        door.counters.streams += 1
        door.streams.add(self)
        self._transport.set_protocol(self)
        if received:
            self.data_received(received)
        self._task = door.loop.create_task(handler(self))
        self._task.add_done_callback(self._over)

    # For the handler

    @property
    def expects(self) -> bool:
        """The client holds its body back until the first `read`, or a final answer (RFC 9110 section 10.1.1)."""
        return self._expects

    @property
    def all_read(self) -> bool:
        """The whole body has arrived."""
        return self._framing.complete

    @property
    def lost(self) -> str:
        """Why a handler was cancelled, in one word."""
        return "draining" if self._door.broken_off else "client_slow" if self._expired else "client_gone"

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises Refusal: malformed_request, request_timeout."""
        if self._expects:
            self._expects = False
            self._transport.write(answer.CONTINUE)
        while not self._pieces:
            if self._fault is not None:
                raise self._fault
            if self._framing.complete:
                return b""
            self._reading = self._door.loop.create_future()
            await self._in_time(self._reading, self._door.stream_idle)
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        if not self._pieces and not self._framing.complete and self._fault is None:
            self._resume()
        return piece

    async def respond(self, response: Response, length: int | None, piece: bytes = b"") -> None:
        """Begin the answer: what `response` says but for its body, which has `length` bytes or is chunked, and begins
        with `piece`. Raises ValueError: no such header.
        """
        # Behind a body that has not ended nothing can be told to be the next request.
        self.close = response.close or not self._framing.complete or self._door.draining
        head = answer.compose_head(response, length=length, date=self._door.date, close=self.close)
        self._answered, self._due = True, length
        self._door.answered(self.request, response)
        await self._send([head], piece)

    async def write(self, piece: bytes) -> None:
        """Send a piece of the answer's body; returns when the client has taken most of what was written."""
        await self._send([], piece)

    def in_thread(self, call: Callable[[], T], *, always: bool = False) -> asyncio.Future[T]:
        """Run `call`, which may block, in the door's pool. The result is not lost with the client: see asyncio.shield.

        Raises Refusal `overloaded` when the pool is full, but not for what must `always` be done: for that the worker
        waits even when it ends.
        """
        door = self._door
        future: asyncio.Future[T] = door.loop.create_future()

        def done(outcome: tuple[T | None, BaseException | None]) -> None:
            door.pool.finished()
            door.last_words -= always
            if future.cancelled():
                return
            given, error = outcome
            if error is None:
                future.set_result(given)  # type: ignore[arg-type]  # it is T: there was no error
            else:
                future.set_exception(error)

        def run() -> None:
            try:
                outcome: tuple[T | None, BaseException | None] = (call(), None)
            except Exception as error:
                outcome = (None, error)
            except BaseException:  # SystemExit is none of a future's, nor may it take the thread with it
                outcome = (None, RuntimeError("a call tried to end the process"))
            door.from_thread(done, outcome)

        if always:
            door.last_words += 1
            door.pool.force(run)
        elif not door.pool.submit(run):
            door.counters.overloaded += 1
            raise Refusal("overloaded", retry_after=1)
        return future

    # From the transport

    def data_received(self, data: bytes) -> None:
        self._expects = False
        if self._framing.complete or self._fault is not None:
            self.rest += data
        else:
            self._take(data)
        if self._waiting > _ENOUGH or self.rest:
            self._pause()
        _wake(self._reading)

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        _wake(self._writing)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self._connection.connection_lost(error)
        if self._task is None or self._task.done():
            self._door.forget(self._connection)
        else:
            self._task.cancel()

    # From the door

    def look(self) -> None:
        """While we do not read, the loop does not see that a client has gone: ask the socket (threat F05)."""
        if not self._reading_paused or self._gone or self._transport.is_closing():
            return
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        if any(events & _GONE for _, events in poll.poll(0)):
            self._transport.abort()

    def expire(self) -> None:
        """The deadline has passed: of the client, to send or to take something."""
        waiting = self._reading or self._writing
        if waiting is not None and waiting.done():
            return  # it has come after all; who waits for it has only not run yet
        self._door.counters.timeouts += 1
        self._connection.deadline = float("inf")
        if self._reading is None or self._answered:
            self._expired = True
            self._transport.abort()
            return
        self._fault = Refusal("request_timeout")
        _wake(self._reading)

    # Within

    def _take(self, data: bytes) -> None:
        try:
            piece = self._framing.feed(data)
        except BadFraming as error:
            self._fault = Refusal("malformed_request", str(error))
            self._pause()
            return
        self.rest = self._framing.rest
        if piece:
            self._door.counters.streamed_in += len(piece)
            self._waiting += len(piece)
            self._pieces.append(piece)

    def _pause(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    async def _send(self, parts: list[bytes], piece: bytes) -> None:
        if self._due is not None:
            self._due -= len(piece)
            if self._due < 0:
                raise ValueError("the answer is longer than it was said to be")
            parts.append(piece)
        elif piece:
            parts += [b"%x\r\n" % len(piece), piece, b"\r\n"]
        if self._gone:
            return  # the handler is about to be cancelled
        self._door.counters.streamed_out += len(piece)
        small = sum(map(len, parts)) <= _SMALL  # then to copy costs less than another TLS record
        self._transport.writelines([b"".join(parts)] if small else parts)
        while self.writing_paused:
            self._writing = self._door.loop.create_future()
            await self._in_time(self._writing, self._door.write_time)

    async def _in_time(self, future: asyncio.Future[None], seconds: float) -> None:
        self._connection.deadline = self._door.now() + seconds
        try:
            await future
        finally:
            self._connection.deadline = float("inf")
            self._reading = self._writing = None

    def _over(self, task: asyncio.Task[None]) -> None:
        """The handler has returned, or failed, or was cancelled."""
        door, transport = self._door, self._transport
        door.streams.discard(self)
        error = None if task.cancelled() else task.exception()
        if error is None and not self._answered and not task.cancelled():
            error = RuntimeError("a stream was not answered")
        if error is not None and (self._gone or self._answered):
            door.problem(error, self.request.request_id)  # for the log: nobody can be told
        if self._gone:
            door.counters.dropped += 1
            door.forget(self._connection)
        elif task.cancelled() or (self._answered and (error is not None or self._due)):
            transport.abort()  # never a clean end of what is not whole: the client has to see that it was cut off
        else:
            if self._answered and self._due is None:
                transport.write(b"0\r\n\r\n")
            self.close = self.close or door.draining
            transport.set_protocol(self._connection)
            self._resume()
            self._connection.streamed(error, self)


async def _too_many(stream: Stream) -> None:
    raise Refusal("overloaded", retry_after=1)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)

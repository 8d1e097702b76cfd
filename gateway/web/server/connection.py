"""One connection: its requests, strictly one after another, and the deadline of each thing that it waits for.

What is refused is answered once, and the connection closes: nothing that was pipelined behind it is ever parsed.
"""

import asyncio
import math
from enum import Enum, auto
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, cast

from gateway.core.errors import Refusal
from gateway.web.server import answer
from gateway.web.server.head import Head
from gateway.web.server.intake import Awaited, Intake
from gateway.web.server.service import Peer, Request, Response
from gateway.web.server.stream import Stream
from gateway.web.server.wsgi import call, environ_of

if TYPE_CHECKING:
    from gateway.web.server.door import Door

_PIECE = 64 * 1024  # bytes given to the transport at once; holding as many it asks us to pause


class Stage(Enum):
    """What a connection is doing."""

    READING = auto()  # idle, or in the middle of a request
    ANSWERING = auto()  # a handler or the application has the request
    WRITING = auto()  # the client has not taken the answer yet
    CLOSING = auto()  # the last answer is out; what arrives is thrown away


class Connection(asyncio.Protocol):
    """The protocol of one accepted connection. The door calls `expire` when the loop's time has passed `deadline`."""

    __slots__ = (
        "_asked", "_awaited", "_close", "_door", "_head_only", "_intake", "_lingers", "_peer", "_reading_paused",
        "_request_id", "_stage", "_stream", "_transport", "_unsent", "_waiting", "_writing_paused", "deadline",
    )  # fmt: skip

    def __init__(self, door: "Door", address: tuple[str, int]) -> None:
        self._door = door
        self._peer = Peer(*address, None)
        self._transport: asyncio.Transport | None = None
        self._intake = Intake(door.heads)
        self._awaited = Awaited.REQUEST
        self._stage = Stage.READING
        self._request_id = ""
        self._head_only = False  # the request is a HEAD
        self._close = self._lingers = False  # after this answer; before it closes
        self._asked: Request | None = None  # what is answered next; None: what was none
        self._waiting: asyncio.Future[Response] | None = None  # what an inline handler gave
        self._stream: Stream | None = None  # it has the transport
        self._unsent = memoryview(b"")
        self._reading_paused = self._writing_paused = False  # by us; by the transport
        self.deadline = math.inf

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(_PIECE)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._peer = Peer(self._peer.address, self._peer.port, tls.getpeercert(True))
        self._wait(self._door.head_time)
        self._door.admit(self)

    def data_received(self, data: bytes) -> None:
        if self._stage is Stage.CLOSING:
            return
        self._intake.feed(data)
        if self._stage is Stage.READING:
            self._read()
        elif self._transport is not None and not self._reading_paused:
            self._reading_paused = True  # pipelined: of what follows, no more than this one piece is kept
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._stage is Stage.WRITING:
            self._write()
            self._read()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._intake.clear()
        if self._stage is not Stage.ANSWERING:  # else it counts for as long as its handler runs
            self._door.forget(self)

    # From the door

    @property
    def idle(self) -> bool:
        """Between two requests, or before the first."""
        return self._stage is Stage.READING and self._awaited is Awaited.REQUEST

    def expire(self) -> None:
        """The deadline has passed."""
        if self._transport is None:
            return
        if self._stream is not None:
            self._stream.expire()
            return
        if self.idle or (self._stage is Stage.CLOSING and not self._transport.is_closing()):
            self._end()
            return
        self._door.counters.timeouts += 1
        if self._stage is Stage.READING:
            self._refuse(Refusal("request_timeout"))
        else:
            self._transport.abort()

    def settle(self) -> None:
        """The worker drains: part with a client that is idle, and with a handler that only waits."""
        if self.idle:
            self._end()
        elif self._waiting is not None:
            self._waiting.cancel()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # Reading

    def _read(self) -> None:
        """Answer what is completely here, one request after another."""
        while self._stage is Stage.READING:
            try:
                taken = self._intake.take()
            except Refusal as refusal:
                self._refuse(refusal)
                return
            if taken is None:
                self._await_more()
                return
            self._pass_on(*taken)

    def _await_more(self) -> None:
        awaited = self._intake.awaited
        if awaited is self._awaited:
            return
        self._awaited = awaited
        self._wait(self._door.head_time if awaited is Awaited.HEAD else self._door.body_time)
        if self._intake.awaits_continue and self._transport is not None:
            self._transport.write(answer.CONTINUE)

    def _wait(self, seconds: float) -> None:
        self.deadline = self._door.now() + seconds

    # Answering

    def _pass_on(self, head: Head, body: bytes) -> None:
        door = self._door
        door.counters.requests += 1
        self._request_id = door.request_id()
        self._head_only = head.method == "HEAD"
        self._close = head.close
        self._stage = Stage.ANSWERING
        self.deadline = math.inf
        request = self._asked = Request(
            head.method, head.target, head.path, head.query, head.headers, body,
            self._peer, door.listener.name, self._request_id, perf_counter(),
        )  # fmt: skip
        if head.streams and self._transport is not None:
            self._stream = Stream(door, self, self._transport, request, head)
            self._stream.start(door.listener.streams[head.path], self._intake.rest())
            return
        handler = door.listener.inline.get(("GET" if self._head_only else head.method, head.path))
        if handler is None:
            if not door.pool.submit(partial(self._call, request)):
                door.counters.overloaded += 1
                self._answer(Refusal("overloaded", retry_after=1))
            return
        try:
            given = handler(request)
            if not isinstance(given, Response):
                self._waiting = asyncio.ensure_future(given, loop=door.loop)
                self._waiting.add_done_callback(self._handled)
                return
        except Exception as error:
            self._answer(error)
            return
        self._answer(given)

    def streamed(self, given: BaseException | None, stream: Stream) -> None:
        """The stream is over, and the transport ours again. `given` is what is still to be answered."""
        self._stream = None
        self._writing_paused = stream.writing_paused
        self._lingers = not stream.all_read
        self._close = self._close or stream.close or self._lingers
        self._intake.feed(stream.rest)
        self._write() if given is None else self._answer(given)
        self._read()

    def _handled(self, future: asyncio.Future[Response]) -> None:
        self._waiting = None
        if future.cancelled():
            self._resume(Refusal("draining", retry_after=1))
        else:
            self._resume(future.exception() or future.result())

    def _call(self, request: Request) -> None:
        """In a thread of the pool: call the application."""
        door = self._door
        try:
            environ = environ_of(request, door.address, tls=door.listener.tls is not None, draining=door.draining)
            given: Response | BaseException = call(door.listener.wsgi, environ, door.limits.response)
        except BaseException as error:  # SystemExit in a view must not take the thread with it
            given = error
        door.from_thread(self._called, given)

    def _called(self, given: Response | BaseException) -> None:
        self._door.pool.finished()
        self._resume(given)

    def _resume(self, given: Response | BaseException) -> None:
        self._answer(given)
        self._read()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what the server itself does not accept, and close."""
        self._door.counters.refused += 1
        self._request_id = self._door.request_id()
        self._intake.clear()
        self._head_only, self._asked = False, None
        self._close = self._lingers = True
        self._answer(refusal)

    # Writing

    def _answer(self, given: Response | BaseException) -> None:
        """Write the answer: a response, or what became of an exception."""
        transport, door = self._transport, self._door
        if transport is None or transport.is_closing():
            door.counters.dropped += 1
            self._stage = Stage.CLOSING
            self._wait(door.closing)
            if transport is None:
                door.forget(self)
            return
        try:
            head, body = self._compose(given if isinstance(given, Response) else door.problem(given, self._request_id))
        except Exception as error:  # the application's headers were none
            head, body = self._compose(door.problem(error, self._request_id))
        if len(body) <= _PIECE:
            transport.write(head + body)
        else:  # never copied: many slow clients may be sent the same bytes
            transport.write(head)
            self._unsent = memoryview(body)
        self._write()

    def _compose(self, response: Response) -> tuple[bytes, bytes]:
        self._close = self._close or response.close or self._door.draining
        self._door.answered(self._asked, response)
        return answer.compose(response, date=self._door.date, head_only=self._head_only, close=self._close)

    def _write(self) -> None:
        """Give the transport what it takes; when it has taken all, the request is over."""
        transport = self._transport
        if transport is None:
            return
        while self._unsent and not self._writing_paused:
            piece, self._unsent = self._unsent[:_PIECE], self._unsent[_PIECE:]
            transport.write(piece)
        if self._unsent or self._writing_paused:
            if self._stage is not Stage.WRITING:
                self._stage = Stage.WRITING
                self._wait(self._door.write_time)
        elif self._close:
            self._end()
        else:
            self._stage = Stage.READING
            self._awaited = Awaited.REQUEST
            self._wait(self._door.idle)
            if self._reading_paused:
                self._reading_paused = False
                transport.resume_reading()

    def _end(self) -> None:
        """Close. Who was refused may still be sending, and would not read why: it gets a while (RFC 9112, 9.6)."""
        transport = self._transport
        if transport is None:
            return
        lingers, self._lingers = self._lingers, False
        self._stage = Stage.CLOSING
        self._wait(self._door.closing)
        if not lingers:
            transport.close()
        elif transport.can_write_eof():
            transport.write_eof()

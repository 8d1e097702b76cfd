"""The side of AWS and of the gateway: HTTP/1.1 requests by h11 (RFC 9112), a piece at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11

from agent.calls.body import Body
from agent.calls.line import PIECE, Gone, Line

STEP = 60.0
"""Seconds without a byte, once an answer has begun, or while a body is sent."""
ANSWER = 960.0
"""Seconds until an answer has begun: a function may run for 15 minutes. Clients wait less, and leave."""
CONTINUE = 1.0
"""Seconds for `100 Continue`, until the body is sent without it (RFC 9110 section 10.1.1)."""
LONGEST_HEAD = 64 * 1024

_MOST_INTERIM = 8
_MOST_FIELDS = 100

Fields = Sequence[tuple[bytes, bytes]]


class Broken(ConnectionError):
    """The other side broke off, or said what is no HTTP. `untouched`: it had not begun to answer."""

    def __init__(self, why: str, *, untouched: bool = False) -> None:
        super().__init__(why)
        self.untouched = untouched


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """The head of an answer."""

    status: int
    headers: Fields
    reason: bytes

    def get(self, name: bytes) -> bytes | None:
        """The value of this name (lower case), if it is there."""
        return next((value for each, value in self.headers if each.lower() == name), None)


class Outbound:
    """One connection to a server. After an exception it is of no more use."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.since = time.monotonic()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._buffer = memoryview(b"")
        self._early: Reply | None = None
        self._interim, self._heard, self._may_send = 0, False, False
        self.used = False

    def ask(
        self, method: str, target: str, headers: Fields, body: Body, *, expects: bool, patience: float | None = CONTINUE
    ) -> Reply:
        """Send a request and read the head of its answer; with `expects`, the body only after a 100, or `patience`.

        Stops to send when the answer comes before its time. Raises Broken, TimeoutError, OSError, and what the body
        raises.
        """
        self._buffer = memoryview(bytearray(PIECE))
        self._early, self._interim, self._heard, self._may_send = None, 0, False, False
        framing = [(b"Transfer-Encoding", b"chunked")] if body.length is None else []
        if body.length or (method in ("POST", "PUT", "PATCH") and body.length == 0):
            framing = [(b"Content-Length", str(body.length).encode())]
        expects = expects and body.length != 0  # RFC 9110 section 10.1.1
        expect = [(b"Expect", b"100-continue")] if expects else []
        try:
            self._send(h11.Request, method=method, target=target, headers=[*headers, *framing, *expect])
            if expects:
                self._await_permission(patience)
            if self._early is None:
                self._send_body(body)
        except (BrokenPipeError, ConnectionResetError) as error:
            if isinstance(error, Gone):
                raise
            self._last_words()  # it may have said why
        return self._early or self._reply(ANSWER)

    def pieces(self) -> Iterator[bytes]:
        """The answer's body. Raises Broken when it is not whole, TimeoutError and OSError."""
        while True:
            event = self._event(STEP)
            if isinstance(event, h11.Data):
                yield event.data
            else:
                self._buffer = memoryview(b"")
                return

    @property
    def reusable(self) -> bool:
        """Whether another request may go on it: all was said on both sides, and nothing more."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return done and not self._http.trailing_data[0] and self.line.quiet

    def again(self) -> None:
        """Make ready for another request."""
        self._http.start_next_cycle()
        self.used, self.since, self.line.partner = True, time.monotonic(), None

    def close(self) -> None:
        """Close it."""
        self.line.close()

    def _send(self, kind: Callable[..., h11.Event], **fields: Any) -> bool:
        try:
            parts = self._http.send_with_data_passthrough(kind(**fields)) or []
        except h11.LocalProtocolError:
            raise Broken("the request cannot be said in HTTP") from None
        return all(self.line.send(part, STEP, self._heed) for part in parts)

    def _send_body(self, body: Body) -> None:
        for piece in body.pieces() if body.length != 0 else ():
            if self._heed() or not self._send(h11.Data, data=piece):
                return
        self._send(h11.EndOfMessage)

    def _heed(self) -> bool:
        """Look whether the answer has begun already, while the body is on its way."""
        while self._early is None and (count := self.line.receive_now(self._buffer)) is not None:
            self._receive(count)
            while (event := self._next()) is not h11.NEED_DATA:
                if self._early is not None:
                    break
                self._take(event)
                if self._early is not None:
                    break
        return self._early is not None

    def _await_permission(self, patience: float | None) -> None:
        """Until it may be sent, or the answer is there. Without `patience`, as long as for an answer."""
        with suppress(TimeoutError):
            while self._early is None and not self._may_send:
                self._take(self._event(ANSWER if patience is None else patience))

    def _last_words(self) -> None:
        while self._early is None:
            try:
                self._take(self._event(STEP))
            except OSError:
                raise Broken("the connection was closed", untouched=not self._heard) from None

    def _reply(self, wait: float) -> Reply:
        while self._early is None:
            self._take(self._event(wait))
        return self._early

    def _take(self, event: object) -> None:
        """Heed an event that comes before the answer's body."""
        if isinstance(event, h11.InformationalResponse):
            self._interim += 1
            self._may_send |= event.status_code == 100
            if self._interim > _MOST_INTERIM:
                raise Broken("it answers with nothing but interim answers")
        elif isinstance(event, h11.Response):
            fields = list(event.headers.raw_items())
            names = [name.lower() for name, _ in fields]
            if len(fields) > _MOST_FIELDS or (b"content-length" in names and b"transfer-encoding" in names):
                raise Broken("the answer's head is not one")
            self._early = Reply(event.status_code, fields, bytes(event.reason))
        else:
            raise Broken("it closed without an answer", untouched=not self._heard)

    def _event(self, wait: float) -> object:
        while (event := self._next()) is h11.NEED_DATA:
            self._receive(self.line.receive_into(self._buffer, wait))
        return event

    def _next(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError:
            raise Broken("what came is not a whole answer in HTTP", untouched=not self._heard) from None

    def _receive(self, count: int) -> None:
        self._heard |= count > 0
        self._http.receive_data(self._buffer[:count])  # type: ignore[arg-type]  # is copied at once

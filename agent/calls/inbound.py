"""The side of the programs: HTTP/1.1 from an SDK, by h11 (RFC 9112), a piece at a time.

`Expect: 100-continue` is answered by the first look at the body, and so not before somebody wants it.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.client import responses
from typing import Any

import h11

from agent.calls.admit import Head
from agent.calls.line import PIECE, Gone, Line
from agent.errors import Fault

IDLE = 60.0
"""Seconds until another request must have begun."""
HEAD = 5.0
"""Seconds in which a head must have come, and the first one begun: a place is for who has something to say."""
STEP = 30.0
"""Seconds in which a piece of a body must have come, or been taken."""
LONGEST_HEAD = 32 * 1024

_LINGER, _LINGER_STEP = 2.0, 0.5  # seconds for a client to take its answer while it still sends


class Unsayable(ConnectionError):
    """An answer that HTTP has no way to say, or that is not what its head says."""


class Inbound:
    """One connection of a client: requests one after the other."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._idle = HEAD
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._buffer: memoryview | None = None

    def next(self) -> Head | None:
        """The next request; None when there is none. Raises Fault `call_malformed`, TimeoutError and OSError."""
        self._buffer = None  # an idle connection holds no memory
        wait = 0.0 if self._http.trailing_data[0] else self._idle
        if wait and self._fill(wait, 4096) == 0:
            return None
        deadline = time.monotonic() + HEAD
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                code = "head_too_large" if error.error_status_hint == 431 else "call_malformed"
                raise Fault(code, "The request's head cannot be read") from None
            if isinstance(event, h11.Request):
                head = _head(event)
                if head.length == 0:
                    self._http.next_event()  # its end, so that nobody waits for 100 Continue
                return head
            if event is not h11.NEED_DATA:
                return None
            self._fill(max(deadline - time.monotonic(), 0.0), 4096)

    def pieces(self) -> Iterator[bytes]:
        """The body, in pieces. Raises Gone when it does not come to its end, or not in time."""
        try:
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse, status_code=100, headers=[], reason=b"Continue")
            while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    yield event.data
                elif event is h11.NEED_DATA:
                    self._fill(STEP, PIECE)
                else:
                    raise Gone("the client has gone")
        except h11.RemoteProtocolError:
            raise Gone("the body ended too soon, or is malformed") from None
        except OSError:
            raise Gone("the client has gone, or is too slow") from None

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], reason: bytes = b"") -> None:
        """Begin the answer. Raises Unsayable, before anything was said, and OSError."""
        fields, reason = list(headers), reason or responses.get(status, "Unknown").encode()  # botocore needs one
        if self._http.their_state is not h11.DONE:
            fields.append((b"Connection", b"close"))  # what is left of the request is not wanted any more
        self._send(h11.Response, status_code=status, headers=fields, reason=reason)

    def send(self, piece: bytes | bytearray | memoryview) -> None:
        """A piece of the answer's body. Raises Unsayable when it is more than was said, and OSError."""
        self._send(h11.Data, data=piece)

    def finish(self) -> bool:
        """End the answer; whether another request may come on this connection.

        Raises Unsayable when it is less than was said, and OSError.
        """
        self._send(h11.EndOfMessage)
        if self._http.their_state in (h11.SEND_BODY, h11.IDLE, h11.ERROR):
            with suppress(OSError):
                self._linger()
            return False
        if self._http.our_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._idle = IDLE
        return True

    def cut(self) -> None:
        """End the connection so that the client knows that the answer is not whole."""
        self.line.reset()

    def _send(self, kind: Callable[..., h11.Event], **fields: Any) -> None:
        try:
            parts = self._http.send_with_data_passthrough(kind(**fields)) or []
        except h11.LocalProtocolError:
            raise Unsayable("the answer is none in HTTP, or not what its head says") from None
        for part in parts:
            self.line.send(part, STEP)

    def _fill(self, wait: float, most: int) -> int:
        if self._buffer is None or len(self._buffer) < most:
            self._buffer = memoryview(bytearray(most))
        count = self.line.receive_into(self._buffer, wait)
        self._http.receive_data(self._buffer[:count])  # type: ignore[arg-type]  # is copied at once
        return count

    def _linger(self) -> None:
        """Take what the client still sends, for a moment: to close at once would destroy the answer on its way."""
        self.line.socket.shutdown(1)
        scratch, end = memoryview(bytearray(65536)), time.monotonic() + _LINGER
        while time.monotonic() < end and self.line.receive_into(scratch, _LINGER_STEP):
            """Nobody reads it."""


def _head(request: h11.Request) -> Head:
    headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers)
    named = dict(headers)
    chunked, length = "transfer-encoding" in named, named.get("content-length", "0")
    if (chunked and "content-length" in named) or not re.fullmatch(r"[0-9]{1,15}", length):
        raise Fault("call_malformed", "The request's body has no length, or two")
    expects = named.get("expect", "").lower() == "100-continue"
    return Head(
        request.method.decode("ascii"),
        request.target.decode("ascii"),
        headers,
        None if chunked else int(length),
        expects,
    )

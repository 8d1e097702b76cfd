"""What a connection has received, taken apart into requests. No input or output, and no time."""

from enum import Enum, auto

from gateway.core.errors import Refusal
from gateway.web.server.head import Head, HeadReader

_END = b"\r\n\r\n"


class Awaited(Enum):
    """What has to arrive next."""

    REQUEST = auto()  # nothing of it is here
    HEAD = auto()  # a part of it is here
    BODY = auto()


class Intake:
    """Bytes in, requests out, one at a time: what follows a request is not looked at before the next `take`.

    The body of a request that streams is not taken with it: it is what `rest` begins with.
    """

    __slots__ = ("_head", "_reader", "_received")

    def __init__(self, reader: HeadReader) -> None:
        self._reader = reader
        self._head: Head | None = None
        self._received = bytearray()

    def feed(self, data: bytes) -> None:
        """Keep what has arrived."""
        self._received += data

    def take(self) -> tuple[Head, bytes] | None:
        """The next request's head and body, when all of it is here. Raises Refusal; the rest is then worthless."""
        received = self._received
        head = self._head
        if head is None:
            if (head := self._take_head()) is None:
                return None
            self._head = head
        if len(received) < head.length and not head.streams:
            return None
        self._head = None
        if not head.length or head.streams:
            return head, b""
        body = bytes(received[: head.length])
        del received[: head.length]
        return head, body

    @property
    def awaited(self) -> Awaited:
        """What has to arrive before `take` can give a request."""
        if self._head is not None:
            return Awaited.BODY
        return Awaited.HEAD if self._received else Awaited.REQUEST

    @property
    def awaits_continue(self) -> bool:
        """The client waits for 100 Continue: its head was acceptable, and no body is here (RFC 9110 section 10.1.1)."""
        return self._head is not None and self._head.awaits_continue and not self._received

    def rest(self) -> bytes:
        """What has arrived and was not taken; it is no longer here."""
        rest = bytes(self._received)
        self._received.clear()
        return rest

    def clear(self) -> None:
        """Forget what was received."""
        self._head = None
        self._received.clear()

    def _take_head(self) -> Head | None:
        received = self._received
        limit = self._reader.limit(received)
        end = received.find(_END, 0, limit) + len(_END)
        if end >= len(_END):
            head = self._reader.read(bytes(received[:end]))
            del received[:end]
            return head
        if received and not received[:1].isupper():  # a TLS or PROXY preface: no reason to wait for more of it
            raise Refusal("malformed_request", "this is not HTTP")
        if len(received) >= limit:
            raise Refusal("head_too_large")
        return None

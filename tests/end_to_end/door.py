"""The door before the local AWS, for tests of vending: it keeps what was asked, and can change what AWS answers."""

import http.client
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from tests.end_to_end.http_door import Door


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the query protocol: its `Action`, the fields of its body, and its headers in lower case."""

    action: str
    fields: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What AWS answers, or what we say that it does."""

    status: int
    body: bytes


Instead = Callable[[Asked], Reply | None]
Change = Callable[[Reply], Reply]


class ListeningDoor(Door):
    """Like `Door`; `asked` holds every request in order."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.asked: list[Asked] = []
        self._instead: Instead = lambda _: None
        self._change: Change = lambda reply: reply

    def asked_for(self, action: str) -> list[Asked]:
        """The requests with this action."""
        return [asked for asked in self.asked if asked.action == action]

    @contextmanager
    def answering(self, instead: Instead) -> Iterator[None]:
        """Until the block ends, what `instead` returns is the answer; AWS is asked only where that is None."""
        self._instead = instead
        try:
            yield
        finally:
            self._instead = lambda _: None

    @contextmanager
    def changing(self, change: Change) -> Iterator[None]:
        """Until the block ends, AWS's answers to AssumeRole go through `change`."""
        self._change = change
        try:
            yield
        finally:
            self._change = lambda reply: reply

    def forward(self, connection: socket.socket, request: bytes) -> None:
        """Note the request, and pass on what is to be answered."""
        asked = _read(request)
        self.asked.append(asked)
        reply = self._instead(asked)
        if reply is None:
            heard = _Heard()
            super().forward(cast(socket.socket, heard), request)
            reply = heard.reply()
            if asked.action == "AssumeRole":
                reply = self._change(reply)
        head = f"HTTP/1.1 {reply.status} Said\r\nContent-Type: text/xml\r\nContent-Length: {len(reply.body)}\r\n"
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + reply.body)


class _Heard:
    """Stands where a socket stands, and keeps what is sent."""

    def __init__(self) -> None:
        self._raw = bytearray()

    def sendall(self, piece: bytes) -> None:
        self._raw += piece

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._raw)

    def reply(self) -> Reply:
        answer = http.client.HTTPResponse(cast(socket.socket, self))
        answer.begin()
        return Reply(answer.status, answer.read())


def _read(request: bytes) -> Asked:
    head, _, body = request.partition(b"\r\n\r\n")
    fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return Asked(fields.get("Action", ""), fields, {name.lower(): value.strip() for name, _, value in lines})

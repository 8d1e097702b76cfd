"""A tap on a connection: it passes every byte on as it came, and says afterwards which requests and answers these were.

One stands between a client and what it speaks to, one before the local AWS. It changes nothing, not even `Host`: so the
signatures that pass are those that the client made. Talks are kept in memory: nothing for bodies of gigabytes.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.listening import Listening

PIECE = 256 * 1024
_HEAD_END = b"\r\n\r\n"
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?\r\n")
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer, as it was on the wire. `first` is its first line; `body` has no chunks of HTTP."""

    first: str
    headers: Headers
    body: bytes

    def get(self, name: str) -> str | None:
        """The first header of this name (lower case)."""
        return next((value for each, value in self.headers if each == name), None)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer. `interim` are the statuses 1xx that went before it; it has `begun` when the
    request's first bytes were here (seconds of a clock that only runs).
    """

    request: Message
    answer: Message
    interim: tuple[int, ...] = ()
    begun: float = 0.0

    @property
    def method(self) -> str:
        """GET, PUT …"""
        return self.request.first.split(" ")[0]

    @property
    def target(self) -> str:
        """Path and query as they were sent."""
        return self.request.first.split(" ")[1]

    @property
    def status(self) -> int:
        """200 …"""
        return int(self.answer.first.split(" ")[1])

    @property
    def mode(self) -> str:
        """How the payload was signed: `hash`, `presigned`, or the word of S3. Other services send no such header."""
        if "X-Amz-Signature=" in self.target:
            return "presigned"
        said = self.request.get("x-amz-content-sha256") or ""
        return "hash" if len(said) in (0, 64) else said

    @property
    def payload(self) -> bytes:
        """What the request brings to AWS: its body without the chunks of aws-chunked."""
        return aws_plain(self.request.body) if self.mode.startswith("STREAMING-") else self.request.body


@dataclass(slots=True)
class _Talk:
    """What was said on one connection and not yet taken. `pieces` are the lengths of `up`'s, and when each was here."""

    pieces: list[tuple[int, float]] = field(default_factory=list)
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)
    over: bool = False


class Tap(Listening):
    """`with Tap("http://…") as tap`: `tap.endpoint` leads there; `tap.take()` is what was said since the last time.

    `lead(endpoint)` names another end for connections from now on.
    """

    def __init__(self, endpoint: str = "") -> None:
        super().__init__()
        self._talks: list[_Talk] = []
        self._lock = threading.Lock()
        if endpoint:
            self.lead(endpoint)

    def lead(self, endpoint: str) -> None:
        """From now on connections end there."""
        address = urlsplit(endpoint)
        self._target = (str(address.hostname), int(address.port or 80))

    @property
    def endpoint(self) -> str:
        """The URL for clients. By name: the agent, on the same port of another address of loopback, has it, too."""
        return f"http://localhost:{self.port}"

    def take(self) -> list[Exchange]:
        """The exchanges that are complete since the last time, in the order in which they began."""
        with self._lock:
            found = [exchange for talk in self._talks for exchange in _exchanges(talk)]
            self._talks = [talk for talk in self._talks if not talk.over]
        return sorted(found, key=lambda exchange: exchange.begun)

    def converse(self, connection: socket.socket) -> None:
        """Pass on what is said on it, both ways."""
        with connection as client, suppress(OSError), socket.create_connection(self._target, timeout=30) as behind:
            behind.settimeout(None)
            for end in (client, behind):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = _Talk()
            with self._lock:
                self._talks.append(talk)
            up = threading.Thread(target=self._pass, args=(client, behind, talk, talk.up), daemon=True)
            up.start()
            self._pass(behind, client, talk, talk.down)
            with self._lock:
                talk.over = True
            with suppress(OSError):
                client.shutdown(socket.SHUT_RD)
            up.join()

    def _pass(self, source: socket.socket, to: socket.socket, talk: _Talk, kept: bytearray) -> None:
        """All bytes of one direction, to its end: noted first, so that who has an answer finds it noted."""
        with suppress(OSError):
            while piece := source.recv(PIECE):
                with self._lock:
                    kept += piece
                    if kept is talk.up:
                        talk.pieces.append((len(piece), time.monotonic()))
                to.sendall(piece)
        with suppress(OSError):
            to.shutdown(socket.SHUT_WR)


def _exchanges(talk: _Talk) -> Iterator[Exchange]:
    """Take what is complete off a talk."""
    while (asked := _message(bytes(talk.up), bodiless=False, over=False)) is not None:
        request, end = asked
        interim, start = [], 0
        while True:
            said = _message(bytes(talk.down[start:]), bodiless=request.first.startswith("HEAD "), over=talk.over)
            if said is None:
                return
            answer, length = said
            start += length
            status = int(answer.first.split(" ")[1])
            if status >= 200:
                break
            interim.append(status)
        del talk.up[:end], talk.down[:start]
        begun = talk.pieces[0][1]
        while talk.pieces and end >= talk.pieces[0][0]:
            end -= talk.pieces.pop(0)[0]
        if end:
            talk.pieces[0] = talk.pieces[0][0] - end, talk.pieces[0][1]
        yield Exchange(request, answer, tuple(interim), begun)


def _message(raw: bytes, *, bodiless: bool, over: bool) -> tuple[Message, int] | None:
    """The first message of these bytes and where it ends; None while it is not whole. RFC 9112 section 6.3."""
    head, found, rest = raw.partition(_HEAD_END)
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    named = dict(headers)
    before = len(head) + len(_HEAD_END)
    is_answer = first.startswith("HTTP/")
    if bodiless or (is_answer and re.match(r"HTTP/1\.[01] (1..|204|304)", first)):
        return Message(first, headers, b""), before
    if named.get("transfer-encoding", "").lower() == "chunked":
        chunked = http_plain(rest)
        return None if chunked is None else (Message(first, headers, chunked[0]), before + chunked[1])
    if "content-length" in named:
        length = int(named["content-length"])
        return None if len(rest) < length else (Message(first, headers, rest[:length]), before + length)
    if not is_answer:
        return Message(first, headers, b""), before
    return (Message(first, headers, rest), len(raw)) if over else None


def http_plain(body: bytes) -> tuple[bytes, int] | None:
    """A body without the chunks of HTTP, and where it ended; None while its end is missing. RFC 9112 section 7.1."""
    pieces: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        size, at = int(chunk[1], 16), chunk.end()
        if size == 0:
            end = body.find(b"\r\n", at) if body[at : at + 2] == b"\r\n" else body.find(_HEAD_END, at) + 2
            return (b"".join(pieces), end + 2) if end >= at else None
        if len(body) < at + size + 2:
            return None
        pieces.append(body[at : at + size])
        at += size + 2
    return None


def aws_plain(body: bytes) -> bytes:
    """A body without the chunks of aws-chunked, its trailers left out. Amazon S3: "Signature Calculations … Chunks"."""
    pieces: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        size, at = int(chunk[1], 16), chunk.end()
        if size == 0:
            break
        pieces.append(body[at : at + size])
        at += size + 2
    return b"".join(pieces)

"""One request to AWS and its answer, in pieces: framed anew, checked against its hash, never sent twice by chance."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable

from gateway.core.errors import Refusal
from gateway.flows.passage import Passage
from gateway.web.upstream.broken import Broken
from gateway.web.upstream.pool import Pool
from gateway.web.upstream.response import ResponseHead
from gateway.web.upstream.wire import Wire

SMALL = 64 * 1024
"""Bytes of a body that is sent without asking AWS first, RFC 9110 section 10.1.1."""

_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,19}")
# Framing, and what is said between two: never signed, and ours to write.
_OWN = frozenset(
    {
        "connection", "content-length", "expect", "keep-alive", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

Read = Callable[[], Awaitable[bytes]]
"""Gives the next piece of a body, b"" at its end. May raise Refusal."""


class Exchange:
    """One passage on its way. `sent` are bytes of its body; `head` is there once AWS has begun to answer."""

    def __init__(self, pool: Pool, passage: Passage) -> None:
        self.sent = 0
        self.head: ResponseHead | None = None
        self._pool = pool
        self._passage = passage
        self._patience = pool.patience
        self._between = pool.patience.between.total_seconds()
        self._first_byte = pool.patience.first_byte.total_seconds()
        self._wire: Wire | None = None
        self._whole = False  # the request was sent to its last byte

    @property
    def received(self) -> int:
        """Bytes of the answer's body."""
        return self._wire.received if self._wire is not None else 0

    async def ask(self, body: bytes) -> ResponseHead:
        """Send a request whose body is in memory; a second time, if the passage allows it, when the connection had been
        used before and ended without an answer. Raises Broken, and Refusal: the body is not the one that was signed.
        """
        length = _length(self._passage, len(body))
        self._check(hashlib.sha256(body).hexdigest() if self._passage.payload_sha256 is not None else None)
        head = request_head(self._passage, length, expects=False)
        try:
            return await self._ask(head, body, new=False)
        except Broken as broken:
            if not (broken.stale and self._passage.idempotent):
                raise
            return await self._ask(head, body, new=True)

    async def ask_in_pieces(self, read: Read, length: int | None) -> ResponseHead:
        """Send a request whose body `read` gives, `length` bytes or until it ends. An answer that comes before the end
        of the body is the answer: the rest is not sent (RFC 9112 section 9.5). Raises as `ask`, and as `read` does.
        """
        length = _length(self._passage, length)
        expects = self._passage.expect and (length is None or length > SMALL)
        head = request_head(self._passage, length, expects=expects)
        wire = self._wire = await self._pool.take(self._passage.origin)
        wire.start(self._passage.method, head)
        if expects:
            await wire.continued(self._patience.continued.total_seconds())
        if not wire.answered:
            await self._push(wire, read, length)
        self.head = await wire.head(self._first_byte)
        return self.head

    async def read(self) -> bytes:
        """The next piece of the answer's body, b"" at its end. Raises Broken."""
        return await self._open_wire().read(self._between)

    def at_once(self) -> bytes | None:
        """All of the answer's body, if it is here; else None."""
        return self._open_wire().at_once()

    def close(self) -> None:
        """It is over: what is not at its clean end is closed at once, and never used again."""
        wire = self._wire
        if wire is None:
            return
        if self._whole:
            self._pool.give_back(wire)
        else:
            wire.close()

    async def _ask(self, head: bytes, body: bytes, *, new: bool) -> ResponseHead:
        wire = self._wire = await self._pool.take(self._passage.origin, new=new)
        wire.start(self._passage.method, head, body)
        self.sent = len(body)
        self._whole = True
        await wire.drained(self._between)
        self.head = await wire.head(self._first_byte)
        return self.head

    async def _push(self, wire: Wire, read: Read, length: int | None) -> None:
        """Send the body, unless an answer or a fault comes first."""
        pushing = asyncio.get_running_loop().create_task(self._send(wire, read, length))
        wire.interrupt = pushing.cancel
        try:
            await asyncio.wait({pushing})
        finally:
            wire.interrupt = None
            if not pushing.done():
                pushing.cancel()
                await asyncio.wait({pushing})
        error = None if pushing.cancelled() else pushing.exception()
        if error is not None and not (isinstance(error, Broken) and wire.answered):
            raise error

    async def _send(self, wire: Wire, read: Read, length: int | None) -> None:
        """The body's last piece is held back until the hash and the length are known to be right."""
        wanted = self._passage.payload_sha256 is not None
        digest, held, total = hashlib.sha256(), b"", 0
        while piece := await read():
            total += len(piece)
            if length is not None and total > length:
                raise _wrong_length()
            if wanted:
                digest.update(piece)
            if held:
                wire.write(*_framed(held, length))
                self.sent += len(held)
                await wire.drained(self._between)
            held = piece
        if length is not None and total != length:
            raise _wrong_length()
        self._check(digest.hexdigest() if wanted else None)
        wire.write(*(_framed(held, length) if held else ()), *((b"0\r\n\r\n",) if length is None else ()))
        self.sent += len(held)
        self._whole = True
        await wire.drained(self._between)

    def _check(self, found: str | None) -> None:
        if found is not None and not hmac.compare_digest(found, self._passage.payload_sha256 or ""):
            raise Refusal("signature_refused", "the body is not the one that was signed", reason="payload_hash")

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise Broken("connection_lost")
        return self._wire


def request_head(passage: Passage, length: int | None, *, expects: bool) -> bytes:
    """The head that is sent: what was signed, and the framing of a body of `length` bytes or in chunks.

    Raises Refusal `call_malformed`: something in it would not be one line, or there is not exactly one Host.
    """
    hosts = sum(name == "host" for name, _ in passage.headers)
    plain = all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in passage.headers)
    if hosts != 1 or not plain or not _METHOD.fullmatch(passage.method) or not _TARGET.fullmatch(passage.target):
        raise Refusal("call_malformed", "the call cannot be written as a request", reason="head_unplain")
    lines = [f"{passage.method} {passage.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in passage.headers if name not in _OWN]
    if length is None:
        lines.append("transfer-encoding: chunked")
    elif length or passage.method in _WITH_BODY:
        lines.append(f"content-length: {length}")
    if expects:
        lines.append("expect: 100-continue")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _length(passage: Passage, length: int | None) -> int | None:
    """The body's length: what the agent's framing says, or the Content-Length that was signed. Refusal: they differ."""
    signed = [value for name, value in passage.headers if name == "content-length"]
    if not signed:
        return length
    if len(signed) > 1 or _LENGTH.fullmatch(signed[0]) is None or length not in (None, int(signed[0])):
        raise _wrong_length()
    return int(signed[0])


def _wrong_length() -> Refusal:
    return Refusal("call_malformed", "the body is not as long as its Content-Length says", reason="content_length")


def _framed(piece: bytes, length: int | None) -> tuple[bytes, ...]:
    return (piece,) if length is not None else (b"%x\r\n" % len(piece), piece, b"\r\n")

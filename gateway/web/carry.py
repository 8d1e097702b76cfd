"""POST /v1/calls: a call that the gateway carries to AWS, streaming both ways. docs/api.md describes it.

The body is not asked for before the call is allowed (threat C16), unless the decision lies in the body. What AWS says
reaches the agent as the body of a 200, with AWS's own status and header fields in `Trusted-Gateway-Head`; what the
gateway says is a problem document, and has no such header.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.identify import Identify
from gateway.flows.journal import Journal
from gateway.flows.passage import Carrier, Ended, Passage
from gateway.web.server.service import Request, Response
from gateway.web.server.stream import Stream
from gateway.web.upstream.broken import Broken
from gateway.web.upstream.exchange import SMALL, Exchange
from gateway.web.upstream.pool import Pool
from gateway.web.upstream.response import ResponseHead, end_to_end
from gateway.wire.calls import HEAD, LONGEST_BODY, Answer, Call, Header, from_header, in_header
from gateway.wire.strict import Malformed

log = logging.getLogger("trusted_gateway.web")

_HEAD = HEAD.lower().encode()
_REQUEST_IDS = ("x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id")


class CarryRoute:
    """`answer` is the `StreamHandler` of POST /v1/calls."""

    def __init__(self, journal: Journal, identify: Identify, carrier: Carrier, pool: Pool) -> None:
        self._journal = journal
        self._identify = identify
        self._carrier = carrier
        self._pool = pool

    async def answer(self, stream: Stream) -> None:
        """Decide, send, answer. Raises Refusal."""
        body: bytes | None = None
        passage = await self._open(stream, None)
        if passage is None:
            found = await _wanted(stream)
            body = found if isinstance(found, bytes) else None
            passage = await self._open(stream, found)
        if passage is None:
            raise RuntimeError("a body was wanted twice")
        exchange = Exchange(self._pool, passage)
        problem: str | None = "failed"
        try:
            await _carry(stream, exchange, passage, body)
            problem = None
        except Broken as broken:
            problem = broken.word
            raise broken.refusal() from None
        except Refusal as refusal:
            problem = refusal.reason
            raise
        except asyncio.CancelledError:
            problem = stream.lost
            raise
        finally:
            exchange.close()
            self._end(stream, passage, _ended(exchange, problem))

    async def _open(self, stream: Stream, body: bytes | Refusal | None) -> Passage | None:
        """The passage, None when the body is wanted. A client that goes meanwhile leaves no passage without its end."""
        opening = stream.in_thread(partial(self._opened, stream.request, body))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})
            if opening.exception() is None and (passage := opening.result()) is not None:
                self._end(stream, passage, Ended(None, 0, 0, None, stream.lost))
            raise

    def _opened(self, request: Request, body: bytes | Refusal | None) -> Passage | None:
        """In a thread. The caller is identified anew when the body has come: that may have taken a while."""
        with self._journal.call(Name.INSTANCE_CALL_CARRY, request.request_id, request.peer.address) as call:
            try:
                identity = self._identify.instance(call, request.peer.certificate)
            except Refusal as refusal:
                with suppress(Refusal):
                    self._carrier.notice(call, refusal, _call(request))
                raise
            asked = _call(request)
            if isinstance(body, Refusal):
                raise body
            if body is None and self._carrier.wants_body(asked):
                return None
            return self._carrier.begin(call, identity, asked, body)

    def _end(self, stream: Stream, passage: Passage, ended: Ended) -> None:
        """Record the end; neither the client nor its next request waits for that, but the worker does."""
        stream.in_thread(partial(self._carrier.end, passage, ended), always=True).add_done_callback(_recorded)


def _call(request: Request) -> Call:
    """What is asked for. Raises Refusal."""
    heads = [value for name, value in request.headers if name == _HEAD]
    if len(heads) != 1 or request.query:
        raise Refusal("malformed_request", f"one {HEAD} header, and no query, are required")
    try:
        return from_header(Call, heads[0].decode("ascii"))
    except Malformed as malformed:
        raise Refusal("malformed_request", "; ".join(malformed.faults[:20])) from None


async def _wanted(stream: Stream) -> bytes | Refusal:
    """The whole body, or why it cannot be had: that is recorded, too."""
    try:
        return await _whole(stream, LONGEST_BODY)
    except Refusal as refusal:
        return refusal


async def _whole(stream: Stream, longest: int) -> bytes:
    pieces, size = [], stream.length or 0
    if size <= longest:
        size = 0
        while piece := await stream.read():
            size += len(piece)
            if size > longest:
                break
            pieces.append(piece)
    if size > longest:
        raise Refusal("body_too_large", f"the gateway looks into bodies of at most {longest} bytes")
    return b"".join(pieces)


async def _carry(stream: Stream, exchange: Exchange, passage: Passage, body: bytes | None) -> None:
    if body is None and stream.length is not None and stream.length <= SMALL:
        body = await _whole(stream, SMALL)
    if body is not None:
        head = await exchange.ask(body)
    else:
        head = await exchange.ask_in_pieces(stream.read, stream.length)
    at_once = exchange.at_once()
    length = head.length if at_once is None else len(at_once)
    await stream.respond(_response(head), length, at_once or b"")
    while piece := await exchange.read():
        await stream.write(piece)


def _response(head: ResponseHead) -> Response:
    told = Answer(head.status, tuple(Header(name, value) for name, value in end_to_end(head.headers)))
    return Response(200, media_type="application/octet-stream", headers=((HEAD, in_header(told)),))


def _ended(exchange: Exchange, problem: str | None) -> Ended:
    head = exchange.head
    request_id = next(filter(None, map(head.get, _REQUEST_IDS)), None) if head is not None else None
    return Ended(head.status if head else None, exchange.sent, exchange.received, request_id, problem)


def _recorded(done: asyncio.Future[None]) -> None:
    if (error := done.exception()) is not None:
        log.error("the end of a call was not recorded: %s", type(error).__name__)

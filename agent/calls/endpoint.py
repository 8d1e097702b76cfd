"""The endpoint for calls: what an SDK sends to `AWS_ENDPOINT_URL` is verified, decided by the gateway, and passed on.

AWS's answer goes back as it came, but for what belongs to one connection. A refusal goes back in the form that the SDK
reads; an answer that breaks off breaks off here, too.
"""

import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from email.utils import format_datetime
from functools import partial

from agent.calls import admit
from agent.calls.admit import Claim, Head
from agent.calls.body import LONGEST, Body, Kept, Spool, Streamed, nothing
from agent.calls.convert import chunked, is_chunked
from agent.calls.dummy import Dummies
from agent.calls.inbound import Inbound
from agent.calls.line import Line
from agent.calls.relay import Arrived, Journey, Relay
from agent.calls.signing import is_looked_into
from agent.credentials import Unavailable
from agent.errors import Fault, Problem
from agent.serve import iceberg
from agent.serve.guard import Refused
from agent.serve.http import Answer
from agent.settings import Address
from gateway.wire import aws_errors
from gateway.wire.calls import LONGEST_BODY, Call, Header

_LONGEST_DOCUMENT = 2 * LONGEST_BODY

_SERVICE = re.compile(r"(?:/|%2F)([A-Za-z0-9-]{1,64})(?:/|%2F)aws4_request")
_OF_ONE_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip


AskIceberg = Callable[[Sequence[str], Callable[[], bytes]], Answer]


class Endpoint:
    """`check_state` raises Refused and Unavailable while there is nothing to be had. `ask_iceberg` answers what is
    asked of the signer of Iceberg's catalogs: Authorization headers, and a document once it is wanted.
    """

    def __init__(
        self, address: Address, dummies: Dummies, relay: Relay, check_state: Callable[[], None],
        now: Callable[[], datetime], spool: Spool, ask_iceberg: AskIceberg | None = None,
    ) -> None:  # fmt: skip
        self._ask_iceberg = ask_iceberg
        self._address, self._dummies, self._relay = address, dummies, relay
        self._check_state, self._now, self._spool = check_state, now, spool
        self._counting = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def converse(self, connection: socket.socket) -> None:
        """One request after the other. Raises OSError when it does not come to a good end."""
        inbound = Inbound(Line(connection))
        while True:
            try:
                head = inbound.next()
            except TimeoutError:
                return
            except Fault as fault:
                self._refuse(inbound, None, fault)
                return
            if head is None or not self._answer(inbound, head):
                return

    def counts(self, grant: str) -> dict[str, int]:
        """How many calls went by which way, and how many were refused."""
        with self._counting:
            return {way: count for (name, way), count in sorted(self._counts.items()) if name == grant}

    def _answer(self, inbound: Inbound, head: Head) -> bool:
        """Answer one request; whether another may follow."""
        if self._ask_iceberg and (head.method, head.target) == ("POST", iceberg.PATH):
            return self._ask_signer(inbound, head, self._ask_iceberg)
        grant = ""
        try:
            with ExitStack() as closing:
                self._check_state()
                claim = admit.claim(head, self._address, self._dummies.find, self._now())
                grant = claim.dummy.grant
                body: Body = Streamed(inbound.pieces(), head.length) if head.length != 0 else nothing()
                keep = partial(self._keep, closing)
                call, body = self._call(claim, body, keep)
                journey = Journey(call, body, keep, inbound.line.socket, head.expects, head.get("user-agent"))
                arrived = self._relay.send(journey, claim.dummy.ways)
        except (Fault, Refused) as refusal:
            self._count(grant, "refused")
            return self._refuse(inbound, head, refusal)
        self._count(grant, arrived.way)
        return self._pass_on(inbound, arrived)

    def _keep(self, closing: ExitStack, body: Body, longest: int = LONGEST) -> Kept:
        kept = self._spool.keep(body, longest)
        closing.callback(kept.close)
        return kept

    def _call(self, claim: Claim, body: Body, keep: Callable[..., Kept]) -> tuple[Call, Body]:
        """The call that is asked for, verified, and its body. Raises Fault and Gone."""
        payload, head = claim.payload, claim.head
        if payload is None:
            body = kept = keep(body)
            payload = kept.sha256
        admit.verify(claim, payload)
        target, headers = admit.onward(claim)
        if is_chunked(payload):
            headers, body = chunked(claim, headers, body)
            payload = admit.TRAILER
        elif not isinstance(body, Kept) and is_looked_into(claim.service, head.method, target, head.length):
            body = keep(body, LONGEST_BODY)
        if isinstance(body, Kept) and payload == admit.UNSIGNED:
            payload = body.sha256
        length = (("content-length", str(body.length)),) if body.length else ()  # by which the gateway limits volume
        fields = tuple(Header(name, value) for name, value in (*headers, *length))
        return Call(claim.dummy.grant, claim.service, claim.region, head.method, target, payload, fields), body

    def _ask_signer(self, inbound: Inbound, head: Head, ask: AskIceberg) -> bool:
        try:
            with ExitStack() as closing:
                admit.check_origin(head, self._address)
                source = Streamed(inbound.pieces(), head.length)
                answer = ask(
                    [value for name, value in head.headers if name == "authorization"],
                    lambda: self._keep(closing, source, _LONGEST_DOCUMENT).whole(),
                )
        except Fault as fault:
            return self._refuse(inbound, head, fault)
        return self._say(inbound, head, answer.status, [("content-type", answer.kind)], answer.body)

    def _pass_on(self, inbound: Inbound, arrived: Arrived) -> bool:
        reply, connection = arrived.reply, arrived.connection
        named = b",".join(value for name, value in reply.headers if name.lower() == b"connection")
        dropped = _OF_ONE_HOP | {word.strip().lower() for word in named.split(b",")}
        headers = [(name, value) for name, value in reply.headers if name.lower() not in dropped]
        try:
            inbound.respond(reply.status, headers, reply.reason)
            for piece in connection.pieces():
                inbound.send(piece)
            again = inbound.finish()
        except BaseException:
            connection.close()
            inbound.cut()
            raise
        self._relay.pool.keep(arrived.leads_to, connection)
        return again

    def _refuse(self, inbound: Inbound, head: Head | None, refusal: Fault | Refused) -> bool:
        """Say no, as AWS would; whether another request may follow."""
        form = aws_errors.form_of(_service_of(head), head.target, head.headers) if head else "s3"
        answer = _rendered(form, refusal)
        return self._say(inbound, head, answer.status, answer.headers, answer.body)

    def _say(
        self, inbound: Inbound, head: Head | None, status: int, headers: Iterable[tuple[str, str]], body: bytes
    ) -> bool:
        """An answer of our own. The date is there because SDKs set their clocks by it."""
        date = format_datetime(self._now(), usegmt=True)
        fields = [("date", date), *headers, ("content-length", str(len(body))), ("cache-control", "no-store")]
        inbound.respond(status, [(name.encode(), value.encode()) for name, value in fields])
        if head is None or head.method != "HEAD":
            inbound.send(body)
        return inbound.finish() and head is not None

    def _count(self, grant: str, way: str) -> None:
        with self._counting:
            self._counts[grant, way] += 1


def _rendered(form: str, refusal: Fault | Refused) -> aws_errors.AwsError:
    if isinstance(refusal, Refused):
        return aws_errors.render(form, "instance_revoked", str(refusal))
    request_id = refusal.request_id if isinstance(refusal, Problem) else ""
    problem = refusal.code
    if isinstance(refusal, Unavailable) and refusal.refused:
        problem = "grant_refused"
    said = f"{refusal.detail} ({refusal.code}{f'; request {request_id}' if request_id else ''})"
    return aws_errors.render(form, problem, said, request_id, retry_after=refusal.retry_after)


def _service_of(head: Head) -> str:
    """The service that a request names, believed only for the form of an error."""
    found = _SERVICE.search((head.get("authorization") or "") + " " + head.target)
    return found[1] if found else "s3"

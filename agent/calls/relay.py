"""Takes a call to AWS by the way that the gateway chooses, and brings the head of the answer back.

`sign`: signed by the gateway, sent from here. `token`: signed and sent from here, with the session that was vended.
`proxy`: sent by the gateway. Nothing is sent twice, but what may be (RFC 9110 section 9.2.2), when a connection that
was kept is found closed before anything of an answer came.
"""

import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from email.message import Message

from agent.calls.admit import OF_ONE_HOP, TRAILER, UNSIGNED
from agent.calls.body import LONGEST, Body, Kept
from agent.calls.convert import Chunked
from agent.calls.line import Gone
from agent.calls.outbound import Broken, Outbound, Reply
from agent.calls.pool import Pool, connect_to
from agent.calls.signing import Signing
from agent.client import Client, refusal, unheard
from agent.credentials import LONGEST_WAIT, Lent
from agent.errors import Fault, Problem
from gateway.wire import sigv4
from gateway.wire.calls import HEAD, LONGEST_BODY, Answer, Call, Header, Signature, from_header, in_header
from gateway.wire.sigv4 import Scope
from gateway.wire.strict import Malformed

CARRY = "/v1/calls"
EXPECTS_ABOVE = 64 * 1024
"""Bytes of a body that the gateway is asked for leave to send."""

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_LONGEST_CARRIED_HEAD = 24 * 1024
_LONGEST_PROBLEM = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Journey:
    """A call as it goes: `body` as often as it has one, which `keep` reads (at most so many bytes), for the client on
    `partner`, who waits for leave to send it if `expects`. `user_agent` goes along unsigned.
    """

    call: Call
    body: Body
    keep: Callable[[Body, int], Kept]
    partner: socket.socket
    expects: bool
    user_agent: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Arrived:
    """The head of the answer, the way that the call went, and the connection on which the rest will come."""

    way: str
    reply: Reply
    connection: Outbound
    leads_to: object


@dataclass
class Relay:
    """`vended` lends the session of a grant, `client` gives the gateway's in use; `report` hears what it refused.
    Any thread may send.
    """

    signing: Signing
    pool: Pool
    vended: Callable[[str, float], Lent]
    client: Callable[[], Client]
    report: Callable[[Problem, Client], None]
    now: Callable[[], datetime]

    def send(self, journey: Journey, ways: tuple[str, ...]) -> Arrived:
        """Send it by one of the grant's ways. Raises Fault for what can be told to the client, and Gone."""
        if ways == ("proxy",):
            return self._carried(journey)
        journey, signature = self._signature(journey)
        if signature.way == "proxy":
            return self._carried(journey)
        if signature.origin is None:
            raise Fault("answer_malformed", "The gateway signed for no host")
        if signature.way == "token":
            signature = self._signed_here(journey.call, signature.origin)
        return self._direct(journey, signature)

    def _signature(self, journey: Journey) -> tuple[Journey, Signature]:
        """The gateway's answer; the body is read for it, if it asks for that, or does not sign without its hash."""
        body, payload = journey.body, journey.call.payload_sha256
        whole = body.whole() if isinstance(body, Kept) and (body.length or 0) <= LONGEST_BODY else None
        try:
            return journey, self.signing.ask(journey.call, whole)
        except Problem as problem:
            if whole is not None or problem.code not in ("body_required", "payload_unsigned"):
                raise
            if payload == TRAILER and not isinstance(body, Chunked):  # it has chunks that are not understood here
                raise
            shown = problem.code == "body_required"
        journey, kept = _read(journey, LONGEST_BODY if shown else LONGEST)
        if shown:
            return journey, self.signing.ask_showing(journey.call, kept.whole())
        return journey, self.signing.ask(journey.call, None)

    def _signed_here(self, call: Call, origin: str) -> Signature:
        lent, stamp = self.vended(call.grant, LONGEST_WAIT), self.now().strftime("%Y%m%dT%H%M%SZ")
        headers = [("host", origin.partition("://")[2])]
        own = ("host", "content-length")  # the latter is of the connection
        headers += [(header.name, header.value) for header in call.headers if header.name not in own]
        made = sigv4.sign(
            call.method, call.target, headers, call.payload_sha256,
            access_key_id=lent.access_key_id, secret=lent.secret_access_key.encode(), token=lent.session_token,
            scope=Scope(stamp[:8], call.region, call.service), stamp=stamp,
        )  # fmt: skip
        return Signature("token", origin, call.target, tuple(Header(name, value) for name, value in made))

    def _direct(self, journey: Journey, signature: Signature) -> Arrived:
        call, origin = journey.call, signature.origin or ""
        fields = [header for header in signature.headers if header.name not in OF_ONE_HOP]
        if journey.user_agent is not None and all(header.name != "user-agent" for header in fields):
            fields.append(Header("user-agent", journey.user_agent))
        headers = _encoded(fields)
        try:
            connection, reply = self.pool.exchange(
                origin, lambda: connect_to(origin), journey.partner,
                call.method, signature.target or "", headers, journey.body,
                expects=journey.expects, idempotent=call.method in _IDEMPOTENT,
            )  # fmt: skip
        except Gone:
            raise
        except TimeoutError:
            raise Fault("upstream_timeout", f"{origin} did not answer in time") from None
        except OSError as error:
            raise Fault("upstream_unavailable", f"{origin}: {_why(error)}") from None
        return Arrived(signature.way, reply, connection, origin)

    def _carried(self, journey: Journey) -> Arrived:
        client, body = self.client(), journey.body
        head = in_header(self.signing.signed(journey.call))
        if len(head) > _LONGEST_CARRIED_HEAD:
            raise Fault("head_too_large", "The request's head is too long to be carried")
        headers = [(b"Host", str(client.address).encode()), (HEAD.encode(), head.encode())]
        try:
            connection, reply = self.pool.exchange(
                client, client.connect, journey.partner, "POST", CARRY, headers, body, patience=None,
                expects=journey.expects or body.length is None or body.length > EXPECTS_ABOVE,
                idempotent=journey.call.method in _IDEMPOTENT,
            )  # fmt: skip
            return Arrived("proxy", self._answer(client, connection, reply), connection, client)
        except Gone:
            raise
        except OSError as error:
            fault = unheard(client.address, error)
            if isinstance(fault, Problem):
                self.report(fault, client)
            raise fault from None

    def _answer(self, client: Client, connection: Outbound, reply: Reply) -> Reply:
        """AWS's answer, that is in the gateway's. Raises Problem when there is none."""
        written = reply.get(HEAD.lower().encode())
        if reply.status == 200 and written is not None:
            try:
                answer = from_header(Answer, written.decode("latin-1"))
                return Reply(answer.status, _encoded(answer.headers), b"")
            except (Malformed, Fault) as error:
                connection.close()
                raise Fault("answer_malformed", f"The gateway's answer is not understood: {error}") from None
        raw = b""
        try:
            for piece in connection.pieces():
                raw += piece
                if len(raw) > _LONGEST_PROBLEM:
                    break
        finally:
            self.pool.keep(client, connection)
        headers = Message()
        for name, value in reply.headers:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        problem = refusal(reply.status, headers, raw)
        self.report(problem, client)
        raise problem


def _read(journey: Journey, longest: int) -> tuple[Journey, Kept]:
    """The journey with its body read, and signed by its hash, without chunks if it has some. Raises Fault and Gone."""
    call, body = journey.call, journey.body
    if isinstance(body, Chunked):
        kept = journey.keep(body.plain(), longest)
        pairs = body.plain_headers(tuple((header.name, header.value) for header in call.headers))
    else:
        kept = journey.keep(body, longest)
        if call.payload_sha256 != UNSIGNED:
            return replace(journey, body=kept), kept
        pairs = tuple((header.name, header.value) for header in call.headers if header.name != "content-length")
    length = (("content-length", str(kept.length)),) if kept.length else ()
    headers = tuple(Header(name, value) for name, value in (*pairs, *length))
    return replace(journey, call=replace(call, payload_sha256=kept.sha256, headers=headers), body=kept), kept


def _encoded(headers: Iterable[Header]) -> list[tuple[bytes, bytes]]:
    """Headers as they are sent. Raises Fault when the gateway names what HTTP cannot say."""
    try:
        return [(header.name.encode(), header.value.encode("latin-1")) for header in headers]
    except UnicodeEncodeError:
        raise Fault("answer_malformed", "The gateway names a header that is none") from None


def _why(error: OSError) -> str:
    if isinstance(error, Broken):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return reason or ("it takes too long" if isinstance(error, TimeoutError) else type(error).__name__)

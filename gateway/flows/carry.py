"""Carrying calls: the instance has no way to AWS, or shall have none; the gateway sends, and brings the answer back."""

from dataclasses import dataclass

from gateway.core.actions.record import is_hash
from gateway.core.audit import Kind
from gateway.core.delivery import PROXY
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.calls import Calls, Decided
from gateway.flows.journal import Call, Journal
from gateway.flows.metering import charge, owe
from gateway.flows.passage import Ended, Passage
from gateway.flows.signer import Signer
from gateway.ports import Clock, Store, Transaction
from gateway.wire import calls
from gateway.wire.sigv4 import S3_SERVICES

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # RFC 9110 section 9.2.2


@dataclass(slots=True)
class Counters:
    """What was counted in this process since its start. `sent` and `received` are bytes of bodies."""

    carried: int = 0
    broken: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class _Recorded(Passage):
    """A passage, and whose it is."""

    call: Call
    decided: Decided


class Carry:
    """`passage.Carrier`. Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, calls: Calls, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._calls = calls
        self._signer = signer
        self._clock = clock
        self.counters = Counters()

    def wants_body(self, call: calls.Call) -> bool:
        """Whether the call cannot be decided without its body. Pure."""
        return self._calls.wants_body(call)

    def notice(self, journal_call: Call, refused: Refusal, call: calls.Call) -> None:
        """Whoever asks was refused as nobody (any more): if that is by a stolen key, record it."""
        self._calls.keys.notice(journal_call, refused, call)

    def begin(self, journal_call: Call, identity: Identity, call: calls.Call, body: bytes | None) -> Passage:
        """Decide, sign, record. What comes back may be sent."""
        decided = self._calls.decide(journal_call, identity, call, body)
        if decided.way != PROXY:
            why = f"The grant delivers this by {decided.way}: it is not carried"
            raise Refusal("call_denied", why, reason="way", **decided.facts)
        signed = self._signer.sign(decided, self._clock(), framed=True)

        def unit(tx: Transaction) -> None:
            self._calls.demand_current(tx, decided, signed.lease)
            charge(tx, decided, 0, self._clock())
            tx.audit.append(journal_call.event(Kind.DECISION, **decided.facts, **signed.facts))
            tx.audit.append(journal_call.event(Kind.INTENT, reason="asked"))  # `audit verify` finds one without an end

        self._journal.write(journal_call, unit)
        return _Recorded(
            origin=decided.understood.origin,
            method=call.method,
            target=signed.target,
            headers=signed.headers,
            payload_sha256=signed.payload_sha256 if is_hash(signed.payload_sha256) else None,
            expect=call.service in S3_SERVICES,
            idempotent=call.method in _IDEMPOTENT,
            call=journal_call,
            decided=decided,
        )

    def end(self, passage: Passage, ended: Ended) -> None:
        """Record what became of it, and take its bytes off the grant's limit."""
        assert isinstance(passage, _Recorded)
        self.counters.carried += 1
        self.counters.broken += ended.problem is not None
        self.counters.sent += ended.sent
        self.counters.received += ended.received
        facts = {
            "status": ended.status,
            "sent": ended.sent,
            "received": ended.received,
            "aws_request_id": ended.aws_request_id,
        }

        def unit(tx: Transaction) -> None:
            owe(tx, passage.decided, ended.sent + ended.received, self._clock())
            reason = ended.problem or "carried"
            tx.audit.append(passage.call.event(Kind.OUTCOME, allowed=ended.problem is None, reason=reason, **facts))

        self._store.write(unit)

"""Remote signing: the instance makes the call and sends it itself; what it gets from here is one signature.

The body does not come, but where the action or the resource is in it. The key does not leave, and neither does one that
is derived from it: a signing key would be good for a whole day. AWS: "Create a signed AWS API request".
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.core.actions.record import is_hash
from gateway.core.audit import Kind
from gateway.core.delivery import SIGN, TOKEN
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.flows.calls import Calls, Decided, announced_size, decoded_body
from gateway.flows.journal import Call, Journal
from gateway.flows.metering import charge
from gateway.flows.signer import Signed, Signer
from gateway.ports import Clock, Transaction
from gateway.wire import calls

_URL_METHODS = ("GET", "HEAD", "PUT")


@dataclass(slots=True)
class Counters:
    """What was counted in this process since its start."""

    signed: int = 0
    presigned: int = 0


class Sign:
    """POST /v1/signatures. Raises Refusal."""

    def __init__(self, journal: Journal, calls: Calls, signer: Signer, clock: Clock) -> None:
        self._journal = journal
        self._calls = calls
        self._signer = signer
        self._clock = clock
        self.counters = Counters()

    def sign(self, journal_call: Call, identity: Identity, call: calls.Call) -> calls.Signature:
        """A signature for the call, or the other way by which it has to go."""
        decided = self._calls.decide(journal_call, identity, call, decoded_body(call))
        if call.presign is not None:
            return self._url(journal_call, decided, call.presign)
        if decided.way != SIGN:
            return self._elsewhere(journal_call, decided)
        _demand_signed_payload(decided)
        signed = self._signer.sign(decided, self._clock())
        self._record(journal_call, decided, signed)
        self.counters.signed += 1
        return _answer(decided, signed)

    def _elsewhere(self, journal_call: Call, decided: Decided) -> calls.Signature:
        """The call is allowed and goes another way, on which it is decided (and limited) once more, or not seen."""

        def unit(tx: Transaction) -> None:
            self._calls.demand_current(tx, decided)
            tx.audit.append(journal_call.event(Kind.DECISION, reason=f"by_{decided.way}", **decided.facts))

        self._journal.write(journal_call, unit)
        return calls.Signature(decided.way, origin=decided.understood.origin if decided.way == TOKEN else None)

    def _url(self, journal_call: Call, decided: Decided, seconds: int) -> calls.Signature:
        longest = decided.grant.presign
        if longest is None or timedelta(seconds=seconds) > longest:
            least = f"for {int(longest.total_seconds())} s at most" if longest else "not at all"
            why = f"The grant allows presigned URLs {least}"
            raise Refusal(
                "presign_refused", why, reason="presign_longest" if longest else "presign_never", **decided.facts
            )
        service, call = decided.understood.routed.service, decided.call
        if decided.way != SIGN or service != "s3" or call.method not in _URL_METHODS:
            why = "Only GET, HEAD and PUT of S3, of what the grant delivers by signature, can be presigned"
            raise Refusal("presign_refused", why, reason="presign_other", **decided.facts)
        if call.body:  # whoever has the URL could send another
            why = "The decision lies in the body, which the signature of a URL leaves out"
            raise Refusal("presign_refused", why, reason="presign_body", **decided.facts)
        signed = self._signer.presign(decided, seconds, self._clock())
        self._record(journal_call, decided, signed, presigned_seconds=seconds)
        self.counters.presigned += 1
        return _answer(decided, signed)

    def _record(self, journal_call: Call, decided: Decided, signed: Signed, **more: Any) -> None:
        """Nothing leaves before this is on disk."""
        size = _size(decided)

        def unit(tx: Transaction) -> None:
            self._calls.demand_current(tx, decided, signed.lease)
            charge(tx, decided, size, self._clock())
            facts = {**decided.facts, **signed.facts, "bytes": size}
            tx.audit.append(journal_call.event(Kind.DECISION, **facts, **more))

        self._journal.write(journal_call, unit)


def _demand_signed_payload(decided: Decided) -> None:
    """A signature that leaves out the body is good for any body, for some minutes."""
    if not is_hash(decided.call.payload_sha256) and not decided.grant.unsigned_payload:
        raise Refusal("payload_unsigned", **decided.facts)


def _size(decided: Decided) -> int:
    """Bytes that the call will send. What it announces is signed, so AWS takes no more."""
    call, limits = decided.call, decided.grant.limits
    size = len(decoded_body(call) or b"") or announced_size(call)
    if size is None and limits is not None and limits.bytes is not None:
        why = "The grant limits bytes: the call has to say its Content-Length"
        raise Refusal("signature_refused", why, reason="length_missing", **decided.facts)
    return size or 0


def _answer(decided: Decided, signed: Signed) -> calls.Signature:
    headers = tuple(calls.Header(name, value) for name, value in signed.headers)
    return calls.Signature(SIGN, origin=decided.understood.origin, target=signed.target, headers=headers)

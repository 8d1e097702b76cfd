"""Signing a call that is allowed, with the session that the gateway keeps for it: open for one signature."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.model import Lease
from gateway.flows.calls import Decided
from gateway.flows.dummy_keys import pairs
from gateway.flows.vend import Vend, Vended
from gateway.wire.sigv4 import (
    NEVER_SIGNED,
    UNSIGNED_PAYLOAD,
    Scope,
    SigV4Error,
    canonical_request,
    parse_authorization,
    presign,
    sign,
)

Headers = tuple[tuple[str, str], ...]

# What a signature of the gateway's own replaces.
_REPLACED = frozenset({"host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})


@dataclass(frozen=True, slots=True, repr=False)
class Signed:
    """A request that AWS will take, to the letter. `canonical_sha256` names it in the audit log."""

    target: str
    headers: Headers
    payload_sha256: str
    canonical_sha256: str
    lease: Lease

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of the decision says of it."""
        return {"lease": self.lease.id, "canonical_sha256": self.canonical_sha256}


class Signer:
    """Signs by the session of the grant's role. Raises Refusal."""

    def __init__(self, vend: Vend) -> None:
        self._vend = vend

    def sign(self, decided: Decided, now: datetime, *, framed: bool = False) -> Signed:
        """The call as it goes to AWS, with its headers signed. `framed`: the gateway itself sends it, and frames it."""
        call, payload = decided.call, decided.call.payload_sha256
        held = self._vend.hold(decided.asked)
        own = _own(pairs(call))
        headers = [
            ("host", decided.understood.host),
            *(field for field in own if not (framed and field[0] == "content-length")),
        ]
        try:
            sent = sign(call.method, call.target, headers, payload, **_by(held, decided, now))
            names = parse_authorization(call.method, call.target, sent).signed_headers
            canonical = canonical_request(call.method, call.target, sent, names, payload, call.service)
        except SigV4Error as error:
            raise Refusal("call_malformed", str(error), reason=error.reason) from None
        return Signed(call.target, sent, payload, _digest(canonical), held.lease)

    def presign(self, decided: Decided, seconds: int, now: datetime) -> Signed:
        """The call as a URL that whoever has it may use for so many seconds; the headers that have to go with it."""
        call, host = decided.call, decided.understood.host
        held = self._vend.hold(decided.asked)
        headers = _own(pairs(call))
        try:
            target = presign(
                call.method, call.target, host, headers=headers, expires=seconds, **_by(held, decided, now)
            )
            sent = (("host", host), *headers)
            names = sorted({name for name, _ in sent} - NEVER_SIGNED)
            canonical = canonical_request(call.method, target, sent, names, UNSIGNED_PAYLOAD, call.service)
        except SigV4Error as error:
            raise Refusal("call_malformed", str(error), reason=error.reason) from None
        return Signed(target, sent, UNSIGNED_PAYLOAD, _digest(canonical), held.lease)


def _own(headers: Sequence[tuple[str, str]]) -> Headers:
    """The headers of the request itself. One that is never signed is not sent either, but for User-Agent."""
    gone = (_REPLACED | NEVER_SIGNED) - {"user-agent"}
    return tuple(field for field in headers if field[0] not in gone)


def _by(held: Vended, decided: Decided, now: datetime) -> dict[str, Any]:
    session, call = held.session, decided.call
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    return {
        "access_key_id": session.access_key_id,
        "secret": session.secret_access_key.encode(),
        "token": session.session_token,
        "scope": Scope(stamp[:8], call.region, call.service),
        "stamp": stamp,
    }


def _digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()

"""Deciding about a call to AWS: who signed it, what it is, whether the grant's policy allows it, and how it goes.

`sign` and `carry` are the same up to here, and differ in what they do with a call that is allowed.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from gateway.core.actions.call import AwsRequest, Need, Routed
from gateway.core.actions.context import context_of
from gateway.core.actions.identity_calls import way_of
from gateway.core.actions.needs import needs
from gateway.core.actions.record import facts_of, why_not
from gateway.core.actions.router import route
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.lease import Order
from gateway.core.model import Lease
from gateway.core.policy.engine import Policy, Question, compile_policy, decide
from gateway.core.profile import Grant
from gateway.flows.dummy_keys import DummyKeys, pairs
from gateway.flows.identify import demand_standing
from gateway.flows.journal import Call
from gateway.flows.vend import Asked, Vend, demand_lease
from gateway.ports import Catalog, Clock, Endpoints, Models, Transaction
from gateway.wire import calls
from gateway.wire.sigv4 import NOTHING_SHA256, UNSIGNED_PAYLOAD, SigV4Error, verify
from gateway.wire.sigv4_authorization import Authorization
from gateway.wire.strict import Malformed

SKEW = timedelta(minutes=5)
_MOST_COMPILED = 256
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods


@dataclass(frozen=True, slots=True, repr=False)
class Understood:
    """What a call is: the request, the operation, what it takes, and the `origin` (`https://host`) that it goes to."""

    request: AwsRequest
    routed: Routed
    needs: tuple[Need, ...]
    origin: str

    @property
    def host(self) -> str:
        """The Host that is signed."""
        return urlsplit(self.origin).netloc


@dataclass(frozen=True, slots=True, repr=False)
class Decided:
    """A call that is allowed, and not recorded yet. `way` is the one by which it goes."""

    asked: Asked
    call: calls.Call
    understood: Understood
    way: str
    facts: Mapping[str, Any]

    @property
    def grant(self) -> Grant:
        return self.asked.plan.grant


class Understand:
    """From a call to what it asks for. `endpoint` replaces AWS's own addresses, for development only."""

    def __init__(self, models: Models, catalog: Catalog, endpoints: Endpoints, endpoint: str | None) -> None:
        self._models = models
        self._catalog = catalog
        self._endpoints = endpoints
        self._endpoint = endpoint.rstrip("/") if endpoint else None

    def __call__(self, call: calls.Call, body: bytes | None, account: str) -> Understood:
        """What the call is, in an account. Raises Refusal; `body_required` when the body would have to tell."""
        models = self._models.of(call.service)
        if not models:
            raise Refusal("call_malformed", "AWS has no service that signs by this name", reason="service_unknown")
        # Blanks around a value are no part of it (RFC 9110 section 5.5): AWS does not see them either.
        signed = tuple((name, value.strip(" \t")) for name, value in pairs(call) if name != "authorization")
        request = AwsRequest(
            method=call.method,
            target=call.target,
            headers=signed,
            service=call.service,
            region=call.region,
            payload_sha256=call.payload_sha256,
            body=body,
            host_bucket=self._bucket(call),
        )
        routed = route(request, models)
        needed = needs(routed, request, account, self._catalog.of(routed.service))
        return Understood(request, routed, needed, self._origin(call, routed, request.host_bucket))

    def _bucket(self, call: calls.Call) -> str | None:
        """The bucket that the client's host names, if it is one of S3's own hosts with something before it."""
        if call.host is None or call.service != "s3" or self._endpoint is not None:
            return None
        for host in self._endpoints.hosts("s3", call.region):
            if call.host.endswith(f".{host}"):
                return call.host.removesuffix(f".{host}")
        return None

    def _origin(self, call: calls.Call, routed: Routed, bucket: str | None) -> str:
        if self._endpoint is not None:
            hosts: Sequence[str] = (urlsplit(self._endpoint).netloc,)
        else:
            hosts = self._endpoints.hosts(routed.service, call.region, routed.operation)
        hosts = tuple(f"{routed.host_prefix}{f'{bucket}.' if bucket else ''}{host}" for host in hosts)
        if call.host is not None and call.host not in hosts:
            raise Refusal("call_denied", "The host is not one of this service in this region", reason="host_foreign")
        if self._endpoint is not None:
            return self._endpoint
        return f"https://{call.host or hosts[0]}"


class Calls:
    """Decides. Raises Refusal."""

    def __init__(self, vend: Vend, keys: DummyKeys, understand: Understand, clock: Clock) -> None:
        self._vend = vend
        self.keys = keys
        self._understand = understand
        self._clock = clock
        self._compiled: dict[tuple[str, str], Policy] = {}

    def wants_body(self, call: calls.Call) -> bool:
        """Whether a call cannot be decided without its body. Pure. Raises Refusal."""
        try:
            self._understand(call, None, "000000000000")
        except Refusal as refusal:
            if refusal.code == "body_required":
                return True
            raise
        return False

    def decide(self, journal_call: Call, identity: Identity, call: calls.Call, body: bytes | None) -> Decided:
        """The call, allowed. Nothing is recorded yet but what is refused."""
        journal_call.object = f"grant/{call.grant}"
        authorization = self._verified(journal_call, identity, call)
        call = _normal(_as_signed(call, authorization))
        _demand_body(call, body)
        asked = self._vend.understand(journal_call, identity, Order(call.grant, held=True))
        understood = self._understand(call, body, asked.account)
        now = self._clock()
        session = asked.plan.request("0" * 32)
        common = context_of(identity.instance, session, asked.account, understood.request, journal_call.source, now)
        policy = self._policy(asked.plan.grant.name, session.policy or "")
        decisions = [
            decide((policy,), Question(need.action, need.resource, {**common, **need.context}))
            for need in understood.needs
        ]
        routed, needed = understood.routed, understood.needs
        facts = facts_of(call, asked.rules.name, routed, understood.host, needed, decisions, common)
        if not decisions or not all(decisions):
            worst = next((each for each in decisions if not each), None)
            why = why_not(understood.needs, decisions)
            raise Refusal("call_denied", why, reason="nothing_needed" if worst is None else worst.kind, **facts)
        way = asked.plan.grant.deliver.way(need.action for need in understood.needs)
        way = way_of(understood.routed, way, facts)
        return Decided(asked, call, understood, way, {**facts, "way": way})

    def demand_current(self, tx: Transaction, decided: Decided, lease: Lease | None = None) -> None:
        """Once more, in the transaction that records the decision: the instance stands, and its profile is the one that
        was decided by, for a mint may have taken seconds; and the `lease` that signed was not revoked. Raises Refusal.
        """
        demand_standing(tx, decided.asked.identity)
        if lease is not None:
            demand_lease(tx, lease)
        if not self._vend.is_current(tx, decided.asked):
            raise Refusal("conflict", "The profile was applied anew meanwhile", reason="profile_changed")

    def _verified(self, journal_call: Call, identity: Identity, call: calls.Call) -> Authorization:
        """The call was signed on this machine, for this grant, now. Raises Refusal `signature_refused`."""
        found, secret = self.keys.authorization(journal_call, identity, call)
        try:
            with secret as plain:
                verify(found, call.method, call.target, pairs(call), call.payload_sha256, plain)
        except SigV4Error as error:
            raise Refusal("signature_refused", str(error), reason=error.reason) from None
        if (found.scope.service, found.scope.region) != (call.service, call.region):
            why = "The signature is for another service or region"
            raise Refusal("signature_refused", why, reason="scope_differs")
        signed_at = datetime.strptime(f"{found.stamp}+0000", "%Y%m%dT%H%M%SZ%z")
        if abs(signed_at - self._clock()) > SKEW:
            raise Refusal("signature_refused", "The signature is not of this moment", reason="time_skewed")
        return found

    def _policy(self, grant: str, written: str) -> Policy:
        known = self._compiled.get((grant, written))
        if known is None:
            if len(self._compiled) >= _MOST_COMPILED:
                self._compiled.clear()
            try:
                known = compile_policy(json.loads(written), f"grant {grant}")
            except Malformed as malformed:  # filled in, a value is none of its kind
                raise Refusal("grant_refused", str(malformed), reason="policy_invalid") from None
            self._compiled[grant, written] = known
        return known


def _as_signed(call: calls.Call, authorization: Authorization) -> calls.Call:
    """The call without what its signer did not sign: that is neither looked at nor sent. (User-Agent never is.)"""
    kept = {*authorization.signed_headers, "user-agent"} - {"authorization"}
    return replace(call, headers=tuple(header for header in call.headers if header.name in kept))


def _normal(call: calls.Call) -> calls.Call:
    """Where there is no body, its absence is signed, also for clients that leave it open."""
    if call.payload_sha256 == UNSIGNED_PAYLOAD and call.method in _BODILESS and call.presign is None:
        return replace(call, payload_sha256=NOTHING_SHA256)
    return call


def _demand_body(call: calls.Call, body: bytes | None) -> None:
    """The body that is looked at must be the one that is signed."""
    if body is not None and call.payload_sha256 != hashlib.sha256(body).hexdigest():
        why = "What the gateway looks into must be what is signed: sign the body's hash"
        raise Refusal("signature_refused", why, reason="payload_differs")


def decoded_body(call: calls.Call) -> bytes | None:
    """The body that came with a call. Raises Refusal `call_malformed`."""
    if call.body is None:
        return None
    try:
        return base64.b64decode(call.body, validate=True)
    except ValueError:
        raise Refusal("call_malformed", "The body is not base64", reason="body_malformed") from None


def announced_size(call: calls.Call) -> int | None:
    """How many bytes of a body the call says that it will send, None when it does not say."""
    if call.payload_sha256 == NOTHING_SHA256:
        return 0
    # S3 holds the decoded length against what comes of a body with a trailer; of any other, the length itself.
    trailed = call.payload_sha256.startswith("STREAMING-")
    written = dict(pairs(call)).get("x-amz-decoded-content-length" if trailed else "content-length", "")
    return int(written) if written.isdecimal() and len(written) < 16 else None

"""Asks the gateway for signatures: each call goes there with a signature of the grant's dummy key, which the gateway
verifies, and comes back with one for AWS, or with the way by which it has to go.
"""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from agent.calls.dummy import Dummies
from agent.credentials import Unavailable
from agent.errors import Fault, Problem
from gateway.wire import sigv4
from gateway.wire.calls import LONGEST_BODY, Call, Header, Signature
from gateway.wire.sigv4 import S3_SERVICES, Scope, SigV4Error

PATH = "/v1/signatures"
AT_ONCE = 64 * 1024
"""Bytes of a body that goes with the first question, where most operations stand in the body."""

T = TypeVar("T")


class Gateway(Protocol):
    """Asks the gateway with the certificate in use: `Lifecycle.ask_for`."""

    def __call__(self, answer: type[T], method: str, path: str, message: Any) -> T:
        """Raises Problem and Fault."""


class Signing:
    """Signatures for calls. Any thread may ask."""

    def __init__(self, dummies: Dummies, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._dummies, self._gateway, self._now = dummies, gateway, now

    def ask(self, call: Call, body: bytes | None) -> Signature:
        """The gateway's answer for a call that has no `authorization` yet. `body` is None when it is not at hand.

        Raises Problem (`body_required`, when it is not), Fault and Unavailable.
        """
        signed = self.signed(call)
        first = body
        if body is not None and not is_looked_into(call.service, call.method, call.target, len(body)):
            first = None
        try:
            return self._ask(signed, first)
        except Problem as problem:
            if problem.code != "body_required" or body is None or first is not None:
                raise
        return self._ask(signed, body)

    def ask_showing(self, call: Call, body: bytes) -> Signature:
        """The same when the gateway has said that it wants to see the body. Raises Problem, Fault and Unavailable."""
        return self._ask(self.signed(call), body)

    def signed(self, call: Call) -> Call:
        """The call with the dummy key's signature. Raises Fault and Unavailable."""
        dummy = self._dummies.of(call.grant)
        headers = [(header.name, header.value) for header in call.headers]
        stamp = self._now().strftime("%Y%m%dT%H%M%SZ")
        try:
            with dummy.secret as secret:
                made = sigv4.sign(
                    call.method, call.target, headers, call.payload_sha256,
                    access_key_id=dummy.access_key_id, secret=secret, token=None,
                    scope=Scope(stamp[:8], call.region, call.service), stamp=stamp,
                )  # fmt: skip
        except SigV4Error as error:
            raise Fault("call_malformed", str(error)) from None
        except ValueError:  # wiped meanwhile
            raise Unavailable("grant_refused", "The grant is gone", refused=True) from None
        return replace(call, headers=tuple(Header(name, value) for name, value in made))

    def _ask(self, call: Call, body: bytes | None) -> Signature:
        if body is not None:
            if len(body) > LONGEST_BODY:
                raise Fault("body_too_large", f"The gateway looks into bodies of {LONGEST_BODY // 1024} KiB at most")
            call = replace(call, body=base64.b64encode(body).decode("ascii"))
        return self._gateway(Signature, "POST", PATH, call)


def is_looked_into(service: str, method: str, target: str, length: int | None) -> bool:
    """Whether the gateway will most likely want to see a body of this length (None: not known)."""
    if service in S3_SERVICES:  # DeleteObjects: each of its keys is a decision (S3 API: POST /?delete)
        return method == "POST" and "delete" in [part.partition("=")[0] for part in target.partition("?")[2].split("&")]
    return length is not None and length <= AT_ONCE

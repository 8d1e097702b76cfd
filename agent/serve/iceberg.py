"""The signer of Iceberg's REST catalogs for S3: `pyiceberg` and others ask it about each request that they make.

Apache Iceberg: "S3 REST Signer API" (aws/src/main/resources/s3-signer-open-api.yaml), `POST /v1/aws/s3/sign`. Whoever
shows a token of the grant may ask, as at the container endpoint.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.credentials import Unavailable
from agent.errors import Fault, Problem
from agent.serve import access, container
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from agent.serve.http import Answer
from agent.serve.signatures import Ask
from gateway.wire.calls import LONGEST_BODY, PAYLOAD, REGION, Call, Signature
from gateway.wire.secret import Secret
from gateway.wire.sigv4 import NEVER_SIGNED, NOTHING_SHA256, UNSIGNED_PAYLOAD
from gateway.wire.strict import Malformed, decode, loads

PATH = "/v1/aws/s3/sign"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_URI = re.compile(r"(https?)://([a-z0-9.-]{1,253})(:[0-9]{1,5})?(/[!-\"$-~]*)?")
_USUAL_PORTS = {"https": ":443", "http": ":80"}
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})
# What HTTP libraries write themselves, or change when they try again: a signature over it would be a trap.
_LEFT_OUT = NEVER_SIGNED | {
    "accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "content-length", "date", "host",
    "x-amz-content-sha256", "x-amz-date", "x-amz-security-token",
}  # fmt: skip
_STATUSES = {"call_malformed": 400, "body_too_large": 413}  # of faults; all others may pass
_NOT_SHOWN = (
    "Each key of a DeleteObjects is decided, and this client does not show its signer the body that they are in. "
    "Let it send its requests to the endpoint for calls instead ('s3.endpoint', without a signer)"
)
_TYPES = {400: "BadRequestException", 401: "NotAuthorizedException", 403: "ForbiddenException"}


@dataclass(frozen=True, slots=True)
class Iceberg:
    """`tokens` gives those of a grant; `ask` asks the gateway."""

    desk: Desk
    tokens: Callable[[str], Iterable[Secret]]
    ask: Ask

    def answer(self, authorizations: Sequence[str], document: Callable[[], bytes]) -> Answer:
        """The answer to one request, by its Authorization headers and its body, which nobody reads for a stranger.

        Never raises for what a client sent, but OSError when he goes.
        """
        try:
            return Answer(200, self._sign(authorizations, document))
        except Refused as refused:
            return _error(refused.status, str(refused))
        except Unavailable as none:
            return _error(403 if none.refused else 503, none.detail)
        except Problem as problem:
            return _error(problem.status, _NOT_SHOWN if problem.code == "body_required" else str(problem))
        except Fault as fault:
            return _error(_STATUSES.get(fault.code, 503), str(fault))

    def _sign(self, authorizations: Sequence[str], document: Callable[[], bytes]) -> bytes:
        self.desk.check_state()
        offer = self._offer(authorizations)
        access.check_door(offer, container.WAY)
        try:
            call, body, sent = read(document(), offer.name)
        except Malformed as malformed:
            raise Refused(400, "BadRequest", f"The request is not as Iceberg's clients send it: {malformed}") from None
        signature = self.ask(call, body)
        if signature.way != "sign":
            raise Refused(
                403, "AccessDenied", f"The grant's calls go by '{signature.way}', and this one is for signatures"
            )
        return _answer(signature, sent)

    def _offer(self, authorizations: Sequence[str]) -> Offer:
        """The grant whose token is shown: every one is compared with. Raises Refused."""
        found = None
        shown = authorizations[0] if len(authorizations) == 1 else ""
        word, _, token = shown.partition(" ")
        for offer in self.desk.offers.values():
            for secret in self.tokens(offer.name):
                with secret as plain:
                    if hmac.compare_digest(token.encode("utf-8", "surrogateescape"), plain):
                        found = offer
        if found is None or word.lower() != "bearer":
            raise Refused(401, "InvalidToken", "The Authorization header does not hold the token of a grant")
        return found


def read(document: bytes, grant: str) -> tuple[Call, bytes | None, dict[str, str]]:
    """The call that Iceberg's `S3SignRequest` describes, its body if it has one, and the headers that the client has.

    Fields that are not known are let pass: clients of later versions bring some. Raises Malformed.
    """
    written = loads(document)
    if not isinstance(written, dict):
        raise Malformed("must be an object")
    method, region, uri = (written.get(name) for name in ("method", "region", "uri"))
    match = _URI.fullmatch(uri) if isinstance(uri, str) else None
    if match is None:
        raise Malformed("uri: must be a URL of S3")
    if not isinstance(region, str) or not re.fullmatch(REGION, region):
        raise Malformed("region: must be a region of AWS")
    body = written.get("body")
    if not (body is None or (isinstance(body, str) and len(body) <= LONGEST_BODY)):
        raise Malformed("body: must be text")
    raw = body.encode() if body else None
    sent = _headers(written.get("headers"))
    scheme, host, port, target = match.groups()
    if port and port != _USUAL_PORTS[scheme]:
        host += port
    call = {
        "grant": grant,
        "service": "s3",
        "region": region,
        "method": method,
        "target": target or "/",
        "payload_sha256": _payload(str(method), sent, raw),
        "headers": [
            {"name": "host", "value": host},
            *({"name": name, "value": value} for name, value in sent.items() if name not in _LEFT_OUT),
        ],
        "host": host,
    }
    return decode(Call, call), raw, sent


def _headers(written: Any) -> dict[str, str]:
    if not isinstance(written, dict):
        raise Malformed("headers: must be an object")
    fields: dict[str, str] = {}
    for name, values in written.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise Malformed("headers: each must have a list of values")
        if name.lower() in fields:
            raise Malformed("headers: a name stands there twice")
        fields[name.lower()] = ",".join(values)
    return fields


def _payload(method: str, sent: dict[str, str], body: bytes | None) -> str:
    """What is said of a body that the client does not show: what it says itself, or nothing at all."""
    if body is not None:
        return hashlib.sha256(body).hexdigest()
    said = sent.get("x-amz-content-sha256", "")
    if re.fullmatch(PAYLOAD, said):
        return said
    if "x-amz-trailer" in sent:
        return TRAILER
    return NOTHING_SHA256 if method in _WITHOUT_BODY else UNSIGNED_PAYLOAD


def _answer(signature: Signature, sent: dict[str, str]) -> bytes:
    """Only what the request does not have yet: pyiceberg adds each header to those that there are."""
    added = {
        header.name: [header.value]
        for header in signature.headers
        if header.name != "host" and sent.get(header.name) != header.value
    }
    return json.dumps({"uri": f"{signature.origin}{signature.target}", "headers": added}).encode()


def _error(status: int, message: str) -> Answer:
    """Iceberg's `ErrorModel`."""
    kind = _TYPES.get(status, "ServiceUnavailableException" if status >= 500 else "BadRequestException")
    return Answer(status, json.dumps({"error": {"message": message, "type": kind, "code": status}}).encode())

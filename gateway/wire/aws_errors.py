"""Refusals in the forms that AWS's SDKs parse, so that a program sees an error of its service, and not a broken answer.

Each protocol of botocore's has its form (Smithy: "AWS JSON 1.1", "AWS query", "AWS restXml", "RPC v2 CBOR"; S3 API:
"Error responses"). What is told is which kind of error it is, why in the gateway's words, and the request's id. Pure.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from gateway.wire.problems import PROBLEMS
from gateway.wire.sigv4 import S3_SERVICES

FORMS = ("s3", "rest-xml", "query", "ec2", "json", "rest-json", "smithy-rpc-v2-cbor")
"""botocore's words for the protocols, and `s3`, whose errors are bare."""

_CBOR = "rpc-v2-cbor"
_REST_XML = frozenset({"cloudfront", "route53"})
_ACTION = re.compile(r"(?:^|&)Action=")

# Kind → for XML (S3, REST, query), for EC2, for JSON and CBOR: a status and AWS's code for it.
# AWS: "Common errors" of each API reference; S3: "List of error codes"; EC2: "Error codes for the Amazon EC2 API".
_KINDS = {
    "denied": ((403, "AccessDenied"), (403, "UnauthorizedOperation"), (403, "AccessDeniedException")),
    "unknown_key": ((403, "InvalidClientTokenId"), (401, "AuthFailure"), (403, "UnrecognizedClientException")),
    "wrong_signature": ((403, "SignatureDoesNotMatch"), (401, "AuthFailure"), (403, "InvalidSignatureException")),
    "skewed": ((403, "RequestExpired"), (400, "RequestExpired"), (403, "RequestExpired")),
    "malformed": ((400, "InvalidRequest"), (400, "InvalidRequest"), (400, "ValidationException")),
    "too_large": ((413, "EntityTooLarge"), (413, "InvalidRequest"), (413, "RequestEntityTooLargeException")),
    "throttled": ((429, "Throttling"), (503, "RequestLimitExceeded"), (429, "ThrottlingException")),
    "unavailable": ((503, "ServiceUnavailable"), (503, "Unavailable"), (503, "ServiceUnavailableException")),
    "timeout": ((504, "ServiceUnavailable"), (504, "Unavailable"), (504, "ServiceUnavailableException")),
    "failed": ((500, "InternalFailure"), (500, "InternalError"), (500, "InternalServerError")),
}
_OF_S3 = {
    "unknown_key": (403, "InvalidAccessKeyId"),
    "skewed": (403, "RequestTimeTooSkewed"),
    "throttled": (503, "SlowDown"),
    "failed": (500, "InternalError"),
}
_BY_CODE = {
    "clock_skew": "skewed",
    "key_unknown": "unknown_key",
    "signature_refused": "wrong_signature",
    "body_too_large": "too_large",
    "head_too_large": "too_large",
    "body_required": "too_large",
    "upstream_refused": "unavailable",
    "not_implemented": "malformed",
}
_BY_STATUS = {401: "denied", 403: "denied", 413: "too_large", 429: "throttled", 500: "failed", 504: "timeout"}


@dataclass(frozen=True, slots=True)
class AwsError:
    """An answer: its status, its headers but for Content-Length, its body."""

    status: int
    code: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def form_of(service: str, target: str, headers: Sequence[tuple[str, str]]) -> str:
    """The form (of `FORMS`) that the client of a request will parse. `service` is the signing name."""
    named = dict(headers)
    kind = named.get("content-type", "").partition(";")[0].strip().lower()
    if named.get("smithy-protocol") == _CBOR:
        return "smithy-rpc-v2-cbor"
    if "x-amz-target" in named or kind.startswith("application/x-amz-json-"):
        return "json"
    if service in S3_SERVICES:
        return "s3"
    if kind == "application/x-www-form-urlencoded" or _ACTION.search(target.partition("?")[2]):
        return "ec2" if service == "ec2" else "query"
    return "rest-xml" if service in _REST_XML else "rest-json"


def render(form: str, problem: str, message: str, request_id: str = "", *, retry_after: float = 0.0) -> AwsError:
    """The answer that says so. `problem` is a code of wire/problems.py, or one of the agent's; `message` is for people.

    A problem that is not known is told as one that may pass.
    """
    status, code = _status_and_code(form, kind_of(problem))
    message = "".join(letter for letter in message if letter.isprintable())
    headers = [("x-amzn-requestid", request_id)] if request_id and request_id.isascii() else []
    if retry_after > 0:
        headers.append(("retry-after", str(int(-(-retry_after // 1)))))
    if form == "smithy-rpc-v2-cbor":
        body = _cbor_map({"__type": code, "message": message})
        headers += [("content-type", "application/cbor"), ("smithy-protocol", _CBOR)]
    elif form in ("json", "rest-json"):
        body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
        kind = "application/x-amz-json-1.0" if form == "json" else "application/json"
        headers += [("content-type", kind), ("x-amzn-errortype", code)]
    else:
        if form == "s3" and headers:
            headers.append(("x-amz-request-id", request_id))
        body = _xml(form, status, code, message, request_id)
        headers.append(("content-type", "application/xml" if form == "s3" else "text/xml"))
    return AwsError(status, code, tuple(headers), body)


def kind_of(problem: str) -> str:
    """Which kind of error a problem is to a client of AWS."""
    if problem in _BY_CODE:
        return _BY_CODE[problem]
    known = PROBLEMS.get(problem)
    if known is None:
        return "unavailable"
    return _BY_STATUS.get(known.status, "malformed" if known.status < 500 else "unavailable")


def _status_and_code(form: str, kind: str) -> tuple[int, str]:
    if form == "s3" and kind in _OF_S3:
        return _OF_S3[kind]
    xml, ec2, plain = _KINDS[kind]
    if form == "ec2":
        return ec2
    return xml if form in ("s3", "rest-xml", "query") else plain


def _xml(form: str, status: int, code: str, message: str, request_id: str) -> bytes:
    said = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    identity = escape(request_id)
    if form == "s3":
        inner = f"<Error>{said}<RequestId>{identity}</RequestId><HostId>trusted-gateway</HostId></Error>"
    elif form == "ec2":
        inner = f"<Response><Errors><Error>{said}</Error></Errors><RequestID>{identity}</RequestID></Response>"
    else:
        who = "Sender" if status < 500 else "Receiver"
        error = f"<Error><Type>{who}</Type>{said}</Error>"
        inner = f"<ErrorResponse>{error}<RequestId>{identity}</RequestId></ErrorResponse>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{inner}'.encode()


def _cbor_map(texts: dict[str, str]) -> bytes:
    """A map of texts (RFC 8949, major types 5 and 3)."""
    return _cbor_head(5, len(texts)) + b"".join(_cbor_text(word) for pair in texts.items() for word in pair)


def _cbor_text(word: str) -> bytes:
    raw = word.encode()
    return _cbor_head(3, len(raw)) + raw


def _cbor_head(major: int, count: int) -> bytes:
    if count < 24:
        return bytes([major << 5 | count])
    if count < 256:
        return bytes([major << 5 | 24, count])
    return bytes([major << 5 | 25, *count.to_bytes(2)])

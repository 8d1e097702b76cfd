"""AWS Signature Version 4: reading, verifying and making signatures by HMAC-SHA256. Pure; agent and gateway share it.

AWS: "Create a signed AWS API request" (IAM user guide), "Authenticating Requests (AWS Signature Version 4)" (S3 API).
Header names are in lower case, values are latin-1 text; a target is the path and query as they were sent, and it is
never decoded for anything but its canonical form. `Authorization` is read by `sigv4_authorization`.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from urllib.parse import quote

from gateway.wire.sigv4_authorization import (
    ALGORITHM,
    LONGEST_EXPIRES,
    SIGNING_PARAMETERS,
    Authorization,
    Scope,
    SigV4Error,
    parse_authorization,
    signing_parameters,
)

__all__ = [
    "S3_SERVICES", "Authorization", "Headers", "Scope", "SigV4Error", "canonical_request", "parse_authorization",
    "presign", "sign", "signature", "signing_key", "string_to_sign", "verify", "without_signature",
]  # fmt: skip

Headers = Sequence[tuple[str, str]]

S3_SERVICES = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
"""Signing names whose path is signed as it is sent. (`disableDoubleEncoding` in AWS's endpoint rules.)"""
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()

NEVER_SIGNED = frozenset({
    "authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
    "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id",
})  # fmt: skip
"""What a hop may add or change, so that AWS's SDKs do not sign it."""
_REPLACED = frozenset({"authorization", "date", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})
_ONLY_ONCE = frozenset({
    "authorization", "content-length", "content-type", "date", "host", "x-amz-content-sha256", "x-amz-date",
    "x-amz-decoded-content-length", "x-amz-security-token", "x-amz-target",
})  # fmt: skip

_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/(?:[!\"$&-~]++|%[0-9A-Fa-f]{2})*+")
_NO_NAME = re.compile(r"[^a-z0-9!#$%&'*+.^_`|~-]")
_NO_VALUE = re.compile(r"[^\t -~\x80-\xff]")
_HASH = re.compile(r"[0-9a-f]{64}")
_NOT_CANONICAL = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~&=-]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_BLANKS = re.compile(r"[ \t]+")


# The stages of a signature


def canonical_request(
    method: str, target: str, headers: Headers, signed_headers: Sequence[str], payload_sha256: str, service: str
) -> str:
    """What is hashed into the string to sign. AWS: "Create a canonical request". `X-Amz-Signature` is left out.

    Raises SigV4Error for what has not one canonical form: bytes that no HTTP field may hold, a repeated Host.
    """
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise SigV4Error("target_malformed")
    path, _, query = target.partition("?")
    fields = _fields(headers)
    try:
        signed = [f"{name}:{fields[name]}" for name in signed_headers]
    except KeyError as missing:
        raise SigV4Error("signed_header_missing", str(missing)) from None
    parts = (method, _path(path, service), _query(query), *signed, "", ";".join(signed_headers), payload_sha256)
    return "\n".join(parts)


def string_to_sign(canonical: str, stamp: str, scope: Scope) -> str:
    """AWS: "Create a string to sign"."""
    return f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode('latin-1')).hexdigest()}"


def signing_key(secret: bytes, scope: Scope) -> bytes:
    """The key of a day, region and service. It is as good as the secret for that day: it never leaves the process."""
    key = b"AWS4" + secret
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, string: str) -> str:
    """AWS: "Calculate the signature". In hex."""
    return hmac.digest(key, string.encode(), "sha256").hex()


# Whole requests


def verify(
    authorization: Authorization, method: str, target: str, headers: Headers, payload_sha256: str, secret: bytes
) -> None:
    """Whether the holder of the secret signed this request, with everything in it that AWS would act on.

    `payload_sha256` is what x-amz-content-sha256 says, or would: that the body has this hash is for the caller to see.
    Raises SigV4Error. The time is not looked at.
    """
    _demand_signed(authorization, headers, payload_sha256)
    scope = authorization.scope
    canonical = canonical_request(method, target, headers, authorization.signed_headers, payload_sha256, scope.service)
    right = signature(signing_key(secret, scope), string_to_sign(canonical, authorization.stamp, scope))
    if not hmac.compare_digest(right, authorization.signature):
        raise SigV4Error("signature_wrong")


def sign(
    method: str, target: str, headers: Headers, payload_sha256: str,
    *, access_key_id: str, secret: bytes, token: str | None, scope: Scope, stamp: str,
) -> tuple[tuple[str, str], ...]:  # fmt: skip
    """The headers with a signature: all but `NEVER_SIGNED` are signed, what an earlier signature brought is replaced.

    x-amz-content-sha256 goes with S3, with a payload that is no hash, and where the request had it: as AWS's SDKs do.
    Raises SigV4Error.
    """
    if signing_parameters(target):
        raise SigV4Error("two_signatures")
    given = {name for name, _ in headers}
    named = scope.service in S3_SERVICES or "x-amz-content-sha256" in given or not _HASH.fullmatch(payload_sha256)
    sent = (
        *(field for field in headers if field[0] not in _REPLACED),
        ("x-amz-date", stamp),
        *((("x-amz-security-token", token),) if token is not None else ()),
        *((("x-amz-content-sha256", payload_sha256),) if named else ()),
    )
    names = tuple(sorted({name for name, _ in sent} - NEVER_SIGNED))
    _demand_scope(names, scope, stamp)
    canonical = canonical_request(method, target, sent, names, payload_sha256, scope.service)
    made = signature(signing_key(secret, scope), string_to_sign(canonical, stamp, scope))
    value = f"{ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={made}"
    return (*sent, ("authorization", value))


def presign(
    method: str, target: str, host: str,
    *, access_key_id: str, secret: bytes, token: str | None, scope: Scope, stamp: str, expires: int,
    headers: Headers = (),
) -> str:  # fmt: skip
    """The target with a signature in its query. AWS: "Authenticating Requests: Using Query Parameters".

    `headers` are those beside Host that whoever uses the URL has to send. `expires`: seconds, at most 7 days.
    The payload is not signed with S3, and has to be empty with every other service. Raises SigV4Error.
    """
    if signing_parameters(target):
        raise SigV4Error("two_signatures")
    if not 1 <= expires <= LONGEST_EXPIRES:
        raise SigV4Error("expires_malformed")
    sent = (("host", host), *headers)
    names = tuple(sorted({name for name, _ in sent} - NEVER_SIGNED))
    _demand_scope(names, scope, stamp)
    parameters = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": ";".join(names),
        **({"X-Amz-Security-Token": token} if token is not None else {}),
    }
    query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in parameters.items())
    unsigned = f"{target}{'&' if '?' in target else '?'}{query}"
    payload = UNSIGNED_PAYLOAD if scope.service in S3_SERVICES else NOTHING_SHA256
    canonical = canonical_request(method, unsigned, sent, names, payload, scope.service)
    made = signature(signing_key(secret, scope), string_to_sign(canonical, stamp, scope))
    return f"{unsigned}&X-Amz-Signature={made}"


def without_signature(target: str) -> str:
    """The target less the parameters of a signature in its query; the rest of it to the letter."""
    path, mark, query = target.partition("?")
    rest = "&".join(part for part in query.split("&") if part.partition("=")[0] not in SIGNING_PARAMETERS)
    return f"{path}{mark if rest else ''}{rest}"


# Their parts


def _path(path: str, service: str) -> str:
    """S3 signs the path that is sent; the others sign it without dot segments and empty ones, encoded once more."""
    if service in S3_SERVICES:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def _query(query: str) -> str:
    """Each name and value percent-encoded as AWS does it, whatever the sender left as it is; sorted by both."""
    pairs = []
    for part in _NOT_CANONICAL.sub(_encoded, query).split("&"):
        name, _, value = part.partition("=")
        if part and name != "X-Amz-Signature":
            pairs.append((name, value.replace("=", "%3D")))
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def _encoded(match: re.Match[str]) -> str:
    """One character, or one percent-encoded byte. A plus is a plus, never a blank."""
    written = match[0]
    byte = int(written[1:], 16) if len(written) == 3 else ord(written)
    return chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}"


def _fields(headers: Headers) -> dict[str, str]:
    """The values by name: trimmed, inner blanks as one, the values of a repeated name joined by commas."""
    names, values = "".join([name for name, _ in headers]), "".join([value for _, value in headers])
    plain = values.isascii() and values.isprintable()
    if _NO_NAME.search(names) or (not plain and _NO_VALUE.search(values)):
        raise SigV4Error("header_malformed")
    fields: dict[str, str] = {}
    for name, value in headers:
        if "  " in value or "\t" in value:
            value = _BLANKS.sub(" ", value)
        value = value.strip(" ")
        if name in fields:
            if name in _ONLY_ONCE:
                raise SigV4Error("header_repeated", name)
            value = f"{fields[name]},{value}"
        fields[name] = value
    if "" in fields:
        raise SigV4Error("header_malformed")
    return fields


def _demand_signed(authorization: Authorization, headers: Headers, payload_sha256: str) -> None:
    """Or who stands in between could add what AWS acts on."""
    signed = set(authorization.signed_headers)
    dated = authorization.presigned
    for name, value in headers:
        if name not in signed and (name.startswith("x-amz-") or name in ("content-type", "host")):
            raise SigV4Error("header_unsigned", name)
        if name == "x-amz-content-sha256" and value.strip() != payload_sha256:
            raise SigV4Error("payload_differs")
        dated = dated or name == "x-amz-date"
    if "host" not in signed or not (dated or "date" in signed):
        raise SigV4Error("header_unsigned", "date" if "host" in signed else "host")


def _demand_scope(names: Sequence[str], scope: Scope, stamp: str) -> None:
    if "host" not in names:
        raise SigV4Error("header_unsigned", "host")
    if stamp[:8] != scope.date:
        raise SigV4Error("date_differs")

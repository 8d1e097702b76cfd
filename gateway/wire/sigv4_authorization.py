"""What a request says about its own SigV4 signature, in a header or in its query. Nothing of it is verified here. Pure.

AWS: "Authentication methods" and "Elements of an AWS API request signature" (IAM user guide). One request has one
signature, in one form: all that could be read in two ways is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_EXPIRES = 604800
"""Seconds that a presigned URL may live: 7 days."""

REASONS = {
    "unsigned": "The request is not signed",
    "sigv2": "The request is signed by Signature Version 2; only Version 4 is taken",
    "sigv2_presigned": "The URL is presigned by Signature Version 2; set signature_version = s3v4 "
    "(in ~/.aws/config below `s3 =`, in boto3 Config(signature_version='s3v4'))",
    "sigv4a": "The request is signed by SigV4a (AWS4-ECDSA-P256-SHA256); only AWS4-HMAC-SHA256 is taken",
    "hmac_sha1": "The request is signed with HMAC-SHA1; only AWS4-HMAC-SHA256 is taken",
    "algorithm_unknown": "The request is signed by an algorithm that is not AWS4-HMAC-SHA256",
    "authorization_malformed": "The Authorization header is not as AWS writes it",
    "two_signatures": "The request has a signature in its headers and in its query",
    "parameter_missing": "The query has not all the parameters of a signature",
    "parameter_repeated": "The query has a parameter of the signature twice",
    "parameter_malformed": "The query has a parameter of a signature that is not as AWS writes it",
    "expires_malformed": "X-Amz-Expires must be a number of seconds from 1 to 604800",
    "date_missing": "The request has no X-Amz-Date",
    "date_malformed": "X-Amz-Date is no time such as 20261122T013110Z",
    "date_differs": "X-Amz-Date is not of the day that Credential names",
    "signed_headers_malformed": "SignedHeaders is no sorted list of header names in lower case",
    "signed_headers_refused": "SignedHeaders names a header that belongs to one connection only, or Authorization",
    "signed_header_missing": "SignedHeaders names a header that the request does not have",
    "header_unsigned": "A header that AWS acts on is not signed",
    "header_repeated": "A header stands twice that may stand only once",
    "header_malformed": "A header has a name or a value that HTTP does not allow",
    "target_malformed": "The request's method or target is not as HTTP has it",
    "payload_differs": "X-Amz-Content-SHA256 does not say what the call says of its payload",
    "signature_wrong": "The signature is not right",
}
"""Every reason of a SigV4Error, with its sentence."""

SIGNING_PARAMETERS = frozenset({
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature",
    "X-Amz-SignedHeaders",
})  # fmt: skip
_DEMANDED = SIGNING_PARAMETERS - {"X-Amz-Security-Token"}
_BY_LOWER = {name.lower(): name for name in SIGNING_PARAMETERS}
# RFC 9110 section 7.6.1; and a signature cannot be of itself.
_UNSIGNABLE = frozenset({
    "authorization", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_OTHER_ALGORITHMS = {
    "AWS4-ECDSA-P256-SHA256": "sigv4a", "AWS4-HMAC-SHA1": "hmac_sha1", "AWS": "sigv2",
}  # fmt: skip

_CREDENTIAL = r"([A-Za-z0-9_]{1,128})/([0-9]{8})/([a-z0-9-]{1,64})/([A-Za-z0-9-]{1,64})/aws4_request"
_IN_HEADER = re.compile(rf"{ALGORITHM} +Credential={_CREDENTIAL}, *SignedHeaders=([^, ]+), *Signature=([0-9a-f]{{64}})")
_IN_QUERY = re.compile(_CREDENTIAL)
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}(?:;[a-z0-9!#$%&'*+.^_`|~-]{1,128})*")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_EXPIRES = re.compile(r"[1-9][0-9]{0,5}")
_DATE = re.compile(r"([A-Za-z0-9:, ]{25}) (?:GMT|[+-]0000)")
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")


class SigV4Error(ValueError):
    """A signature that is not there, cannot be read, or is not right. `reason` is one of `REASONS`.

    The text is safe to show: no value of the request is in it, at most a header's name.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(f"{REASONS[reason]}: {name}" if name else REASONS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Scope:
    """The credential scope: `date` is YYYYMMDD (UTC), `service` the signing name."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a request says of its signature. `stamp` is YYYYMMDDTHHMMSSZ; `expires` in seconds, None unless presigned.

    `token` is its X-Amz-Security-Token.
    """

    access_key_id: str
    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)
    stamp: str
    presigned: bool
    expires: int | None
    token: str | None = field(default=None, repr=False)


def parse_authorization(method: str, target: str, headers: Sequence[tuple[str, str]]) -> Authorization:
    """Read the one signature of a request. Raises SigV4Error: each cause has its own reason."""
    written = _only("authorization", headers)
    parameters = signing_parameters(target)
    if written is not None and parameters:
        raise SigV4Error("two_signatures")
    if written is not None:
        return _of_header(written.strip(" \t"), headers)
    if parameters:
        return _of_query(parameters, headers)
    raise SigV4Error("unsigned")


def signing_parameters(target: str) -> dict[str, str]:
    """The parameters of a signature in a target's query, decoded. Raises SigV4Error, for SigV2's own too."""
    found: dict[str, str] = {}
    for part in target.partition("?")[2].split("&"):
        written, _, value = part.partition("=")
        name = _decoded(written)
        if name.lower() == "awsaccesskeyid":
            raise SigV4Error("sigv2_presigned")
        if name.lower() not in _BY_LOWER:
            continue
        if written not in SIGNING_PARAMETERS:  # in another case, or encoded: whom would AWS believe?
            raise SigV4Error("parameter_malformed")
        if name in found:
            raise SigV4Error("parameter_repeated")
        found[name] = _decoded(value)
    return found


def _of_header(written: str, headers: Sequence[tuple[str, str]]) -> Authorization:
    _demand_algorithm(written.partition(" ")[0])
    match = _IN_HEADER.fullmatch(written)
    if match is None:
        raise SigV4Error("authorization_malformed")
    access_key_id, day, region, service, names, signature = match.groups()
    scope = Scope(day, region, service)
    token = _only("x-amz-security-token", headers)
    stamp = _only("x-amz-date", headers)
    if stamp is None:
        stamp = _of_date(_only("date", headers))
    return Authorization(
        access_key_id, scope, _signed_headers(names), signature, _stamp(stamp.strip(" \t"), day), False, None, token
    )


def _of_query(parameters: dict[str, str], headers: Sequence[tuple[str, str]]) -> Authorization:
    if any(name in ("x-amz-date", "x-amz-security-token") for name, _ in headers):
        raise SigV4Error("two_signatures")
    if "X-Amz-Algorithm" in parameters:
        _demand_algorithm(parameters["X-Amz-Algorithm"])
    if not parameters.keys() >= _DEMANDED:
        raise SigV4Error("parameter_missing")
    match = _IN_QUERY.fullmatch(parameters["X-Amz-Credential"])
    signature = parameters["X-Amz-Signature"]
    if match is None or not _SIGNATURE.fullmatch(signature):
        raise SigV4Error("parameter_malformed")
    access_key_id, day, region, service = match.groups()
    names = _signed_headers(parameters["X-Amz-SignedHeaders"])
    expires = parameters["X-Amz-Expires"]
    if not _EXPIRES.fullmatch(expires) or int(expires) > LONGEST_EXPIRES:
        raise SigV4Error("expires_malformed")
    stamp = _stamp(parameters["X-Amz-Date"], day)
    token = parameters.get("X-Amz-Security-Token")
    return Authorization(access_key_id, Scope(day, region, service), names, signature, stamp, True, int(expires), token)


def _only(name: str, headers: Sequence[tuple[str, str]]) -> str | None:
    values = [value for each, value in headers if each == name]
    if len(values) > 1:
        raise SigV4Error("header_repeated", name)
    return values[0] if values else None


def _decoded(part: str) -> str:
    return unquote_to_bytes(part).decode("latin-1") if "%" in part else part


def _demand_algorithm(word: str) -> None:
    if word != ALGORITHM:
        raise SigV4Error(_OTHER_ALGORITHMS.get(word, "algorithm_unknown"))


def _signed_headers(written: str) -> tuple[str, ...]:
    names = tuple(written.split(";"))
    if not _NAMES.fullmatch(written) or list(names) != sorted(set(names)):
        raise SigV4Error("signed_headers_malformed")
    if not _UNSIGNABLE.isdisjoint(names):
        raise SigV4Error("signed_headers_refused")
    return names


def _stamp(written: str, day: str) -> str:
    try:
        if not _STAMP.fullmatch(written):
            raise ValueError
        datetime.fromisoformat(written)
    except ValueError:
        raise SigV4Error("date_malformed") from None
    if written[:8] != day:
        raise SigV4Error("date_differs")
    return written


def _of_date(written: str | None) -> str:
    """The stamp by the Date header (RFC 9110 section 5.6.7), which AWS takes in place of X-Amz-Date.

    botocore writes its zone as RFC 5322 has it.
    """
    if written is None:
        raise SigV4Error("date_missing")
    match = _DATE.fullmatch(written.strip(" \t"))
    try:
        if match is None:
            raise ValueError
        return datetime.strptime(match[1], "%a, %d %b %Y %H:%M:%S").strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        raise SigV4Error("date_malformed") from None

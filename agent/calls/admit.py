"""Which requests are taken at the endpoint for calls, and what of them goes on. Pure but for keys that are looked up.

A request is taken when it is signed (SigV4) with a dummy key of this agent, for this endpoint, at this time, and no
browser or proxy sent it. What goes on has the bucket in its path, no signature, and nothing that is of one hop.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from agent.calls.dummy import Dummy
from agent.errors import Fault
from agent.serve import guard
from agent.settings import Address
from gateway.wire import sigv4
from gateway.wire.sigv4 import Authorization, SigV4Error

CONTENT = "x-amz-content-sha256"
UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
PAYLOADS = frozenset({UNSIGNED, TRAILER, CHUNKS, CHUNKS_TRAILER})

SKEW, SKEW_OF_S3 = timedelta(minutes=5), timedelta(minutes=15)

_BUCKET = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.(localhost:[0-9]+)")
OF_ONE_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "expect",
})  # fmt: skip
_OF_THE_CLIENT = frozenset({"authorization", "cookie", "date", "x-amz-date", "x-amz-security-token"})
_AMBIGUOUS = frozenset({"two_signatures", "parameter_repeated", "header_repeated"})
_REFUSED = frozenset({
    "sigv2", "sigv2_presigned", "sigv4a", "hmac_sha1", "algorithm_unknown", "signature_wrong", "header_unsigned",
    "signed_header_missing", "payload_differs",
})  # fmt: skip

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Head:
    """A request's head: names in lower case, values latin-1, the target as it was sent. `length` of the body in bytes,
    None when it is not known (chunked).
    """

    method: str
    target: str
    headers: Fields
    length: int | None
    expects: bool

    def get(self, name: str) -> str | None:
        """The first value of this name."""
        return next((value for each, value in self.headers if each == name), None)


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """A request that says that it is signed with `dummy`, which `verify` will see. `payload` is what it says of its
    body; None when that is the body's hash, and the body has to be read for it.
    """

    head: Head
    authorization: Authorization
    dummy: Dummy
    bucket: str | None
    host: str
    payload: str | None

    @property
    def service(self) -> str:
        """The signing name."""
        return self.authorization.scope.service

    @property
    def region(self) -> str:
        """The region that it is signed for."""
        return self.authorization.scope.region


def claim(head: Head, address: Address, find: Callable[[str], Dummy | None], now: datetime) -> Claim:
    """Read who says that he signed this, and when. Raises Fault."""
    bucket, host = check_origin(head, address)
    if not head.target.startswith("/") or not re.fullmatch(r"[A-Z]{1,16}", head.method):
        raise Fault("call_malformed", "Requests have a method in capital letters, and a path")
    try:
        authorization = sigv4.parse_authorization(head.method, head.target, head.headers)
    except SigV4Error as error:
        raise fault_of(error) from None
    dummy = find(authorization.access_key_id)
    if dummy is None or not _is(dummy, authorization.token):
        raise Fault("key_unknown", "The request is not signed with credentials of this agent, or with old ones")
    _check_time(authorization, now)
    payload = _payload(head, authorization)
    if bucket and authorization.scope.service not in sigv4.S3_SERVICES:
        raise Fault("call_malformed", "Only a bucket can stand before this server's name")
    return Claim(head, authorization, dummy, bucket, host, payload)


def verify(claim: Claim, payload_sha256: str) -> None:
    """Whether it is so. Raises Fault."""
    head, signed = claim.head, claim.authorization.signed_headers
    # SDK 2 for JavaScript never signs Content-Type. Nobody stands between it and us; we sign what we pass on.
    headers = [field for field in head.headers if field[0] != "content-type" or "content-type" in signed]
    try:
        with claim.dummy.secret as secret:
            sigv4.verify(claim.authorization, head.method, head.target, headers, payload_sha256, secret)
    except SigV4Error as error:
        raise fault_of(error) from None
    except ValueError:  # the key was wiped meanwhile
        raise Fault("key_unknown", "The grant is gone") from None


def onward(claim: Claim) -> tuple[str, Fields]:
    """The target and the headers that go on: with a Host, without a signature. Raises Fault."""
    head = claim.head
    dropped = OF_ONE_HOP | _OF_THE_CLIENT | _named_by_connection(head)
    headers = [("host", claim.host)]
    headers += [(name, value) for name, value in head.headers if name not in dropped and name != "host"]
    target = head.target
    if claim.authorization.presigned:
        target, hoisted = _without_headers(sigv4.without_signature(target))
        if {name for name, _ in hoisted} & {name for name, _ in headers}:
            raise Fault("call_ambiguous", "A header stands in the query, too")
        headers += hoisted
    if claim.bucket:
        target = f"/{claim.bucket}{target}"
    return target, tuple(headers)


def fault_of(error: SigV4Error) -> Fault:
    """What is wrong with a signature, as a refusal."""
    if error.reason == "unsigned":
        return Fault("call_denied", f"{error}: it needs the credentials that this agent gives")
    if error.reason in _REFUSED:
        return Fault("signature_refused", str(error))
    return Fault("call_ambiguous" if error.reason in _AMBIGUOUS else "call_malformed", str(error))


def check_origin(head: Head, address: Address) -> tuple[str | None, str]:
    """The bucket before the host, if there is one, and the host without it. Raises Fault for another host, and for what
    a browser or a proxy sent.
    """
    for name, _ in head.headers:
        if guard.is_of_browser_or_proxy(name):
            raise Fault("call_denied", "A browser or a proxy sent this request")
    named = [value.lower() for name, value in head.headers if name == "host"]
    own = guard.hosts(address)
    if len(named) == 1 and named[0] in own:
        return None, named[0]
    virtual = _BUCKET.fullmatch(named[0]) if len(named) == 1 else None
    if virtual is None or virtual[2] not in own:
        raise Fault("call_denied", "The Host header names another server")
    return virtual[1], virtual[2]


def _is(dummy: Dummy, token: str | None) -> bool:
    try:
        with dummy.token as right:
            return hmac.compare_digest(right, (token or "").encode("utf-8", "replace"))
    except ValueError:  # wiped
        return False


def _check_time(authorization: Authorization, now: datetime) -> None:
    made = datetime.strptime(authorization.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    skew = SKEW_OF_S3 if authorization.scope.service in sigv4.S3_SERVICES else SKEW
    if authorization.expires is not None:
        if now > made + timedelta(seconds=authorization.expires):
            raise Fault("call_denied", "Request has expired: the presigned URL is over")
        skew = max(skew, now - made)
    if abs(now - made) > skew:
        raise Fault("clock_skew", "The request was signed at another time than now")


def _payload(head: Head, authorization: Authorization) -> str | None:
    said = head.get(CONTENT)
    if said is None and authorization.presigned:
        query = head.target.partition("?")[2].split("&")
        found = [value for name, _, value in (part.partition("=") for part in query) if name.lower() == CONTENT]
        said = found[0] if found else UNSIGNED if authorization.scope.service in sigv4.S3_SERVICES else None
    if said is None or re.fullmatch(r"[0-9a-f]{64}", said) or said in PAYLOADS:
        return said
    if said.startswith("STREAMING-AWS4-ECDSA-"):
        raise fault_of(SigV4Error("sigv4a"))
    raise Fault("call_malformed", "X-Amz-Content-SHA256 is neither a hash nor a word of S3's")


def _named_by_connection(head: Head) -> frozenset[str]:
    said = ",".join(value for name, value in head.headers if name == "connection")
    return frozenset(word.strip().lower() for word in said.split(","))


def _without_headers(target: str) -> tuple[str, list[tuple[str, str]]]:
    """The target less the headers that an SDK moved into a presigned query, and these."""
    path, _, query = target.partition("?")
    kept, headers = [], []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        lower = unquote_to_bytes(name).decode("latin-1").lower()
        if not lower.startswith("x-amz-"):
            kept.append(part)
        elif lower != CONTENT:
            headers.append((lower, unquote_to_bytes(value).decode("latin-1")))
    return path + ("?" + "&".join(kept) if kept else ""), headers

"""Is a request signed, and by whom? botocore computes what the signature has to be: it knows nothing of our code."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^,/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;._-]+), ?Signature=([0-9a-f]{64})"
)


class Unsigned(Exception):
    """The request is not signed by a key that is known, or its signature is another one."""


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A secret access key, and the session token that goes with it."""

    secret: str
    token: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Signed:
    """Who signed, by which form, and what the signatures of chunks go on from."""

    access_key_id: str
    payload: str
    seed: str
    stamp: str
    scope: str
    secret: str


class _Named:
    """Signs exactly those headers that the client named, whatever botocore would leave out."""

    names: tuple[str, ...] = ()

    def headers_to_sign(self, request: Any) -> Any:
        found = HTTPHeaders()
        for name in self.names:
            found[name] = request.headers[name]
        return found


class _InHeader(_Named, S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    pass


class _InQuery(_Named, S3SigV4QueryAuth):  # type: ignore[misc]  # botocore has no types
    pass


def scope_service(headers: Mapping[str, str], target: str) -> str:
    """The service of a signature's scope, whether it holds or not; empty without one."""
    said = re.search(
        r"Credential=[^,&\s]+?(?:/|%2F)([a-z0-9-]+)(?:/|%2F)aws4_request", headers.get("authorization", "") + target
    )
    return said[1] if said else ""


def verify(method: str, target: str, headers: Mapping[str, str], keys: Mapping[str, Key]) -> Signed:
    """Who signed a request to S3. `headers` have names in lower case. Raises Unsigned."""
    query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        key_id, day, region, service, _ = query["X-Amz-Credential"].split("/")
        names, said, stamp = query["X-Amz-SignedHeaders"], query["X-Amz-Signature"], query["X-Amz-Date"]
        payload, token, kind = "UNSIGNED-PAYLOAD", query.get("X-Amz-Security-Token"), _InQuery
        target = re.sub(r"[?&]X-Amz-Signature=[0-9a-f]+$|X-Amz-Signature=[0-9a-f]+&", "", target)
    else:
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if not match:
            raise Unsigned("no signature")
        key_id, day, region, service, names, said = match.groups()
        stamp, payload = headers["x-amz-date"], headers["x-amz-content-sha256"]
        token, kind = headers.get("x-amz-security-token"), _InHeader
    key = keys.get(key_id)
    if key is None:
        raise Unsigned(f"nobody knows the key {key_id}")
    if token != key.token or service != "s3" or day != stamp[:8]:
        raise Unsigned("another session, service or day")
    judge = kind(Credentials(key_id, key.secret), service, region)
    judge.names = tuple(names.split(";"))
    sent = {name: value for name, value in headers.items() if name in judge.names or name == "x-amz-content-sha256"}
    request = AWSRequest(method, f"http://{headers['host']}{target}", headers=sent)
    request.context["timestamp"] = stamp
    computed = judge.signature(judge.string_to_sign(request, judge.canonical_request(request)), request)
    if not hmac.compare_digest(computed, said):
        raise Unsigned("the signature is another one")
    return Signed(key_id, payload, said, stamp, f"{day}/{region}/{service}/aws4_request", key.secret)


class Chain:
    """The signatures of a body's chunks. Amazon S3: "Transferring Payload in Multiple Chunks (Chunked Upload)"."""

    def __init__(self, signed: Signed) -> None:
        self._signed, self._last = signed, signed.seed
        key = f"AWS4{signed.secret}".encode()
        for word in signed.scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        self._key = key

    def check(self, kind: str, said: str, *hashes: str) -> None:
        """The next signature has to be this one. Raises Unsigned."""
        lines = [f"AWS4-HMAC-SHA256-{kind}", self._signed.stamp, self._signed.scope, self._last, *hashes]
        self._last = hmac.new(self._key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(self._last, said):
            raise Unsigned(f"a signature of a {kind.lower()} is another one")

"""The table of bad input: route × fault → status and problem code. Nothing in it may change the store.

A request that each route accepts is changed in one thing. What one line says of a group of routes holds for each of
them; `rows` gives every (route, row) there is. The changes speak about `Sent` and, where a fault needs something that
was made before (another's ticket, a forged document), about `Scene`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

CANARY = "canary-7f1d0c"  # in values that a request brings: no answer and no log repeats it
JSON = "application/json"


@dataclass(frozen=True)
class Sent:
    """A request as it goes over the wire."""

    method: str
    path: str
    query: str = ""
    fields: tuple[str, ...] = ()
    media_type: str | None = None
    body: bytes | None = None
    host: str = "127.0.0.1"
    length: str | None = None  # instead of the body's true one

    def raw(self) -> bytes:
        """Its bytes; what is not ASCII goes as UTF-8."""
        lines = [f"{self.method} {self.path}{self.query} HTTP/1.1", *([f"Host: {self.host}"] if self.host else [])]
        lines += [f"User-Agent: {CANARY}", f"X-Ssl-Client-Verify: {CANARY}", *self.fields]
        lines += [f"Content-Type: {self.media_type}"] if self.media_type else []
        if self.body is not None or self.length:
            lines.append(f"Content-Length: {self.length or len(self.body or b'')}")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found


Scene = dict[str, Any]
Change = Callable[[Sent, Scene], Sent]


class Row(NamedTuple):
    """One fault, what makes it, and the answer, as `status code`. `recorded`: it leaves one decision in the audit log.

    What the server refuses before it knows which route is meant leaves no record: it is counted (docs/api.md).
    """

    fault: str
    change: Change
    answer: str
    recorded: bool = True


class Route(NamedTuple):
    """`caller` is whose certificate is presented: "instance", "operator" or "" (none). `groups` picks lines of TABLE.

    `invalid` is the answer to a JSON body of the wrong form; `texts` and `numbers` are the fields of that body.
    """

    listener: str
    method: str
    rule: str
    caller: str
    groups: tuple[str, ...]
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    invalid: str = "400 malformed_request"


def sent(**fields: Any) -> Change:
    """Other parts of the request."""
    return lambda request, _: replace(request, **fields)


def field(line: str) -> Change:
    """One more header field."""
    return lambda request, _: replace(request, fields=(*request.fields, line))


def body(raw: bytes | str) -> Change:
    """Another body."""
    return sent(body=raw if isinstance(raw, bytes) else raw.encode())


def edited(change: Callable[[str], str]) -> Change:
    """The text of the body, changed."""
    return lambda request, _: replace(
        request, body=change((request.body or b"").decode()).encode("utf-8", "surrogatepass")
    )


def path(change: Callable[[str], str]) -> Change:
    """Another path."""
    return lambda request, _: replace(request, path=change(request.path))


def put(where: str, value: Any) -> Change:
    """Another value in the JSON body, at `a.b` or `a[].b` (the first of a list); a callable makes it from the scene."""

    def change(request: Sent, scene: Scene) -> Sent:
        message = request.message
        *outer, last = where.split(".")
        place = message
        for step in outer:
            place = place[step.removesuffix("[]")][0] if step.endswith("[]") else place.setdefault(step, {})
        if value is MISSING:
            place.pop(last, None)
        else:
            place[last] = value(scene) if callable(value) else value
        return replace(request, body=json.dumps(message).encode())

    return change


def of(name: str) -> Callable[[Scene], Any]:
    """Something that the scene holds."""
    return lambda scene: scene[name]


def nested_tables(depth: int) -> dict[str, Any]:
    """An object in an object, and so on."""
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


MISSING = object()

# The table

TABLE: dict[str, tuple[Row, ...]] = {
    # Every route there is: what the server refuses before it looks at the path.
    "all": (
        Row("another Host", sent(host="evil.test"), "421 misdirected_request", False),
        Row("no Host", sent(host=""), "400 malformed_request", False),
        Row("Host with a user", sent(host="a@127.0.0.1"), "400 malformed_request", False),
        Row("a head over 16 KiB", field("X-Long: " + "x" * 16384), "431 head_too_large", False),
        Row("65 header fields", sent(fields=tuple(f"X-{i}: 1" for i in range(65))), "431 head_too_large", False),
        Row("a header in full-width digits", field("X-Odd: ９００"), "400 malformed_request", False),
        Row("a header with NUL", field("X-Odd: a\0b"), "400 malformed_request", False),
        Row("Content-Encoding", field("Content-Encoding: gzip"), "415 unsupported_media_type", False),
        Row("chunked", lambda r, _: replace(r, fields=("Transfer-Encoding: chunked",), length=None, body=None),
            "501 not_implemented", False),
        Row("an expectation", field("Expect: the-best"), "501 not_implemented", False),
        Row("a small method", lambda r, _: replace(r, method=r.method.lower()), "400 malformed_request", False),
        Row("TRACE", sent(method="TRACE"), "405 method_not_allowed", False),
        Row("OPTIONS", sent(method="OPTIONS"), "405 method_not_allowed", False),
        Row("an escaped dot in the path", path(lambda p: "/%2e" + p), "400 malformed_request", False),
        Row("a dot segment", path(lambda p: "/x/.." + p), "400 malformed_request", False),
        Row("two slashes", path(lambda p: "/" + p), "400 malformed_request", False),
        Row("a path parameter", path(lambda p: p + ";x"), "400 malformed_request", False),
        Row("NUL in the path", path(lambda p: p + "%00"), "400 malformed_request", False),
        Row("full-width digits in the path", path(lambda p: p + "９"), "400 malformed_request", False),
        Row("an unknown path", path(lambda p: "/odd" + p), "404 not_found"),
        Row("the path in capitals", path(str.upper), "404 not_found"),
    ),
    "method": (Row("a wrong method", sent(method="DELETE", body=None), "405 method_not_allowed"),),
    "get": (
        Row("a body", sent(body=b"{}", media_type=JSON), "400 malformed_request", False),
        Row("a body over 64 KiB", sent(length="65537"), "400 malformed_request", False),
    ),
    "post": (
        Row("a body over 64 KiB", sent(length="65537"), "413 body_too_large", False),
        Row("a body of 2^63", sent(length=str(2**63)), "413 body_too_large", False),
        Row("a length in hexadecimal", sent(length="0x2"), "400 malformed_request", False),
        Row("two lengths", field("Content-Length: 3"), "400 malformed_request", False),
    ),
    "bare": (  # POST without a body
        Row("a body", sent(body=b"{}", media_type=JSON), "400 malformed_request"),
        Row("a body that is text", sent(body=b"x", media_type="text/plain"), "400 malformed_request"),
    ),
    "no query": (Row("a query", sent(query=f"?limit={CANARY}"), "400 malformed_request"),),
    "identity": (Row("no certificate", sent(), "401 certificate_required"),),
    "json": (
        Row("no media type", sent(media_type=None), "415 unsupported_media_type"),
        Row("text/plain", sent(media_type="text/plain"), "415 unsupported_media_type"),
        Row("a form", sent(media_type="application/x-www-form-urlencoded"), "415 unsupported_media_type"),
        Row("multipart", sent(media_type="multipart/form-data; boundary=x"), "415 unsupported_media_type"),
        Row("JSON of another kind", sent(media_type="application/merge-patch+json"), "415 unsupported_media_type"),
        Row("an empty body", body(b""), "400 malformed_request"),
        Row("no JSON", body(CANARY), "400 malformed_request"),
        Row("a list", body(b"[]"), "400 malformed_request"),
        Row("null", body(b"null"), "400 malformed_request"),
        Row("a string", body(f'"{CANARY}"'), "400 malformed_request"),
        Row("NaN", edited(lambda t: t[:-1] + ', "odd": NaN}'), "400 malformed_request"),
        Row("Infinity", edited(lambda t: t[:-1] + ', "odd": -Infinity}'), "400 malformed_request"),
        Row("a key twice", edited(lambda t: t[:-1] + "," + t[1:]), "400 malformed_request"),
        Row("something behind it", edited(lambda t: t + "{}"), "400 malformed_request"),
        Row("a comment", edited(lambda t: "/* */" + t), "400 malformed_request"),
        Row("a comma too many", edited(lambda t: t[:-1] + ",}"), "400 malformed_request"),
        Row("a byte order mark", edited(lambda t: "\ufeff" + t), "400 malformed_request"),
        Row("UTF-16", lambda r, _: replace(r, body=(r.body or b"").decode().encode("utf-16")), "400 malformed_request"),
        Row("UTF-8 with a surrogate", edited(lambda t: t[:-1] + ', "\ud800": 1}'), "400 malformed_request"),
        Row("bytes that are no UTF-8", body(b'{"odd": "\xff\xfe"}'), "400 malformed_request"),
        Row("a raw NUL", edited(lambda t: t[:-1] + ', "odd": "\0"}'), "400 malformed_request"),
        Row("lists 30,000 deep", body(b"[" * 30_000 + b"]" * 30_000), "400 malformed_request"),
        Row("objects 10,000 deep", body(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "400 malformed_request"),
        Row("5,000 digits", edited(lambda t: t[:-1] + f', "odd": {"9" * 5000}}}'), "400 malformed_request"),
    ),
    # What a decoded body may not hold; the answer is the route's `invalid`.
    "form": (
        Row("an empty object", body(b"{}"), ""),
        Row("an unknown field", put("odd", CANARY), ""),
        Row("an unknown field with an odd name", put("\x1b[2J\u2028\u202e\0", 1), ""),
        Row("an unknown field with half a character", put("\ud800", 1), "400 malformed_request"),
        Row("a field in capitals", edited(lambda t: t[:-1] + ', "' + t[2:].partition('"')[0].upper() + '": 1}'), ""),
        Row("4,000 unknown fields", body(json.dumps({f"k{i}": 0 for i in range(4000)})), ""),
        Row("4,000 digits", edited(lambda t: t[:-1] + f', "odd": {"9" * 4000}}}'), ""),
    ),
    "POST /v1/enroll": (
        Row("no evidence", put("evidence", MISSING), "400 malformed_request"),
        Row("evidence that is a list", put("evidence", []), "400 malformed_request"),
        Row("evidence with an unknown field", put("evidence.odd", 1), "400 malformed_request"),
        Row("no ticket and no proof", put("ticket", MISSING), "400 malformed_request"),
        Row("ticket and proof", put("proof", of("proof")), "400 malformed_request"),
        Row("evidence of another kind", put("evidence.kind", "aws-ec2-identity-document-v2"), "400 malformed_request"),
        Row("a document in wrong base64", put("evidence.document", "YQ="), "400 evidence_malformed"),
        Row("a document in base64url", put("evidence.document", "-_-_"), "400 malformed_request"),
        Row("a document that is no JSON", put("evidence.document", "AAAA"), "400 evidence_malformed"),
        Row("a document with a key twice", put("evidence.document", of("document twice")), "400 evidence_malformed"),
        Row("a document that is a list", put("evidence.document", "W10="), "400 evidence_malformed"),
        Row("a document nested 2,000 deep", put("evidence.document", of("document deep")), "400 evidence_malformed"),
        Row("a document changed by one byte", put("evidence.document", of("document changed")), "403 evidence_refused"),
        Row("a document of another region", put("evidence", of("evidence of another region")), "403 evidence_refused"),
        Row("a document signed by another", put("evidence", of("evidence of another signer")), "403 evidence_refused"),
        Row("a document of no instance", put("evidence", of("evidence of no instance")), "403 evidence_refused"),
        Row("a document of another account", put("evidence", of("evidence of a foreigner")), "403 evidence_refused"),
        Row("a document with odd claims", put("evidence", of("evidence with odd claims")), "400 evidence_malformed"),
        Row("a signature that is no PKCS#7", put("evidence.pkcs7", "AAAA"), "400 evidence_malformed"),
        Row("a signature cut short", put("evidence.pkcs7", of("pkcs7 cut")), "400 evidence_malformed"),
        Row("a signature nested 2,000 deep", put("evidence.pkcs7", of("pkcs7 deep")), "400 evidence_malformed"),
        Row("another's evidence", put("evidence", of("evidence of an enrolled instance")), "409 instance_enrolled"),
        Row("a ticket that nobody made", put("ticket", "0" * 48), "401 ticket_invalid"),
        Row("a ticket that ran out", put("ticket", of("ticket expired")), "401 ticket_invalid"),
        Row("a ticket for another instance", put("ticket", of("ticket of another")), "401 ticket_invalid"),
        Row("a ticket that was revoked", put("ticket", of("ticket revoked")), "401 ticket_invalid"),
        Row("a ticket that was used", put("ticket", of("ticket used")), "409 ticket_used"),
        Row("a ticket in capitals", lambda r, s: put("ticket", s["ticket"].upper())(r, s), "401 ticket_invalid"),
        *(Row(f"a CSR {what}", put("csr", of(f"csr {what}")), "400 csr_refused") for what in (
            "of an RSA key", "of a P-384 key", "with a subject", "with a SAN", "that asks for a CA", "with SHA-384",
            "with another's signature", "cut short", "with bytes behind it", "twice", "in DER", "in lower case",
            "of a certificate", "nested 1,000 deep")),
        Row("a CSR over 8 KiB", put("csr", "x" * 8193), "400 malformed_request"),
        Row("a proof and no nonce of ours", lambda r, s: _proof(r, s, nonce="AAAA"), "403 proof_refused"),
        Row("a proof with a nonce of nobody's", lambda r, s: _proof(r, s, nonce=s["proof"]["nonce"][:-4] + "AAAA"),
            "403 proof_refused"),
        Row("a proof by another key", lambda r, s: _proof(r, s), "403 proof_refused"),
        Row("a proof that is no signature", lambda r, s: _proof(r, s, signature="AAAA"), "403 proof_refused"),
        Row("a proof in wrong base64", lambda r, s: _proof(r, s, signature="AAA"), "403 proof_refused"),
        Row("a proof with an unknown field", lambda r, s: _proof(r, s, odd=1), "400 malformed_request"),
    ),
    "POST /v1/renew": (
        Row("a CSR of another key", put("csr", of("csr")), "400 csr_refused"),
        Row("a CSR with a SAN", put("csr", of("csr with a SAN")), "400 csr_refused"),
        Row("a CSR nested 1,000 deep", put("csr", of("csr nested 1,000 deep")), "400 csr_refused"),
        Row("a CSR over 8 KiB", put("csr", "x" * 8193), "400 malformed_request"),
    ),
    "POST /v1/credentials": (
        Row("a grant that nobody has", put("grant", "absent"), "403 grant_refused"),
        Row("a grant of another profile", put("grant", "payroll"), "403 grant_refused"),
        *(Row(f"duration {value}", put("duration", value), "400 malformed_request") for value in (899, 43201, 900.0)),
    ),
    "POST /v1/dummy-keys": (
        Row("a grant that nobody has", put("grant", "absent"), "403 grant_refused"),
        Row("a grant whose calls go by token", put("grant", "token"), "403 grant_refused"),
        Row("a key of AWS", put("access_key_id", "AKIAIOSFODNN7EXAMPLE"), "400 malformed_request"),
    ),
    "POST /v1/signatures": (
        Row("a body of 3 MiB", sent(length=str(3 * 1024 * 1024)), "413 body_too_large", False),
        Row("a grant that the key is not of", put("grant", "carried"), "403 signature_refused"),
        Row("another method", put("method", "DELETE"), "403 signature_refused"),
        Row("another target", put("target", "/demo-data/payroll/x"), "403 signature_refused"),
        Row("headers that are no list", put("headers", {}), "400 malformed_request"),
        Row("no headers", put("headers", []), "403 signature_refused"),
        Row("a header with an unknown field", put("headers[].odd", 1), "400 malformed_request"),
        Row("a header in capitals", put("headers[].name", "Host"), "400 malformed_request"),
        Row("a host with a path", put("host", "a/b"), "400 malformed_request"),
        Row("a host of nobody's", put("host", "evil.test"), "403 call_denied"),
        Row("a presigned URL", put("presign", 60), "403 presign_refused"),
        *(Row(f"presign {value}", put("presign", value), "400 malformed_request") for value in (
            0, -1, 604801, "60", 1.5)),
        *(Row(f"a body {what}", put("body", value), "400 malformed_request") for what, value in (
            ("in base64url", "-_-_"), ("of a number", 1))),
        Row("a body that is not the one that was signed", put("body", "YQ=="), "403 signature_refused"),
    ),
    "PUT /v1/profiles/<name>": (
        Row("another name in the path", path(lambda p: p + "x"), "400 profile_invalid"),
        Row("a name with a dot in the path", path(lambda p: p + ".x"), "400 profile_invalid"),
        Row("two names in the path", path(lambda p: p + "/x"), "404 not_found"),
        Row("no name in the path", path(lambda p: p.rpartition("/")[0] + "/"), "404 not_found"),
        Row("an upstream key that nobody has", put("upstream", "absent"), "404 upstream_key_unknown"),
        Row("no grants", put("grants", []), "400 profile_invalid"),
        Row("grants that are no list", put("grants", {}), "400 profile_invalid"),
        Row("a grant with an unknown field", put("grants[].odd", 1), "400 profile_invalid"),
        Row("a grant twice", lambda r, s: put("grants", r.message["grants"] * 2)(r, s), "400 profile_invalid"),
        Row("a user for a role", put("grants[].role", "arn:aws:iam::000000000000:user/x"), "400 profile_invalid"),
        Row("a duration of 14m", put("grants[].duration", "14m"), "400 profile_invalid"),
        Row("a duration of 13h", put("grants[].duration", "13h"), "400 profile_invalid"),
        Row("attestation of another shape", put("attestation", []), "400 profile_invalid"),
        Row("attestation with an unknown field", put("attestation.odd", 1), "400 profile_invalid"),
        Row("images that are no list", put("attestation.images", "ami-1"), "400 profile_invalid"),
        Row("images that are numbers", put("attestation.images", [1]), "400 profile_invalid"),
        Row("source_address in words", put("attestation.source_address", "yes"), "400 profile_invalid"),
        Row("max_age in words", put("attestation.max_age", "1 hour"), "400 profile_invalid"),
        *(Row(f"a policy {what}", put("grants[].policy", policy), "400 profile_invalid") for what, policy in (
            ("that is no JSON", "{"), ("that is a list", "[]"), ("of another version", '{"Version":"2008-10-17"}'),
            ("without a statement", '{"Version":"2012-10-17","Statement":[]}'),
            ("with a key twice", '{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}'),
            ("without an effect", '{"Version":"2012-10-17","Statement":[{"Action":"*","Resource":"*"}]}'),
            ("that names a principal", '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*",'
             '"Resource":"*","Principal":"*"}}'),
            ("of 1,000 lists", "[" * 1000 + "]" * 1000), ("over 2,048 characters", " " * 2049),
            ("of 900 tables", nested_tables(900)))),
        *(Row(f"the query {value}", sent(query=f"?{value}"), "400 malformed_request") for value in (
            "dry_run", "dry_run=", "dry_run=yes", "dry_run=True", "dry_run=true&dry_run=true", f"odd={CANARY}")),
        *(Row(f"If-Match: {value}", field(f"If-Match: {value}"), "400 malformed_request") for value in (
            "7", 'W/"7"', '"x"', '"0"', '""', '"7", *', '"7",', '"999999999"', '"-1"')),
        Row('If-None-Match: "7"', field('If-None-Match: "7"'), "400 malformed_request"),
        Row("If-Match: another version", field('If-Match: "9999"'), "412 precondition_failed"),
        Row("a dry run of nonsense", lambda r, s: put("grants", [])(replace(r, query="?dry_run=true"), s),
            "400 profile_invalid"),
    ),
    "GET /v1/profiles/<name>": (
        *(Row(f"version={value}", sent(query=f"?version={value}"), "400 malformed_request") for value in (
            "0", "-1", "1.0", "", "x", "1e1", "%EF%BC%91", "1%0A", "123456789", "1&version=1", "01")),
        Row("a version that is not there", sent(query="?version=9999"), "404 profile_unknown"),
        Row("a profile that nobody applied", path(lambda p: p + "x"), "404 profile_unknown"),
    ),
    "GET /v1/profiles/<name>/versions": (
        Row("a profile that nobody applied", path(lambda p: p.replace("web", "webx")), "404 profile_unknown"),
    ),
    "POST /v1/profiles/<name>/rollback": (
        Row("a version that is not there", put("version", 9999), "404 profile_unknown"),
        Row("a profile that nobody applied", path(lambda p: p.replace("web", "webx")), "404 profile_unknown"),
        Row("If-Match: another version", field('If-Match: "9999"'), "412 precondition_failed"),
        Row("If-Match: no tag", field("If-Match: 1"), "400 malformed_request"),
    ),
    "POST /v1/tickets": (
        Row("a profile that nobody applied", put("profile", "absent"), "404 profile_unknown"),
        Row("a life of 86,401 s", put("life", 86401), "400 malformed_request"),
        Row("an instance with capitals", put("instance_id", "I-0123456789ABCDEF0"), "400 malformed_request"),
    ),
    # A list: its page, and filters by equality.
    "page": (
        *(Row(f"limit={value}", sent(query=f"?limit={value}"), "400 malformed_request") for value in (
            "-1", "0", "1000000000", "", "+1", "1e2", "0x1", "%EF%BC%91", "1%0A", "1%00", "1&limit=1", "1&limit=2")),
        Row("an unknown key", sent(query=f"?odd={CANARY}"), "400 malformed_request"),
        Row("a key in capitals", sent(query="?LIMIT=1"), "400 malformed_request"),
        Row("a cursor of 1,025 characters", sent(query=f"?after={'x' * 1025}"), "400 malformed_request"),
        Row("a cursor of nobody's", sent(query=f"?after={'x' * 32}"), "400 malformed_request"),
        Row("a key of a row for a cursor", sent(query="?after=i-0"), "400 malformed_request"),
        Row("an empty cursor", sent(query="?after="), "400 malformed_request"),
        Row("an order", sent(query="?sort=id"), "400 malformed_request"),
    ),
    # A change that goes through the desk.
    "changes": (
        Row("an empty idempotency key", field("Idempotency-Key: "), "400 malformed_request"),
        Row("an idempotency key with a blank", field("Idempotency-Key: a b"), "400 malformed_request"),
        Row("an idempotency key of 129 characters", field("Idempotency-Key: " + "x" * 129), "400 malformed_request"),
        Row("two idempotency keys", lambda r, _: replace(r, fields=(*r.fields, "Idempotency-Key: a",
            "Idempotency-Key: b")), "400 malformed_request"),
        Row("an approval that is none", field("Approval: yes"), "400 malformed_request"),
    ),
    "GET /v1/instances": (
        Row("a state that is none", sent(query="?state=ENROLLED"), "400 malformed_request"),
    ),
    "GET /v1/instances/<path:named>/certificates": (
        Row("a state that is none", sent(query="?state=expired"), "400 malformed_request"),
        Row("an unknown instance", path(lambda p: p.replace("/i-", "/i-f")), "404 instance_unknown"),
    ),
    "GET /v1/tickets": (
        Row("a state that is none", sent(query="?state=used"), "400 malformed_request"),
    ),
    "GET /v1/leases": (
        Row("an unknown instance", sent(query="?instance=i-0"), "404 instance_unknown"),
        Row("live=1", sent(query="?live=1"), "400 malformed_request"),
    ),
    "GET /v1/servers": (
        *(Row(f"a {name} that is none", sent(query=f"?{name}={value}"), "400 malformed_request") for name, value in (
            ("state", "RUNNING"), ("enrolment", "yes"), ("region", "mars"), ("profile", "Web"))),
    ),
    "POST /v1/servers": (
        Row("an unknown profile", put("profile", "absent"), "404 profile_unknown"),
        Row("a profile without a launch", put("profile", "web"), "409 launch_missing"),
        *(Row(f"the name {name!r}", put("name", name), "400 malformed_request")
          for name in ("", "a\n", "a\0b", "<b>", "\uff19", "x" * 121)),
        Row("user-data with our line", put("user_data", "#trusted-gateway {}"), "400 malformed_request"),
        Row("user-data with a NUL", put("user_data", "a\0b"), "400 malformed_request"),
        Row("user-data of 16 KiB", put("user_data", "x" * 16384), "400 malformed_request"),
        Row("user-data with an AWS key", put("user_data", f"AKIA0123456789ABCDEF {CANARY}"), "400 user_data_refused"),
        Row("user-data with a password", put("user_data", f"DB_PASSWORD={CANARY}"), "400 user_data_refused"),
        Row("an instance profile", put("iam_instance_profile", "admin"), "400 malformed_request"),
    ),
    "server": tuple(
        Row(f"the id {named}", path(lambda p, named=named: re.sub("/i-[0-9a-f]+", f"/{named}", p)),  # type: ignore[misc]
            "404 server_unknown")
        for named in ("i-0", "I-0123456789ABCDEF0", "'or'1'='1", "i-0fedcba9876543210", "aws/1/2/i-0", "*", "a/b/c/d")
    ),
    "operator": (
        Row("an operator that nobody added", path(lambda p: p.replace("/dora", "/dorax")), "404 operator_unknown"),
        Row("an operator in capitals", path(lambda p: p.replace("/dora", "/Dora")), "404 operator_unknown"),
    ),
    "edited": (
        Row("If-Match: another version", field('If-Match: "9999"'), "412 precondition_failed"),
        Row("If-Match: no tag", field("If-Match: 1"), "400 malformed_request"),
        Row("If-None-Match: a tag", field('If-None-Match: "1"'), "400 malformed_request"),
    ),
    "role": (Row("a role that nobody made", path(lambda p: p + "x"), "404 role_unknown"),),
    "approval": (
        Row("an approval of nothing", path(lambda p: p.replace("/ap-", "/ap-f")), "404 approval_unknown"),
        Row("SQL", path(lambda p: p.replace("/ap-", "/'or'1'='1")), "404 approval_unknown"),
    ),
    "POST /v1/operators": (
        Row("an operator who is there", put("name", "alice"), "409 conflict"),
        Row("the name self", put("name", "self"), "400 operator_invalid"),
        Row("a name in capitals", put("name", "Eve"), "400 malformed_request"),
        Row("a role that nobody made", put("roles", [CANARY]), "400 operator_invalid"),
        Row("roles that are no list", put("roles", "monitor"), "400 malformed_request"),
        Row("hours that are none", put("hours", [CANARY]), "400 operator_invalid"),
        Row("a source that is none", put("source_addresses", [CANARY]), "400 operator_invalid"),
        Row("a CSR of an RSA key", put("csr", of("csr of an RSA key")), "400 csr_refused"),
        Row("a CSR with a subject", put("csr", of("csr with a subject")), "400 csr_refused"),
    ),
    "PUT /v1/operators/<name>": (
        Row("a role that nobody made", put("roles", [CANARY]), "400 operator_invalid"),
        Row("a role in capitals", put("roles", ["ADMINISTRATOR"]), "400 malformed_request"),
        Row("a role with a blank", put("roles", [" administrator"]), "400 malformed_request"),
        Row("no roles", put("roles", MISSING), "400 malformed_request"),
        Row("the last administrator", path(lambda p: p.replace("/dora", "/alice")), "409 conflict"),
        Row("65 hours", put("hours", ["daily 00:00-24:00 UTC"] * 65), "400 operator_invalid"),
    ),
    "PUT /v1/roles/<name>": (
        Row("a built-in role, If-None-Match: a tag", lambda r, _: replace(
            r, path=r.path.replace("/rolled", "/auditor"), fields=('If-None-Match: "1"',)), "400 malformed_request"),
        Row("a built-in role", path(lambda p: p.replace("/rolled", "/auditor")), "409 conflict"),
        Row("a name with a dot", path(lambda p: p + ".x"), "400 role_invalid"),
        Row("no permissions", put("permissions", []), "400 role_invalid"),
        Row("a permission of nothing", put("permissions", ["operator:key:read"]), "400 role_invalid"),
        Row("a permission with a blank", put("permissions", [" operator:key:list"]), "400 role_invalid"),
        Row("an account that is none", put("accounts", [CANARY]), "400 role_invalid"),
        Row("hours that are none", put("hours", [CANARY]), "400 role_invalid"),
    ),
    "DELETE /v1/roles/<name>": (
        Row("a built-in role", path(lambda p: p.replace("/rolled", "/auditor")), "409 conflict"),
    ),
    "POST /v1/servers/<path:named>/terminate": (
        Row("keep_enrolment=1", sent(query="?keep_enrolment=1"), "400 malformed_request"),
        Row("an unknown key", sent(query=f"?odd={CANARY}"), "400 malformed_request"),
    ),
    "GET /v1/checkpoint": (
        Row("the number 0", sent(query="?after=0"), "400 malformed_request"),
        Row("a number of 13 digits", sent(query="?after=1000000000000"), "400 malformed_request"),
        Row("a number that is none", sent(query="?after=%E0%A5%A7"), "400 malformed_request"),
        Row("an unknown key", sent(query=f"?odd={CANARY}"), "400 malformed_request"),
        Row("a checkpoint of nobody's", sent(query="?after=999999999999"), "404 checkpoint_unknown"),
    ),
    "GET /v1/audit/checkpoint": (
        Row("the number -1", sent(query="?after=-1"), "400 malformed_request"),
        Row("a checkpoint of nobody's", sent(query="?after=999999999999"), "404 checkpoint_unknown"),
    ),
    "GET /v1/audit/search": (
        *(Row(f"since {written!r}", sent(query=f"?since={written}"), "400 malformed_request") for written in (
            "", "now", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00%2B00:00")),
        Row("an unknown instance", sent(query="?instance=i-0"), "404 instance_unknown"),
        Row("an outcome that is none", sent(query="?outcome=maybe"), "400 malformed_request"),
        Row("a kind that is none", sent(query="?kind=DECISION"), "400 malformed_request"),
        Row("an event that is none", sent(query="?event=%25"), "400 malformed_request"),
        Row("a secret, instead of its hash", sent(query=f"?presented=ticket:{CANARY}"), "400 malformed_request"),
        Row("a secret of another kind", sent(query=f"?presented=key:{'0' * 64}"), "400 malformed_request"),
    ),
    "POST /v1/reconciliations": (
        Row("nothing", put("inventory", False), "400 malformed_request"),
        Row("events and a trail", put("trail", "lookup"), "400 malformed_request"),
        Row("501 events", put("events", [{}] * 501), "400 malformed_request"),
        Row("an event that is none", put("events", ["x"]), "400 malformed_request"),
        *(Row(f"the trail {trail}", body(json.dumps({"trail": trail, "upstream": "main"})), "400 malformed_request")
          for trail in ("", "s3://", "http://169.254.169.254/", "s3://a/../b?c", "LOOKUP", "s3://bucket/\n")),
        Row("a trail by no key", body(json.dumps({"trail": "lookup"})), "400 malformed_request"),
        Row("a key of nobody's", body(json.dumps({"trail": "lookup", "upstream": "x"})), "404 upstream_key_unknown"),
        Row("a place of nobody's", body(json.dumps({"trail": "lookup", "upstream": "main", "after": "[9,null]"})),
            "400 malformed_request"),
        Row("the future", body(json.dumps({"trail": "lookup", "upstream": "main", "until": "2999-01-01T00:00:00Z"})),
            "400 malformed_request"),
    ),
    "GET /v1/findings": (
        Row("a kind that is none", sent(query="?kind=x"), "400 malformed_request"),
    ),
    "GET /v1/audit/summary/instances/<path:named>": (
        Row("an unknown instance", path(lambda p: p.replace("/i-", "/i-f")), "404 instance_unknown"),
        Row("since yesterday", sent(query="?since=yesterday"), "400 malformed_request"),
    ),
    "GET /v1/audit": (
        *(Row(f"limit={value}", sent(query=f"?limit={value}"), "400 malformed_request") for value in (
            "-1", "0", "1001", "1000000000", "", "%EF%BC%91", "1%0A", "1&limit=1")),
        *(Row(f"after={value}", sent(query=f"?after={value}"), "400 malformed_request") for value in (
            "x", "x:", "x:-1", "x:1.5", ":1", "x:1,", "X:1", "x:%EF%BC%91", "x:1%00", "x:9999999999999999999",
            "x:1%0A", "'%20or%201=1", "x:1&after=x:2")),
        Row("an unknown key", sent(query=f"?odd={CANARY}"), "400 malformed_request"),
        Row("a cursor of 4,097 characters", sent(query="?after=" + "x:1," * 1024 + "x:12"), "400 malformed_request"),
    ),
    "GET /v1/audit/export": (
        *(Row(f"format={value}", sent(query=f"?format={value}"), "400 malformed_request") for value in (
            "", "csv", "RAW", "raw%00", "raw&format=ecs")),
        Row("a chain twice", sent(query="?after=x:1,x:2"), "400 malformed_request"),
    ),
    "GET /v1/instances/<path:named>": tuple(
        Row(f"the id {named}", sent(path=f"/v1/instances/{named}"), "404 instance_unknown")
        for named in ("i-0", "I-0123456789ABCDEF0", "'or'1'='1", "i-0123456789abcdef0/", "aws/1/2/i-0", "*", "a/b/c/d")
    ),
    # All of them are sent as dry runs.
    "revocation": (
        *(Row(f"the query {value}", sent(query=f"?{value}"), "400 malformed_request") for value in (
            "dry_run", "dry_run=yes", "dry_run=true&dry_run=true", f"odd={CANARY}", f"reason={'x' * 257}")),
    ),
    "key": (
        *(Row(f"the query {value}", sent(query=f"?{value}"), "400 malformed_request") for value in (
            "dry_run", "dry_run=yes", "dry_run=true&dry_run=true", f"odd={CANARY}")),
        Row("an unknown key", path(lambda p: p.replace("/keys/", "/keys/un")), "404 upstream_key_unknown"),
    ),
    "POST /v1/revocations/instances/<path:named>": (
        Row("an unknown instance", path(lambda p: p.replace("/i-", "/i-f")), "404 instance_unknown"),
        Row("another account", path(lambda p: p.replace("/i-", "/aws/1/us-east-1/i-")), "404 instance_unknown"),
    ),
    "POST /v1/revocations/certificates/<serial>": (
        Row("an unknown serial number", path(lambda p: p + "0"), "404 target_unknown"),
    ),
    "POST /v1/revocations/leases/<id>": (
        Row("an unknown lease", path(lambda p: p + "0"), "404 target_unknown"),
        Row("SQL", path(lambda p: p + "'or'1'='1"), "404 target_unknown"),
    ),
    "POST /v1/revocations/grants/<profile>/<grant>": (
        Row("an unknown grant", path(lambda p: p + "x"), "404 target_unknown"),
        Row("an unknown profile", path(lambda p: p.replace("web", "webx")), "404 profile_unknown"),
    ),
    "POST /v1/revocations/profiles/<name>": (
        Row("an unknown profile", path(lambda p: p + "x"), "404 profile_unknown"),
    ),
    "POST /v1/revocations/tickets/<id>": (
        Row("an unknown ticket", path(lambda p: p + "0"), "404 target_unknown"),
    ),
    "POST /v1/revocations/operators/<name>": (
        Row("an unknown operator", path(lambda p: p + "x"), "404 operator_unknown"),
        Row("the last administrator", path(lambda _: "/v1/revocations/operators/alice"), "409 conflict"),
    ),
    "POST /v1/revocations/everything": (
        Row("operators=1", sent(query="?dry_run=true&operators=1"), "400 malformed_request"),
    ),
    "GET /v1/keys/<name>/rotations/<id>": (
        Row("an unknown rotation", path(lambda p: p + "0"), "404 target_unknown"),
    ),
    "GET /v1/revocations": (
        Row("a state that is none", sent(query="?state=over"), "400 malformed_request"),
        Row("a kind that is none", sent(query="?kind=machine"), "400 malformed_request"),
    ),
    "GET /v1/revocations/<id>": (
        Row("an unknown revocation", path(lambda p: p + "0"), "404 target_unknown"),
    ),
    "POST /v1/instances/<path:named>/allow-reenroll": (
        Row("an unknown instance", path(lambda p: p.replace("/i-", "/i-f")), "404 instance_unknown"),
        Row("a revoked instance", lambda r, s: replace(r, path=f"/v1/instances/{s['revoked']}/allow-reenroll"),
            "403 instance_revoked"),
    ),
}  # fmt: skip

# Every field of a body, in turn: what is no value for a text, and what is no number.
NO_TEXT: dict[str, Any] = {
    "missing": MISSING, "null": None, "a number": 1, "true": True, "a list": ["a"], "an object": {"a": 1},
}  # fmt: skip
ODD_TEXT: dict[str, str] = {
    "empty": "", "full-width digits": "９００", "NUL": "a\0b", "U+2028": "a\u2028b", "a lone surrogate": "a\ud800",
    "a byte order mark": "\ufeffa", "a line end behind it": "a\n", "ESC": "\x1b[2J", "a direction mark": "\u202ea",
    "9,000 characters": "a" * 9000, "CR LF": "a\r\nX-Odd: 1", "a brace": '"},{"',
}  # fmt: skip
NO_NUMBER: dict[str, Any] = {
    "0": 0, "-1": -1, "10^9": 10**9, "10^400": 10**400, "text": "900", "full-width digits": "９００",
    "a fraction": 900.5, "true": True, "a list": [900], "an object": {}, "text with an underscore": "9_00",
}  # fmt: skip
OPTIONAL = {"instance_id", "duration", "life", "upstream", "attestation.max_age", "grants[].duration"}

INSTANCE_TEXTS = ("csr", "evidence.kind", "evidence.document", "evidence.pkcs7", "ticket")
GRANT_TEXTS = tuple(f"grants[].{name}" for name in ("name", "role", "region", "policy", "duration"))
SHOWN = ("all", "method", "get")  # the same for everyone, and without a record
ASKED = (*SHOWN, "identity")
BARE = ("all", "method", "post", "bare", "no query")
TOLD = ("all", "method", "post", "json", "form", "no query")

ROUTES = (
    Route("instance", "GET", "/livez", "", SHOWN),
    Route("instance", "GET", "/v1/ca", "", SHOWN),
    Route("instance", "GET", "/v1/openapi.json", "", SHOWN),
    Route("instance", "POST", "/v1/nonces", "", BARE),
    Route("instance", "POST", "/v1/enroll", "", TOLD, INSTANCE_TEXTS),
    Route("instance", "GET", "/v1/grants", "instance", (*ASKED, "no query")),
    # What it refuses itself has AWS's form, and tests of its own.
    Route("instance", "POST", "/sessions", "", ("all", "method", "post")),
    Route("instance", "POST", "/v1/credentials", "instance", (*TOLD, "identity"), ("grant",), ("duration",)),
    Route("instance", "POST", "/v1/dummy-keys", "caller", (*TOLD, "identity"),
          ("grant", "access_key_id", "secret_access_key")),
    Route("instance", "POST", "/v1/signatures", "caller", ("all", "method", "json", "form", "no query", "identity"),
          ("grant", "service", "region", "method", "target", "payload_sha256")),
    Route("instance", "POST", "/v1/calls", "caller", ("method", "identity")),  # the rest of it: test_stream.py
    Route("instance", "GET", "/v1/watch", "instance", ASKED),
    Route("instance", "GET", "/v1/checkpoint", "instance", ASKED),
    # Vault's: what the server itself refuses. The rest is said in Vault's words: test_vault.py.
    *(Route("instance", method, "/v1/auth/cert/login", "instance", ("all", "post")) for method in ("POST", "PUT")),
    Route("instance", "GET", "/v1/auth/token/lookup-self", "instance", ("all", "get")),
    Route("instance", "GET", "/v1/aws/creds/<role>", "instance", ("all", "get")),
    Route("instance", "POST", "/v1/aws/creds/<role>", "instance", ("all", "post")),
    Route("instance", "GET", "/v1/aws/sts/<role>", "instance", ("all", "get")),
    *(Route("instance", method, "/v1/aws/sts/<role>", "instance", ("all", "post")) for method in ("POST", "PUT")),
    *(Route("instance", method, "/v1/auth/token/revoke-self", "instance", ("all", "post"))
      for method in ("POST", "PUT")),  # last: each ends its token
    *(Route("instance", "GET", f"/v1/sys/{what}", "", ("all", "get")) for what in ("health", "seal-status", "init")),
    Route("instance", "POST", "/v1/renew", "instance", (*TOLD, "identity"), ("csr",)),  # last: ends the certificate
    Route("admin", "GET", "/v1/status", "operator", (*ASKED, "no query")),
    Route("admin", "GET", "/v1/profiles", "operator", (*ASKED, "no query")),
    Route("admin", "GET", "/v1/profiles/<name>", "operator", ASKED),
    Route("admin", "GET", "/v1/profiles/<name>/versions", "operator", (*ASKED, "no query")),
    Route("admin", "POST", "/v1/profiles/<name>/rollback", "operator", (*TOLD, "identity", "changes"), (),
          ("version",)),
    Route("admin", "PUT", "/v1/profiles/<name>", "operator", (*TOLD, "identity", "changes"),
          ("name", "upstream", "attestation.max_age", *GRANT_TEXTS), (), "400 profile_invalid"),
    Route("admin", "POST", "/v1/tickets", "operator", (*TOLD, "identity", "changes"), ("profile", "instance_id"),
          ("life",)),
    Route("admin", "GET", "/v1/instances", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/instances/<path:named>/certificates", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/tickets", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/leases", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/openapi.json", "operator", (*ASKED, "no query")),
    Route("admin", "GET", "/v1/instances/<path:named>", "operator", (*ASKED, "no query")),
    *(Route("admin", "POST", f"/v1/revocations/{what}", "operator",
            ("all", "method", "post", "bare", "identity", "changes", "revocation"))
      for what in ("instances/<path:named>", "certificates/<serial>", "leases/<id>", "grants/<profile>/<grant>",
                   "profiles/<name>", "tickets/<id>", "operators/<name>", "everything")),
    Route("admin", "GET", "/v1/keys", "operator", (*ASKED, "page")),
    *(Route("admin", "POST", f"/v1/keys/<name>/{verb}", "operator",
            ("all", "method", "post", "bare", "identity", "changes", "key"))
      for verb in ("rotate", "disable", "compromised")),
    Route("admin", "GET", "/v1/keys/<name>/rotations/<id>", "operator", (*ASKED, "no query")),
    Route("admin", "GET", "/v1/revocations", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/revocations/<id>", "operator", (*ASKED, "no query")),
    Route("admin", "POST", "/v1/instances/<path:named>/allow-reenroll", "operator", (*BARE, "identity", "changes")),
    Route("admin", "GET", "/v1/audit", "operator", ASKED),
    Route("admin", "GET", "/v1/audit/export", "operator", ASKED),
    Route("admin", "GET", "/v1/audit/search", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/audit/checkpoint", "operator", ASKED),
    Route("admin", "GET", "/v1/audit/summary/instances/<path:named>", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/audit/summary/keys/<name>", "operator", (*ASKED, "page")),
    Route("admin", "POST", "/v1/reconciliations", "operator", (*TOLD, "identity", "changes")),
    Route("admin", "GET", "/v1/findings", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/metrics", "operator", (*ASKED, "no query")),
    Route("admin", "GET", "/v1/servers", "operator", (*ASKED, "page")),
    Route("admin", "GET", "/v1/servers/<path:named>", "operator", (*ASKED, "no query", "server")),
    Route("admin", "GET", "/v1/servers/<path:named>/output", "operator", (*ASKED, "no query", "server")),
    Route("admin", "POST", "/v1/servers", "operator", (*TOLD, "identity", "changes"), ("profile",), ("count",)),
    *(Route("admin", "POST", f"/v1/servers/<path:named>/{verb}", "operator",
            (*BARE, "identity", "changes", "server")) for verb in ("stop", "start", "reboot")),
    Route("admin", "POST", "/v1/servers/<path:named>/terminate", "operator",
          ("all", "method", "post", "bare", "identity", "changes", "server")),
    Route("admin", "GET", "/v1/operators", "operator", (*ASKED, "page")),
    Route("admin", "POST", "/v1/operators", "operator", (*TOLD, "identity", "changes"), ("name", "csr")),
    Route("admin", "GET", "/v1/operators/<name>", "operator", (*ASKED, "no query", "operator")),
    Route("admin", "PUT", "/v1/operators/<name>", "operator", (*TOLD, "identity", "changes", "operator", "edited")),
    Route("admin", "POST", "/v1/operators/<name>/certificates", "operator", (*TOLD, "identity", "changes", "operator"),
          ("csr",)),
    Route("admin", "GET", "/v1/roles", "operator", (*ASKED, "no query")),
    Route("admin", "PUT", "/v1/roles/<name>", "operator",
          ("all", "post", "json", "form", "no query", "identity", "changes", "edited"), (), (), "400 role_invalid"),
    Route("admin", "GET", "/v1/roles/<name>", "operator", ("all", "get", "identity", "no query", "role")),
    Route("admin", "DELETE", "/v1/roles/<name>", "operator",
          ("all", "no query", "identity", "changes", "role", "edited")),
    Route("admin", "GET", "/v1/approvals", "operator", (*ASKED, "page")),
    *(Route("admin", "POST", f"/v1/approvals/<id>/{verb}", "operator", (*BARE, "identity", "changes", "approval"))
      for verb in ("give", "refuse")),
    # Without a provider, as here, whatever has the right form is not found: test_sign_in.py.
    Route("admin", "GET", "/v1/login", "", (*SHOWN, "no query")),
    Route("admin", "POST", "/v1/login", "", TOLD, ("token",)),
    Route("admin", "POST", "/v1/operators/self/renew", "rena", (*BARE, "identity", "changes")),
    Route("admin", "POST", "/v1/logout", "lea", (*BARE, "identity")),
    Route("public", "GET", "/ca.pem", "", SHOWN),
    Route("public", "GET", "/crl/instances.crl", "", SHOWN),
    Route("local", "GET", "/livez", "", SHOWN),
    Route("local", "GET", "/readyz", "", SHOWN),
    Route("local", "GET", "/healthz", "", SHOWN),
    Route("local", "GET", "/metrics", "", SHOWN),
)  # fmt: skip


def rows(route: Route) -> Iterator[Row]:
    """Every row of a route."""
    for group in (*route.groups, f"{route.method} {route.rule}"):
        for row in TABLE.get(group, ()):
            yield row if row.answer else row._replace(answer=route.invalid)
    for name in route.texts:
        for what, value in (NO_TEXT | ODD_TEXT).items():
            if name in OPTIONAL and what in ("missing", "null"):
                continue
            if what == "a lone surrogate":  # RFC 8259, section 8.2: it is refused before anything is read
                yield Row(f"{name}: {what}", put(name, value), "400 malformed_request")
                continue
            read_later = name == "csr" and what in ODD_TEXT and len(str(value)) <= 8192
            yield Row(f"{name}: {what}", put(name, value), "400 csr_refused" if read_later else route.invalid)
    for name in route.numbers:
        for what, value in NO_NUMBER.items():
            yield Row(f"{name}: {what}", put(name, value), route.invalid)


def _proof(request: Sent, scene: Scene, **other: Any) -> Sent:
    """No ticket; the scene's proof, which is of another request, or a change of it."""
    return put("ticket", MISSING)(put("proof", {**scene["proof"], **other})(request, scene), scene)

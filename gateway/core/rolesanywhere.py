"""IAM Roles Anywhere's CreateSession: a signed request in, what the holder of the certificate's key said out. Pure.

AWS: "Signing process" and "CreateSession" in the Roles Anywhere user guide. The signature is asymmetric, by the key of
the certificate in the request itself: what is found true here is that its holder sent it, and nothing about who it is.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.core.errors import Refusal

PATH = "/sessions"
"""What is signed as the path. AWS's credential helper signs it whatever the endpoint's own path is."""
SKEW = timedelta(minutes=5)
LONGEST_CHAIN = 4
OURS = "instances"
"""The trust anchor that is our own CA."""

# The label's hash is that of the certificate's signature (AWS's Python client); the digest is SHA-256 with every label.
# The serial number in decimal: RFC 5280 section 4.1.2.2 allows 20 octets.
_LABEL = r"(AWS4-X509-(RSA|ECDSA)-SHA(?:256|384|512))"
_AUTHORIZATION = re.compile(
    rf"{_LABEL}"
    r" Credential=([1-9][0-9]{0,48})/([0-9]{8})/([a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2})/rolesanywhere/aws4_request,"
    r" SignedHeaders=([a-z0-9-]+(?:;[a-z0-9-]+)*), Signature=((?:[0-9a-f]{2}){8,1024})"
)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_REQUIRED = frozenset({"host", "x-amz-date", "x-amz-x509"})
_IF_THERE = frozenset({"content-type", "x-amz-x509-chain"})


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: the query undecoded, header names in lower case, a repeated header joined by commas."""

    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class AnchorFiles:
    """A trust anchor as the settings have it: paths of PEM files, and what its machines may have."""

    name: str
    certificates: str
    crl: str | None
    profiles: tuple[str, ...]
    region: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """A trust anchor of the settings: a CA that is not ours. `crls`, when there, gives its revocation lists, and raises
    Refusal when it cannot; then nobody comes in by this anchor.
    """

    name: str
    roots: tuple[x509.Certificate, ...]
    profiles: tuple[str, ...]
    region: str
    crls: Callable[[], Sequence[x509.CertificateRevocationList]] | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature is right. `chain` is what its sender says leads to a root: nobody believes it yet."""

    leaf: x509.Certificate
    der: bytes
    chain: tuple[x509.Certificate, ...]
    region: str


def verify(request: Received, now: datetime) -> Signed:
    """The certificate whose key made this request. Raises Refusal `proof_refused`, with a reason for each cause."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise Refusal("proof_refused", "The request is not signed: no Authorization", reason="authorization_missing")
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        known = re.fullmatch(_LABEL, authorization.partition(" ")[0])
        raise _refused(
            "authorization_malformed" if known else "algorithm_refused",
            "The Authorization header is not one of AWS4-X509-RSA-SHA256 or AWS4-X509-ECDSA-SHA256, as AWS writes it",
        )
    label, family, serial, day, region, names, signature = match.groups()
    date = _date(request.headers.get("x-amz-date", ""), day, now)
    _demand_signed(names.split(";"), request.headers)
    der = _base64(request.headers["x-amz-x509"])
    leaf = _certificate(der)
    if int(serial) != leaf.serial_number:
        raise _refused("serial_differs", "Credential does not name the serial number of the certificate in X-Amz-X509")
    written = request.headers.get("x-amz-x509-chain")
    parts = written.split(",") if written is not None else []
    if len(parts) > LONGEST_CHAIN:
        raise _refused("chain_too_long", f"X-Amz-X509-Chain has more than {LONGEST_CHAIN} certificates")
    chain = tuple(_certificate(_base64(part)) for part in parts)
    canonical = hashlib.sha256(canonical_request(request, names.split(";"))).hexdigest()
    statement = f"{label}\n{date}\n{day}/{region}/rolesanywhere/aws4_request\n{canonical}".encode()
    _demand_signature(leaf, family, bytes.fromhex(signature), statement)
    return Signed(leaf, der, chain, region)


def canonical_request(request: Received, names: Sequence[str]) -> bytes:
    """What is hashed into the statement that is signed. AWS: "Create a canonical request"."""
    query = "&".join(
        f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in sorted(parameters(request.query))
    )
    fields = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
    digest = hashlib.sha256(request.body).hexdigest()
    return f"POST\n{PATH}\n{query}\n{fields}\n{';'.join(names)}\n{digest}".encode()


def parameters(query: str) -> list[tuple[str, str]]:
    """The query's keys and values, percent-decoded (RFC 3986: a plus is a plus). Raises Refusal `malformed_request`."""
    try:
        pairs = [part.partition("=") for part in query.split("&") if part]
        return [(unquote_to_bytes(key).decode(), unquote_to_bytes(value).decode()) for key, _, value in pairs]
    except UnicodeDecodeError:
        raise Refusal("malformed_request", "The query is not UTF-8") from None


def _refused(reason: str, detail: str) -> Refusal:
    return Refusal("proof_refused", detail, reason=reason)


def _date(written: str, day: str, now: datetime) -> str:
    """X-Amz-Date, which must be of the scope's day and of this time."""
    try:
        if not _DATE.fullmatch(written):
            raise ValueError
        at = datetime.strptime(written, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _refused("request_date_malformed", "X-Amz-Date must be one time like 20261122T013110Z") from None
    if written[:8] != day:
        raise _refused("request_date_differs", "X-Amz-Date is not of the day that Credential names")
    if abs(now - at) > SKEW:
        raise _refused("request_date_skewed", "X-Amz-Date is more than 5 minutes away from the gateway's clock")
    return written


def _demand_signed(names: list[str], headers: Mapping[str, str]) -> None:
    if names != sorted(set(names)):
        raise _refused("signed_headers_unsorted", "SignedHeaders must be sorted, each once")
    missing = (_REQUIRED | (_IF_THERE & headers.keys())).difference(names)
    if missing or not headers.keys() >= set(names):
        raise _refused(
            "signed_headers_missing",
            "SignedHeaders must name headers that are there, and host, x-amz-date, x-amz-x509, and content-type and"
            " x-amz-x509-chain if sent",
        )


def _base64(written: str) -> bytes:
    """RFC 4648 section 3.5: of all spellings only the canonical one, so that one certificate has one spelling."""
    try:
        raw = base64.b64decode(written, validate=True)
    except ValueError:
        raw = b""
    if not raw or base64.b64encode(raw).decode() != written:
        raise _refused("certificate_base64", "X-Amz-X509 and X-Amz-X509-Chain are DER certificates in plain base64")
    return raw


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise _refused("certificate_unreadable", "A certificate in the request cannot be read") from None
    return certificate


def _demand_signature(leaf: x509.Certificate, family: str, signature: bytes, statement: bytes) -> None:
    """Keys that nobody should use, or that cost too much to try, are refused unseen."""
    key = leaf.public_key()
    try:
        if isinstance(key, RSAPublicKey) and family == "RSA":
            if not 2048 <= key.key_size <= 8192 or key.public_numbers().e.bit_length() > 32:
                raise _refused("key_refused", "An RSA key must have from 2048 to 8192 bits")
            return key.verify(signature, statement, PKCS1v15(), SHA256())
        if isinstance(key, ec.EllipticCurvePublicKey) and family == "ECDSA":
            if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
                raise _refused("key_refused", "An elliptic curve must be P-256 or P-384")
            return key.verify(signature, statement, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise _refused(
            "signature_invalid", "The signature is not of this request by the key of the certificate in X-Amz-X509"
        ) from None
    raise _refused("key_refused", "The certificate's key is not of the kind that the Authorization header names")

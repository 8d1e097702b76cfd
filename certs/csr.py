"""Certificate requests (PKCS#10, RFC 2986). A request brings a public key and the proof that its maker holds the key.

It brings nothing else: who the certificate is for was found out by attestation. So a request has exactly one accepted
form, in which only the key and the signature vary: no subject, no attributes, P-256, SHA-256.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ObjectIdentifier, SignatureAlgorithmOID

from certs import der, keys
from certs.errors import CsrRefused

LONGEST = 8192
"""The most bytes that `read` looks at."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE REQUEST-----", b"-----END CERTIFICATE REQUEST-----"
_PEM = re.compile(rb"\s*" + _BEGIN + rb"\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)" + _END + rb"\s*")
_EXTENSION_REQUEST = ObjectIdentifier("1.2.840.113549.1.9.14")


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request whose maker holds the key: the P-256 public key, and the hex SHA-256 of its SubjectPublicKeyInfo."""

    public_key: ec.EllipticCurvePublicKey
    key_sha256: str


def make(key: ec.EllipticCurvePrivateKey) -> str:
    """The request that `read` accepts, in PEM."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def read(pem: str | bytes) -> VerifiedRequest:
    """Check one PEM request of at most 8 KiB, white space around it allowed. Raises CsrRefused, and nothing else."""
    encoded = _unwrap(pem)
    try:
        request = x509.load_der_x509_csr(encoded)
        public_key = request.public_key()
    except UnsupportedAlgorithm:
        raise CsrRefused("key_type") from None
    except (ValueError, x509.InvalidVersion):
        raise CsrRefused("malformed") from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise CsrRefused("key_type")
    if request.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise CsrRefused("signature_algorithm")
    if encoded != _only_form(public_key, request.signature):
        raise CsrRefused(_difference(request))
    if not request.is_signature_valid:
        raise CsrRefused("bad_signature")
    return VerifiedRequest(public_key, keys.public_sha256(public_key))


def _unwrap(pem: str | bytes) -> bytes:
    """The DER inside."""
    if len(pem) > LONGEST:
        raise CsrRefused("too_large")
    raw = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    if raw.count(_BEGIN) > 1:
        raise CsrRefused("more_than_one")
    match = _PEM.fullmatch(raw)
    if match is None:
        whole = _BEGIN in raw and _END in raw and not (raw.strip().startswith(_BEGIN) and raw.strip().endswith(_END))
        raise CsrRefused("trailing_bytes" if whole else "not_pem")
    base64_text = b"".join(match[1].split())
    try:
        encoded = base64.b64decode(base64_text, validate=True)
        rest = der.split(encoded)[2]
    except binascii.Error:
        raise CsrRefused("not_pem") from None
    except ValueError:
        raise CsrRefused("malformed") from None
    if base64.b64encode(encoded) != base64_text:
        raise CsrRefused("not_pem")  # bits that base64 leaves unused would make two texts of one request
    if rest:
        raise CsrRefused("trailing_bytes")
    return encoded


def _only_form(public_key: ec.EllipticCurvePublicKey, signature: bytes) -> bytes:
    """The one encoding that a request with this key and this signature may have (RFC 2986 section 4, RFC 5758)."""
    info = der.wrap(
        der.SEQUENCE,
        der.wrap(der.INTEGER, b"\0"),
        der.wrap(der.SEQUENCE),
        public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.wrap(0xA0),
    )
    algorithm = der.wrap(der.SEQUENCE, der.wrap(der.OID, bytes.fromhex("2a8648ce3d040302")))
    return der.wrap(der.SEQUENCE, info, algorithm, der.wrap(der.BIT_STRING, b"\0", signature))


def _difference(request: x509.CertificateSigningRequest) -> str:
    """What in a request is not in the only form: a word for the log, the refusal is certain already."""
    try:
        if request.subject.rdns:
            return "unexpected_subject"
        attributes = {attribute.oid for attribute in request.attributes}
    except ValueError:
        return "malformed"
    if _EXTENSION_REQUEST in attributes:
        return "unexpected_extension"
    return "unexpected_attribute" if attributes else "not_canonical"

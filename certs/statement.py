"""Whether a statement was signed by the audit key of the authority with a given root. What an auditor needs to know."""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import lint
from certs.errors import CertificateError
from certs.profiles import Kind


def sign(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """ECDSA with SHA-256, in DER."""
    return key.sign(signed, ec.ECDSA(hashes.SHA256()))


def verify(
    signed: bytes,
    signature: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    root: x509.Certificate,
    at: datetime,
) -> None:
    """Demand that the chain leads from the root to an audit certificate that was good at `at`, and that it signed.

    Raises CertificateError.
    """
    chain = ((certificate, Kind.AUDIT, issuer), (issuer, Kind.ISSUER, root), (root, Kind.ROOT, None))
    for each, kind, above in chain:
        if lint.findings(each.public_bytes(Encoding.DER), kind, above):
            raise CertificateError(f"the {kind.value} certificate is not one of this authority")
        if not each.not_valid_before_utc <= at <= each.not_valid_after_utc:
            raise CertificateError(f"the {kind.value} certificate was not good then")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError("not a P-256 key")
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise CertificateError("the signature is not that of the audit key") from None

"""Keys: ECDSA on P-256, and nothing else."""

import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from certs.errors import CertificateError


def generate() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def dump_private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 DER (RFC 5958): a secret, to be sealed or kept in memory."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def dump_private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM, the form that `ssl.SSLContext.load_cert_chain` reads. A secret."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private(der: bytes) -> ec.EllipticCurvePrivateKey:
    """The inverse of `dump_private`. Raises CertificateError."""
    try:
        return _p256(load_der_private_key(der, password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("not a P-256 private key in unencrypted PKCS#8 DER") from None


def load_private_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The inverse of `dump_private_pem`. Raises CertificateError."""
    try:
        return _p256(load_pem_private_key(pem, password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("not a P-256 private key in unencrypted PKCS#8 PEM") from None


def _p256(key: PrivateKeyTypes) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("another kind of key")
    return key


def public_sha256(public_key: PublicKeyTypes) -> str:
    """Lower-case hex SHA-256 of the key's SubjectPublicKeyInfo in DER: by this a key is known."""
    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def fingerprint(certificate: x509.Certificate) -> str:
    """Lower-case hex SHA-256 of the certificate in DER: the `ca_sha256` of user-data, when it is the root's."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

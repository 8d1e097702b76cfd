"""Does a certificate lead to our root, unrevoked, at this moment, for this use? Decided by OpenSSL, strictly.

The one module here that needs pyOpenSSL: an agent does not import it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from certs.errors import ChainRefused

_LONGEST = 4  # certificates between the root and the end; ours have one


def verify(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    root: x509.Certificate,
    at: datetime,
    crls: Sequence[x509.CertificateRevocationList] = (),
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> None:
    """Raise ChainRefused unless `leaf` leads to `root` at the (aware) moment `at`, and is for `usage` and nothing else.

    `intermediates` may come from a stranger. When `crls` are given, one of them must be of the leaf's issuer, be valid
    at `at`, and not list the leaf. RFC 5280 section 6.1, with X509_V_FLAG_X509_STRICT.
    """
    if at.tzinfo is None:
        raise ChainRefused("a time without a time zone")
    if len(intermediates) > _LONGEST:
        raise ChainRefused("too many certificates")
    for certificate in (leaf, *intermediates):
        _demand_p256(certificate)
    _demand_usage(leaf, usage)
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(root))
    for crl in crls:
        store.add_crl(crl)
    store.set_flags(crypto.X509StoreFlags.X509_STRICT | (crypto.X509StoreFlags.CRL_CHECK if crls else 0))
    store.set_time(at.astimezone(UTC))
    untrusted = [crypto.X509.from_cryptography(certificate) for certificate in intermediates]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), untrusted).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise ChainRefused(f"at depth {error.errors[1]}: {error.errors[2]}") from None


def _demand_p256(certificate: x509.Certificate) -> None:
    """Strange keys are refused before any work is done with them."""
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ChainRefused("a key that cannot be read") from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise ChainRefused("a key that is not on P-256")


def _demand_usage(leaf: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    """Ours, since pyOpenSSL cannot set a purpose; anyExtendedKeyUsage is not taken for an answer."""
    try:
        found = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        found = []
    if found != [usage]:
        raise ChainRefused("the certificate is not for this use, or not for this use alone")

"""Does a certificate lead to our root, unrevoked, at this moment, for this use? Decided by OpenSSL, strictly.

The one module here that needs pyOpenSSL: an agent does not import it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from OpenSSL import crypto

from certs.errors import ChainRefused

_LONGEST = 4  # certificates between the root and the end; ours have one
_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
# OpenSSL itself would let SHA-1 pass here: it asks for strength in handshakes only.
_SIGNATURES = frozenset(
    {
        *(SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.ECDSA_WITH_SHA256),
        *(SignatureAlgorithmOID.RSA_WITH_SHA384, SignatureAlgorithmOID.ECDSA_WITH_SHA384),
        *(SignatureAlgorithmOID.RSA_WITH_SHA512, SignatureAlgorithmOID.ECDSA_WITH_SHA512),
    }
)


def verify(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    root: x509.Certificate,
    at: datetime,
    crls: Sequence[x509.CertificateRevocationList] = (),
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    foreign: bool = False,
) -> None:
    """Raise ChainRefused unless `leaf` leads to `root` at the (aware) moment `at`, and is for `usage` and nothing else.

    `intermediates` may come from a stranger. When `crls` are given, one of them must be of the leaf's issuer, be valid
    at `at`, and not list the leaf. RFC 5280 section 6.1, with X509_V_FLAG_X509_STRICT.

    `foreign`: the root is not ours. Keys are RSA from 2,048 bits, P-256 or P-384, signatures with SHA-256 or better;
    the leaf is no CA, is for digital signatures, and for `usage`, maybe among others; `crls` cover intermediates, too.
    """
    if at.tzinfo is None:
        raise ChainRefused("a time without a time zone")
    if len(intermediates) > _LONGEST:
        raise ChainRefused("too many certificates")
    if foreign:
        _demand_strength((leaf, *intermediates), root)
        _demand_end_entity(leaf, usage)
    else:
        for certificate in (leaf, *intermediates):
            _demand_p256(certificate)
        _demand_usage(leaf, usage)
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(root))
    for crl in crls:
        store.add_crl(crl)
    flags = crypto.X509StoreFlags.X509_STRICT
    if crls:
        flags |= crypto.X509StoreFlags.CRL_CHECK
        flags |= crypto.X509StoreFlags.CRL_CHECK_ALL if foreign else 0
    store.set_flags(flags)
    store.set_time(at.astimezone(UTC))
    untrusted = [crypto.X509.from_cryptography(certificate) for certificate in intermediates]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), untrusted).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise ChainRefused(f"at depth {error.errors[1]}: {error.errors[2]}") from None


def _demand_p256(certificate: x509.Certificate) -> None:
    """Strange keys are refused before any work is done with them."""
    public_key = _public_key(certificate)
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise ChainRefused("a key that is not on P-256")


def _demand_strength(certificates: Sequence[x509.Certificate], root: x509.Certificate) -> None:
    """Of every key, and of every signature but the root's own, which proves nothing."""
    for certificate in (*certificates, root):
        public_key = _public_key(certificate)
        if isinstance(public_key, RSAPublicKey):
            good = 2048 <= public_key.key_size <= 8192
        else:
            curves = ec.SECP256R1 | ec.SECP384R1
            good = isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, curves)
        if not good:
            raise ChainRefused("a key that is neither RSA of 2048 to 8192 bits nor on P-256 or P-384")
    if any(certificate.signature_algorithm_oid not in _SIGNATURES for certificate in certificates):
        raise ChainRefused("a signature that is not RSA or ECDSA with SHA-256 or better")


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ChainRefused("a key that cannot be read") from None


def _usages(leaf: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """Ours, since pyOpenSSL cannot set a purpose; anyExtendedKeyUsage is not taken for an answer."""
    try:
        return list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (*_UNREADABLE, x509.ExtensionNotFound):
        return []


def _demand_usage(leaf: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    if _usages(leaf) != [usage]:
        raise ChainRefused("the certificate is not for this use, or not for this use alone")


def _demand_end_entity(leaf: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    """AWS, "Trust model in Roles Anywhere": X.509v3, no CA, keyUsage with digitalSignature."""
    if usage not in _usages(leaf):
        raise ChainRefused("the certificate is not for this use")
    try:
        authority = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        signs = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except (*_UNREADABLE, x509.ExtensionNotFound):
        raise ChainRefused("the certificate lacks basicConstraints or keyUsage") from None
    if authority or not signs.digital_signature or signs.key_cert_sign:
        raise ChainRefused("the certificate is a CA's, or not for digital signatures")

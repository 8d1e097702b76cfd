"""The authority: makes certificates from plain values. It draws no serial, reads no clock and remembers nothing.

Every certificate is built and signed with a throw-away key first and linted; only then does the real key sign the very
same bytes, and the result is linted again. So nothing wrong ever bears the issuer's signature (as Let's Encrypt does,
boulder `docs/ISSUANCE-CYCLE.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs import keys, lint, names, profiles
from certs.errors import CertificateError, LintFailed
from certs.names import Name
from certs.profiles import BACKDATING, Profile


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that may sign, with its key. Raises CertificateError when they do not belong together."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.certificate.public_key() != self.key.public_key():
            raise CertificateError("the key is not the certificate's")

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """How what it signs points to it."""
        found = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def serial_from(random: bytes) -> int:
    """A serial number from 20 random bytes: positive, at most 159 bits (RFC 5280 section 4.1.2.2: 20 octets).

    Raises CertificateError when there are not 20 of them, or when they cannot have been random.
    """
    if len(random) != 20:
        raise CertificateError("a serial number is made of 20 random bytes")
    return _checked(int.from_bytes(random) >> 1)


def make_root(
    key: ec.EllipticCurvePrivateKey, common_name: str, serial: int, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """A root, signed by itself. Raises CertificateError, and LintFailed before the key has signed."""
    subject = _subject(common_name)
    builder = _builder(profiles.ROOT, subject, key.public_key(), subject, serial, not_before, not_after)
    return _certify(builder, profiles.ROOT, key, None)


def make_issuer(
    root: Issuer,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    serial: int,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """An issuer of end-entity certificates, signed by the root. Raises as `make_root`."""
    subject, signer = _subject(common_name), root.certificate.subject
    builder = _builder(profiles.ISSUER, subject, public_key, signer, serial, not_before, not_after)
    builder = builder.add_extension(root.key_identifier, critical=False)
    return _certify(builder, profiles.ISSUER, root.key, root.certificate)


def issue(
    issuer: Issuer,
    profile: Profile,
    name: Name,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    not_before: datetime,
    not_after: datetime,
    crl_url: str | None = None,
) -> x509.Certificate:
    """A certificate for `name`, from `not_before` (set back by at most `BACKDATING`) to `not_after`, both aware.

    Raises CertificateError when the values cannot make a certificate, and LintFailed, before the issuing key has
    signed, when they would make one that its kind must not be.
    """
    subject, signer = names.subject(name), issuer.certificate.subject
    builder = _builder(profile, subject, public_key, signer, serial, not_before, not_after)
    builder = (
        builder.add_extension(issuer.key_identifier, critical=False)
        .add_extension(x509.ExtendedKeyUsage(profile.extended_key_usages), critical=False)
        .add_extension(names.alternative_names(name), critical=False)
    )
    if crl_url is not None:
        if not crl_url.isascii():
            raise CertificateError("the address of a CRL is in ASCII")
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return _certify(builder, profile, issuer.key, issuer.certificate, name.alternatives)


_Signed = TypeVar("_Signed")


def sign_linted(
    key: ec.EllipticCurvePrivateKey,
    sign: Callable[[ec.EllipticCurvePrivateKey], _Signed],
    signed_bytes: Callable[[_Signed], bytes],
    findings: Callable[[_Signed, bool], tuple[str, ...]],
) -> _Signed:
    """Sign with a throw-away key, lint, sign the same bytes with `key`, lint again. Raises LintFailed.

    `findings(thing, check_signature)` is the lint; `signed_bytes` gives what a thing's signature covers.
    """
    draft = sign(keys.generate())
    if found := findings(draft, False):
        raise LintFailed(found)
    final = sign(key)
    if signed_bytes(final) != signed_bytes(draft):
        raise LintFailed(("signature: covers other bytes than those that were linted",))
    if found := findings(final, True):
        raise LintFailed(found)
    return final


def utc(moment: datetime) -> datetime:
    """The moment in UTC, in whole seconds, as certificates have it. Raises CertificateError for a naive one."""
    if moment.tzinfo is None:
        raise CertificateError("a time without a time zone")
    return moment.astimezone(UTC).replace(microsecond=0)


def _certify(
    builder: x509.CertificateBuilder,
    profile: Profile,
    key: ec.EllipticCurvePrivateKey,
    issuer_certificate: x509.Certificate | None,
    alternatives: tuple[str, ...] | None = None,
) -> x509.Certificate:
    def findings(certificate: x509.Certificate, check_signature: bool) -> tuple[str, ...]:
        encoded = certificate.public_bytes(Encoding.DER)
        return lint.findings(
            encoded, profile.kind, issuer_certificate, names=alternatives, check_signature=check_signature
        )

    return sign_linted(
        key,
        lambda signing_key: builder.sign(signing_key, hashes.SHA256()),
        lambda certificate: certificate.tbs_certificate_bytes,
        findings,
    )


def _builder(
    profile: Profile,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    signer: x509.Name,
    serial: int,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    """What all kinds have in common."""
    start, end = utc(not_before), utc(not_after)
    if not start < end <= start + profile.longest_life + BACKDATING:
        raise CertificateError("the certificate would end before it begins, or live longer than its profile allows")
    return (
        x509.CertificateBuilder()
        .issuer_name(signer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(_checked(serial))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(profile.path_length is not None, profile.path_length), critical=True)
        .add_extension(profile.key_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _checked(serial: int) -> int:
    """At most 20 octets, and room for 64 random bits (CA/Browser Forum baseline requirements, section 7.1)."""
    if not 64 <= serial.bit_length() <= 159 or serial < 0:
        raise CertificateError("a serial number is positive and has 64 to 159 bits")
    return serial


def _subject(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError:
        raise CertificateError("a common name has 1 to 64 characters") from None

"""Certificate revocation lists (RFC 5280 section 5): every revoked certificate of one issuer, signed by it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import SignatureAlgorithmOID

from certs.authority import Issuer, sign_linted, utc
from certs.errors import CertificateError
from certs.reasons import Reason


@dataclass(frozen=True, slots=True)
class Revoked:
    """One revoked certificate: its serial number, since when (aware), and why."""

    serial: int
    at: datetime
    reason: Reason


def make(
    issuer: Issuer, revoked: Iterable[Revoked], number: int, this_update: datetime, next_update: datetime
) -> x509.CertificateRevocationList:
    """The list, ordered by serial number: the same values give the same signed bytes.

    A revocation later than `this_update` is listed all the same: a clock that went back must not hide it.
    `number` must rise with each list of this issuer (section 5.2.3); the caller remembers it. Raises CertificateError,
    and LintFailed before the issuing key has signed.
    """
    entries = sorted(revoked, key=lambda entry: entry.serial)
    start, end = utc(this_update), utc(next_update)
    if not start < end:
        raise CertificateError("the list would end before it begins")
    if not 0 < number < 1 << 159:
        raise CertificateError("the number of a list is positive and has at most 20 octets")
    if len({entry.serial for entry in entries}) != len(entries):
        raise CertificateError("a serial number is in the list twice")
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
    )
    for entry in entries:
        if not 0 < entry.serial < 1 << 159:
            raise CertificateError("a serial number is positive and has at most 20 octets")
        builder = builder.add_revoked_certificate(_listed(entry))

    def findings(crl: x509.CertificateRevocationList, check_signature: bool) -> tuple[str, ...]:
        return tuple(_findings(crl, issuer, entries, number, check_signature))

    return sign_linted(
        issuer.key,
        lambda key: builder.sign(key, hashes.SHA256()),
        lambda crl: crl.tbs_certlist_bytes,
        findings,
    )


def _listed(entry: Revoked) -> x509.RevokedCertificate:
    """As it stands in the list; "unspecified" is said by saying nothing (section 5.3.1)."""
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(utc(entry.at))
    if entry.reason is not Reason.UNSPECIFIED:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason.value)), critical=False)
    return builder.build()


def _findings(
    crl: x509.CertificateRevocationList, issuer: Issuer, asked: list[Revoked], number: int, check_signature: bool
) -> Iterator[str]:
    """The second opinion: what was signed, read back, is what was asked."""
    if crl.issuer.public_bytes() != issuer.certificate.subject.public_bytes():
        yield "issuer: not the issuing certificate's subject"
    if crl.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        yield "signature: not ecdsa-with-SHA256"
    expected = [(x509.CRLNumber(number), False), (issuer.key_identifier, False)]
    if [(extension.value, extension.critical) for extension in crl.extensions] != expected:
        yield "crlExtensions: not exactly cRLNumber and authorityKeyIdentifier"
    if [_read_back(entry) for entry in crl] != [(entry.serial, utc(entry.at), entry.reason) for entry in asked]:
        yield "revokedCertificates: not those that were asked for"
    if check_signature and not crl.is_signature_valid(issuer.key.public_key()):
        yield "signature: is not the issuer's"


def _read_back(entry: x509.RevokedCertificate) -> tuple[int, datetime, Reason]:
    reasons = [e.value.reason for e in entry.extensions if isinstance(e.value, x509.CRLReason)]
    return entry.serial_number, entry.revocation_date_utc, Reason(reasons[0].value if reasons else "unspecified")

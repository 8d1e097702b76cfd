"""Client certificates as the gateway would never make them, signed by whoever is named: strangers, or our own CA."""

import hashlib
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import keys
from deploy.demo.visitor import Visitor
from gateway.adapters import clock
from gateway.core.model import Certificate
from tests.end_to_end.world import World

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Forged:
    """A client certificate as nobody of ours would make it; signed by whoever is named."""

    uris: tuple[str, ...]
    subject: x509.Name
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    serial: int = field(default_factory=x509.random_serial_number)
    begin: timedelta = timedelta(minutes=-5)
    end: timedelta = timedelta(hours=1)

    def signed(self, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey) -> "Held":
        """By this key, in this issuer's name."""
        key, now = keys.generate(), clock.now()
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .issuer_name(issuer.subject)
            .subject_name(self.subject)
            .public_key(key.public_key())
            .serial_number(self.serial)
            .not_valid_before(now + self.begin)
            .not_valid_after(now + self.end)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if self.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.usages), critical=False)
        if self.uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in self.uris]
            # RFC 5280 section 4.2.1.6: critical when the subject is empty
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not list(self.subject))
        return Held(builder.sign(issuer_key, SHA256()), key, [issuer])


@dataclass
class Held:
    """A certificate, its key, and what is shown above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: list[x509.Certificate]

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def visitor(self, world: World, address: str | None = None) -> Visitor:
        """Who shows it."""
        visitor = world.visitor(address)
        visitor.present(
            "".join(c.public_bytes(Encoding.PEM).decode() for c in (self.certificate, *self.above)), self.key
        )
        return visitor


def named(common_name: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, _type=kind)])


def uri_of(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri


def self_signed(forged: Forged) -> Held:
    key = keys.generate()
    return forged.signed(authority_like(None, key, forged.subject), key)


def authority_like(
    like: x509.Certificate | None, key: ec.EllipticCurvePrivateKey, subject: x509.Name | None = None
) -> x509.Certificate:
    """A CA of somebody else's, which calls itself as ours does."""
    now = clock.now()
    name = like.subject if like else subject or x509.Name([])
    return (
        x509.CertificateBuilder()
        .issuer_name(like.issuer if like else name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(like.serial_number if like else x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def row_of(held: Held, subject: str, kind: str = "instance") -> Certificate:
    """As `flows.issue.sign` would have put it on record."""
    return Certificate(
        serial=f"{held.certificate.serial_number:x}",
        issuer="instances",
        kind=kind,
        subject=subject,
        sha256=hashlib.sha256(held.der).hexdigest(),
        der=held.der,
        key_sha256=keys.public_sha256(held.key.public_key()),
        not_before=held.certificate.not_valid_before_utc,
        not_after=held.certificate.not_valid_after_utc,
    )


def context_of(world: World, visitor: Visitor, folder: Path) -> ssl.SSLContext:
    """A client context with a visitor's certificate."""
    bundle = folder / "bundle.pem"
    bundle.write_bytes((visitor.certificate or "").encode() + keys.dump_private_pem(visitor.key))
    context = world.site.context()
    context.load_cert_chain(bundle)
    return context

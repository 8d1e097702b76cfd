"""One authority for all the tests of `certs`, and what they need to make certificates, right and wrong."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import authority, keys, profiles
from certs.authority import Issuer
from certs.names import AuditName, InstanceName, Name, OperatorName, ServerNames

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MADE = NOW - timedelta(days=1)  # when the authority was made
CRL_URL = "http://gateway.test:8080/crl/instances.crl"

INSTANCE_NAME = InstanceName("trusted-gateway.internal", "123456789012", "eu-central-1", "i-0123456789abcdef0")
OPERATOR_NAME = OperatorName("trusted-gateway.internal", "ada")
SERVER_NAMES = ServerNames.parse("gateway.test", "127.0.0.1", "::1")


def serial() -> int:
    """A serial number as the gateway draws it."""
    return x509.random_serial_number() | 1 << 100


def _issuer(root: Issuer, common_name: str) -> Issuer:
    key = keys.generate()
    end = MADE + profiles.ISSUER.longest_life
    return Issuer(authority.make_issuer(root, key.public_key(), common_name, serial(), MADE, end), key)


_root_key = keys.generate()
ROOT = Issuer(
    authority.make_root(_root_key, "Test root", serial(), MADE, MADE + profiles.ROOT.longest_life),
    _root_key,
)
INSTANCES = _issuer(ROOT, "Test instances")
SERVICES = _issuer(ROOT, "Test services")

LEAVES: dict[str, tuple[Issuer, profiles.Profile, Name]] = {
    "instance": (INSTANCES, profiles.INSTANCE, INSTANCE_NAME),
    "operator": (SERVICES, profiles.OPERATOR, OPERATOR_NAME),
    "server": (SERVICES, profiles.SERVER, SERVER_NAMES),
    "audit": (SERVICES, profiles.AUDIT, AuditName("trusted-gateway.internal")),
}


def leaf(kind: str = "instance", *, crl_url: str | None = CRL_URL, **changed: Any) -> x509.Certificate:
    """A certificate of this kind that is as long-lived as may be, with what is `changed` of `issue`'s arguments."""
    issuer, profile, name = LEAVES[kind]
    arguments: dict[str, Any] = {
        "issuer": issuer,
        "profile": profile,
        "name": name,
        "public_key": keys.generate().public_key(),
        "serial": serial(),
        "not_before": NOW - profiles.BACKDATING,
        "not_after": NOW + profile.longest_life,
        "crl_url": crl_url,
    }
    return authority.issue(**arguments | changed)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


class SpyingKey(ec.EllipticCurvePrivateKey):
    """A real key that counts how often it has signed."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.signatures = 0

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        self.signatures += 1
        return self._key.sign(data, signature_algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def exchange(self, *_: Any) -> bytes:
        raise NotImplementedError

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise NotImplementedError

    def private_bytes(self, *_: Any) -> bytes:
        raise NotImplementedError

    def __copy__(self) -> "SpyingKey":
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> "SpyingKey":
        return self


@dataclass(frozen=True)
class Crooked:
    """A certificate made by hand with `cryptography` alone. Unchanged, it is a right instance certificate."""

    issuer: Issuer = INSTANCES
    issuer_name: x509.Name = INSTANCES.certificate.subject
    subject: tuple[x509.NameAttribute[Any], ...] = (x509.NameAttribute(NameOID.COMMON_NAME, INSTANCE_NAME.instance_id),)
    key: Any = None
    serial: int = 1 << 120
    not_before: datetime = NOW
    not_after: datetime = NOW + timedelta(hours=24)
    digest: type[hashes.SHA256 | hashes.SHA384] = hashes.SHA256
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    without: tuple[type[x509.ExtensionType], ...] = ()

    def make(self) -> x509.Certificate:
        public_key = self.key or keys.generate().public_key()
        usual: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(False, None), True),
            (profiles.INSTANCE.key_usage, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(INSTANCE_NAME.uri)]), False),
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
            (self.issuer.key_identifier, False),
        ]
        changed = {extension.oid for extension, _ in self.extensions} | {kind.oid for kind in self.without}
        builder = x509.CertificateBuilder(
            self.issuer_name, x509.Name(self.subject), public_key, self.serial, self.not_before, self.not_after
        )
        for extension, critical in [*(pair for pair in usual if pair[0].oid not in changed), *self.extensions]:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.issuer.key, self.digest())

    def but(self, **changed: Any) -> x509.Certificate:
        """The same with something changed."""
        return replace(self, **changed).make()

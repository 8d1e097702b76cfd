"""Certificates for the agent's tests, made with `cryptography` alone: what the agent believes gets a second opinion."""

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Signer:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        common_name: str,
        public_key: Any,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life: timedelta,
    ) -> x509.Certificate:
        """An end certificate, from an hour ago (or ten, if `life` is negative) on."""
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=10))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _usage(**on: bool) -> x509.KeyUsage:
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    every += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: on.get(name, False) for name in every})


def authority(common_name: str, parent: Signer | None = None) -> Signer:
    """A root, or an issuer below `parent`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    above = parent or Signer(None, key)  # type: ignore[arg-type]  # only its key is used
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(parent.certificate.subject if parent else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if parent else 1), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
        .sign(above.key, hashes.SHA256())
    )
    return Signer(certificate, key)


class Pki:
    """A root, an issuer of instances, an issuer of services."""

    def __init__(self) -> None:
        self.root = authority("root")
        self.instances = authority("instances", self.root)
        self.services = authority("services", self.root)

    @property
    def pin(self) -> str:
        return sha256(self.root.der).hexdigest()

    def server_context(self, *names: str, life: timedelta = timedelta(days=1), ask: bool = True) -> ssl.SSLContext:
        """A server's TLS: its certificate names `names`; a client certificate is welcome when `ask`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.services.issue(
            names[0], key.public_key(), [_general_name(n) for n in names], ExtendedKeyUsageOID.SERVER_AUTH, life
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with tempfile.NamedTemporaryFile() as file:
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            Path(file.name).write_bytes(certificate.public_bytes(Encoding.PEM) + self.services.pem.encode() + pem)
            context.load_cert_chain(file.name)
        if ask:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=self.root.pem)
        return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

"""A CA that is not ours, made with `cryptography` alone, and CreateSession requests signed as AWS's page says."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
Extensions = dict[type[x509.ExtensionType], x509.ExtensionType | None]


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def common_name(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


@dataclass(frozen=True)
class Holder:
    """A certificate, its key, and what leads from it to the root."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        made: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)


def _key_usage(*, authority: bool, signature: bool = True) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    return x509.KeyUsage(
        digital_signature=signature and not authority,
        key_encipherment=not signature,
        key_cert_sign=authority,
        crl_sign=authority,
        **others,
    )


NO_SIGNATURES = _key_usage(authority=False, signature=False)


class ForeignCa:
    """An issuer. `intermediate` makes one below it, `leaf` a certificate, `crl` a revocation list."""

    def __init__(self, name: str = "Corp root", key: Any = None, *, at: datetime | None = None) -> None:
        self.key = key or ec_key()
        self.at = at or datetime.now(UTC)
        self.chain: tuple[x509.Certificate, ...] = ()
        self.certificate = self.sign(common_name(name), self.key.public_key(), name=common_name(name), authority=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def intermediate(self, name: str = "Corp issuing", key: Any = None) -> "ForeignCa":
        made = ForeignCa.__new__(ForeignCa)
        made.key, made.at = key or ec_key(), self.at
        made.certificate = self.sign(common_name(name), made.key.public_key(), authority=True)
        made.chain = (made.certificate, *self.chain)
        return made

    def leaf(self, subject: str | x509.Name = "web-1", key: Any = None, **changed: Any) -> Holder:
        """A right client certificate, but for what is `changed` of `sign`'s arguments."""
        key = key or ec_key()
        name = common_name(subject) if isinstance(subject, str) else subject
        return Holder(self.sign(name, key.public_key(), **changed), key, self.chain)

    def sign(
        self,
        subject: x509.Name,
        public_key: Any,
        *,
        name: x509.Name | None = None,
        authority: bool = False,
        serial: int | None = None,
        life: tuple[timedelta, timedelta] = (timedelta(hours=-1), timedelta(hours=24)),
        usages: Sequence[x509.ObjectIdentifier] | None = (CLIENT,),
        digest: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
        other: Extensions | None = None,
    ) -> x509.Certificate:
        """`name`: the issuer's, if not this one's. `other`: extensions by type, None for one to leave out."""
        found: Extensions = {
            x509.BasicConstraints: x509.BasicConstraints(authority, None),
            x509.KeyUsage: _key_usage(authority=authority),
            x509.SubjectKeyIdentifier: x509.SubjectKeyIdentifier.from_public_key(public_key),
            x509.AuthorityKeyIdentifier: x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
        }
        if not authority and usages is not None:
            found[x509.ExtendedKeyUsage] = x509.ExtendedKeyUsage(usages)
        builder = x509.CertificateBuilder(
            name or self.certificate.subject,
            subject,
            public_key,
            serial or x509.random_serial_number(),
            self.at + life[0],
            self.at + life[1],
        )
        for kind, extension in (found | (other or {})).items():
            if extension is not None:
                builder = builder.add_extension(extension, kind in (x509.BasicConstraints, x509.KeyUsage))
        return builder.sign(self.key, digest or hashes.SHA256())

    def crl(self, *revoked: x509.Certificate, life: timedelta = timedelta(hours=1)) -> bytes:
        begin = self.at - timedelta(hours=2)
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begin, self.at + life)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
        ).add_extension(x509.CRLNumber(1), False)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder(each.serial_number, begin).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


# Requests


def parameters(
    anchor: str, profile: str, role: str, *, region: str = "us-east-1", account: str = "111122223333"
) -> dict[str, str]:
    """The three ARNs."""
    place = f"arn:aws:rolesanywhere:{region}:{account}"
    return {
        "trustAnchorArn": f"{place}:trust-anchor/{anchor}",
        "profileArn": f"{place}:profile/{profile}",
        "roleArn": role,
    }


@dataclass(frozen=True)
class Asking:
    """A CreateSession request. Unchanged it is right; each field can be made wrong before it is signed."""

    holder: Holder
    asked: dict[str, Any]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    host: str = "gateway.test:8443"
    region: str = "us-east-1"
    service: str = "rolesanywhere"
    label: str | None = None
    serial: str | None = None
    day: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    names: str | None = None
    signed_path: str = "/sessions"

    def but(self, **changed: Any) -> "Asking":
        return replace(self, **changed)

    @property
    def target(self) -> str:
        """The query as it is sent."""
        return "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in self.query.items())

    @property
    def raw(self) -> bytes:
        return json.dumps(self.asked).encode() if self.body is None else self.body

    def sign(self) -> dict[str, str]:
        """The headers to send, by lower-case name."""
        is_rsa = isinstance(self.holder.key, rsa.RSAPrivateKey)
        label = self.label or f"AWS4-X509-{'RSA' if is_rsa else 'ECDSA'}-SHA256"
        date = self.at.strftime("%Y%m%dT%H%M%SZ")
        chain = ",".join(_b64(each) for each in self.holder.chain)
        found: dict[str, str | None] = {
            "content-type": "application/json",
            "host": self.host,
            "x-amz-date": date,
            "x-amz-x509": _b64(self.holder.certificate),
            "x-amz-x509-chain": chain or None,
            **self.headers,
        }
        headers = {name: value for name, value in sorted(found.items()) if value is not None}
        names = self.names if self.names is not None else ";".join(headers)
        fields = "".join(f"{name}:{headers.get(name, '')}\n" for name in names.split(";"))
        query = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(self.query.items()))
        canonical = f"POST\n{self.signed_path}\n{query}\n{fields}\n{names}\n{hashlib.sha256(self.raw).hexdigest()}"
        scope = f"{self.day or date[:8]}/{self.region}/{self.service}/aws4_request"
        statement = f"{label}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}".encode()
        if is_rsa:
            signature = self.holder.key.sign(statement, PKCS1v15(), hashes.SHA256())
        elif isinstance(self.holder.key, ec.EllipticCurvePrivateKey):
            signature = self.holder.key.sign(statement, ec.ECDSA(hashes.SHA256()))
        else:
            signature = self.holder.key.sign(statement)
        serial = self.serial or str(self.holder.certificate.serial_number)
        headers["authorization"] = (
            f"{label} Credential={serial}/{scope}, SignedHeaders={names}, Signature={signature.hex()}"
        )
        return headers


def _b64(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

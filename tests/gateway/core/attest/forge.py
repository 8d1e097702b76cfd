"""A maker of PKCS#7 messages, right and wrong in every part: written from RFC 5652, apart from the code under test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

NAME = "CN=Regional signer,O=Test"
HASHES: dict[str, HashAlgorithm] = {"md5": MD5(), "sha1": SHA1(), "sha256": SHA256()}  # noqa: S303 (they are refused)


@dataclass(frozen=True)
class Pair:
    """A key with its self-signed certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def pair(*, bits: int = 2048, name: str = NAME, serial: int = 0x1234) -> Pair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    subject, now = x509.Name.from_rfc4514_string(name), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), serial, now, now + timedelta(days=1))
    return Pair(key, builder.sign(key, SHA256()))


def attributes(content: bytes, digest: str = "sha256") -> list[dict[str, Any]]:
    return [
        {"type": "content_type", "values": ["data"]},
        {"type": "message_digest", "values": [hashlib.new(digest, content).digest()]},
    ]


def signer(
    by: Pair,
    content: bytes,
    *,
    digest: str = "sha256",
    algorithm: str = "rsassa_pkcs1v15",
    attrs: list[dict[str, Any]] | None = None,
    named: Pair | None = None,
) -> cms.SignerInfo:
    """One SignerInfo by `by`, naming the certificate of `named` (else its own)."""
    signed = cms.CMSAttributes(attributes(content, digest) if attrs is None else attrs)
    covered = signed.dump() if len(signed) else content
    certificate = _asn1((named or by).certificate)
    sid = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    body: dict[str, Any] = {
        "version": "v1",
        "sid": cms.SignerIdentifier({"issuer_and_serial_number": sid}),
        "digest_algorithm": {"algorithm": digest},
        "signature_algorithm": {"algorithm": algorithm},
        "signature": by.key.sign(covered, padding.PKCS1v15(), HASHES[digest]),
    }
    if len(signed):
        body["signed_attrs"] = signed
    return cms.SignerInfo(body)


def message(
    content: bytes | None,
    signers: Sequence[cms.SignerInfo],
    *,
    certificates: Sequence[x509.Certificate] = (),
    crl: bytes | None = None,
) -> bytes:
    """A SignedData as DER; `content` None makes it detached."""
    wrapped: dict[str, Any] = {"content_type": "data"}
    if content is not None:
        wrapped["content"] = content
    body: dict[str, Any] = {
        "version": "v1",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": wrapped,
        "signer_infos": list(signers),
    }
    if certificates:
        body["certificates"] = [_asn1(one) for one in certificates]
    if crl:
        body["crls"] = [cms.RevocationInfoChoice.load(crl)]
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump())


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))

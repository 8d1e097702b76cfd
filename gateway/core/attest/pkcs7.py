"""The PKCS#7 signature of an EC2 instance identity document (the `rsa2048` resource of the metadata service).

RFC 5652 §5, narrowed to what AWS sends: one signer, RSA PKCS#1 v1.5 with SHA-256, signed attributes, the content
embedded, no certificate inside; DER or BER (AWS sends indefinite lengths). The signer's certificate is pinned and never
taken from the message: `openssl smime -verify` as AWS's own page shows it accepts whatever certificate is embedded.
AWS: "Verify the instance identity document for an Amazon EC2 instance" (verify-iid.html).
"""

import hashlib
from dataclasses import dataclass

from asn1crypto import cms
from asn1crypto.x509 import Name
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.core.errors import Refusal

RSA_BITS = 2048


def verify(pkcs7: bytes, document: bytes, certificate: x509.Certificate) -> None:
    """Prove that the holder of the pinned `certificate` signed exactly `document`. `pkcs7` is DER or BER.

    Raises Refusal: `evidence_malformed` for what cannot be read, `evidence_refused` for all else; `reason` says which.
    """
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS:
        raise _refused("pinned_key_refused")
    message = _read(pkcs7, certificate)
    if message.certificates:
        raise _refused("certificate_embedded")
    if message.crls:
        raise _refused("crl_embedded")
    if len(message.signers) != 1:
        raise _refused("signers_not_one")
    (signer,) = message.signers
    if not signer.is_pinned:
        raise _refused("signer_not_pinned")
    if signer.digest != "sha256":
        raise _refused("digest_algorithm_refused")
    if signer.algorithm not in ("rsassa_pkcs1v15", "sha256_rsa"):
        raise _refused("signature_algorithm_refused")
    if message.content_type != "data" or signer.attribute("content_type") != "data":
        raise _refused("content_type_refused")
    if message.content is None or signer.attribute("message_digest") != hashlib.sha256(message.content).digest():
        raise _refused("message_digest_differs")
    try:
        key.verify(signer.signature, signer.signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        raise _refused("signature_invalid") from None
    if message.content != document:
        raise _refused("document_differs")


def _refused(reason: str) -> Refusal:
    return Refusal("evidence_refused", reason=reason)


@dataclass(frozen=True, slots=True)
class _Signer:
    """`signed` is what the signature covers: the signed attributes as DER of a SET OF (RFC 5652 §5.4)."""

    is_pinned: bool
    digest: str
    algorithm: str
    attributes: tuple[tuple[str, tuple[object, ...]], ...]
    signed: bytes
    signature: bytes

    def attribute(self, name: str) -> object:
        """The value of an attribute that stands exactly once, with exactly one value; None otherwise."""
        found = [values for kind, values in self.attributes if kind == name]
        return found[0][0] if len(found) == 1 and len(found[0]) == 1 else None


@dataclass(frozen=True, slots=True)
class _Message:
    """A SignedData in plain values. `content` is None when the signature is detached."""

    content_type: str
    content: bytes | None
    certificates: int
    crls: int
    signers: tuple[_Signer, ...]


def _read(pkcs7: bytes, certificate: x509.Certificate) -> _Message:
    try:
        info = cms.ContentInfo.load(pkcs7, strict=True)
        if info["content_type"].native != "signed_data":
            raise ValueError("not a SignedData")
        signed = info["content"]
        wrapped = signed["encap_content_info"]
        content = wrapped["content"]
        return _Message(
            content_type=wrapped["content_type"].native,
            content=None if content.native is None else bytes(content),
            certificates=len(signed["certificates"]),
            crls=len(signed["crls"]),
            signers=tuple(_read_signer(signer, certificate) for signer in signed["signer_infos"]),
        )
    except Exception:
        # asn1crypto reads lazily, and hostile bytes draw more from it than the ValueError that it documents.
        raise Refusal("evidence_malformed", reason="pkcs7_malformed") from None


def _read_signer(signer: cms.SignerInfo, certificate: x509.Certificate) -> _Signer:
    attributes = signer["signed_attrs"]
    return _Signer(
        is_pinned=_names(signer["sid"], certificate),
        digest=signer["digest_algorithm"]["algorithm"].native,
        algorithm=signer["signature_algorithm"]["algorithm"].native,
        attributes=tuple((one["type"].native, tuple(value.native for value in one["values"])) for one in attributes),
        # Encoded afresh from what was parsed, so that what we read is what the signature proves, in BER too.
        signed=attributes.untag().dump(force=True) if len(attributes) else b"",
        signature=bytes(signer["signature"]),
    )


def _names(sid: cms.SignerIdentifier, certificate: x509.Certificate) -> bool:
    if sid.name != "issuer_and_serial_number":
        return False
    issuer = Name.load(certificate.issuer.public_bytes())
    return bool(sid.chosen["issuer"] == issuer and sid.chosen["serial_number"].native == certificate.serial_number)

"""What each kind of certificate looks like when the authority builds it. `lint` has a table of its own, on purpose."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID


class Kind(Enum):
    """The kinds of certificate that exist here."""

    ROOT = "root"
    ISSUER = "issuer"
    SERVER = "server"
    INSTANCE = "instance"
    OPERATOR = "operator"
    AUDIT = "audit"


BACKDATING = timedelta(minutes=5)
"""How far callers may set notBefore back, for clocks that are behind. It is no part of a certificate's life."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How to build one kind. `path_length` is None for what is no authority (RFC 5280 section 4.2.1.9)."""

    kind: Kind
    longest_life: timedelta
    path_length: int | None
    key_usage: x509.KeyUsage
    extended_key_usages: tuple[x509.ObjectIdentifier, ...] = ()


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


_AUTHORITY, _END_ENTITY = _key_usage(authority=True), _key_usage(authority=False)
_CLIENT, _SERVER = (ExtendedKeyUsageOID.CLIENT_AUTH,), (ExtendedKeyUsageOID.SERVER_AUTH,)
_DOCUMENTS = (x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),)  # id-kp-documentSigning, RFC 9336

ROOT = Profile(Kind.ROOT, timedelta(days=3653), 1, _AUTHORITY)
ISSUER = Profile(Kind.ISSUER, timedelta(days=1827), 0, _AUTHORITY)
SERVER = Profile(Kind.SERVER, timedelta(days=90), None, _END_ENTITY, _SERVER)
INSTANCE = Profile(Kind.INSTANCE, timedelta(hours=24), None, _END_ENTITY, _CLIENT)
OPERATOR = Profile(Kind.OPERATOR, timedelta(hours=12), None, _END_ENTITY, _CLIENT)
AUDIT = Profile(Kind.AUDIT, timedelta(days=400), None, _END_ENTITY, _DOCUMENTS)

"""The second opinion: is this certificate exactly what its kind must be?

It shares nothing with what builds certificates: it reads the DER itself, holds its own tables and its own grammar of
names, and compares bytes wherever only one value is right. So a mistake must be made twice to leave the house.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import der
from certs.profiles import Kind

_EXTENSIONS = {  # by OID in hex; all are in id-ce, 2.5.29 (RFC 5280 section 4.2.1)
    "551d0e": "subjectKeyIdentifier",
    "551d0f": "keyUsage",
    "551d11": "subjectAltName",
    "551d13": "basicConstraints",
    "551d1f": "cRLDistributionPoints",
    "551d23": "authorityKeyIdentifier",
    "551d25": "extKeyUsage",
}
_CRITICAL = {"basicConstraints", "keyUsage"}


@dataclass(frozen=True, slots=True)
class _Right:
    """What is right for one kind; the extensions in hex, since only these very bytes are."""

    longest: timedelta
    signed_by: Kind
    basic_constraints: str
    key_usage: str
    ext_key_usage: str | None = None


_SIGNS_CERTIFICATES, _SIGNS_DATA = "03020106", "03020780"  # keyCertSign and cRLSign; digitalSignature
_FOR_CLIENTS, _FOR_SERVERS = "300a06082b06010505070302", "300a06082b06010505070301"
_FOR_DOCUMENTS = "300a06082b06010505070324"
_RIGHT = {
    Kind.ROOT: _Right(timedelta(days=3653, minutes=5), Kind.ROOT, "30060101ff020101", _SIGNS_CERTIFICATES),
    Kind.ISSUER: _Right(timedelta(days=1827, minutes=5), Kind.ROOT, "30060101ff020100", _SIGNS_CERTIFICATES),
    Kind.SERVER: _Right(timedelta(days=90, minutes=5), Kind.ISSUER, "3000", _SIGNS_DATA, _FOR_SERVERS),
    Kind.INSTANCE: _Right(timedelta(hours=24, minutes=5), Kind.ISSUER, "3000", _SIGNS_DATA, _FOR_CLIENTS),
    Kind.OPERATOR: _Right(timedelta(hours=12, minutes=5), Kind.ISSUER, "3000", _SIGNS_DATA, _FOR_CLIENTS),
    Kind.AUDIT: _Right(timedelta(days=400, minutes=5), Kind.ISSUER, "3000", _SIGNS_DATA, _FOR_DOCUMENTS),
}

_URI, _DNS, _IP = 0x86, 0x82, 0x87  # GeneralName, RFC 5280 section 4.2.1.6
_NOTHING = r"(?!)"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAMES = {
    Kind.SERVER: {_DNS: rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}", _IP: ".+"},
    Kind.INSTANCE: {
        _URI: r"spiffe://[a-z0-9._-]{1,255}/aws/[0-9]{12}/[a-z]+(-[a-z]+){1,3}-[0-9]{1,2}/i-[0-9a-f]{8,17}"
    },
    Kind.OPERATOR: {_URI: rf"spiffe://[a-z0-9._-]{{1,255}}/operator/{_LABEL}"},
    Kind.AUDIT: {_URI: r"spiffe://[a-z0-9._-]{1,255}/audit"},
}

_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_P256_KEY = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")  # then the point
_TBS_TAGS = [0xA0, der.INTEGER, *[der.SEQUENCE] * 5, 0xA3]  # version, serial number, five sequences, extensions


@dataclass(frozen=True, slots=True)
class _Fields:
    """A certificate as its DER has it (RFC 5280 section 4.1). `extensions`: by name or hex OID, critical, value."""

    tbs: bytes
    serial: bytes
    algorithms: tuple[bytes, bytes]
    issuer: bytes
    times: list[tuple[int, bytes]]
    subject: bytes
    key: bytes
    extensions: list[tuple[str, bool, bytes]]
    signature: bytes

    @classmethod
    def read(cls, certificate: bytes) -> "_Fields":
        """Raises ValueError."""
        (tbs_tag, tbs), (algorithm_tag, algorithm), (_, signature) = der.children(der.only(certificate, der.SEQUENCE))
        parts = der.children(tbs)
        if [tag for tag, _ in parts] != _TBS_TAGS or parts[0][1] != b"\x02\x01\x02":
            raise ValueError("not version 3, or with unique identifiers, or without extensions")
        _, (_, serial), (_, inner), (_, issuer), (_, validity), (_, subject), (_, key), (_, extensions) = parts
        return cls(
            der.wrap(tbs_tag, tbs),
            serial,
            (der.wrap(der.SEQUENCE, inner), der.wrap(algorithm_tag, algorithm)),
            der.wrap(der.SEQUENCE, issuer),
            der.children(validity),
            der.wrap(der.SEQUENCE, subject),
            der.wrap(der.SEQUENCE, key),
            [_extension(tag, body) for tag, body in der.children(der.only(extensions, der.SEQUENCE))],
            signature.removeprefix(b"\0"),
        )

    def value(self, name: str) -> bytes:
        """The value of the extension, empty when it is absent."""
        return next((value for found, _, value in self.extensions if found == name), b"")


def findings(
    certificate: bytes,
    kind: Kind,
    issuer_certificate: x509.Certificate | None,
    *,
    names: tuple[str, ...] | None = None,
    check_signature: bool = True,
) -> tuple[str, ...]:
    """What is wrong with a DER certificate of this kind, as `field: what is wrong`; empty when nothing is.

    `issuer_certificate` is None for a root, which is its own. `names`, when given, are the only alternative names that
    are right, in this order. `check_signature=False` is for a draft that was signed with a throw-away key.
    """
    try:
        own = _Fields.read(certificate)
        issuer = own if issuer_certificate is None else _Fields.read(issuer_certificate.public_bytes(Encoding.DER))
        found = [*_body(own, kind), *_extensions(own, kind), *_names(own, kind, names), *_issuer(own, kind, issuer)]
        if check_signature and not _signed(own, issuer):
            found.append("signature: is not the issuer's")
    except ValueError as error:
        return (f"certificate: this or its issuer's is no version 3 certificate in strict DER ({error})",)
    return tuple(found)


def _body(own: _Fields, kind: Kind) -> Iterator[str]:
    serial = abs(int.from_bytes(own.serial, signed=True))
    if not 64 <= serial.bit_length() <= 159 or own.serial != serial.to_bytes(serial.bit_length() // 8 + 1):
        yield "serialNumber: not a positive number of 64 to 159 bits in its shortest form"
    if own.algorithms != (_ECDSA_WITH_SHA256, _ECDSA_WITH_SHA256):
        yield "signature: not ecdsa-with-SHA256, or not the same inside and outside"
    start, end = _times(own)
    if not start < end:
        yield "validity: ends before it begins"
    if end - start > _RIGHT[kind].longest:
        yield "validity: longer than this kind may live"
    if _point(own.key) is None:
        yield "subjectPublicKeyInfo: not a P-256 key"


def _extensions(own: _Fields, kind: Kind) -> Iterator[str]:
    right = _RIGHT[kind]
    exact = {"basicConstraints": right.basic_constraints, "keyUsage": right.key_usage}
    required, optional = {"basicConstraints", "keyUsage", "subjectKeyIdentifier"}, set()
    if kind is not Kind.ROOT:
        required.add("authorityKeyIdentifier")
    if right.ext_key_usage is not None:
        exact["extKeyUsage"] = right.ext_key_usage
        required |= {"extKeyUsage", "subjectAltName"}
        optional.add("cRLDistributionPoints")
    present = [name for name, _, _ in own.extensions]
    for name in sorted(required.difference(present)):
        yield f"{name}: is missing"
    for name in sorted({name for name in present if present.count(name) > 1}):
        yield f"{name}: is there more than once"
    for name, critical, value in own.extensions:
        if name not in required | optional:
            yield f"{name}: does not belong in this kind"
        if critical != (name in _CRITICAL):
            yield f"{name}: must {'' if name in _CRITICAL else 'not '}be critical"
        if name in exact and value.hex() != exact[name]:
            yield f"{name}: not what this kind has"
        if name == "subjectKeyIdentifier" and value != der.wrap(der.OCTET_STRING, _sha1(own.key[len(_P256_KEY) :])):
            yield "subjectKeyIdentifier: not the SHA-1 of the key (RFC 5280 section 4.2.1.2, method 1)"
        if name == "cRLDistributionPoints" and not _is_one_http_url(value):
            yield "cRLDistributionPoints: not exactly one http URL"


def _names(own: _Fields, kind: Kind, names: tuple[str, ...] | None) -> Iterator[str]:
    common_name = _common_name(own.subject)
    if common_name is None:
        yield "subject: not exactly one printable common name, as UTF8String"
    if kind is Kind.ISSUER and own.subject == own.issuer:
        yield "subject: the issuer's own"
    if kind not in _NAMES:
        return
    try:
        found = der.children(der.only(own.value("subjectAltName"), der.SEQUENCE))
        written = tuple(_written(tag, value) for tag, value in found)
    except ValueError:
        yield "subjectAltName: cannot be read"
        return
    forms = [_NAMES[kind].get(tag, _NOTHING) for tag, _ in found]
    right = all(re.fullmatch(form, text) for form, text in zip(forms, written, strict=True))
    if not right or not found or (len(found) > 1 and kind is not Kind.SERVER):
        yield "subjectAltName: not the names that this kind has"
    if names is not None and written != names:
        yield "subjectAltName: not the names that were asked for"
    if common_name not in [text.rsplit("/", 1)[-1] for text in written[:1]]:
        yield "subject: the common name is not that of the first alternative name"


def _issuer(own: _Fields, kind: Kind, issuer: _Fields) -> Iterator[str]:
    if own.issuer != issuer.subject:
        yield "issuer: not the issuing certificate's subject"
    if issuer.value("basicConstraints").hex() != _RIGHT[_RIGHT[kind].signed_by].basic_constraints:
        yield "issuer: may not sign this kind"
    if kind is not Kind.ROOT:
        identifier = issuer.value("subjectKeyIdentifier")[2:]  # behind the head of its OCTET STRING
        if own.value("authorityKeyIdentifier") != der.wrap(der.SEQUENCE, der.wrap(0x80, identifier)):
            yield "authorityKeyIdentifier: not the issuing certificate's subjectKeyIdentifier"
    if _times(own)[1] > _times(issuer)[1]:
        yield "validity: outlives the issuing certificate"


def _signed(own: _Fields, issuer: _Fields) -> bool:
    public_key = _point(issuer.key)
    if public_key is None:
        return False
    try:
        public_key.verify(own.signature, own.tbs, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _extension(tag: int, body: bytes) -> tuple[str, bool, bytes]:
    """One extension; a BOOLEAN is there only when it is TRUE (X.690 section 11.5)."""
    parts = der.children(body)
    critical = parts[1:2] == [(0x01, b"\xff")]
    (oid_tag, oid), (value_tag, value) = (parts[0], *parts[2:]) if critical else parts
    if (tag, oid_tag, value_tag) != (der.SEQUENCE, der.OID, der.OCTET_STRING):
        raise ValueError("an extension is malformed")
    return _EXTENSIONS.get(oid.hex(), f"extension {oid.hex()}"), critical, value


def _times(fields: _Fields) -> tuple[datetime, datetime]:
    """notBefore and notAfter."""
    first, second = (_time(tag, value.decode("ascii")) for tag, value in fields.times)
    return first, second


def _time(tag: int, text: str) -> datetime:
    """A UTCTime from 1950 to 2049, else a GeneralizedTime; with seconds, and in UTC (RFC 5280 section 4.1.2.5)."""
    if tag == der.UTC_TIME:
        text = ("19" if text >= "5" else "20") + text
    right_tag = der.UTC_TIME if "1950" <= text < "2050" else der.GENERALIZED_TIME
    if tag != right_tag or not re.fullmatch(r"[0-9]{14}Z", text):
        raise ValueError("a time is malformed")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _point(key: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key in a SubjectPublicKeyInfo, an uncompressed point (RFC 5480); None when it is anything else."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.removeprefix(_P256_KEY))
    except ValueError:
        return None


def _common_name(subject: bytes) -> str | None:
    """The common name, when the subject is that and nothing else."""
    text = subject[13:]  # behind the heads of the sequence, the set, the pair, its OID and the string
    pair = der.wrap(der.SEQUENCE, bytes.fromhex("0603550403"), der.wrap(der.UTF8_STRING, text))
    alone = subject == der.wrap(der.SEQUENCE, der.wrap(der.SET, pair))
    return text.decode() if alone and re.fullmatch(rb"[ -~]{1,64}", text) else None


def _written(tag: int, value: bytes) -> str:
    return str(ipaddress.ip_address(value)) if tag == _IP else value.decode("ascii")


def _is_one_http_url(value: bytes) -> bool:
    """One DistributionPoint with a fullName of one http or https URI (RFC 5280 section 4.2.1.13)."""
    try:
        points = der.only(value, der.SEQUENCE)
        url = der.only(der.only(der.only(der.only(points, der.SEQUENCE), 0xA0), 0xA0), _URI)
    except ValueError:
        return False
    return re.fullmatch(rb"https?://[!-~]+", url) is not None


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()

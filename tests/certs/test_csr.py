"""csr: one form of request is accepted; a request that asks for anything but a key is refused (A18, A19, A21)."""

import base64
import ipaddress
import re
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from certs import csr, der, keys, profiles
from certs.errors import CsrRefused
from tests.certs.independent import openssl
from tests.certs.made import INSTANCE_NAME

KEY = keys.generate()
GOOD = csr.make(KEY)
GOOD_DER = x509.load_pem_x509_csr(GOOD.encode()).public_bytes(Encoding.DER)
PADDED = next(made for made in iter(lambda: csr.make(KEY), "") if "==\n" in made)  # lengths differ by signature
LONGEST_SECONDS = 5  # of work; a request of 8 KiB that takes so long has found something


def pem(encoded: bytes) -> str:
    """PEM around any bytes."""
    lines = base64.encodebytes(encoded).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n"


def refusal(request: str | bytes) -> str:
    """Why it is refused; it must be refused, and soon."""
    before = time.process_time()
    with pytest.raises(CsrRefused) as refused:
        csr.read(request)
    assert time.process_time() - before < LONGEST_SECONDS
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return refused.value.reason


def test_the_request_that_an_agent_makes_is_accepted() -> None:
    accepted = csr.read(GOOD)
    assert accepted.public_key == KEY.public_key()
    assert accepted.key_sha256 == keys.public_sha256(KEY.public_key())
    assert csr.read(GOOD.encode()) == csr.read(f"\n  {GOOD}\n".replace("\n", "\r\n")) == accepted


def test_a_request_has_at_most_8_kib() -> None:
    assert csr.read(GOOD + " " * (8192 - len(GOOD))).public_key == KEY.public_key()
    assert refusal(GOOD + " " * (8193 - len(GOOD))) == "too_large"


def test_openssl_reads_the_request_that_an_agent_makes() -> None:
    ok, said = openssl("req", "-verify", "-noout", "-text", input=GOOD.encode())
    assert ok
    assert "verify OK" in said
    assert "prime256v1" in said


def test_a_request_that_openssl_makes_is_accepted_when_it_asks_for_nothing() -> None:
    key_pem = keys.dump_private_pem(KEY)
    arguments = ("req", "-new", "-key", "/dev/stdin", "-config", "/dev/null")
    ok, made = openssl(*arguments, "-subj", "/", input=key_pem)
    assert ok, made
    assert csr.read(made[made.index("-----BEGIN") :]).public_key == KEY.public_key()
    _, made = openssl(*arguments, "-subj", "/CN=admin", input=key_pem)
    assert refusal(made[made.index("-----BEGIN") :]) == "unexpected_subject"


def asking(
    *extensions: x509.ExtensionType,
    subject: tuple[x509.NameAttribute[str], ...] = (),
    attribute: tuple[ObjectIdentifier, bytes] | None = None,
    key: CertificateIssuerPrivateKeyTypes = KEY,
    digest: hashes.SHA256 | hashes.SHA384 | None = hashes.SHA256(),  # noqa: B008  # it holds nothing
) -> str:
    """A request that asks for these, rightly signed."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    if attribute:
        builder = builder.add_attribute(*attribute)
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


def named(text: str) -> tuple[x509.NameAttribute[str], ...]:
    return (x509.NameAttribute(NameOID.COMMON_NAME, text),)


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


OTHER_INSTANCE = INSTANCE_NAME.uri[:-1] + "1"
A18 = {
    "another instance's common name": (asking(subject=named("i-0123456789abcdef1")), "unexpected_subject"),
    "its own common name": (asking(subject=named(INSTANCE_NAME.instance_id)), "unexpected_subject"),
    "admin": (asking(subject=named("admin")), "unexpected_subject"),
    "another instance's URI": (asking(san(x509.UniformResourceIdentifier(OTHER_INSTANCE))), "unexpected_extension"),
    "its own URI": (asking(san(x509.UniformResourceIdentifier(INSTANCE_NAME.uri))), "unexpected_extension"),
    "the gateway's DNS name": (asking(san(x509.DNSName("gateway.test"))), "unexpected_extension"),
    "a wildcard": (asking(san(x509.DNSName("*"))), "unexpected_extension"),
    "an IP address": (asking(san(x509.IPAddress(ipaddress.ip_address("10.0.0.1")))), "unexpected_extension"),
    "an e-mail address": (asking(san(x509.RFC822Name("admin@gateway.test"))), "unexpected_extension"),
    "an otherName": (asking(san(x509.OtherName(ObjectIdentifier("1.2.3"), b"\x0c\x01a"))), "unexpected_extension"),
    "300 names": (asking(san(*(x509.DNSName(f"a{n}.test") for n in range(300)))), "unexpected_extension"),
    "1,000 names": (asking(san(*(x509.DNSName(f"a{n}.test") for n in range(1000)))), "too_large"),
    "everything": (asking(san(x509.DNSName("a.test")), subject=named("admin")), "unexpected_subject"),
}


@pytest.mark.parametrize(("request_pem", "reason"), A18.values(), ids=A18)
def test_a18_a_request_for_a_name_is_refused(request_pem: str, reason: str) -> None:
    assert refusal(request_pem) == reason


CHALLENGE = (AttributeOID.CHALLENGE_PASSWORD, b"please")
ANY_USAGE, SERVER_AUTH = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.SERVER_AUTH
LONG_LIFE = (ObjectIdentifier("1.3.6.1.4.1.311.13.2.1"), b"ValidityPeriodUnits=9999")
A19 = {
    "CA:TRUE": (asking(x509.BasicConstraints(True, None)), "unexpected_extension"),
    "CA:FALSE": (asking(x509.BasicConstraints(False, None)), "unexpected_extension"),
    "keyCertSign": (asking(profiles.ISSUER.key_usage), "unexpected_extension"),
    "any usage": (asking(x509.ExtendedKeyUsage([ANY_USAGE])), "unexpected_extension"),
    "serverAuth": (asking(x509.ExtendedKeyUsage([SERVER_AUTH])), "unexpected_extension"),
    "a long life": (asking(attribute=LONG_LIFE), "unexpected_attribute"),
    "an odd extension": (asking(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"")), "unexpected_extension"),
    "a poisoned extension": (asking(x509.PrecertPoison()), "unexpected_extension"),
    "challengePassword": (asking(attribute=CHALLENGE), "unexpected_attribute"),
    "challengePassword too": (asking(x509.BasicConstraints(True, 0), attribute=CHALLENGE), "unexpected_extension"),
}


@pytest.mark.parametrize(("request_pem", "reason"), A19.values(), ids=A19)
def test_a19_a_request_for_a_right_is_refused(request_pem: str, reason: str) -> None:
    assert refusal(request_pem) == reason


def forged(*, key: bytes | None = None, attributes: bytes = b"", version: bytes = b"\0", subject: bytes = b"") -> str:
    """A request built by hand: its signature is KEY's, and is right."""
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = der.wrap(
        der.SEQUENCE,
        *(der.wrap(der.INTEGER, version), der.wrap(der.SEQUENCE, subject), key or spki, der.wrap(0xA0, attributes)),
    )
    signature = KEY.sign(info, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return pem(der.wrap(der.SEQUENCE, info, algorithm, der.wrap(der.BIT_STRING, b"\0", signature)))


def test_the_forger_knows_the_accepted_form() -> None:
    """The negative control of what is forged below."""
    assert csr.read(forged()).public_key == KEY.public_key()


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = der.wrap(der.SEQUENCE, inner)
    return inner


def extension_request(value: bytes) -> bytes:
    oid = bytes.fromhex("06092a864886f70d01090e")
    return der.wrap(der.SEQUENCE, oid, der.wrap(der.SET, value))


POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
COMPRESSED = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
P256 = bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107")
EMPTY_USAGE = der.wrap(der.SEQUENCE, bytes.fromhex("0603551d25"), der.wrap(der.OCTET_STRING, b"\x30\0"))


def spki(point: bytes, algorithm: bytes = P256) -> bytes:
    return der.wrap(der.SEQUENCE, der.wrap(der.SEQUENCE, algorithm), der.wrap(der.BIT_STRING, b"\0", point))


def explicit_curve() -> bytes:
    """The same key, its curve written out (RFC 3279 section 2.3.5) as CVE-2020-0601 had it."""
    _, said = openssl(
        *("pkey", "-pubout", "-outform", "PEM", "-ec_param_enc", "explicit"), input=keys.dump_private_pem(KEY)
    )
    return base64.b64decode("".join(said.split("-----")[2].split()))


A21: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "nothing": (lambda: "", "not_pem"),
    "no PEM": (lambda: "hello", "not_pem"),
    "bare DER": (lambda: GOOD_DER, "not_pem"),
    "a label of old": (lambda: GOOD.replace("CERTIFICATE", "NEW CERTIFICATE"), "not_pem"),
    "another label": (lambda: GOOD.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "not_pem"),
    "no end": (lambda: GOOD[: GOOD.index("-----END")], "not_pem"),
    "lone surrogates": (lambda: GOOD + "\ud800", "trailing_bytes"),
    "a NUL": (lambda: GOOD.replace("M", "\0", 1), "not_pem"),
    "headers": (lambda: GOOD.replace("-----\n", "-----\nA: b\n\n", 1), "not_pem"),
    "base64 with spare bits": (lambda: re.sub("(.)==", lambda m: f"{chr(ord(m[1]) + 1)}==", PADDED), "not_pem"),
    "base64 that is cut": (lambda: PADDED.replace("=", ""), "not_pem"),
    "text before": (lambda: "hello\n" + GOOD, "trailing_bytes"),
    "text behind": (lambda: GOOD + "hello", "trailing_bytes"),
    "two PEM blocks": (lambda: GOOD + GOOD, "more_than_one"),
    "17 PEM blocks": (lambda: GOOD * 17, "more_than_one"),
    "10,000 PEM blocks": (lambda: GOOD * 10_000, "too_large"),
    "10 MB": (lambda: "A" * 10_000_000, "too_large"),
    "10 MB of PEM": (lambda: pem(bytes(10_000_000)).encode(), "too_large"),
    "8 KiB of beginnings": (lambda: "-----BEGIN CERTIFICATE REQUEST-----\n" * 227, "more_than_one"),
    "8 KiB of spaces": (lambda: " " * 8192, "not_pem"),
    "8 KiB of newlines in it": (lambda: GOOD.replace("-----\n", "-----\n" + "\n" * 7000, 1), "not_pem"),
    "one byte": (lambda: pem(b"\x30"), "malformed"),
    "truncated by one": (lambda: pem(GOOD_DER[:-1]), "malformed"),
    "truncated by half": (lambda: pem(GOOD_DER[:90]), "malformed"),
    "trailing bytes in the DER": (lambda: pem(GOOD_DER + b"\0"), "trailing_bytes"),
    "two in one DER": (lambda: pem(GOOD_DER * 2), "trailing_bytes"),
    "an indefinite length": (lambda: pem(b"\x30\x80" + GOOD_DER[3:] + b"\0\0"), "malformed"),
    "a length that is not the shortest": (lambda: pem(b"\x30\x82\0" + GOOD_DER[2:]), "malformed"),
    "a length of 2^1016": (lambda: pem(b"\x30\xff" + b"\xff" * 127), "malformed"),
    "1,000 deep": (lambda: pem(nested(1000)), "malformed"),
    "1,000 deep in an attribute": (lambda: forged(attributes=extension_request(nested(1000))), "unexpected_extension"),
    "1,000 deep in the subject": (lambda: forged(subject=nested(1000)), "malformed"),
    "an empty usage": (
        lambda: forged(attributes=extension_request(der.wrap(der.SEQUENCE, EMPTY_USAGE))),
        "unexpected_extension",
    ),
    "an attribute without a value": (
        lambda: forged(attributes=der.wrap(der.SEQUENCE, bytes.fromhex("06032a0304"), der.wrap(der.SET))),
        "malformed",
    ),
    "version 2": (lambda: forged(version=b"\1"), "malformed"),
    "a bad signature": (lambda: pem(GOOD_DER[:-1] + bytes([GOOD_DER[-1] ^ 1])), "bad_signature"),
    "another's key": (
        lambda: forged(key=keys.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "bad_signature",
    ),
    "a compressed point": (lambda: forged(key=spki(COMPRESSED)), "not_canonical"),
    "the point at infinity": (lambda: forged(key=spki(b"\0")), "malformed"),
    "a point that is not on the curve": (lambda: forged(key=spki(POINT[:-1] + bytes([POINT[-1] ^ 1]))), "malformed"),
    "a key without a curve": (lambda: forged(key=spki(POINT, P256[:9])), "malformed"),
    "a curve written out": (lambda: forged(key=explicit_curve()), "not_canonical"),
    "RSA": (lambda: asking(key=rsa.generate_private_key(65537, 2048)), "key_type"),
    "P-384": (lambda: asking(key=ec.generate_private_key(ec.SECP384R1())), "key_type"),
    "secp256k1": (lambda: asking(key=ec.generate_private_key(ec.SECP256K1())), "key_type"),
    "Ed25519": (lambda: asking(key=ed25519.Ed25519PrivateKey.generate(), digest=None), "key_type"),
    "DSA": (lambda: asking(key=dsa.generate_private_key(2048)), "key_type"),
    "SHA-384": (lambda: asking(digest=hashes.SHA384()), "signature_algorithm"),
}


@pytest.mark.parametrize(("make", "reason"), A21.values(), ids=A21)
def test_a21_junk_is_refused(make: Callable[[], str | bytes], reason: str) -> None:
    assert refusal(make()) == reason
    assert csr.read(GOOD)


def refused_or_the_same(request: str | bytes) -> None:
    """The property that holds for whatever was made of a good request."""
    try:
        accepted = csr.read(request)
    except CsrRefused:
        return
    assert accepted.public_key == KEY.public_key()


@given(st.binary(max_size=9000) | st.text(max_size=9000))
def test_a21_random_text_is_refused(junk: str | bytes) -> None:
    with pytest.raises(CsrRefused):
        csr.read(junk)


@given(st.binary(max_size=300))
def test_a21_random_der_is_refused(junk: bytes) -> None:
    with pytest.raises(CsrRefused):
        csr.read(pem(junk))


@given(st.lists(st.integers(0, 8 * len(GOOD_DER) - 1), min_size=1, max_size=4, unique=True))
def test_a21_flipped_bits_are_refused(bits: list[int]) -> None:
    bent = bytearray(GOOD_DER)
    for bit in bits:
        bent[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CsrRefused):
        csr.read(pem(bytes(bent)))


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_a21_a_changed_character_gives_no_other_key(place: int, character: str) -> None:
    refused_or_the_same(GOOD[:place] + character + GOOD[place + 1 :])


@given(st.integers(0, len(GOOD_DER) - 1))
def test_a21_a_truncated_request_is_refused(length: int) -> None:
    with pytest.raises(CsrRefused):
        csr.read(pem(GOOD_DER[:length]))
    refused_or_the_same(GOOD[:length])


@given(st.binary(min_size=1, max_size=64), st.integers(0, len(GOOD_DER)))
def test_a21_added_bytes_are_refused(added: bytes, place: int) -> None:
    with pytest.raises(CsrRefused):
        csr.read(pem(GOOD_DER[:place] + added + GOOD_DER[place:]))


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=4))
def test_a21_a_request_that_is_rightly_signed_but_odd_inside_is_refused(
    attributes: bytes, subject: bytes, version: bytes
) -> None:
    """Past the signature: whatever KEY itself signs, only the one form is accepted."""
    odd = forged(attributes=attributes, subject=subject, version=version)
    if (attributes, subject, version) != (b"", b"", b"\0"):
        with pytest.raises(CsrRefused):
            csr.read(odd)

"""lint: it passes what is right, and refuses every one of a set of deliberately wrong certificates, by name."""

import ipaddress
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from certs import authority, keys, lint, profiles
from certs import der as encoding
from certs.authority import Issuer
from certs.profiles import Kind
from tests.certs.made import (
    INSTANCE_NAME,
    INSTANCES,
    LEAVES,
    NOW,
    OPERATOR_NAME,
    ROOT,
    SERVICES,
    Crooked,
    der,
    leaf,
    serial,
)


def san(*names: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName(names), False


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def usage(*usages: ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage(usages), False


def named(text: str) -> tuple[x509.NameAttribute[Any], ...]:
    return (x509.NameAttribute(NameOID.COMMON_NAME, text),)


def test_what_the_authority_makes_is_right() -> None:
    assert lint.findings(der(ROOT.certificate), Kind.ROOT, None) == ()
    assert lint.findings(der(ROOT.certificate), Kind.ROOT, ROOT.certificate) == ()
    for issuer in (INSTANCES, SERVICES):
        assert lint.findings(der(issuer.certificate), Kind.ISSUER, ROOT.certificate) == ()
    for kind, (issuer, profile, name) in LEAVES.items():
        for url in ("http://gateway.test/instances.crl", None):
            made = der(leaf(kind, crl_url=url))
            assert lint.findings(made, profile.kind, issuer.certificate, names=name.alternatives) == ()


def test_the_crooked_certificate_is_right_until_it_is_bent() -> None:
    """The negative control of the table below: each row refuses what it changes, and nothing else."""
    made = der(Crooked().make())
    assert lint.findings(made, Kind.INSTANCE, INSTANCES.certificate, names=INSTANCE_NAME.alternatives) == ()
    assert lint.findings(der(Crooked().but(**SERVER)), Kind.SERVER, SERVICES.certificate) == ()
    longest = san(x509.DNSName("gateway.test"), x509.DNSName("a." * 126 + "a"))
    made = der(Crooked().but(**SERVER | {"extensions": (usage(SERVER_AUTH), longest)}))
    assert lint.findings(made, Kind.SERVER, SERVICES.certificate) == ()


CLIENT_AUTH, SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
CA = (x509.BasicConstraints(True, 0), True)
OTHER_KEY = keys.generate()
SELF_MADE = Issuer(
    authority.make_root(OTHER_KEY, "Test root", serial(), NOW, NOW + timedelta(days=3)),
    OTHER_KEY,
)
SAME_NAME = Issuer(
    authority.make_issuer(SELF_MADE, OTHER_KEY.public_key(), "Test instances", serial(), NOW, NOW + timedelta(days=2)),
    OTHER_KEY,
)
GOOD = INSTANCE_NAME.uri
POINT = x509.DistributionPoint([uri("ldap://gateway.test/crl")], None, None, None)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "CA:TRUE": ({"extensions": (CA,)}, "basicConstraints: not what"),
    "basicConstraints not critical": (
        {"extensions": ((x509.BasicConstraints(False, None), False),)},
        "basicConstraints: must be critical",
    ),
    "no basicConstraints": ({"without": (x509.BasicConstraints,)}, "basicConstraints: is missing"),
    "keyCertSign": ({"extensions": ((profiles.ISSUER.key_usage, True),)}, "keyUsage: not what"),
    "keyUsage not critical": ({"extensions": ((profiles.INSTANCE.key_usage, False),)}, "keyUsage: must be critical"),
    "no keyUsage": ({"without": (x509.KeyUsage,)}, "keyUsage: is missing"),
    "serverAuth": ({"extensions": (usage(SERVER_AUTH),)}, "extKeyUsage: not what"),
    "serverAuth as well": ({"extensions": (usage(CLIENT_AUTH, SERVER_AUTH),)}, "extKeyUsage: not what"),
    "anyExtendedKeyUsage": (
        {"extensions": (usage(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),)},
        "extKeyUsage: not what",
    ),
    "no extKeyUsage": ({"without": (x509.ExtendedKeyUsage,)}, "extKeyUsage: is missing"),
    "two URIs": ({"extensions": (san(uri(GOOD), uri(GOOD[:-1] + "1")),)}, "subjectAltName: not the names that this"),
    "a DNS name too": ({"extensions": (san(uri(GOOD), x509.DNSName("a.test")),)}, "subjectAltName: not the names"),
    "an e-mail address": ({"extensions": (san(x509.RFC822Name("a@a.test")),)}, "subjectAltName: not the names"),
    "an empty subjectAltName": ({"extensions": (san(),)}, "subjectAltName: not the names"),
    "no subjectAltName": ({"without": (x509.SubjectAlternativeName,)}, "subjectAltName: is missing"),
    "an operator's URI": ({"extensions": (san(uri(OPERATOR_NAME.uri)),)}, "subjectAltName: not the names that this"),
    "another instance's URI": ({"extensions": (san(uri(GOOD[:-1] + "1")),)}, "subjectAltName: not the names that were"),
    "NUL in the URI": ({"extensions": (san(uri(GOOD + "\0")),)}, "subjectAltName: not the names that this"),
    "newline in the URI": ({"extensions": (san(uri(GOOD + "\n")),)}, "subjectAltName: not the names that this"),
    "NUL in the common name": ({"subject": named(INSTANCE_NAME.instance_id + "\0")}, "subject: not exactly one"),
    "another common name": ({"subject": named("admin")}, "subject: the common name is not"),
    "two common names": ({"subject": named("admin") + named(INSTANCE_NAME.instance_id)}, "subject: not exactly one"),
    "an empty subject": ({"subject": ()}, "subject: not exactly one"),
    "no authorityKeyIdentifier": ({"without": (x509.AuthorityKeyIdentifier,)}, "authorityKeyIdentifier: is missing"),
    "another's authorityKeyIdentifier": (
        {"extensions": ((SERVICES.key_identifier, False),)},
        "authorityKeyIdentifier: not the issuing",
    ),
    "no subjectKeyIdentifier": ({"without": (x509.SubjectKeyIdentifier,)}, "subjectKeyIdentifier: is missing"),
    "another subjectKeyIdentifier": (
        {"extensions": ((x509.SubjectKeyIdentifier(b"x" * 20), False),)},
        "subjectKeyIdentifier: not the SHA-1",
    ),
    "an unknown extension": (
        {"extensions": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),)},
        "extension 2a0304: does not belong",
    ),
    "an extension of another kind": (
        {"extensions": ((x509.TLSFeature([x509.TLSFeatureType.status_request]), False),)},
        "extension 2b06010505070118: does not belong",
    ),
    "an ldap distribution point": (
        {"extensions": ((x509.CRLDistributionPoints([POINT]), False),)},
        "cRLDistributionPoints: not exactly one http URL",
    ),
    "too long a life": ({"not_after": NOW + timedelta(hours=24, minutes=5, seconds=1)}, "validity: longer"),
    "ends before it begins": ({"not_after": NOW, "not_before": NOW + timedelta(seconds=1)}, "validity: ends before"),
    "outlives its issuer": (
        {
            "not_before": INSTANCES.certificate.not_valid_after_utc,
            "not_after": INSTANCES.certificate.not_valid_after_utc + timedelta(seconds=1),
        },
        "validity: outlives",
    ),
    "SHA-384": ({"digest": hashes.SHA384}, "signature: not ecdsa-with-SHA256"),
    "an RSA key": ({"key": rsa.generate_private_key(65537, 2048).public_key()}, "subjectPublicKeyInfo: not a P-256"),
    "a P-384 key": ({"key": ec.generate_private_key(ec.SECP384R1()).public_key()}, "subjectPublicKeyInfo: not a P-256"),
    "serial number of 63 bits": ({"serial": (1 << 63) - 1}, "serialNumber:"),
    "serial number of 160 bits": ({"serial": 1 << 159}, "serialNumber:"),
    "another issuer": ({"issuer": SERVICES}, "authorityKeyIdentifier: not the issuing"),
    "another issuer's name": ({"issuer_name": SERVICES.certificate.subject}, "issuer: not the issuing"),
    "an issuer of the same name": ({"issuer": SAME_NAME}, "signature: is not the issuer's"),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG.values(), ids=WRONG)
def test_b15_a_wrong_certificate_is_refused_by_name(wrong: dict[str, Any], expected: str) -> None:
    found = lint.findings(
        der(Crooked().but(**wrong)), Kind.INSTANCE, INSTANCES.certificate, names=INSTANCE_NAME.alternatives
    )
    assert [finding for finding in found if finding.startswith(expected)], found


SERVER: dict[str, Any] = {
    "issuer": SERVICES,
    "issuer_name": SERVICES.certificate.subject,
    "subject": named("gateway.test"),
    "extensions": (usage(SERVER_AUTH), san(x509.DNSName("gateway.test"), x509.IPAddress(ipaddress.ip_address("::1")))),
}
WRONG_SERVER: dict[str, tuple[dict[str, Any], str]] = {
    "a wildcard": ({"subject": named("*.a.test"), "san": [x509.DNSName("*.a.test")]}, "subjectAltName: not the names"),
    "upper case": ({"subject": named("A.test"), "san": [x509.DNSName("A.test")]}, "subjectAltName: not the names"),
    "a URI": ({"san": [x509.DNSName("gateway.test"), uri(GOOD)]}, "subjectAltName: not the names"),
    "a common name that is no alternative": ({"subject": named("admin.test")}, "subject: the common name is not"),
    "an empty name": ({"san": [x509.DNSName("")]}, "subjectAltName: not the names"),
    "a name of 254 letters": ({"san": [x509.DNSName("a." * 126 + "ab")]}, "subjectAltName: not the names"),
    "a label of 64 letters": ({"san": [x509.DNSName("a" * 64 + ".test")]}, "subjectAltName: not the names"),
    "clientAuth": ({"eku": CLIENT_AUTH}, "extKeyUsage: not what"),
    "the wrong issuer": ({"issuer_name": INSTANCES.certificate.subject}, "issuer: not the issuing"),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG_SERVER.values(), ids=WRONG_SERVER)
def test_b15_a_wrong_server_certificate_is_refused_by_name(wrong: dict[str, Any], expected: str) -> None:
    bent = dict(wrong)
    names = san(*bent.pop("san", [x509.DNSName("gateway.test")]))
    extensions = (usage(bent.pop("eku", SERVER_AUTH)), names)
    made = Crooked().but(**SERVER | {"extensions": extensions} | bent)
    found = lint.findings(der(made), Kind.SERVER, SERVICES.certificate)
    assert [finding for finding in found if finding.startswith(expected)], found


SURGERY: dict[str, tuple[str, str, str]] = {  # bytes of the encoding, what they become, and the finding
    "version 1": ("a003020102", "a003020100", "certificate:"),
    "a negative serial number": ("0210 01", "0210 81", "serialNumber:"),
    "a serial number with a needless zero": ("0210 0100", "0210 0000", "serialNumber:"),
    "FALSE written out": ("551d13 0101ff", "551d13 010100", "certificate:"),
    "no OID": ("0603551d13", "0403551d13", "certificate:"),
    "TRUE in another spelling": ("551d13 0101ff", "551d13 010101", "certificate:"),
    "a time in the wrong type": ("170d", "180d", "certificate:"),
    "an extension twice": ("551d0e", "551d23", "authorityKeyIdentifier: is there more than once"),
    "path length without CA": ("551d13 0101ff 0402 3000", "551d13 0101ff 0402 3080", "basicConstraints: not what"),
    "a point that is not on the curve": ("03420004", "03420005", "subjectPublicKeyInfo: not a P-256"),
    "an indefinite length": ("3082", "3080", "certificate:"),
}


@pytest.mark.parametrize(("before", "after", "expected"), SURGERY.values(), ids=SURGERY)
def test_b15_a_wrong_encoding_is_refused_by_name(before: str, after: str, expected: str) -> None:
    made = der(Crooked(serial=1 << 120).make())
    bent = made.replace(bytes.fromhex(before), bytes.fromhex(after), 1)
    assert bent != made
    found = lint.findings(bent, Kind.INSTANCE, INSTANCES.certificate, check_signature=False)
    assert [finding for finding in found if finding.startswith(expected)], found
    assert not lint.findings(made, Kind.INSTANCE, INSTANCES.certificate, check_signature=False)


def test_the_algorithm_inside_and_outside_must_agree() -> None:
    made = der(Crooked().make())
    head, _, tail = made.rpartition(bytes.fromhex("2a8648ce3d040302"))
    found = lint.findings(head + bytes.fromhex("2a8648ce3d040303") + tail, Kind.INSTANCE, INSTANCES.certificate)
    assert found == ("signature: not ecdsa-with-SHA256, or not the same inside and outside",)


def with_field(made: bytes, index: int, tag: int, body: bytes) -> bytes:
    """The certificate with one field of its TBSCertificate replaced (RFC 5280 section 4.1)."""
    (tbs_tag, tbs), *signature = encoding.children(encoding.only(made, encoding.SEQUENCE))
    fields = encoding.children(tbs)
    fields[index] = (tag, body)
    tbs = encoding.wrap(tbs_tag, *(encoding.wrap(*field) for field in fields))
    return encoding.wrap(encoding.SEQUENCE, tbs, *(encoding.wrap(*part) for part in signature))


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ((1 << 63).to_bytes(9), True),
        (((1 << 159) - 1).to_bytes(20), True),
        (b"\0", False),  # by hand: `cryptography` warns of zero, and will one day not make it
        ((1 << 63).to_bytes(8), False),
        (((1 << 63) - 1).to_bytes(8), False),
    ],
)
def test_a_serial_number_has_64_to_159_bits(written: bytes, right: bool) -> None:
    made = with_field(der(Crooked().make()), 1, encoding.INTEGER, written)
    found = lint.findings(made, Kind.INSTANCE, INSTANCES.certificate, check_signature=False)
    assert [finding.split(":")[0] for finding in found] == ([] if right else ["serialNumber"])


def timed(made: bytes, start: tuple[int, str], end: tuple[int, str]) -> bytes:
    body = b"".join(encoding.wrap(tag, text.encode()) for tag, text in (start, end))
    return with_field(made, 4, encoding.SEQUENCE, body)


LIVES: dict[Kind, tuple[x509.Certificate, Issuer, timedelta]] = {
    Kind.ROOT: (ROOT.certificate, ROOT, timedelta(days=3653)),
    Kind.ISSUER: (INSTANCES.certificate, ROOT, timedelta(days=1827)),
    Kind.SERVER: (leaf("server"), SERVICES, timedelta(days=90)),
    Kind.INSTANCE: (leaf("instance"), INSTANCES, timedelta(hours=24)),
    Kind.OPERATOR: (leaf("operator"), SERVICES, timedelta(hours=12)),
    Kind.AUDIT: (leaf("audit"), SERVICES, timedelta(days=400)),
}


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_lives_no_longer_than_it_may(kind: Kind) -> None:
    certificate, issuer, life = LIVES[kind]
    for seconds, expected in ((0, []), (1, ["validity: longer than this kind may live"])):
        end = NOW + life + timedelta(minutes=5, seconds=seconds)
        made = timed(der(certificate), (UTC_TIME, f"{NOW:%y%m%d%H%M%SZ}"), (UTC_TIME, f"{end:%y%m%d%H%M%SZ}"))
        found = lint.findings(made, kind, issuer.certificate if kind is not Kind.ROOT else None, check_signature=False)
        assert [finding for finding in found if "outlives" not in finding] == expected


UTC_TIME, GENERALIZED_TIME = encoding.UTC_TIME, encoding.GENERALIZED_TIME
START = (UTC_TIME, "261123120000Z")
TIMES: dict[str, tuple[tuple[int, str], str]] = {
    "right": ((UTC_TIME, "261124120000Z"), ""),
    "no life": (START, "validity: ends before"),
    "a GeneralizedTime before 2050": ((GENERALIZED_TIME, "20261124120000Z"), "certificate:"),
    "a GeneralizedTime in 2050": ((GENERALIZED_TIME, "20500101000000Z"), "validity: longer"),
    "a GeneralizedTime before 1950": ((GENERALIZED_TIME, "19491231235959Z"), "validity: ends before"),
    "a UTCTime of 2049": ((UTC_TIME, "491231235959Z"), "validity: longer"),
    "a UTCTime of 1950": ((UTC_TIME, "500101000000Z"), "validity: ends before"),
    "no seconds": ((UTC_TIME, "2611241200Z"), "certificate:"),
    "fractions": ((GENERALIZED_TIME, "20500101000000.5Z"), "certificate:"),
    "an offset": ((UTC_TIME, "261124120000+0000"), "certificate:"),
    "no zone": ((UTC_TIME, "261124120000"), "certificate:"),
    "another type": ((encoding.UTF8_STRING, "20261124120000Z"), "certificate:"),
    "no such day": ((UTC_TIME, "260231120000Z"), "certificate:"),
    "spaces": ((UTC_TIME, "2611241200 0Z"), "certificate:"),
}


@pytest.mark.parametrize(("end", "expected"), TIMES.values(), ids=TIMES)
def test_times_are_written_in_the_one_right_way(end: tuple[int, str], expected: str) -> None:
    made = timed(der(Crooked().make()), START, end)
    found = lint.findings(made, Kind.INSTANCE, INSTANCES.certificate, check_signature=False)
    assert [finding for finding in found if finding.startswith(expected)] if expected else not found, found


def test_an_issuer_is_not_called_as_the_root_is() -> None:
    subject = encoding.only(INSTANCES.certificate.issuer.public_bytes(), encoding.SEQUENCE)
    made = with_field(der(INSTANCES.certificate), 5, encoding.SEQUENCE, subject)
    found = lint.findings(made, Kind.ISSUER, ROOT.certificate, check_signature=False)
    assert found == ("subject: the issuer's own",)


def test_an_issuer_with_another_kind_of_key_has_signed_nothing() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    builder = x509.CertificateBuilder(
        *(ROOT.certificate.subject, INSTANCES.certificate.subject, rsa_key, serial(), NOW, NOW + timedelta(days=9))
    )
    strange = builder.add_extension(CA[0], critical=True).sign(ROOT.key, hashes.SHA256())
    assert "signature: is not the issuer's" in lint.findings(der(Crooked().make()), Kind.INSTANCE, strange)


def test_a_certificate_of_one_kind_is_not_one_of_another() -> None:
    certificates = {
        Kind.ROOT: (ROOT.certificate, None),
        Kind.ISSUER: (INSTANCES.certificate, ROOT.certificate),
        Kind.INSTANCE: (leaf("instance"), INSTANCES.certificate),
        Kind.OPERATOR: (leaf("operator"), SERVICES.certificate),
        Kind.AUDIT: (leaf("audit"), SERVICES.certificate),
        Kind.SERVER: (leaf("server"), SERVICES.certificate),
    }
    for kind, (certificate, issuer) in certificates.items():
        passed = [other for other in Kind if not lint.findings(der(certificate), other, issuer)]
        assert passed == [kind]


def test_an_end_entity_may_not_be_signed_by_the_root_or_by_an_end_entity() -> None:
    for signer in (ROOT, Issuer(leaf(public_key=OTHER_KEY.public_key()), OTHER_KEY)):
        made = Crooked().but(issuer=signer, issuer_name=signer.certificate.subject)
        found = lint.findings(der(made), Kind.INSTANCE, signer.certificate)
        assert "issuer: may not sign this kind" in found


@pytest.mark.parametrize(
    "junk", [b"", b"\x30", b"\x30\x80\0\0", b"\x30\x84\xff\xff\xff\xff", b"\x1f" * 64, b"0" * 4096]
)
def test_junk_is_a_finding_and_not_an_error(junk: bytes) -> None:
    (found,) = lint.findings(junk, Kind.INSTANCE, INSTANCES.certificate)
    assert found.startswith("certificate: ")

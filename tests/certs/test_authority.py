"""authority: OpenSSL and pkilint agree with what it makes, and a wrong profile is refused before the real key signs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import authority, csr, keys, profiles
from certs.authority import Issuer
from certs.errors import CertificateError, LintFailed
from certs.profiles import Profile
from tests.certs.independent import openssl, pem_file, pkilint_certificate
from tests.certs.made import (
    INSTANCE_NAME,
    INSTANCES,
    LEAVES,
    NOW,
    OPERATOR_NAME,
    ROOT,
    SERVER_NAMES,
    SERVICES,
    Crooked,
    SpyingKey,
    der,
    leaf,
    serial,
)


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("crl_url", ["http://gateway.test/a.crl", None])
def test_b15_pkilint_finds_nothing_in_a_leaf(kind: str, crl_url: str | None) -> None:
    assert pkilint_certificate(der(leaf(kind, crl_url=crl_url))) == []


@pytest.mark.parametrize("issuer", [ROOT, INSTANCES, SERVICES], ids=["root", "instances", "services"])
def test_b15_pkilint_finds_nothing_in_an_authority(issuer: Issuer) -> None:
    assert pkilint_certificate(der(issuer.certificate)) == []


def test_b15_pkilint_does_find_what_is_wrong() -> None:
    crooked = Crooked().but(extensions=((profiles.ISSUER.key_usage, True),), without=(x509.AuthorityKeyIdentifier,))
    assert pkilint_certificate(der(crooked))


PURPOSES = {"instance": "sslclient", "operator": "sslclient", "server": "sslserver"}


def strictly_verified(folder: Path, certificate: x509.Certificate, issuer: Issuer, purpose: str) -> tuple[bool, str]:
    return openssl(
        *("verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-purpose", purpose),
        *("-attime", str(int(NOW.timestamp()))),
        *("-CAfile", pem_file(folder, "root.pem", ROOT.certificate)),
        *("-untrusted", pem_file(folder, "issuer.pem", issuer.certificate)),
        pem_file(folder, "leaf.pem", certificate),
    )


@pytest.mark.parametrize(("kind", "purpose"), PURPOSES.items())
def test_b15_openssl_verifies_strictly(tmp_path: Path, kind: str, purpose: str) -> None:
    issuer = LEAVES[kind][0]
    other = SERVICES if issuer is INSTANCES else INSTANCES
    other_purpose = "sslclient" if purpose == "sslserver" else "sslserver"
    made = leaf(kind)
    assert strictly_verified(tmp_path, made, issuer, purpose) == (True, f"{tmp_path}/leaf.pem: OK\n")
    assert not strictly_verified(tmp_path, made, other, purpose)[0]
    assert not strictly_verified(tmp_path, made, issuer, other_purpose)[0]


def test_a_leaf_is_what_its_profile_says() -> None:
    """Read by `cryptography`, which shares no code with `lint`."""
    key = keys.generate().public_key()
    made = leaf("instance", public_key=key)
    assert made.public_key() == key
    assert made.issuer == INSTANCES.certificate.subject
    assert made.subject.rfc4514_string() == f"CN={INSTANCE_NAME.instance_id}"
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(hours=24, minutes=5)
    found = {extension.value.__class__: (extension.critical, extension.value) for extension in made.extensions}
    assert found[x509.BasicConstraints] == (True, x509.BasicConstraints(ca=False, path_length=None))
    assert found[x509.ExtendedKeyUsage] == (False, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(INSTANCE_NAME.uri)])
    assert found[x509.SubjectAlternativeName] == (False, names)
    assert len(found) == 7


def test_a19_only_the_key_serial_and_times_differ_between_two_instances_certificates() -> None:
    """What a request asked for cannot matter: `issue` never sees a request, only the key that was read from it."""
    fixed: dict[str, Any] = {"serial": 1 << 100, "public_key": csr.read(csr.make(keys.generate())).public_key}
    assert leaf(**fixed).tbs_certificate_bytes == leaf(**fixed).tbs_certificate_bytes
    one, other = leaf(), leaf()
    assert [(e.oid, e.critical) for e in one.extensions] == [(e.oid, e.critical) for e in other.extensions]
    own = (x509.SubjectKeyIdentifier,)
    for a, b in zip(one.extensions, other.extensions, strict=True):
        assert (a.value == b.value) is not isinstance(a.value, own)


def spied(kind: str) -> tuple[Issuer, SpyingKey]:
    issuer = LEAVES[kind][0]
    key = SpyingKey(issuer.key)
    return Issuer(issuer.certificate, key), key


def bent(profile: Profile, **changed: Any) -> Profile:
    return replace(profile, **changed)


INSTANCE = profiles.INSTANCE
RSA_LIKE = ec.generate_private_key(ec.SECP384R1()).public_key()
WRONG_TO_ISSUE: dict[str, tuple[dict[str, Any], str]] = {
    "an authority": ({"profile": bent(INSTANCE, path_length=0)}, "basicConstraints: not what"),
    "keyCertSign": ({"profile": bent(INSTANCE, key_usage=profiles.ISSUER.key_usage)}, "keyUsage: not what"),
    "serverAuth": (
        {"profile": bent(INSTANCE, extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH,))},
        "extKeyUsage: not what",
    ),
    "any usage": (
        {"profile": bent(INSTANCE, extended_key_usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))},
        "extKeyUsage: not what",
    ),
    "a long life": (
        {"profile": bent(INSTANCE, longest_life=timedelta(days=30)), "not_after": NOW + timedelta(days=30)},
        "validity: longer",
    ),
    "an operator's name": ({"name": OPERATOR_NAME}, "subjectAltName: not the names"),
    "a server's names": ({"name": SERVER_NAMES}, "subjectAltName: not the names"),
    "the profile of an operator": ({"profile": profiles.OPERATOR, "not_after": NOW}, "subjectAltName: not the names"),
    "the profile of an issuer": ({"profile": profiles.ISSUER}, "issuer: may not sign this kind"),
    "a P-384 key": ({"public_key": RSA_LIKE}, "subjectPublicKeyInfo: not a P-256 key"),
    "an ldap URL": ({"crl_url": "ldap://gateway.test/crl"}, "cRLDistributionPoints: not exactly one http URL"),
    "a life beyond the issuer's": (
        {
            "not_before": INSTANCES.certificate.not_valid_after_utc,
            "not_after": INSTANCES.certificate.not_valid_after_utc + timedelta(minutes=1),
        },
        "validity: outlives",
    ),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG_TO_ISSUE.values(), ids=WRONG_TO_ISSUE)
def test_b15_a_wrong_profile_is_refused_before_the_issuing_key_signs(wrong: dict[str, Any], expected: str) -> None:
    issuer, key = spied("instance")
    with pytest.raises(LintFailed) as refused:
        leaf("instance", issuer=issuer, **wrong)
    assert [finding for finding in refused.value.findings if finding.startswith(expected)], refused.value
    assert key.signatures == 0


def test_the_issuing_key_signs_once_for_a_right_certificate() -> None:
    issuer, key = spied("instance")
    leaf("instance", issuer=issuer)
    assert key.signatures == 1


def test_a_key_that_signs_badly_gives_no_certificate() -> None:
    class Broken(SpyingKey):
        def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
            return super().sign(b"something else", signature_algorithm)

    with pytest.raises(LintFailed) as refused:
        leaf("instance", issuer=Issuer(INSTANCES.certificate, Broken(INSTANCES.key)))
    assert refused.value.findings == ("signature: is not the issuer's",)


def test_only_the_bytes_that_were_linted_are_given_out() -> None:
    """A draft and what the real key signs are compared; here they differ."""
    drafts = iter([b"linted", b"something else"])
    with pytest.raises(LintFailed, match="other bytes"):
        authority.sign_linted(keys.generate(), lambda key: next(drafts), lambda made: made, lambda made, check: ())


VALUES: dict[str, dict[str, Any]] = {
    "no time zone": {"not_after": datetime(2026, 11, 24)},
    "longer than the profile": {"not_after": NOW + timedelta(hours=24, seconds=1)},
    "more than the backdating": {"not_before": NOW - timedelta(minutes=5, seconds=1)},
    "no life": {"not_after": NOW - timedelta(minutes=5)},
    "serial number zero": {"serial": 0},
    "a negative serial number": {"serial": -(1 << 100)},
    "a short serial number": {"serial": (1 << 63) - 1},
    "a long serial number": {"serial": 1 << 159},
    "a CRL address that is no ASCII": {"crl_url": "http://gätewäy.test"},
}


@pytest.mark.parametrize("wrong", VALUES.values(), ids=VALUES)
def test_values_that_make_no_certificate_are_refused(wrong: dict[str, Any]) -> None:
    issuer, key = spied("instance")
    with pytest.raises(CertificateError) as refused:
        leaf("instance", issuer=issuer, **wrong)
    assert not isinstance(refused.value, LintFailed)  # `issue` saw it itself
    assert key.signatures == 0


def test_times_are_written_in_utc_and_whole_seconds() -> None:
    east = timezone(timedelta(hours=9))
    made = leaf(not_before=NOW.astimezone(east).replace(microsecond=999_999), not_after=NOW + timedelta(hours=1))
    assert made.not_valid_before_utc == NOW


def test_serial_numbers_are_made_of_twenty_random_bytes() -> None:
    assert authority.serial_from(b"\xff" * 20) == (1 << 159) - 1
    assert authority.serial_from((1 << 64).to_bytes(20)) == 1 << 63
    for wrong in (b"", b"\xff" * 19, b"\xff" * 21, bytes(20), ((1 << 64) - 1).to_bytes(20)):
        with pytest.raises(CertificateError):
            authority.serial_from(wrong)


def test_an_issuer_holds_the_key_of_its_certificate_and_does_not_show_it() -> None:
    with pytest.raises(CertificateError):
        Issuer(INSTANCES.certificate, keys.generate())
    assert "key" not in repr(INSTANCES).lower()


ENDS = {
    "a root for eleven years": lambda key: authority.make_root(key, "x", serial(), NOW, NOW + timedelta(days=4018)),
    "a root without a name": lambda key: authority.make_root(key, "", serial(), NOW, NOW + timedelta(days=1)),
    "a root with a long name": lambda key: authority.make_root(key, "x" * 65, serial(), NOW, NOW + timedelta(days=1)),
    "a root with a NUL": lambda key: authority.make_root(key, "x\0", serial(), NOW, NOW + timedelta(days=1)),
    "an issuer that is called as the root": lambda key: authority.make_issuer(
        Issuer(ROOT.certificate, key), key.public_key(), "Test root", serial(), NOW, NOW + timedelta(days=1)
    ),
    "an issuer below an issuer": lambda key: authority.make_issuer(
        INSTANCES, key.public_key(), "x", serial(), NOW, NOW + timedelta(days=1)
    ),
}


@pytest.mark.parametrize("make", ENDS.values(), ids=ENDS)
def test_a_wrong_authority_is_refused_before_its_key_signs(make: Callable[[SpyingKey], object]) -> None:
    key = SpyingKey(ROOT.key)
    with pytest.raises(CertificateError):
        make(key)
    assert key.signatures == 0
    assert authority.make_root(key, "x", serial(), NOW, NOW + timedelta(days=1))
    assert key.signatures == 1

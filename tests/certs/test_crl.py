"""crl: OpenSSL believes it, pkilint finds nothing, and equal values give equal bytes."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs import crl, keys
from certs.authority import Issuer
from certs.crl import Revoked
from certs.errors import CertificateError, LintFailed
from certs.reasons import Reason
from tests.certs.independent import openssl, pem_file, pkilint_crl
from tests.certs.made import INSTANCES, NOW, ROOT, SERVICES, SpyingKey, leaf, serial

NEXT = NOW + timedelta(hours=24)


def listed(*certificates: x509.Certificate, reason: Reason = Reason.KEY_COMPROMISE) -> list[Revoked]:
    return [Revoked(certificate.serial_number, NOW, reason) for certificate in certificates]


def make(revoked: list[Revoked], *, issuer: Issuer = INSTANCES, number: int = 1) -> x509.CertificateRevocationList:
    return crl.make(issuer, revoked, number, NOW, NEXT)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_b15_pkilint_finds_nothing_in_a_crl(count: int) -> None:
    reasons = list(Reason)
    made = make([Revoked(serial(), NOW, reasons[n % len(reasons)]) for n in range(count)])
    assert pkilint_crl(made.public_bytes(Encoding.DER)) == []


def test_b15_pkilint_does_find_what_is_wrong() -> None:
    builder = x509.CertificateRevocationListBuilder(INSTANCES.certificate.subject, NOW, NEXT)
    bare = builder.sign(INSTANCES.key, hashes.SHA256())
    assert pkilint_crl(bare.public_bytes(Encoding.DER))


def test_openssl_refuses_the_revoked_certificate_and_no_other(tmp_path: Path) -> None:
    revoked, spared = leaf(), leaf()
    lists = pem_file(tmp_path, "crl.pem", make(listed(revoked)))

    def verified(certificate: x509.Certificate, at: datetime) -> tuple[bool, str]:
        return openssl(
            *("verify", "-x509_strict", "-crl_check", "-no-CApath", "-no-CAstore"),
            *("-attime", str(int(at.timestamp()))),
            *("-CAfile", pem_file(tmp_path, "root.pem", ROOT.certificate)),
            *("-untrusted", pem_file(tmp_path, "issuer.pem", INSTANCES.certificate)),
            *("-CRLfile", lists, pem_file(tmp_path, "leaf.pem", certificate)),
        )

    assert verified(spared, NOW)[0]
    ok, said = verified(revoked, NOW)
    assert not ok
    assert "certificate revoked" in said
    ok, said = verified(spared, NEXT + timedelta(seconds=1))
    assert not ok
    assert "CRL has expired" in said


def test_openssl_reads_what_was_written() -> None:
    made = crl.make(SERVICES, [Revoked(1 << 64, NOW, Reason.CESSATION_OF_OPERATION)], 41, NOW, NEXT)
    ok, said = openssl("crl", "-noout", "-text", "-crlnumber", input=made.public_bytes(Encoding.PEM))
    assert ok
    assert "crlNumber=0x29" in said
    assert "Cessation Of Operation" in said
    assert "Serial Number: 010000000000000000" in said
    assert "Next Update: Nov 24 12:00:00 2026 GMT" in said


def test_equal_values_give_equal_bytes_in_the_order_of_serial_numbers() -> None:
    entries = [Revoked(serial(), NOW, reason) for reason in Reason]
    one, other = make(entries), make(entries[::-1])
    assert one.tbs_certlist_bytes == other.tbs_certlist_bytes
    assert [entry.serial_number for entry in one] == sorted(entry.serial for entry in entries)
    assert one.tbs_certlist_bytes != make(entries, number=2).tbs_certlist_bytes


def test_a_revocation_is_listed_though_the_clock_went_back() -> None:
    assert [entry.serial_number for entry in make([replace(ONE, at=NOW + timedelta(days=1))])] == [ONE.serial]


def test_every_reason_is_written_by_its_name_and_unspecified_by_none() -> None:
    for reason in Reason:
        (entry,) = make([Revoked(1, NOW, reason)])
        written = [extension.value for extension in entry.extensions]
        unsaid = reason is Reason.UNSPECIFIED
        assert written == ([] if unsaid else [x509.CRLReason(x509.ReasonFlags(reason.value))])


ONE = Revoked(1 << 100, NOW, Reason.SUPERSEDED)
WRONG: dict[str, dict[str, Any]] = {
    "number zero": {"number": 0},
    "a negative number": {"number": -1},
    "a number of 21 octets": {"number": 1 << 159},
    "ends as it begins": {"next_update": NOW},
    "no time zone": {"this_update": datetime(2026, 11, 23)},
    "a serial number twice": {"revoked": [ONE, replace(ONE, reason=Reason.UNSPECIFIED)]},
    "a serial number of 21 octets": {"revoked": [replace(ONE, serial=1 << 159)]},
    "a serial number of zero": {"revoked": [replace(ONE, serial=0)]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_values_that_make_no_list_are_refused_before_the_key_signs(wrong: dict[str, Any]) -> None:
    key = SpyingKey(INSTANCES.key)
    issuer = Issuer(INSTANCES.certificate, key)
    right: dict[str, Any] = {"revoked": [ONE], "number": 1, "this_update": NOW, "next_update": NEXT}
    with pytest.raises(CertificateError):
        crl.make(issuer, **right | wrong)
    assert key.signatures == 0
    assert crl.make(issuer, **right)
    assert key.signatures == 1


def test_b15_the_second_opinion_reads_back_what_was_signed() -> None:
    def findings(made: x509.CertificateRevocationList, asked: list[Revoked], number: int = 1) -> list[str]:
        return [found.split(":")[0] for found in crl._findings(made, INSTANCES, asked, number, True)]

    made = make([ONE])
    assert findings(made, [ONE]) == []
    for asked in (
        [],
        [replace(ONE, serial=7)],
        [replace(ONE, reason=Reason.UNSPECIFIED)],
        [ONE, replace(ONE, serial=7)],
    ):
        assert findings(made, asked) == ["revokedCertificates"]
    assert findings(made, [replace(ONE, at=NOW - timedelta(seconds=1))]) == ["revokedCertificates"]
    assert findings(made, [ONE], 2) == ["crlExtensions"]
    assert findings(make([ONE], issuer=SERVICES), [ONE]) == ["issuer", "crlExtensions", "signature"]
    sha384 = x509.CertificateRevocationListBuilder(
        *(INSTANCES.certificate.subject, NOW, NEXT), extensions=list(make([]).extensions)
    ).sign(INSTANCES.key, hashes.SHA384())
    assert findings(sha384, []) == ["signature"]


def test_a_key_that_signs_badly_gives_no_list() -> None:
    class Broken(SpyingKey):
        def sign(self, *_: Any) -> bytes:
            return keys.generate().sign(*_)

    with pytest.raises(LintFailed):
        make([ONE], issuer=Issuer(INSTANCES.certificate, Broken(INSTANCES.key)))

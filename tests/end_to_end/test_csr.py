"""A certificate request brings a key and nothing else (A18, A19, A21), and what is issued is what the template says."""

import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from certs import csr
from deploy.demo.visitor import Answer, Visitor, evidence_of
from gateway.wire.messages import EnrollRequest, encode
from tests.certs.independent import openssl, pem_file, pkilint_certificate
from tests.certs.test_csr import A18, A19, A21
from tests.end_to_end.counted import Counted, counted_fixture  # noqa: F401  # a fixture
from tests.end_to_end.host import workers
from tests.end_to_end.world import Launched

LONGEST, BODY = 8192, 64 * 1024


@pytest.fixture
def applicant(counted: Counted) -> tuple[Launched, Visitor, str]:
    """An instance that would be let in, and its ticket."""
    return counted.world.launch(), counted.world.visitor(), counted.ticket()


Applicant = tuple[Launched, Visitor, str]


def ask(applicant: Applicant, request_pem: str) -> Answer:
    launched, visitor, ticket = applicant
    body = encode(EnrollRequest(request_pem, evidence_of(launched.document), ticket=ticket))
    return visitor.call("POST", "/v1/enroll", body)


@pytest.mark.threat("A18", "A19")
def test_A18_A19_a_request_for_more_than_a_certificate_is_refused(counted: Counted, applicant: Applicant) -> None:
    """Another's name, the gateway's, a right: each is refused, and the ticket is not used up by it."""
    for request_pem, reason in (A18 | A19).values():
        if len(request_pem) > LONGEST:
            counted.refuses(partial(ask, applicant, request_pem), 400, "malformed_request")
        else:
            counted.refuses(partial(ask, applicant, request_pem), 400, "csr_refused", f"csr_{reason}")
    assert ask(applicant, csr.make(applicant[1].key)).status == 201


@pytest.mark.threat("A21")
def test_A21_junk_is_refused_and_harms_nobody(counted: Counted, applicant: Applicant) -> None:
    world = counted.world
    pids, said = workers(world.site), world.site.log.read_text()
    before, asked = cpu_seconds(pids), 0
    for make, reason in A21.values():
        made = make()
        request_pem = made if isinstance(made, str) else made.decode("latin-1")
        if len(request_pem) > BODY:
            continue
        asked += 1
        if len(request_pem) > LONGEST or "\ud800" in request_pem:  # half a letter is not UTF-8
            counted.refuses(partial(ask, applicant, request_pem), 400, "malformed_request")
        else:
            counted.refuses(partial(ask, applicant, request_pem), 400, "csr_refused", f"csr_{reason}")
    assert asked > 40
    assert cpu_seconds(pids) - before < 0.2 * asked
    assert ask(applicant, csr.make(applicant[1].key)).status == 201
    assert len(pids) == 2
    assert workers(world.site) == pids
    assert world.site.log.read_text() == said


@pytest.mark.threat("A21")
@pytest.mark.parametrize("size", [BODY + 1, 10_000_000])
def test_A21_a_body_that_is_too_large_is_not_read(counted: Counted, applicant: Applicant, size: int) -> None:
    """The server itself refuses it, by its Content-Length: no application sees it, and no record is made of it."""
    world = counted.world
    pids, rows, calls = workers(world.site), world.everything_but_the_log(), counted.door.calls
    answer = ask(applicant, "A" * size)
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert (world.everything_but_the_log(), counted.door.calls) == (rows, calls)
    assert workers(world.site) == pids
    assert ask(applicant, csr.make(applicant[1].key)).status == 201


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes. proc(5): fields 14 and 15 of stat."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@pytest.mark.threat("A18", "A19", "B15")
def test_A19_what_is_issued_is_what_the_template_says(counted: Counted, applicant: Applicant, tmp_path: Path) -> None:
    """Also to those who share no code with the issuer: OpenSSL, and pkilint."""
    launched, visitor, ticket = applicant
    enrolled = visitor.enroll(launched.document, ticket)
    renewed = visitor.renew()
    issuer = x509.load_pem_x509_certificate(enrolled.body["issuer"].encode())
    root = x509.load_pem_x509_certificate(counted.world.root.encode())
    trusted, between = pem_file(tmp_path, "root.pem", root), pem_file(tmp_path, "issuer.pem", issuer)
    port = counted.world.site.public.rpartition(":")[2]
    for answer in (enrolled, renewed):
        certificate = x509.load_pem_x509_certificate(answer.body["certificate"].encode())
        assert certificate.version is x509.Version.v3
        assert certificate.issuer == issuer.subject
        assert certificate.subject.rfc4514_string() == f"CN={launched.id}"
        assert certificate.public_key() == visitor.key.public_key()
        assert certificate.serial_number.bit_length() > 64
        assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(hours=24, minutes=5)
        key_identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert [(extension.value, extension.critical) for extension in certificate.extensions] == [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (ONLY_SIGNATURES, True),
            (x509.SubjectKeyIdentifier.from_public_key(visitor.key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(answer.body["instance"])]), False),
            (crl_at(f"http://127.0.0.1:{port}/crl/instances.crl"), False),
        ]
        assert pkilint_certificate(certificate.public_bytes(Encoding.DER)) == []
        path = pem_file(tmp_path, "leaf.pem", certificate)
        verify = ("verify", "-x509_strict", "-CAfile", trusted, "-untrusted", between, "-purpose")
        ok, said = openssl(*verify, "sslclient", path)
        assert ok, said
        assert not openssl(*verify, "sslserver", path)[0]


ONLY_SIGNATURES = x509.KeyUsage(True, *[False] * 8)


def crl_at(url: str) -> x509.CRLDistributionPoints:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return x509.CRLDistributionPoints([point])

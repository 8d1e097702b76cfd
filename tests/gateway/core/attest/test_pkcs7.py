"""PKCS#7 of identity documents: every substitution that we know of, two independent oracles, and a fuzzer."""

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.attest.pkcs7 import verify
from gateway.core.errors import Refusal
from tests.gateway.core.attest.forge import Pair, attributes, message, pair, signer

DOCUMENT = b'{\n  "accountId" : "111122223333"\n}'


@functools.cache
def aws() -> Pair:
    return pair()


@functools.cache
def attacker() -> Pair:
    """Another key under the very name and serial of the pinned certificate."""
    return pair()


def genuine() -> bytes:
    return message(DOCUMENT, [signer(aws(), DOCUMENT)])


def reason(pkcs7: bytes, document: bytes = DOCUMENT, certificate: x509.Certificate | None = None) -> str:
    with pytest.raises(Refusal) as refused:
        verify(pkcs7, document, certificate or aws().certificate)
    assert refused.value.code == (
        "evidence_malformed" if refused.value.reason == "pkcs7_malformed" else "evidence_refused"
    )
    return refused.value.reason


def test_genuine_message_is_accepted() -> None:
    verify(genuine(), DOCUMENT, aws().certificate)


def test_genuine_message_names_its_algorithm_either_way() -> None:
    verify(message(DOCUMENT, [signer(aws(), DOCUMENT, algorithm="sha256_rsa")]), DOCUMENT, aws().certificate)


@pytest.mark.threat("A11")
class TestA11:
    def test_embedded_attacker_certificate(self) -> None:
        forged = message(DOCUMENT, [signer(attacker(), DOCUMENT)], certificates=[attacker().certificate])
        assert reason(forged) == "certificate_embedded"

    def test_real_certificate_first_in_the_bag_and_signer_elsewhere(self) -> None:
        other = pair(name="CN=Attacker", serial=7)
        bag = [aws().certificate, other.certificate]
        assert reason(message(DOCUMENT, [signer(other, DOCUMENT)], certificates=bag)) == "certificate_embedded"

    def test_embedded_genuine_certificate(self) -> None:
        bag = [aws().certificate]
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT)], certificates=bag)) == "certificate_embedded"

    def test_attacker_key_under_the_pinned_name_and_serial(self) -> None:
        assert reason(message(DOCUMENT, [signer(attacker(), DOCUMENT)])) == "signature_invalid"

    def test_embedded_crl(self) -> None:
        now = aws().certificate.not_valid_before_utc
        builder = x509.CertificateRevocationListBuilder(aws().certificate.subject, now, now)
        crl = builder.sign(aws().key, SHA256()).public_bytes(Encoding.DER)
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT)], crl=crl)) == "crl_embedded"

    def test_no_signer(self) -> None:
        assert reason(message(DOCUMENT, [])) == "signers_not_one"

    def test_two_signers(self) -> None:
        both = [signer(aws(), DOCUMENT), signer(attacker(), DOCUMENT)]
        assert reason(message(DOCUMENT, both)) == "signers_not_one"

    @pytest.mark.parametrize("digest", ["md5", "sha1"])
    def test_weak_digest(self, digest: str) -> None:
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT, digest=digest)])) == "digest_algorithm_refused"

    @pytest.mark.parametrize("algorithm", ["rsassa_pss", "sha1_rsa", "sha256_dsa"])
    def test_other_signature_algorithm(self, algorithm: str) -> None:
        odd = message(DOCUMENT, [signer(aws(), DOCUMENT, algorithm=algorithm)])
        assert reason(odd) == "signature_algorithm_refused"

    def test_wrong_message_digest(self) -> None:
        wrong = signer(aws(), DOCUMENT, attrs=attributes(b"another document"))
        assert reason(message(DOCUMENT, [wrong])) == "message_digest_differs"

    def test_no_message_digest(self) -> None:
        wrong = signer(aws(), DOCUMENT, attrs=attributes(DOCUMENT)[:1])
        assert reason(message(DOCUMENT, [wrong])) == "message_digest_differs"

    def test_two_message_digests(self) -> None:
        twice = [*attributes(DOCUMENT), attributes(b"another document")[1]]
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT, attrs=twice)])) == "message_digest_differs"

    @pytest.mark.parametrize("second", [b"\x00" * 32, b"\xff" * 32], ids=["before", "after"])
    def test_message_digest_of_two_values(self, second: bytes) -> None:
        content_type, digest = attributes(DOCUMENT)
        digest["values"].append(second)
        wrong = signer(aws(), DOCUMENT, attrs=[content_type, digest])
        assert reason(message(DOCUMENT, [wrong])) == "message_digest_differs"

    def test_no_signed_attributes(self) -> None:
        """A signature over the bare content could be one over attributes, read another way (RFC 5652 §5.4)."""
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT, attrs=[])])) == "content_type_refused"

    def test_signed_content_type_differs(self) -> None:
        wrong = [{"type": "content_type", "values": ["signed_data"]}, attributes(DOCUMENT)[1]]
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT, attrs=wrong)])) == "content_type_refused"

    def test_content_type_differs(self) -> None:
        data, unassigned = (bytes.fromhex("06092a864886f70d0107") + last for last in (b"\x01", b"\x07"))
        assert reason(genuine().replace(data, unassigned, 1)) == "content_type_refused"

    def test_content_differs_from_the_document(self) -> None:
        assert reason(genuine(), DOCUMENT + b"\n") == "document_differs"
        assert reason(genuine(), DOCUMENT.replace(b"1111", b"9999")) == "document_differs"

    def test_content_swapped_under_the_signature(self) -> None:
        other = DOCUMENT.replace(b"1111", b"9999")
        assert reason(message(other, [signer(aws(), DOCUMENT)]), other) == "message_digest_differs"

    def test_detached(self) -> None:
        assert reason(message(None, [signer(aws(), DOCUMENT)])) == "message_digest_differs"

    @pytest.mark.parametrize("named", [pair(serial=0x1235), pair(name="CN=Another region,O=Test")])
    def test_signer_named_otherwise(self, named: Pair) -> None:
        assert reason(message(DOCUMENT, [signer(aws(), DOCUMENT, named=named)])) == "signer_not_pinned"

    def test_signer_named_by_key_identifier(self) -> None:
        anonymous = signer(aws(), DOCUMENT)
        anonymous["sid"] = cms.SignerIdentifier({"subject_key_identifier": b"\1" * 20})
        assert reason(message(DOCUMENT, [anonymous])) == "signer_not_pinned"

    def test_small_rsa(self) -> None:
        small = pair(bits=1024)
        assert reason(message(DOCUMENT, [signer(small, DOCUMENT)]), certificate=small.certificate) == (
            "pinned_key_refused"
        )

    def test_dsa(self, tmp_path: Path) -> None:
        """AWS's `pkcs7` resource is DSA: it is refused even when an operator pins its certificate."""
        key = dsa.generate_private_key(2048)
        rsa_certificate = aws().certificate
        builder = x509.CertificateBuilder(
            rsa_certificate.subject, rsa_certificate.subject, key.public_key(), 5,
            rsa_certificate.not_valid_before_utc, rsa_certificate.not_valid_after_utc,
        )  # fmt: skip
        certificate = builder.sign(key, SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        signed = _openssl_sign(tmp_path, private, certificate)
        assert reason(signed, certificate=certificate) == "pinned_key_refused"
        assert reason(signed) == "signer_not_pinned"


def _openssl_sign(folder: Path, private_pem: bytes, certificate: x509.Certificate, *options: str) -> bytes:
    (folder / "document").write_bytes(DOCUMENT)
    (folder / "key.pem").write_bytes(private_pem)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    command = ["openssl", "smime", "-sign", "-nodetach", "-nocerts", "-binary", "-md", "sha256", "-outform", "DER"]
    files = ["-in", "document", "-signer", "certificate.pem", "-inkey", "key.pem"]
    return subprocess.run([*command, *files, *options], cwd=folder, check=True, capture_output=True).stdout


def _rsa_pem(by: Pair) -> bytes:
    return by.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_ber_of_an_independent_producer(tmp_path: Path) -> None:
    """openssl, streaming, writes what AWS sends: indefinite lengths and a content in pieces."""
    ber = _openssl_sign(tmp_path, _rsa_pem(aws()), aws().certificate, "-stream")
    assert ber[:2] == b"\x30\x80"
    verify(ber, DOCUMENT, aws().certificate)
    assert reason(ber, DOCUMENT + b" ") == "document_differs"
    assert reason(ber, certificate=attacker().certificate) == "signature_invalid"


def test_der_of_an_independent_producer(tmp_path: Path) -> None:
    der = _openssl_sign(tmp_path, _rsa_pem(aws()), aws().certificate)
    assert der[:2] == b"\x30\x82"
    verify(der, DOCUMENT, aws().certificate)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x30", b"\x30\x80", b"{}", DOCUMENT, b"\x30\x80" * 2000, b"\x30\x84\xff\xff\xff\xff", b"\x05\x00"],
    ids=["empty", "truncated", "endless", "json", "document", "nested", "huge", "null"],
)
def test_junk_is_malformed(junk: bytes) -> None:
    assert reason(junk) == "pkcs7_malformed"


def test_trailing_bytes_are_malformed() -> None:
    assert reason(genuine() + b"\0") == "pkcs7_malformed"


@functools.cache
def _samples() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        ber = _openssl_sign(Path(folder), _rsa_pem(aws()), aws().certificate, "-stream")
    return genuine(), ber


@given(
    sample=st.integers(0, 1),
    at=st.floats(0, 1, exclude_max=True),
    put=st.binary(max_size=4),
    drop=st.integers(0, 4),
)
def test_mutated_bytes_never_prove_another_document(sample: int, at: float, put: bytes, drop: int) -> None:
    """Whatever is done to the bytes: a Refusal and no other error, or the very document that was signed."""
    good = _samples()[sample]
    start = int(at * len(good))
    mutated = good[:start] + put + good[start + drop :]
    other = DOCUMENT.replace(b"1111", b"9999")
    reason(mutated, other)
    try:
        verify(mutated, DOCUMENT, aws().certificate)
    except Refusal:
        pass
    else:
        with pytest.raises(Refusal):
            verify(mutated, DOCUMENT, attacker().certificate)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(junk: bytes) -> None:
    reason(junk)

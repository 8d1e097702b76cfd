"""keys: P-256 in and out, and nothing else."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from certs import keys
from certs.errors import CertificateError
from tests.certs.independent import openssl
from tests.certs.made import ROOT, der


def test_a_key_survives_being_dumped_and_loaded() -> None:
    key = keys.generate()
    assert keys.load_private(keys.dump_private(key)).private_numbers() == key.private_numbers()
    assert keys.load_private_pem(keys.dump_private_pem(key)).private_numbers() == key.private_numbers()


def test_openssl_reads_the_key_and_sees_the_same_public_key() -> None:
    key = keys.generate()
    for form, dumped in (("DER", keys.dump_private(key)), ("PEM", keys.dump_private_pem(key))):
        ok, said = openssl("pkey", "-inform", form, "-noout", "-text_pub", input=dumped)
        assert ok
        assert "prime256v1" in said
    ok, said = openssl("pkey", "-inform", "DER", "-pubout", input=keys.dump_private(key))
    assert ok
    ok, digest = openssl("pkey", "-pubin", "-pubout", "-outform", "PEM", input=said.encode())
    assert digest == said


@pytest.mark.parametrize(
    "other",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_another_kind_of_key_is_refused(
    other: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> None:
    with pytest.raises(CertificateError, match="P-256"):
        keys.load_private(other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(CertificateError, match="P-256"):
        keys.load_private_pem(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_what_cannot_be_read_is_refused_without_showing_it() -> None:
    encrypted = keys.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    for raw in (b"", b"canary", encrypted, keys.dump_private(keys.generate())[:-1]):
        with pytest.raises(CertificateError) as refused:
            keys.load_private(raw)
        assert "canary" not in str(refused.value)
        assert refused.value.__suppress_context__


def test_a_fingerprint_is_what_openssl_and_sha256_say() -> None:
    assert keys.fingerprint(ROOT.certificate) == hashlib.sha256(der(ROOT.certificate)).hexdigest()
    _, said = openssl("x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", input=der(ROOT.certificate))
    assert said.strip().lower().replace(":", "").endswith(keys.fingerprint(ROOT.certificate))
    assert keys.public_sha256(ROOT.key.public_key()) == keys.public_sha256(ROOT.certificate.public_key())
    assert keys.public_sha256(keys.generate().public_key()) != keys.public_sha256(ROOT.key.public_key())

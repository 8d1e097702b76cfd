"""chain: what leads to our root at this moment passes; everything else is refused."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import authority, chain, crl, keys
from certs.authority import Issuer
from certs.crl import Revoked
from certs.errors import ChainRefused
from certs.reasons import Reason
from tests import foreign
from tests.certs.made import INSTANCES, NOW, ROOT, SERVICES, Crooked, leaf, serial

LEAF = leaf()


def verify(certificate: x509.Certificate = LEAF, **changed: Any) -> None:
    arguments: dict[str, Any] = {"intermediates": [INSTANCES.certificate], "root": ROOT.certificate, "at": NOW}
    chain.verify(certificate, **arguments | changed)


def list_of(*revoked: x509.Certificate, issuer: Issuer = INSTANCES) -> x509.CertificateRevocationList:
    entries = [Revoked(certificate.serial_number, NOW, Reason.KEY_COMPROMISE) for certificate in revoked]
    return crl.make(issuer, entries, 1, NOW, NOW + timedelta(hours=1))


def test_what_we_issue_is_verified() -> None:
    verify()
    verify(crls=[list_of()])
    verify(leaf("operator"), intermediates=[SERVICES.certificate, INSTANCES.certificate])
    verify(leaf("server"), intermediates=[SERVICES.certificate], usage=ExtendedKeyUsageOID.SERVER_AUTH)


def test_b01_the_use_is_checked() -> None:
    with pytest.raises(ChainRefused, match="use"):
        verify(leaf("server"), intermediates=[SERVICES.certificate])
    with pytest.raises(ChainRefused, match="use"):
        verify(usage=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(ChainRefused, match="use"):
        verify(Crooked().but(without=(x509.ExtendedKeyUsage,)))
    for usages in ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], [*map(x509.ObjectIdentifier, ("1.2.3", "1.2.4"))]):
        with pytest.raises(ChainRefused, match="use"):
            verify(Crooked().but(extensions=((x509.ExtendedKeyUsage(usages), False),)))


def test_b01_another_authority_is_refused_even_under_our_names() -> None:
    key = keys.generate()
    same_root = authority.make_root(key, "Test root", serial(), NOW, NOW + timedelta(days=9))
    same_issuer = authority.make_issuer(
        *(Issuer(same_root, key), key.public_key(), "Test instances"), serial(), NOW, NOW + timedelta(days=8)
    )
    theirs = leaf(issuer=Issuer(same_issuer, key), serial=LEAF.serial_number)
    for intermediates in ([same_issuer], [same_issuer, same_root], [INSTANCES.certificate]):
        with pytest.raises(ChainRefused):
            verify(theirs, intermediates=intermediates)
    verify(theirs, intermediates=[same_issuer], root=same_root)


def test_b01_an_end_entity_signs_nothing() -> None:
    key = keys.generate()
    signer = Issuer(leaf(public_key=key.public_key()), key)
    child = Crooked().but(issuer=signer, issuer_name=signer.certificate.subject)
    with pytest.raises(ChainRefused):
        verify(child, intermediates=[signer.certificate, INSTANCES.certificate])


def test_b01_a_self_signed_certificate_is_refused() -> None:
    key = keys.generate()
    builder = x509.CertificateBuilder(
        LEAF.subject, LEAF.subject, key.public_key(), serial(), NOW, NOW + timedelta(hours=1)
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    with pytest.raises(ChainRefused):
        verify(builder.add_extension(usage, critical=False).sign(key, hashes.SHA256()))


@pytest.mark.parametrize(
    ("at", "good"),
    [
        (LEAF.not_valid_before_utc - timedelta(seconds=1), False),
        (LEAF.not_valid_before_utc, True),
        (LEAF.not_valid_after_utc, True),
        (LEAF.not_valid_after_utc + timedelta(seconds=1), False),
    ],
)
def test_b02_outside_its_time_a_certificate_is_refused(at: datetime, good: bool) -> None:
    try:
        verify(at=at)
    except ChainRefused:
        assert not good
    else:
        assert good


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ChainRefused):
        verify(at=NOW.replace(tzinfo=None))


def test_without_its_issuer_a_certificate_is_refused() -> None:
    with pytest.raises(ChainRefused, match="at depth 0: unable to get local issuer"):
        verify(intermediates=[])
    with pytest.raises(ChainRefused):
        verify(root=INSTANCES.certificate)


def test_revocation_is_refused_and_so_is_a_list_that_does_not_serve() -> None:
    verify(crls=[list_of(leaf())])
    with pytest.raises(ChainRefused, match="revoked"):
        verify(crls=[list_of(LEAF)])
    with pytest.raises(ChainRefused, match="unable to get certificate CRL"):
        verify(crls=[list_of(issuer=SERVICES)])
    with pytest.raises(ChainRefused, match="CRL has expired"):
        verify(crls=[list_of()], at=NOW + timedelta(hours=2))
    key = keys.generate()
    stranger = crl.make(
        Issuer(authority.make_issuer(ROOT, key.public_key(), "Test instances", serial(), NOW, NOW + timedelta(1)), key),
        *([], 9, NOW, NOW + timedelta(hours=1)),
    )
    with pytest.raises(ChainRefused):
        verify(crls=[stranger])


def test_b20_strange_chains_are_refused_before_any_work_is_done() -> None:
    verify(intermediates=[INSTANCES.certificate] * 4)
    with pytest.raises(ChainRefused, match="too many"):
        verify(intermediates=[INSTANCES.certificate] * 5)
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ChainRefused, match="P-256"):
            verify(Crooked().but(key=key.public_key()))


def test_a_critical_extension_that_is_unknown_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
    with pytest.raises(ChainRefused, match="unhandled critical extension"):
        verify(Crooked().but(extensions=((unknown, True),)))
    verify(Crooked().but(extensions=((unknown, False),)))  # chain judges trust, `lint` judges form


def test_strictness_is_on() -> None:
    """RFC 5280 section 4.2.1.1: without X509_V_FLAG_X509_STRICT, OpenSSL does not miss authorityKeyIdentifier."""
    with pytest.raises(ChainRefused, match="Authority Key Identifier"):
        verify(Crooked().but(without=(x509.AuthorityKeyIdentifier,)))


def test_cryptographys_own_verifier_agrees() -> None:
    """Two implementations, one verdict; this one wants an authorityKeyIdentifier and a subjectAltName."""
    builder = x509.verification.PolicyBuilder().store(x509.verification.Store([ROOT.certificate])).time(NOW)
    verified = builder.build_client_verifier().verify(LEAF, [INSTANCES.certificate])
    assert [certificate.subject for certificate in verified.chain][-1] == ROOT.certificate.subject
    with pytest.raises(x509.verification.VerificationError):
        builder.build_client_verifier().verify(LEAF, [SERVICES.certificate])


# Certificates of another CA

CORP = foreign.ForeignCa("Corp root", foreign.rsa_key(), at=NOW)


def verify_foreign(holder: foreign.Holder, *crls: bytes, root: foreign.ForeignCa = CORP, at: datetime = NOW) -> None:
    lists = [x509.load_pem_x509_crl(each) for each in crls]
    chain.verify(holder.certificate, holder.chain, root.certificate, at, lists, foreign=True)


def test_a_foreign_certificate_may_have_other_keys_and_be_for_more() -> None:
    for key in (foreign.rsa_key(), foreign.ec_key(), foreign.ec_key(ec.SECP384R1())):
        verify_foreign(CORP.leaf(key=key))
        verify_foreign(CORP.intermediate(key=key).leaf())
    verify_foreign(CORP.leaf(usages=[foreign.CLIENT, foreign.SERVER], digest=hashes.SHA512()))
    with pytest.raises(ChainRefused):
        verify(CORP.leaf(key=foreign.rsa_key()).certificate, intermediates=[], root=CORP.certificate)  # not unasked


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"usages": [foreign.SERVER]}, "use"),
        ({"usages": None}, "use"),
        ({"usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "use"),
        ({"other": {x509.BasicConstraints: None}}, "lacks"),
        ({"other": {x509.KeyUsage: None}}, "lacks"),
        ({"other": {x509.BasicConstraints: x509.BasicConstraints(True, None)}}, "CA's"),
        ({"other": {x509.KeyUsage: foreign.NO_SIGNATURES}}, "signatures"),
        ({"key": foreign.rsa_key(1024)}, "RSA of 2048"),
        ({"key": foreign.ec_key(ec.SECP521R1())}, "P-256 or P-384"),
        ({"digest": hashes.SHA224()}, "SHA-256 or better"),
        ({"life": (timedelta(hours=-2), timedelta(seconds=-1))}, "expired"),
        ({"life": (timedelta(seconds=1), timedelta(hours=1))}, "not yet valid"),
    ],
    ids=str,
)
def test_b01_a_foreign_certificate_is_refused_for(fault: dict[str, Any], said: str) -> None:
    with pytest.raises(ChainRefused, match=said):
        verify_foreign(CORP.leaf(**fault))


def test_b01_a_foreign_chain_is_refused_when_one_of_it_is_weak_or_no_ca() -> None:
    with pytest.raises(ChainRefused, match="RSA of 2048"):
        verify_foreign(CORP.intermediate(key=foreign.rsa_key(1024)).leaf())
    root = foreign.ForeignCa("Weak root", foreign.rsa_key(1024), at=NOW)
    with pytest.raises(ChainRefused, match="RSA of 2048"):
        verify_foreign(root.leaf(), root=root)
    signer = CORP.leaf("a machine")
    below = foreign.ForeignCa("a machine", signer.key, at=NOW).leaf()
    with pytest.raises(ChainRefused):
        verify_foreign(foreign.Holder(below.certificate, below.key, (signer.certificate,)))
    with pytest.raises(ChainRefused):
        verify_foreign(foreign.ForeignCa("Corp root", at=NOW).leaf())


def test_foreign_lists_cover_the_leaf_and_what_stands_between() -> None:
    below = CORP.intermediate()
    leaf_, good = below.leaf(), CORP.crl()
    verify_foreign(leaf_, below.crl(), good)
    verify_foreign(CORP.leaf(), good)
    for crls, said in (
        ((below.crl(leaf_.certificate), good), "revoked"),
        ((below.crl(), CORP.crl(below.certificate)), "revoked"),
        ((below.crl(),), "unable to get certificate CRL"),
        ((good,), "unable to get certificate CRL"),
        ((below.crl(life=timedelta(seconds=-1)), good), "expired"),
    ):
        with pytest.raises(ChainRefused, match=said):
            verify_foreign(leaf_, *crls)

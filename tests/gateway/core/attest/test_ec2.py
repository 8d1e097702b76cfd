"""Evidence → claims: strict outside, and every key of the document classed."""

import base64
import dataclasses
import functools
import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.ec2_document import DocumentAuthority, identity_document
from gateway.core.attest.ec2 import Claims, read
from gateway.core.errors import Refusal
from gateway.wire.messages import EC2_IDENTITY_DOCUMENT, Evidence

REGION = "eu-central-1"
DOCUMENT = identity_document(
    account="111122223333",
    region=REGION,
    instance_id="i-0123456789abcdef0",
    image_id="ami-0abcdef1234567890",
    private_ip="10.0.1.2",
    launch_time=datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC),
)


@functools.cache
def authority(region: str = REGION) -> DocumentAuthority:
    return DocumentAuthority(region)


def evidence(document: bytes = DOCUMENT, by: DocumentAuthority | None = None) -> Evidence:
    signed = (by or authority()).sign(document)
    return Evidence(EC2_IDENTITY_DOCUMENT, base64.b64encode(document).decode(), signed.rsa2048)


def with_field(**changed: Any) -> bytes:
    """The document with some keys changed, or removed when the value is `...`."""
    fields = {**json.loads(DOCUMENT), **changed}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def refusal(presented: Evidence, *regions: DocumentAuthority) -> tuple[str, str]:
    with pytest.raises(Refusal) as refused:
        read(presented, {one.region: one.certificate for one in regions or (authority(),)})
    return refused.value.code, refused.value.reason


def test_claims_of_a_genuine_document() -> None:
    assert read(evidence(), {REGION: authority().certificate}) == Claims(
        account="111122223333",
        region=REGION,
        instance_id="i-0123456789abcdef0",
        image_id="ami-0abcdef1234567890",
        private_ip="10.0.1.2",
        pending_time=datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC),
        instance_type="t3.micro",
        architecture="x86_64",
        availability_zone=f"{REGION}a",
        unknown=(),
        sha256=hashlib.sha256(DOCUMENT).hexdigest(),
    )


def test_unknown_keys_are_noticed_and_not_fatal() -> None:
    claims = read(evidence(with_field(zebra=1, colour=[None])), {REGION: authority().certificate})
    assert claims.unknown == ("colour", "zebra")


def test_base64_in_lines_or_in_one() -> None:
    wrapped = evidence()
    assert "\n" in wrapped.pkcs7
    for newline in ("", "\r\n"):
        again = dataclasses.replace(wrapped, pkcs7=wrapped.pkcs7.replace("\n", newline))
        assert read(again, {REGION: authority().certificate}).account == "111122223333"


@pytest.mark.parametrize("spoil", [" {}", "{}=", "*{}", "{}é", "-----BEGIN PKCS7-----\n{}\n-----END PKCS7-----"])
def test_spoilt_base64_is_malformed(spoil: str) -> None:
    good = evidence()
    document, pkcs7 = spoil.format(good.document), spoil.format(good.pkcs7)
    assert refusal(dataclasses.replace(good, document=document)) == ("evidence_malformed", "document_malformed")
    assert refusal(dataclasses.replace(good, pkcs7=pkcs7)) == ("evidence_malformed", "pkcs7_malformed")


@pytest.mark.parametrize(
    "document",
    [
        b"", b"{", b"[]", b'"eu-central-1"', b"{}", b'{"region": ["eu-central-1"]}', b"\xff" + DOCUMENT,
        DOCUMENT.replace(b"{", b'{"region": "us-east-1",', 1), b'{"region": "eu-central-1", "n": NaN}',
        b"[" * 4000, b'{"region": "eu-central-1", "n": ' + b"9" * 5000 + b"}",
        with_field(padding="x" * 8192),
    ],
    ids=["empty", "open", "list", "string", "no-region", "region-list", "not-utf8", "duplicate", "nan", "nested",
         "number", "too-long"],
)  # fmt: skip
def test_unreadable_document_is_malformed(document: bytes) -> None:
    assert refusal(evidence(document)) == ("evidence_malformed", "document_malformed")


@pytest.mark.parametrize(
    "changed",
    [
        {"accountId": "11112222333"}, {"accountId": "111122223333\n"}, {"accountId": 111122223333},
        {"accountId": "１１１１２２２２３３３３"}, {"accountId": ...},
        {"instanceId": "i-XYZ"}, {"instanceId": "i-0123456789abcdef01"}, {"instanceId": "../i-01234567"},
        {"imageId": "aki-01234567"}, {"imageId": None}, {"imageId": ...},
        {"privateIp": "10.0.0.256"}, {"privateIp": "010.0.0.1"}, {"privateIp": "fd00::1"}, {"privateIp": ...},
        {"pendingTime": "2026-11-22T10:00:00+00:00"}, {"pendingTime": "2026-13-22T10:00:00Z"},
        {"pendingTime": "2026-11-22T10:00:60Z"}, {"pendingTime": "2026-11-22"}, {"pendingTime": ...},
        {"instanceType": ""}, {"architecture": True}, {"availabilityZone": "a b"},
    ],
    ids=lambda changed: next(f"{key}={value!r:.24}" for key, value in changed.items()),
)  # fmt: skip
def test_claim_of_another_grammar_is_malformed(changed: dict[str, Any]) -> None:
    assert refusal(evidence(with_field(**changed))) == ("evidence_malformed", "claims_malformed")


def test_eight_digit_ids_of_old_instances() -> None:
    old = evidence(with_field(instanceId="i-b355e7f6", imageId="ami-6962a304"))
    assert read(old, {REGION: authority().certificate}).instance_id == "i-b355e7f6"


@pytest.mark.threat("A13")
class TestA13:
    def test_region_that_is_not_configured(self) -> None:
        assert refusal(evidence(), authority("us-east-1")) == ("evidence_refused", "region_not_configured")
        assert refusal(evidence(with_field(region=None))) == ("evidence_refused", "region_not_configured")

    def test_region_signed_by_another_regions_certificate(self) -> None:
        other = authority("us-east-1")
        assert refusal(evidence(by=other), authority(), other)[0] == "evidence_refused"

    def test_region_changed_to_that_of_the_signer(self) -> None:
        """A region's key proves nothing about another region, whatever the document says."""
        other = authority("us-east-1")
        moved = with_field(region="us-east-1")
        presented = dataclasses.replace(evidence(by=authority()), document=base64.b64encode(moved).decode())
        assert refusal(presented, authority(), other)[0] == "evidence_refused"


@pytest.mark.threat("A11")
def test_signature_of_another_document() -> None:
    other = evidence(with_field(instanceId="i-0fedcba9876543210"))
    presented = dataclasses.replace(evidence(), pkcs7=other.pkcs7)
    assert refusal(presented) == ("evidence_refused", "document_differs")


@pytest.mark.threat("A11")
def test_same_document_written_otherwise() -> None:
    again = json.dumps(json.loads(DOCUMENT)).encode()
    presented = dataclasses.replace(evidence(), document=base64.b64encode(again).decode())
    assert refusal(presented) == ("evidence_refused", "document_differs")


def test_the_authoritys_signature_satisfies_an_independent_checker(tmp_path: Path) -> None:
    """openssl, told to trust no embedded certificate (`-nointern`): without that it believes any signer."""
    armoured = f"-----BEGIN PKCS7-----\n{authority().sign(DOCUMENT).rsa2048}\n-----END PKCS7-----\n"
    (tmp_path / "signature.pem").write_text(armoured)
    for pinned, accepted in ((authority(), True), (authority("us-east-1"), False)):
        (tmp_path / "pinned.pem").write_bytes(pinned.certificate_pem())
        command = "openssl cms -verify -inform PEM -in signature.pem -certfile pinned.pem -noverify -nointern"
        answer = subprocess.run(command.split(), cwd=tmp_path, capture_output=True)
        assert (answer.returncode == 0) is accepted
        assert (answer.stdout == DOCUMENT) is accepted


@given(document=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), pkcs7=st.binary(max_size=200))
def test_any_evidence_is_refused_in_good_order(document: bytes, pkcs7: bytes) -> None:
    encoded = [base64.b64encode(raw).decode() for raw in (document, pkcs7)]
    assert refusal(Evidence(EC2_IDENTITY_DOCUMENT, *encoded))[0] in ("evidence_malformed", "evidence_refused")

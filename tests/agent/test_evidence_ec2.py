"""The metadata service: version 2 only, bounded, and clear when it fails."""

import base64

import pytest

from agent.errors import Fault
from agent.evidence.ec2 import Metadata
from agent.settings import Address
from gateway.wire.messages import Evidence, UserData, decode, user_data_line
from tests.agent.fake_metadata import DOCUMENT, PKCS7, FakeMetadata

PIN = "0" * 64


@pytest.fixture
def client(metadata: FakeMetadata) -> Metadata:
    return Metadata(Address("127.0.0.1", metadata.port), timeout=0.5)


def test_user_data_is_found_in_any_script(metadata: FakeMetadata, client: Metadata) -> None:
    line = user_data_line(UserData("gateway:8443", PIN, "ticket"))
    metadata.user_data = f"#!/bin/sh\n{line}\necho \xff hello\n".encode("latin-1")
    assert client.user_data() == UserData("gateway:8443", PIN, "ticket")


def test_no_user_data_is_none_and_so_is_foreign_user_data(metadata: FakeMetadata, client: Metadata) -> None:
    assert client.user_data() is None
    metadata.user_data = b"#!/bin/sh\nexit 0\n"
    assert client.user_data() is None


def test_malformed_user_data_is_a_fault_that_does_not_quote_the_ticket(
    metadata: FakeMetadata, client: Metadata
) -> None:
    metadata.user_data = b'#trusted-gateway {"gateway":"a:1","ca_sha256":"abc","ticket":"canary!"}'
    with pytest.raises(Fault) as told:
        client.user_data()
    assert told.value.code == "user_data_malformed"
    assert "canary" not in str(told.value)


def test_evidence_is_byte_for_byte_and_fits_the_wire(metadata: FakeMetadata, client: Metadata) -> None:
    evidence = client.evidence()
    assert base64.b64decode(evidence.document) == DOCUMENT
    assert evidence.pkcs7 == PKCS7.replace(b"\n", b"").decode()
    decode(Evidence, {"kind": evidence.kind, "document": evidence.document, "pkcs7": evidence.pkcs7})


def test_every_get_carries_a_token_and_version_one_is_never_tried(metadata: FakeMetadata, client: Metadata) -> None:
    client.evidence()
    assert all(token == metadata.token for method, _, token in metadata.seen if method == "GET")
    for status in (403, 404, 405, 500):
        metadata.seen.clear()
        metadata.overrides["/latest/api/token"] = status
        with pytest.raises(Fault, match="metadata_unavailable"):
            client.user_data()
        assert [method for method, _, _ in metadata.seen] == ["PUT"]


@pytest.mark.parametrize("status", [301, 401, 500])
def test_what_is_no_answer_is_a_fault_not_an_absence(metadata: FakeMetadata, client: Metadata, status: int) -> None:
    metadata.headers["Location"] = f"http://127.0.0.1:{metadata.port}/latest/dynamic/instance-identity/document"
    metadata.overrides["/latest/user-data"] = status
    with pytest.raises(Fault, match="metadata_unavailable"):
        client.user_data()
    assert metadata.seen[-1][1] == "/latest/user-data", "no redirect is followed"


def test_sizes_are_bounded(metadata: FakeMetadata, client: Metadata) -> None:
    metadata.user_data = b"#" * 16384
    assert client.user_data() is None
    metadata.user_data = b"#" * 16385
    with pytest.raises(Fault, match="16384"):
        client.user_data()
    metadata.token = "t" * 257
    with pytest.raises(Fault, match="256"):
        client.evidence()


def test_a_token_that_would_split_a_header_is_refused(metadata: FakeMetadata, client: Metadata) -> None:
    for token in ("a\r\nX: b", "\u00ff", "a b", ""):
        metadata.token = token
        with pytest.raises(Fault, match="session token"):
            client.user_data()


def test_no_proxy_is_asked(metadata: FakeMetadata, client: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    assert client.user_data() is None


def test_nobody_there_is_a_fault_within_the_time_out() -> None:
    with pytest.raises(Fault, match="metadata_unavailable"):
        Metadata(Address("127.0.0.1", 9), timeout=0.5).user_data()


def test_an_instance_without_a_signed_document_is_a_fault(metadata: FakeMetadata, client: Metadata) -> None:
    del metadata.resources["/latest/dynamic/instance-identity/rsa2048"]
    with pytest.raises(Fault, match="no signed identity document"):
        client.evidence()

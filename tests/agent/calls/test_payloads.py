"""Every mode in which S3 takes a payload, through the endpoint for calls, byte for byte."""

import hashlib
import hmac
import socket
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.calls import relay
from agent.calls.body import Spool, Streamed
from gateway.wire.calls import Call
from tests.agent.calls.conftest import REGION, Site, Told
from tests.agent.fake_calls import Refused

BOTH = pytest.mark.parametrize("grant", ["signed", "carried"])
BODY = bytes(range(256)) * 900  # three chunks and a part of one
NOTHING = hashlib.sha256(b"").hexdigest()
SIGNED, SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def crc32(body: bytes) -> str:
    return b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def unsigned(body: bytes) -> bytes:
    """STREAMING-UNSIGNED-PAYLOAD-TRAILER, as boto3 writes it."""
    return b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(body), body, crc32(body).encode())


class Signer:
    """Signs chunks from the signature of a request on. S3 API: "Transferring Payload in Multiple Chunks"."""

    def __init__(self, secret: str, headers: dict[str, str]) -> None:
        self.stamp = headers["x-amz-date"]
        self.scope = f"{self.stamp[:8]}/{REGION}/s3/aws4_request"
        self.last = headers["authorization"].rpartition("=")[2]
        self.key = f"AWS4{secret}".encode()
        for part in self.scope.split("/"):
            self.key = hmac.digest(self.key, part.encode(), "sha256")

    def sign(self, kind: str, *statement: str) -> str:
        said = "\n".join([f"AWS4-HMAC-SHA256-{kind}", self.stamp, self.scope, self.last, *statement])
        self.last = hmac.new(self.key, said.encode(), "sha256").hexdigest()
        return self.last

    def chunks(self, body: bytes, size: int = 65536) -> Iterator[bytes]:
        for at in range(0, len(body) + size, size):
            chunk = body[at : at + size]
            signed = self.sign("PAYLOAD", NOTHING, hashlib.sha256(chunk).hexdigest())
            yield b"%x;chunk-signature=%b\r\n%b" % (len(chunk), signed.encode(), chunk + b"\r\n" if chunk else b"")
            if not chunk:
                return

    def trailer(self, line: str) -> bytes:
        signed = self.sign("TRAILER", hashlib.sha256(f"{line}\n".encode()).hexdigest())
        return f"{line}\r\nx-amz-trailer-signature:{signed}\r\n\r\n".encode()


def signed_chunks(site: Site, grant: str, body: bytes, *, trailer: bool = False) -> tuple[dict[str, str], bytes]:
    """A request of which every chunk is signed, and its body."""
    said = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(body))}
    said |= {"x-amz-trailer": "x-amz-checksum-crc32"} if trailer else {}
    key = site.key(grant)
    headers = site.signed(
        "PUT",
        "/bucket/k",
        {"host": site.host, **said},
        payload=SIGNED_TRAILER if trailer else SIGNED,
        grant=grant,
        key=key,
    )
    signer = Signer(key[1], headers)
    raw = b"".join(signer.chunks(body))
    return headers, raw + (signer.trailer(f"x-amz-checksum-crc32:{crc32(body)}") if trailer else b"\r\n")


@BOTH
@pytest.mark.parametrize("payload", [hashlib.sha256(BODY).hexdigest(), "UNSIGNED-PAYLOAD"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_plain_payload(site: Site, grant: str, payload: str, chunked: bool) -> None:
    headers = site.signed("PUT", "/bucket/k", payload=payload, grant=grant)
    body = BODY
    if chunked:
        headers["transfer-encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert site.send("PUT", "/bucket/k", headers, body).status == 200
    assert site.aws.objects["/bucket/k"] == BODY
    seen = site.aws.asked[-1]
    assert seen.headers["x-amz-content-sha256"] == payload
    assert ("transfer-encoding" in seen.headers, "content-length" in seen.headers) == (chunked, not chunked)


@BOTH
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_payload_with_a_checksum_behind_it_goes_on_to_the_letter(site: Site, grant: str, chunked: bool) -> None:
    said = {
        "content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(BODY)),
        "x-amz-trailer": "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm": "CRC32",
    }  # fmt: skip
    headers = site.signed("PUT", "/bucket/k", said, payload=TRAILER, grant=grant)
    body = unsigned(BODY)
    if chunked:
        headers["transfer-encoding"] = "chunked"
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:70000], body[70000:])) + b"0\r\n\r\n"
    assert site.send("PUT", "/bucket/k", headers, body).status == 200
    assert site.aws.objects["/bucket/k"] == BODY
    assert {name: site.aws.asked[-1].headers[name] for name in said} == said


@BOTH
@pytest.mark.parametrize("trailer", [False, True], ids=["chunks", "trailer"])
@pytest.mark.parametrize("body", [BODY, b"", b"x"], ids=["long", "empty", "short"])
def test_signed_chunks_are_verified_and_go_on_with_a_checksum(
    site: Site, grant: str, trailer: bool, body: bytes
) -> None:
    headers, raw = signed_chunks(site, grant, body, trailer=trailer)
    answer = site.send("PUT", "/bucket/k", headers, raw)
    assert answer.status == 200, answer.body
    assert site.aws.objects["/bucket/k"] == body
    seen = site.aws.asked[-1]
    assert seen.headers["x-amz-content-sha256"] == TRAILER
    assert seen.headers["content-encoding"] == "aws-chunked"
    assert seen.headers["x-amz-trailer"] == "x-amz-checksum-crc32"


@BOTH
@pytest.mark.parametrize("trailer", [False, True], ids=["chunks", "trailer"])
@pytest.mark.parametrize("at", [100, 140_000, -120], ids=["first", "third", "end"])
def test_control_a_chunk_that_was_changed_stores_nothing(site: Site, grant: str, trailer: bool, at: int) -> None:
    site.aws.objects.pop("/bucket/k", None)
    headers, raw = signed_chunks(site, grant, BODY, trailer=trailer)
    changed = bytearray(raw)
    changed[at] ^= 1
    answer = site.send("PUT", "/bucket/k", headers, bytes(changed))
    assert answer.status in (400, 403)
    assert b"<Error><Code>" in answer.body
    assert "/bucket/k" not in site.aws.objects


@pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1, len(BODY) - 140_000])
def test_control_another_length_than_was_said_stores_nothing(site: Site, length: int) -> None:
    site.aws.objects.pop("/bucket/k", None)
    key = site.key()
    said = {"x-amz-decoded-content-length": str(length)}
    headers = site.signed("PUT", "/bucket/k", {"host": site.host, **said}, payload=SIGNED, key=key)
    raw = b"".join(Signer(key[1], headers).chunks(BODY)) + b"\r\n"
    assert site.send("PUT", "/bucket/k", headers, raw).status == 400
    assert "/bucket/k" not in site.aws.objects


def test_a_checksum_before_signed_chunks_stands_behind_them_then(site: Site) -> None:
    """S3 takes one checksum, and wants one behind a payload without signatures."""
    key, digest = site.key(), b64encode(hashlib.sha256(BODY).digest()).decode()
    said = {"x-amz-decoded-content-length": str(len(BODY)), "x-amz-checksum-sha256": digest}
    said |= {"x-amz-sdk-checksum-algorithm": "SHA256", "content-encoding": "aws-chunked,gzip"}
    headers = site.signed("PUT", "/bucket/k", {"host": site.host, **said}, payload=SIGNED, key=key)
    raw = b"".join(Signer(key[1], headers).chunks(BODY)) + b"\r\n"
    assert site.send("PUT", "/bucket/k", headers, raw).status == 200
    seen = site.aws.asked[-1].headers
    assert (seen["x-amz-trailer"], seen["x-amz-sdk-checksum-algorithm"]) == ("x-amz-checksum-sha256", "SHA256")
    assert seen["content-encoding"] == "aws-chunked,gzip"
    assert "x-amz-checksum-sha256" not in seen


@BOTH
def test_a_body_that_is_not_what_was_signed_is_for_aws_to_refuse(site: Site, grant: str) -> None:
    headers = site.signed("PUT", "/bucket/k", payload=hashlib.sha256(b"another").hexdigest(), grant=grant)
    answer = site.send("PUT", "/bucket/k", headers, BODY)
    assert (answer.status, b"XAmzContentSHA256Mismatch" in answer.body) == (403, True)


def test_a_body_whose_hash_is_not_said_is_hashed_here(site: Site) -> None:
    """Services other than S3 are told no hash: it is in the signature alone."""
    body = b'{"MaxResults": 1}'
    headers = site.signed(
        "POST", "/", {"x-amz-target": "AmazonSQS.ListQueues"}, payload=hashlib.sha256(body).hexdigest(), service="sqs"
    )
    assert "x-amz-content-sha256" not in headers
    assert site.send("POST", "/", headers, body).status == 200
    assert site.send("POST", "/", headers, body + b" ").status == 403
    assert [seen.body for seen in site.aws.asked] == [body]


# Where the gateway signs no body that is left out


@pytest.fixture
def strict(site: Site) -> Site:
    def decide(call: Call) -> None:
        if call.payload_sha256.isupper():
            raise Refused("payload_unsigned")

    site.calls.decide = decide
    site.aws.objects.pop("/bucket/k", None)
    return site


def put(site: Site, payload: str, body: bytes, more: dict[str, str] | None = None, *, chunked: bool = False) -> Told:
    said = {"x-amz-decoded-content-length": str(len(BODY)), **(more or {})} if payload == TRAILER else more
    headers = site.signed("PUT", "/bucket/k", said, payload=payload)
    if chunked:
        headers["transfer-encoding"] = "chunked"
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:70000], body[70000:])) + b"0\r\n\r\n"
    return site.send("PUT", "/bucket/k", headers, body)


BEHIND = {"content-encoding": "aws-chunked,gzip", "x-amz-trailer": "x-amz-checksum-crc32"}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", TRAILER])
def test_a_body_is_read_and_its_hash_is_signed(strict: Site, payload: str, chunked: bool) -> None:
    raw, more = (unsigned(BODY), BEHIND) if payload == TRAILER else (BODY, {"content-encoding": "gzip"})
    answer = put(strict, payload, raw, more, chunked=chunked)
    assert answer.status == 200, answer.body
    assert strict.aws.objects["/bucket/k"] == BODY
    seen = strict.aws.asked[-1].headers
    assert seen["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (seen["content-length"], seen["content-encoding"]) == (str(len(BODY)), "gzip")
    assert not seen.keys() & {"x-amz-trailer", "x-amz-decoded-content-length", "transfer-encoding"}
    assert seen.get("x-amz-checksum-crc32") == (crc32(BODY) if payload == TRAILER else None)
    announced = [header.value for header in strict.calls.asked[-1].headers if header.name == "content-length"]
    assert announced == [str(len(BODY))], "by which the gateway limits volume"
    assert strict.held == 0


@pytest.mark.parametrize("trailer", [False, True], ids=["chunks", "trailer"])
@pytest.mark.parametrize("body", [BODY, b""], ids=["long", "empty"])
def test_signed_chunks_are_verified_and_the_hash_of_what_is_in_them_is_signed(
    strict: Site, trailer: bool, body: bytes
) -> None:
    headers, raw = signed_chunks(strict, "signed", body, trailer=trailer)
    answer = strict.send("PUT", "/bucket/k", headers, raw)
    assert answer.status == 200, answer.body
    assert strict.aws.objects["/bucket/k"] == body
    seen = strict.aws.asked[-1].headers
    assert seen["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert not seen.keys() & {"content-encoding", "x-amz-trailer", "x-amz-decoded-content-length"}
    assert seen.get("x-amz-checksum-crc32") == (crc32(body) if trailer else None)


def test_a_checksum_that_stood_before_signed_chunks_stands_there_again(strict: Site) -> None:
    key, digest = strict.key(), b64encode(hashlib.sha256(BODY).digest()).decode()
    said = {"x-amz-decoded-content-length": str(len(BODY)), "x-amz-checksum-sha256": digest}
    headers = strict.signed("PUT", "/bucket/k", {"host": strict.host, **said}, payload=SIGNED, key=key)
    raw = b"".join(Signer(key[1], headers).chunks(BODY)) + b"\r\n"
    assert strict.send("PUT", "/bucket/k", headers, raw).status == 200
    assert strict.aws.asked[-1].headers["x-amz-checksum-sha256"] == digest


@pytest.mark.parametrize("at", [100, 140_000, -120], ids=["first", "third", "end"])
def test_control_a_chunk_that_was_changed_is_not_signed_for(strict: Site, at: int) -> None:
    headers, raw = signed_chunks(strict, "signed", BODY, trailer=True)
    changed = bytearray(raw)
    changed[at] ^= 1
    assert strict.send("PUT", "/bucket/k", headers, bytes(changed)).status in (400, 403)
    assert (strict.aws.asked, len(strict.calls.asked), strict.held) == ([], 1, 0)


@pytest.mark.parametrize("raw", [unsigned(BODY)[:-1], unsigned(BODY[:-1]), unsigned(BODY) + b"x"])
def test_control_unsigned_chunks_that_are_not_whole_are_not_signed_for(strict: Site, raw: bytes) -> None:
    assert put(strict, TRAILER, raw, BEHIND).status == 400
    assert (strict.aws.asked, strict.held) == ([], 0)


def test_control_by_proxy_it_is_the_gateway_that_refuses(strict: Site) -> None:
    headers = strict.signed("PUT", "/bucket/k", payload="UNSIGNED-PAYLOAD", grant="carried")
    answer = strict.send("PUT", "/bucket/k", headers, BODY)
    assert (answer.status, b"AccessDenied" in answer.body, b"payload_unsigned" in answer.body) == (403, True, True)
    assert len(strict.calls.asked) == 1


def test_control_a_checksum_that_is_not_known_here_is_for_s3_to_judge(site: Site, strict: Site) -> None:
    """It goes on to the letter, or not at all."""
    more = {"content-encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-new"}
    raw = b"%x\r\n%b\r\n0\r\nx-amz-checksum-new:AAAA\r\n\r\n" % (len(BODY), BODY)
    assert b"payload_unsigned" in put(strict, TRAILER, raw, more).body
    assert len(strict.calls.asked) == 1
    site.reset()
    assert put(site, TRAILER, raw, more).status == 200


def test_what_is_too_long_to_be_read_is_told(strict: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LONGEST", len(BODY) - 1)
    for payload, raw in (("UNSIGNED-PAYLOAD", BODY), (TRAILER, unsigned(BODY))):
        answer = put(strict, payload, raw, BEHIND if payload == TRAILER else None)
        assert (answer.status, b"EntityTooLarge" in answer.body) == (413, True)
    monkeypatch.setattr(relay, "LONGEST", len(BODY))
    assert put(strict, TRAILER, unsigned(BODY), BEHIND).status == 200


def test_the_keys_of_a_chunked_deletion_are_shown(site: Site) -> None:
    site.calls.wants_body = lambda _: True
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    said = {"x-amz-decoded-content-length": str(len(body)), "x-amz-trailer": "x-amz-checksum-crc32"}
    said |= {"content-encoding": "aws-chunked"}
    headers = site.signed("POST", "/bucket?delete", said, payload=TRAILER)
    assert site.send("POST", "/bucket?delete", headers, unsigned(body)).status == 200
    assert b64decode(site.calls.asked[-1].body or "") == body
    assert site.aws.asked[-1].body == body


def test_a_hash_that_the_client_said_is_never_replaced(tmp_path: Path) -> None:
    """Or a body that is not what the client signed would go on as if it were."""
    call = Call("signed", "s3", REGION, "PUT", "/b/k", "a" * 64)
    with socket.socket() as partner:
        journey = relay.Journey(call, Streamed([b"x"], 1), Spool(tmp_path).keep, partner, False, None)
        read, kept = relay._read(journey, 10)
    assert (read.call, read.body, kept.whole()) == (call, kept, b"x")

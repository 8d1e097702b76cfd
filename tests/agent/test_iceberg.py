"""The signer of Iceberg's REST catalogs: what pyiceberg sends, what it does with the answer, and who is refused."""

import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from agent.credentials import Unavailable
from agent.errors import Fault, Problem
from agent.serve.access import Offer
from agent.serve.iceberg import Iceberg, read
from gateway.wire import sigv4
from gateway.wire.secret import Secret
from gateway.wire.strict import Malformed
from tests.agent.signing_agent import DOORS, KEY_ID, SECRET, TOKEN, FakeSigning, desk

REGION = "eu-central-1"
HOST = f"warehouse.s3.{REGION}.amazonaws.com"
NOTHING = hashlib.sha256(b"").hexdigest()
BEARER = "Bearer " + "t" * 43


@pytest.fixture
def signing() -> FakeSigning:
    return FakeSigning()


@pytest.fixture
def iceberg(signing: FakeSigning) -> Iceberg:
    tokens = {"lake": [Secret("o" * 43), Secret("t" * 43)], "other": [Secret("x" * 43)]}
    at = desk(Offer("other", DOORS), Offer("lake", DOORS))
    return Iceberg(at, lambda grant: tokens.get(grant, ()), signing.ask)


def request(**changes: Any) -> dict[str, Any]:
    """As pyiceberg 0.12 sends it for a read."""
    return {
        "method": "GET",
        "region": REGION,
        "uri": f"https://{HOST}/db/table/a%20b.parquet?x-id=GetObject",
        "headers": {"User-Agent": ["Boto3"], "Range": ["bytes=0-7"], "amz-sdk-request": ["attempt=1"]},
        **changes,
    }


def ask(iceberg: Iceberg, document: Any, *authorizations: str) -> tuple[int, Any]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = iceberg.answer(authorizations or (BEARER,), lambda: raw)
    return answer.status, json.loads(answer.body)


class Client:
    """boto3 with the signer as pyiceberg has it (`S3V4RestSigner`): the answer's headers are added to the request's."""

    def __init__(self, iceberg: Iceberg) -> None:
        self._iceberg = iceberg
        self.s3 = boto3.Session(region_name=REGION).client("s3", config=Config(signature_version=botocore.UNSIGNED))
        self.s3.meta.events.register_last("before-sign.s3", self._sign)
        self.s3.meta.events.register("before-send", self._send)
        self.sent: list[Any] = []

    def _sign(self, request: Any, **_: Any) -> None:
        document = {
            "method": request.method,
            "region": request.context["client_region"],
            "uri": request.url,
            "headers": {key: [value] for key, value in request.headers.items()},
        }
        status, told = ask(self._iceberg, document)
        assert status == 200
        for key, value in told["headers"].items():
            request.headers.add_header(key, ", ".join(value))
        request.url = told["uri"]

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        self.sent.append(request)
        raw = type("Raw", (), {"stream": lambda *_: iter([b"<X/>"]), "read": lambda *_: b""})()
        return AWSResponse(request.url, 200, {}, raw)

    def judge(self, payload: str) -> None:
        """Raises SigV4Error when AWS would refuse the last request."""
        last = self.sent[-1]
        host = urlsplit(last.url).netloc
        fields = ((name.lower(), value) for name, value in last.headers.items())
        headers = [(name, value.decode() if isinstance(value, bytes) else value) for name, value in fields]
        headers.append(("host", host))
        target = last.url.partition(host)[2]
        found = sigv4.parse_authorization(last.method, target, headers)
        assert (found.access_key_id, found.token) == (KEY_ID, TOKEN)
        sigv4.verify(found, last.method, target, headers, payload, SECRET)


def test_reads_and_writes_are_signed(iceberg: Iceberg, signing: FakeSigning) -> None:
    client = Client(iceberg)
    key = {"Bucket": "warehouse", "Key": "db/a b+\u00fc.parquet"}
    client.s3.get_object(**key, Range="bytes=0-7")
    client.judge(NOTHING)
    client.s3.head_object(**key)
    client.judge(NOTHING)
    client.s3.list_objects_v2(Bucket="warehouse", Prefix="db/")
    client.judge(NOTHING)
    client.s3.put_object(**key, Body=b"hello")
    client.judge("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    client.s3.create_multipart_upload(**key)
    client.judge("UNSIGNED-PAYLOAD")
    call, body = signing.asked[0]
    assert (call.grant, call.service, call.region, call.host) == ("lake", "s3", REGION, HOST)
    assert call.target == "/db/a%20b%2B%C3%BC.parquet"
    assert body is None


def test_the_answer_has_what_the_request_lacks(iceberg: Iceberg) -> None:
    status, told = ask(iceberg, request())
    assert status == 200
    assert told["uri"] == request()["uri"]
    assert told["headers"].keys() == {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token" in str(told["headers"])


def test_a_body_that_is_shown_is_looked_into(iceberg: Iceberg, signing: FakeSigning) -> None:
    """Iceberg's Java client sends the body of DeleteObjects; pyiceberg does not."""
    uri = f"https://{HOST}/?delete"
    signing.wants_body = True
    status, told = ask(iceberg, request(method="POST", uri=uri, headers={}, body="<Delete/>"))
    assert status == 200
    assert signing.asked[0][1] == b"<Delete/>"
    assert told["headers"]["x-amz-content-sha256"] == [hashlib.sha256(b"<Delete/>").hexdigest()]
    status, told = ask(iceberg, request(method="POST", uri=uri, headers={}))
    assert (status, told["error"]["code"]) == (422, 422)
    assert "'s3.endpoint', without a signer" in told["error"]["message"]


@pytest.mark.parametrize(
    ("said", "payload"),
    [
        ({"x-amz-content-sha256": ["UNSIGNED-PAYLOAD"]}, "UNSIGNED-PAYLOAD"),
        ({"X-Amz-Content-SHA256": [NOTHING]}, NOTHING),
        ({"X-Amz-Trailer": ["x-amz-checksum-crc32"]}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ({"x-amz-content-sha256": ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD"]}, "UNSIGNED-PAYLOAD"),
        ({}, "UNSIGNED-PAYLOAD"),
    ],
)
def test_what_is_said_of_the_payload(said: dict[str, list[str]], payload: str) -> None:
    call, _, _ = read(json.dumps(request(method="PUT", headers=said)).encode(), "lake")
    assert call.payload_sha256 == payload


@pytest.mark.parametrize(
    ("uri", "host", "target"),
    [
        ("https://s3.eu-central-1.amazonaws.com/b/k", "s3.eu-central-1.amazonaws.com", "/b/k"),
        ("https://s3.eu-central-1.amazonaws.com:443/b", "s3.eu-central-1.amazonaws.com", "/b"),
        ("https://s3.eu-central-1.amazonaws.com", "s3.eu-central-1.amazonaws.com", "/"),
        ("http://127.0.0.1:4566/b/k?x=1", "127.0.0.1:4566", "/b/k?x=1"),
    ],
)
def test_the_host_is_the_uri_s(uri: str, host: str, target: str) -> None:
    call, _, _ = read(json.dumps(request(uri=uri)).encode(), "lake")
    assert (call.host, call.target, call.headers[0].value) == (host, target, host)


@pytest.mark.threat("E02", "E04")
@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"{", b'{"method": "GET", "method": "PUT"}',
        request(uri="ftp://b.s3.amazonaws.com/"), request(uri="https://user@b.s3.amazonaws.com/"), request(uri=None),
        request(uri="https://b.s3.amazonaws.com\\@evil/"), request(uri="https://b.s3.amazonaws.com/#x"),
        request(uri="https://B.s3.amazonaws.com/"), request(uri="https://b/ x"), request(uri="https://b?x=/"),
        request(uri="https://b/\u00fc"), request(uri="/k"),
        request(region="nowhere"), request(region=None), request(region=7),
        request(method=None), request(method="get"), request(method="G T"),
        request(headers=None), request(headers=[]), request(headers={"a": "b"}), request(headers={"a": [1]}),
        request(headers={"a b": ["c"]}), request(headers={"A": ["c"], "a": ["d"]}), request(headers={"": ["x"]}),
        request(body=7), request(body={}),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(iceberg: Iceberg, signing: FakeSigning, document: Any) -> None:
    status, told = ask(iceberg, document)
    assert (status, told["error"]["type"]) == (400, "BadRequestException")
    assert signing.asked == []


def test_what_later_clients_bring_is_let_pass(iceberg: Iceberg) -> None:
    assert ask(iceberg, request(properties={"a": "b"}, provider="s3", more=[1]))[0] == 200


@pytest.mark.threat("E04")
@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "a\0b"])
def test_no_header_breaks_out_of_its_line(iceberg: Iceberg, value: str) -> None:
    with pytest.raises((Malformed, sigv4.SigV4Error)):
        _judged(iceberg, request(headers={"range": [value]}))


def _judged(iceberg: Iceberg, document: dict[str, Any]) -> None:
    call, body, _ = read(json.dumps(document).encode(), "lake")
    iceberg.ask(call, body)


@pytest.mark.parametrize(
    "shown",
    [
        (), ("Bearer ",), ("Bearer " + "u" * 43,), ("t" * 43,), ("Basic " + "t" * 43,), (BEARER, BEARER),
        (BEARER + " ",), ("Bearer  " + "t" * 43,), ("Bearer \u00fc",), ("Bearer \udce9",),
    ],
)  # fmt: skip
def test_without_the_grant_s_token_nothing_is_signed(
    iceberg: Iceberg, signing: FakeSigning, shown: tuple[str, ...]
) -> None:
    answer = iceberg.answer(shown, lambda: pytest.fail("a stranger's document was read"))
    assert answer.status == 401
    assert json.loads(answer.body)["error"]["type"] == "NotAuthorizedException"
    assert signing.asked == []


def test_the_token_tells_the_grant(iceberg: Iceberg, signing: FakeSigning) -> None:
    ask(iceberg, request(), BEARER)
    ask(iceberg, request(), "Bearer " + "o" * 43)
    ask(iceberg, request(), "bearer " + "x" * 43)
    assert [call.grant for call, _ in signing.asked] == ["lake", "lake", "other"]


@pytest.mark.parametrize(
    ("offer", "state", "status"),
    [
        (Offer("lake", ("process",)), "enrolled", 403),
        (Offer("lake", DOORS), "revoked", 403),
        (Offer("lake", DOORS), "starting", 503),
        (Offer("lake", DOORS), "enrolled", 200),
    ],
)
def test_the_rules_of_the_container_door_hold(signing: FakeSigning, offer: Offer, state: str, status: int) -> None:
    iceberg = Iceberg(desk(offer, state=state), lambda _: [Secret("t" * 43)], signing.ask)
    assert ask(iceberg, request())[0] == status


@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (Problem("call_denied", 403, "s3:GetObject is denied"), 403, "ForbiddenException"),
        (Problem("too_many_requests", 429), 429, "BadRequestException"),
        (Problem("internal", 500), 500, "ServiceUnavailableException"),
        (Unavailable("grant_refused", "no grant", refused=True), 403, "ForbiddenException"),
        (Unavailable("gateway_unreachable", "gone"), 503, "ServiceUnavailableException"),
        (Fault("call_malformed", "not right"), 400, "BadRequestException"),
        (Fault("tls_failed", "not right"), 503, "ServiceUnavailableException"),
    ],
)
def test_refusals_are_told_as_iceberg_tells_them(
    iceberg: Iceberg, signing: FakeSigning, refusal: Exception, status: int, kind: str
) -> None:
    signing.refusal = refusal
    found, told = ask(iceberg, request())
    assert (found, told["error"]["code"], told["error"]["type"]) == (status, status, kind)


@pytest.mark.parametrize(("code", "status"), [("body_too_large", 413), ("overloaded", 503), ("write_failed", 503)])
def test_a_document_that_cannot_be_read_is_told(iceberg: Iceberg, code: str, status: int) -> None:
    def unread() -> bytes:
        raise Fault(code, "no")

    answer = iceberg.answer((BEARER,), unread)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, status)


@pytest.mark.parametrize("way", ["proxy", "token"])
def test_a_grant_that_is_not_for_signatures_gives_none(iceberg: Iceberg, signing: FakeSigning, way: str) -> None:
    signing.way = way
    status, told = ask(iceberg, request())
    assert status == 403
    assert way in told["error"]["message"]

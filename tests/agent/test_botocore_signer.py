"""The plug-in for botocore: real clients ask a real socket, and what they would send to AWS is signed right."""

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from agent.botocore_signer import SigningRefused, install
from agent.credentials import Unavailable
from agent.errors import Problem
from agent.serve.access import Offer
from agent.serve.signatures import LONGEST_DOCUMENT
from gateway.wire import sigv4
from gateway.wire.calls import LONGEST_BODY
from tests.agent.signing_agent import DOORS, SECRET, TOKEN, FakeSigning, desk, serving

REGION = "eu-central-1"


@pytest.fixture
def signing() -> FakeSigning:
    return FakeSigning()


@pytest.fixture
def path(tmp_path: Path, signing: FakeSigning) -> Iterator[str]:
    with serving(tmp_path, desk(Offer("app", DOORS)), signing) as at:
        yield at


class Sent:
    """Takes what a client would send, and answers it with success."""

    def __init__(self, client: Any, body: bytes = b"") -> None:
        self.requests: list[Any] = []
        self.body = body
        client.meta.events.register("before-send", self.take)

    def take(self, request: Any, **_: Any) -> AWSResponse:
        self.requests.append(request)
        raw = type("Raw", (), {"stream": lambda *_: iter([self.body]), "read": lambda *_: self.body})()
        return AWSResponse(request.url, 200, {}, raw)

    def judged(self, payload: str) -> Any:
        """The last request, if AWS would take it. Raises SigV4Error."""
        request = self.requests[-1]
        parts = urlsplit(request.url)
        headers = [
            (name.lower(), value.decode() if isinstance(value, bytes) else value)
            for name, value in request.headers.items()
        ]
        assert ("host", parts.netloc) in headers
        assert ("x-amz-security-token", TOKEN) in headers
        target = request.url.partition(parts.netloc)[2]
        found = sigv4.parse_authorization(request.method, target, headers)
        sigv4.verify(found, request.method, target, headers, payload, SECRET)
        return request


def client(service: str, path: str, **more: Any) -> Any:
    session = boto3.Session(region_name=REGION)
    install(session, "app", path)
    return session.client(service, **more)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_a_query_goes_to_aws_with_the_agent_s_signature(path: str, signing: FakeSigning) -> None:
    sts = client("sts", path)
    sent = Sent(sts, b"<Answer><GetCallerIdentityResult/></Answer>")
    sts.get_caller_identity()
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    assert sent.judged(sha256(body)).url == f"https://sts.{REGION}.amazonaws.com/"
    ((call, shown),) = signing.asked
    assert (call.grant, call.service, call.region, call.method, call.target) == ("app", "sts", REGION, "POST", "/")
    assert call.host == f"sts.{REGION}.amazonaws.com"
    assert shown == body
    sent_on = {each.name: each.value for each in call.headers}
    assert not {"authorization", "user-agent"} & sent_on.keys()
    assert sent_on["content-length"] == str(len(body))  # what a limit of bytes counts by


def test_json_too(path: str, signing: FakeSigning) -> None:
    sqs = client("sqs", path)
    sent = Sent(sqs, b"{}")
    sqs.send_message(QueueUrl=f"https://sqs.{REGION}.amazonaws.com/1/q", MessageBody="x")
    request = sent.judged(sha256(signing.asked[0][1] or b""))
    assert json.loads(request.body) == json.loads(signing.asked[0][1] or b"")
    assert "x-amz-target" in {each.name for each in signing.asked[0][0].headers}


@pytest.mark.parametrize("key", ["plain", "a b/\u00fc+%2F//x=1&y"])
def test_s3_as_botocore_sends_it(path: str, signing: FakeSigning, key: str) -> None:
    s3 = client("s3", path)
    sent = Sent(s3)
    s3.put_object(Bucket="bucket", Key=key, Body=b"hello", Metadata={"a": "b"})
    request = sent.judged("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert request.headers["x-amz-trailer"] == b"x-amz-checksum-crc32"
    s3.get_object(Bucket="bucket", Key=key, Range="bytes=0-1")
    sent.judged(sha256(b""))
    s3.list_objects_v2(Bucket="bucket", Prefix=key)
    sent.judged(sha256(b""))
    assert all(body is None for _, body in signing.asked), "a body of S3 is not shown where nobody asks for it"


def test_keys_to_delete_are_shown(path: str, signing: FakeSigning) -> None:
    s3 = client("s3", path)
    sent = Sent(s3, b"<DeleteResult/>")
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a"}]})
    ((_, body),) = signing.asked
    assert body is not None
    assert sent.judged(sha256(body)).body == body


def test_a_body_is_shown_when_the_gateway_asks_for_it(path: str, signing: FakeSigning) -> None:
    signing.wants_body = True
    s3 = client(
        "s3", path, config=Config(s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    )
    sent = Sent(s3)
    s3.put_object(Bucket="bucket", Key="k", Body=b"hello")
    assert [body for _, body in signing.asked] == [None, b"hello"]
    sent.judged(sha256(b"hello"))
    with pytest.raises(SigningRefused) as refused:
        s3.get_object(Bucket="bucket", Key="k")
    assert refused.value.code == "body_required"


def test_presigned_urls(path: str, signing: FakeSigning) -> None:
    for service, operation, arguments, names, payload in (
        ("s3", "get_object", {"Bucket": "b", "Key": "k"}, "host", "UNSIGNED-PAYLOAD"),
        (
            "s3",
            "put_object",
            {"Bucket": "b", "Key": "k", "ContentType": "text/x"},
            "content-type;host",
            "UNSIGNED-PAYLOAD",
        ),
        ("sts", "get_caller_identity", {}, "host", sha256(b"")),
    ):
        made = client(service, path).generate_presigned_url(operation, arguments, ExpiresIn=77, HttpMethod="GET")
        parts = urlsplit(made)
        target = made.partition(parts.netloc)[2]
        headers = [("host", parts.netloc), *([("content-type", "text/x")] if "content" in names else [])]
        found = sigv4.parse_authorization("GET", target, headers)
        sigv4.verify(found, "GET", target, headers, payload, SECRET)
        assert (found.expires, ";".join(found.signed_headers), found.scope.service) == (77, names, service)
    assert "Action=GetCallerIdentity" in target


def test_another_attempt_gets_another_signature(path: str, signing: FakeSigning) -> None:
    sqs = client("sqs", path, config=Config(retries={"total_max_attempts": 2, "mode": "standard"}))
    sent: list[Any] = []

    def fail(request: Any, **_: Any) -> AWSResponse:
        sent.append(dict(request.headers))
        raw = type("Raw", (), {"stream": lambda *_: iter([b"{}"])})()
        return AWSResponse(request.url, 500 if len(sent) == 1 else 200, {}, raw)

    sqs.meta.events.register("before-send", fail)
    sqs.list_queues()
    assert len(signing.asked) == len(sent) == 2
    assert all([name.lower() for name in each].count("authorization") == 1 for each in sent)


def test_what_stood_there_before_is_replaced(path: str) -> None:
    sqs = client("sqs", path)
    sent = Sent(sqs, b"{}")

    def sign_already(request: Any, **_: Any) -> None:
        for name in ("Authorization", "Date", "X-Amz-Date", "X-Amz-Security-Token"):
            request.headers[name] = "old"

    sqs.meta.events.register("before-sign", sign_already)
    sqs.list_queues()
    assert "date" not in {name.lower() for name in sent.judged(sha256(b"{}")).headers}
    assert not {"old", b"old"} & set(sent.requests[0].headers.values())


def test_a_session_of_botocore_and_the_only_grant(path: str, signing: FakeSigning) -> None:
    session = botocore.session.Session()
    install(session, path=path)
    sqs = session.create_client("sqs", REGION)
    Sent(sqs, b"{}")
    sqs.list_queues()
    assert signing.asked[0][0].grant == "app"


def test_what_is_not_signed_stays_unsigned(path: str, signing: FakeSigning) -> None:
    sts = client("sts", path)
    sent = Sent(sts, b"<Answer><AssumeRoleWithWebIdentityResult/></Answer>")
    sts.assume_role_with_web_identity(
        RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="xx", WebIdentityToken="abcd"
    )
    assert "authorization" not in {name.lower() for name in sent.requests[0].headers}
    s3 = client("s3", path, config=Config(signature_version=botocore.UNSIGNED))
    Sent(s3)
    s3.list_objects_v2(Bucket="public")
    assert signing.asked == []


def test_other_sessions_are_left_alone(path: str, signing: FakeSigning) -> None:
    client("sqs", path)
    other = boto3.Session("AKIDOTHER", "x", region_name=REGION).client("sqs")
    sent = Sent(other, b"{}")
    other.list_queues()
    assert "AKIDOTHER" in str(sent.requests[0].headers["Authorization"])
    assert signing.asked == []


@pytest.mark.parametrize("version", ["v4a", "s3v4a"])
def test_kinds_of_signatures_that_there_are_none_of(path: str, version: str) -> None:
    s3 = client("s3", path, config=Config(signature_version=version))
    with pytest.raises(SigningRefused, match=version):
        s3.list_buckets()
    with pytest.raises(SigningRefused, match="presign-post"):
        client("s3", path).generate_presigned_post("b", "k")


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Problem("call_denied", 403, "s3:GetObject is denied by grant app"), "call_denied"),
        (Unavailable("grant_refused", "The instance has no such grant", refused=True), "grant_refused"),
        (Unavailable("gateway_unreachable", "No answer", retry_after=3), "gateway_unreachable"),
    ],
)
def test_a_refusal_is_told(path: str, signing: FakeSigning, refusal: Exception, code: str) -> None:
    signing.refusal = refusal
    with pytest.raises(SigningRefused) as refused:
        client("s3", path).get_object(Bucket="b", Key="k")
    assert refused.value.code == code
    assert len(signing.asked) == 1


def test_what_is_signed_for_elsewhere_is_not_sent(path: str, signing: FakeSigning) -> None:
    s3 = client("s3", path)
    sent = Sent(s3)
    for origin, target, way, code in (
        ("https://evil.example", None, "sign", "host_differs"),
        (f"http://b.s3.{REGION}.amazonaws.com", None, "sign", "host_differs"),
        (None, "/other", "sign", "target_differs"),
        (None, None, "proxy", "way_differs"),
        (None, None, "token", "way_differs"),
    ):
        signing.origin, signing.target, signing.way = origin, target, way
        with pytest.raises(SigningRefused) as refused:
            s3.get_object(Bucket="b", Key="k")
        assert refused.value.code == code
    assert sent.requests == []


def test_without_an_agent(tmp_path: Path) -> None:
    with pytest.raises(SigningRefused, match="No agent answers") as refused:
        client("s3", str(tmp_path / "none.sock")).list_buckets()
    assert refused.value.code == "agent_not_running"


# The socket itself


def say(path: str, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(20)
        asking.connect(path)
        asking.sendall(question)
        asking.shutdown(socket.SHUT_WR)
        answer = b""
        while part := asking.recv(65536):
            answer += part
        return answer


CALL = {
    "service": "s3", "region": REGION, "method": "GET", "target": "/k", "payload_sha256": sha256(b""),
    "host": "b.s3.amazonaws.com", "headers": [{"name": "host", "value": "b.s3.amazonaws.com"}],
}  # fmt: skip


def line(grant: str, document: Any) -> bytes:
    written = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"sign {grant} {len(written)}\n".encode() + written


def test_the_socket_answers_with_what_is_to_be_sent(path: str) -> None:
    answer = say(path, line("app", CALL))
    assert answer.startswith(b"ok\n")
    assert json.loads(answer[3:])["origin"] == "https://b.s3.amazonaws.com"
    assert say(path, line("-", CALL)).startswith(b"ok\n")


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (line("nothing", CALL), b"access_denied"),
        (line("app", {**CALL, "grant": "app"}), b"call_malformed"),
        (line("app", {**CALL, "region": "nowhere"}), b"call_malformed"),
        (line("app", {**CALL, "body": "!"}), b"call_malformed"),
        (line("app", {**CALL, "more": 1}), b"call_malformed"),
        (line("app", {**CALL, "headers": [{"name": "authorization", "value": "x"}]}), b"call_malformed"),
        (line("app", b"[]"), b"call_malformed"),
        (line("app", b"{"), b"call_malformed"),
        (b"sign app 5\n{}", b"request_malformed"),
        (b"sign app 9999999\n", b"request_malformed"),
        (b"sign app 0\n", b"request_malformed"),
        (b"sign app -1\n", b"request_malformed"),
        (b"sign app\n", b"request_malformed"),
        (b"sign 5\n{}", b"request_malformed"),
        (b"credentials -\n", b"request_malformed"),
    ],
)
def test_the_socket_refuses(path: str, signing: FakeSigning, question: bytes, code: bytes) -> None:
    assert say(path, question).startswith(b"error " + code + b" ")
    assert signing.asked == []


def test_a_body_of_the_largest_size_has_room(path: str, signing: FakeSigning) -> None:
    body = bytes(LONGEST_BODY)
    document = {**CALL, "payload_sha256": sha256(body), "body": base64.b64encode(body).decode()}
    assert len(json.dumps(document)) < LONGEST_DOCUMENT
    assert say(path, line("app", document)).startswith(b"ok\n")
    assert signing.asked[0][1] == body


def test_who_may_not_have_credentials_gets_no_signature(tmp_path: Path, signing: FakeSigning) -> None:
    for offer, state, made, code in (
        (Offer("app", ("container",)), "enrolled", signing, b"access_denied"),
        (Offer("app", DOORS), "revoked", signing, b"access_denied"),
        (Offer("app", DOORS), "starting", signing, b"starting"),
        (Offer("app", DOORS), "enrolled", None, b"calls_off"),
    ):
        with serving(tmp_path, desk(offer, state=state), made) as path:
            assert say(path, line("app", CALL)).startswith(b"error " + code + b" ")
    assert signing.asked == []


def test_another_user_gets_no_signature(path: str, signing: FakeSigning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.serve.listener.uid_of_unix_peer", lambda _: 65533)
    assert say(path, line("app", CALL)).startswith(b"error access_denied ")
    assert say(path, line("-", CALL)).startswith(b"error grant_unknown ")
    assert signing.asked == []

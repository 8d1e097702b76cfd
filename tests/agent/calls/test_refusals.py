"""What the endpoint for calls does not take, and in which words: none of it reaches the gateway, or AWS."""

import socket
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.agent.calls.conftest import Site
from tests.agent.fake_calls import Refused
from tests.agent.fake_gateway import Refusal

TARGET = "/bucket/k"
DIGEST = sha256(b"").hexdigest()


def changed(name: str, value: str | None) -> Callable[[dict[str, str]], None]:
    def change(headers: dict[str, str]) -> None:
        headers.pop(name, None)
        if value is not None:
            headers[name] = value

    return change


def wrong_signature(headers: dict[str, str]) -> None:
    last = headers["authorization"][-1]
    headers["authorization"] = headers["authorization"][:-1] + ("0" if last != "0" else "1")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (wrong_signature, "SignatureDoesNotMatch"),
        (changed("x-amz-security-token", "another"), "InvalidAccessKeyId"),
        (changed("x-amz-security-token", None), "InvalidAccessKeyId"),
        (changed("authorization", None), "AccessDenied"),
        (changed("authorization", "AWS TGDKAAAAAAAAAAAAAAAA:c2ln"), "SignatureDoesNotMatch"),
        (changed("authorization", "AWS4-ECDSA-P256-SHA256 Credential=x"), "SignatureDoesNotMatch"),
        (changed("authorization", "AWS4-HMAC-SHA1 Credential=x"), "SignatureDoesNotMatch"),
        (changed("x-amz-content-sha256", sha256(b"x").hexdigest()), "SignatureDoesNotMatch"),
        (changed("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), "SignatureDoesNotMatch"),
        (changed("x-amz-content-sha256", "whatever"), "InvalidRequest"),
        (changed("x-amz-acl", "public-read"), "SignatureDoesNotMatch"),
        (changed("host", "s3.eu-central-1.amazonaws.com"), "AccessDenied"),
        (changed("host", "127.0.0.1"), "AccessDenied"),
        (changed("origin", "https://evil.example"), "AccessDenied"),
        (changed("sec-fetch-site", "cross-site"), "AccessDenied"),
        (changed("x-forwarded-for", "10.0.0.1"), "AccessDenied"),
        (changed("via", "1.1 proxy"), "AccessDenied"),
    ],
)
@pytest.mark.threat("E04", "E09", "F02")
def test_a_request_that_is_not_right_goes_nowhere(
    site: Site, change: Callable[[dict[str, str]], None], code: str
) -> None:
    headers = site.signed("GET", TARGET)
    change(headers)
    answer = site.send("GET", TARGET, headers)
    assert answer.status in (400, 403)
    assert f"<Code>{code}</Code>".encode() in answer.body
    assert (site.calls.asked, site.aws.asked) == ([], [])
    assert "date" in answer.headers
    assert site.send("GET", TARGET, site.signed("GET", TARGET)).status in (200, 404)


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/other", "/bucket/k?acl", "/bucket/%6B", "//bucket/k", "/bucket/k?",
    ],
)  # fmt: skip
def test_another_target_than_was_signed_is_refused(site: Site, target: str) -> None:
    answer = site.send("GET", target, site.signed("GET", TARGET))
    assert (answer.status, site.calls.asked) == (403, []) if target != "/bucket/k?" else True


@pytest.mark.parametrize(
    ("service", "minutes", "good"),
    [("s3", 14, True), ("s3", -14, True), ("s3", 16, False), ("s3", -16, False), ("sqs", 4, True), ("sqs", -6, False)],
)
def test_a_signature_of_another_time(site: Site, service: str, minutes: int, good: bool) -> None:
    answer = site.send("GET", TARGET, site.signed("GET", TARGET, service=service, minutes=minutes))
    assert (answer.status in (200, 404)) == good
    if not good:
        assert (b"RequestTimeTooSkewed" if service == "s3" else b"RequestExpired") in answer.body


def test_a_key_of_another_agent_is_not_known_here(site: Site) -> None:
    key = ("TGDKAAAAAAAAAAAAAAAA", "a" * 40, "token")
    answer = site.send("GET", TARGET, site.signed("GET", TARGET, key=key))
    assert (answer.status, b"InvalidAccessKeyId" in answer.body) == (403, True)


def test_one_grants_token_with_anothers_key(site: Site) -> None:
    key_id, secret, _ = site.key("signed")
    answer = site.send("GET", TARGET, site.signed("GET", TARGET, key=(key_id, secret, site.key("carried")[2])))
    assert answer.status == 403


def test_what_stands_twice_is_refused(site: Site) -> None:
    headers = site.signed("GET", TARGET)
    for name in ("host", "x-amz-date", "authorization", "x-amz-security-token"):
        head = "".join(f"{each}: {value}\r\n" for each, value in [*headers.items(), (name, headers[name])])
        answer = raw(site, f"GET {TARGET} HTTP/1.1\r\n{head}\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403")), name
    assert site.calls.asked == []


def test_sigv2_presigned_tells_the_setting(site: Site) -> None:
    answer = site.send("GET", f"{TARGET}?AWSAccessKeyId=TGDKX&Signature=x&Expires=1", {"host": site.host})
    assert answer.status == 403
    assert b"signature_version = s3v4" in answer.body


def test_a_presigned_url_that_is_over(site: Site) -> None:
    from gateway.wire import sigv4
    from gateway.wire.sigv4 import Scope
    from tests.agent.calls.conftest import REGION

    key_id, secret, token = site.key()
    for stamp, status in (("20200101T000000Z", 403), ("20990101T000000Z", 403)):
        target = sigv4.presign(
            "GET", TARGET, site.host, access_key_id=key_id, secret=secret.encode(), token=token,
            scope=Scope(stamp[:8], REGION, "s3"), stamp=stamp, expires=60,
        )  # fmt: skip
        assert site.send("GET", target, {"host": site.host}).status == status
    assert site.calls.asked == []


def test_two_signatures_are_one_too_many(site: Site) -> None:
    headers = site.signed("GET", TARGET)
    answer = site.send("GET", f"{TARGET}?X-Amz-Signature=x", headers)
    assert (answer.status, site.calls.asked) == (400, [])


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"CONNECT s3.amazonaws.com:443 HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET http://HOST/bucket/k HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"* / HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"get /bucket/k HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
@pytest.mark.threat("F07")
def test_junk_is_refused_and_harms_nothing(site: Site, request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    answer = raw(site, request_bytes.replace(b"HOST", site.host.encode()))
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert (site.calls.asked, site.aws.asked, caplog.records) == ([], [], [])
    assert site.send("GET", TARGET, site.signed("GET", TARGET)).status in (200, 404)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5", "Content-Length: 4, 5", "Content-Length: +4", "Content-Length: 0x4",
        "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked", "Content-Length: 4\nTransfer-Encoding: chunked",
    ],
)  # fmt: skip
@pytest.mark.threat("F03", "F07")
def test_a_body_that_could_end_in_two_places_is_not_read_though_it_is_signed(site: Site, framing: str) -> None:
    headers = site.signed("PUT", TARGET, payload="UNSIGNED-PAYLOAD")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    smuggled = f"GET {TARGET} HTTP/1.1\r\n{head}\r\n"
    answer = raw(site, f"PUT {TARGET} HTTP/1.1\r\n{head}{framing}\r\n\r\n0\r\n\r\n{smuggled}".encode())
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), answer[:60]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert (site.calls.asked, site.aws.asked) == ([], [])


def raw(site: Site, request: bytes) -> bytes:
    """Every byte of the answer to these bytes."""
    host, _, port = site.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                answer += more
        except OSError:
            """Closed with bytes of ours unread."""
        return answer


CLIENTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("s3", lambda c: c.list_buckets(), "AccessDenied"),
    ("sqs", lambda c: c.list_queues(), "AccessDeniedException"),
    ("dynamodb", lambda c: c.list_tables(), "AccessDeniedException"),
    ("sts", lambda c: c.get_caller_identity(), "AccessDenied"),
    ("ec2", lambda c: c.describe_instances(), "UnauthorizedOperation"),
    ("lambda", lambda c: c.list_functions(), "AccessDeniedException"),
    ("route53", lambda c: c.list_hosted_zones(), "AccessDenied"),
    ("cloudwatch", lambda c: c.list_metrics(), "AccessDeniedException"),
    ("timestream-query", lambda c: c.describe_endpoints(), "AccessDeniedException"),
]


@pytest.mark.parametrize("grant", ["signed", "carried"])
@pytest.mark.parametrize(("service", "ask", "code"), CLIENTS, ids=[each[0] for each in CLIENTS])
def test_a_refusal_of_the_gateway_is_an_error_of_the_service(
    site: Site, grant: str, service: str, ask: Callable[[Any], Any], code: str
) -> None:
    def no(_: Any) -> None:
        raise Refused("call_denied", "Statement[1] says <no>")

    site.calls.decide = no
    with pytest.raises(ClientError) as refused:
        ask(site.client(service, grant))
    error = refused.value.response["Error"]
    assert error["Code"] == code
    assert "Statement[1] says <no>" in error["Message"]
    assert "request 11111111-2222-3333-4444-555555555555" in error["Message"]
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert site.aws.asked == []


@pytest.mark.parametrize("grant", ["signed", "carried"])
@pytest.mark.parametrize(
    ("problem", "status", "s3", "sqs"),
    [
        ("too_many_requests", 503, "SlowDown", "ThrottlingException"),
        ("upstream_unavailable", 503, "ServiceUnavailable", "ServiceUnavailableException"),
        ("upstream_timeout", 504, "ServiceUnavailable", "ServiceUnavailableException"),
        ("overloaded", 503, "ServiceUnavailable", "ServiceUnavailableException"),
        ("signature_refused", 403, "SignatureDoesNotMatch", "InvalidSignatureException"),
        ("call_ambiguous", 400, "InvalidRequest", "ValidationException"),
        ("presign_refused", 403, "AccessDenied", "AccessDeniedException"),
        ("grant_refused", 403, "AccessDenied", "AccessDeniedException"),
        ("internal_error", 500, "InternalError", "InternalServerError"),
    ],
)
def test_each_problem_has_its_code(site: Site, grant: str, problem: str, status: int, s3: str, sqs: str) -> None:
    path = {"signed": "/v1/signatures", "carried": "/v1/calls"}[grant]
    site.gateway.sticky[path] = Refusal(problem, headers={"Retry-After": "7"})
    try:
        with pytest.raises(ClientError) as of_s3:
            site.client("s3", grant).list_buckets()
        with pytest.raises(ClientError) as of_sqs:
            site.client("sqs", grant).list_queues()
    finally:
        del site.gateway.sticky[path]
    assert of_s3.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert (of_s3.value.response["Error"]["Code"], of_sqs.value.response["Error"]["Code"]) == (s3, sqs)
    assert of_s3.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"


def test_a_head_that_is_refused_has_no_body(site: Site) -> None:
    headers = site.signed("HEAD", TARGET)
    wrong_signature(headers)
    answer = site.send("HEAD", TARGET, headers)
    assert (answer.status, answer.body) == (403, b"")


def test_refusals_are_counted(site: Site) -> None:
    def refused() -> int:
        grants = {grant["name"]: grant for grant in site.machine.status()["grants"]}
        return int(grants["signed"]["calls"].get("refused", 0))

    before = refused()
    headers = site.signed("GET", TARGET)
    wrong_signature(headers)
    site.send("GET", TARGET, headers)
    assert refused() == before + 1

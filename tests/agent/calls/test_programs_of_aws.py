"""Real SDKs before the endpoint for calls: what they do without it, they do with it."""

import hashlib
import http.client
import io
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from gateway.wire.calls import Call
from tests.agent.calls.conftest import Site

LETTERS = "ümläut".encode().decode("latin-1")  # as botocore reads what is in UTF-8
BOTH = pytest.mark.parametrize("grant", ["signed", "carried"])
KEYS = ["plain", "a b", "ü+c", "d//e", "../up", "100%", "q?x=y&z", "ends/", "~'()*!"]


@BOTH
@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_put_and_got(site: Site, grant: str, key: str) -> None:
    s3 = site.client(grant=grant)
    put = s3.put_object(Bucket="bucket", Key=key, Body=b"hello")
    assert put["ETag"].startswith('"2cf24dba5fb0a30e26e83b2ac5b9e29e')
    got = s3.get_object(Bucket="bucket", Key=key)
    assert got["Body"].read() == b"hello"
    assert got["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"] == "REQUEST1"
    assert {asked.refusal for asked in site.aws.asked} == {None}
    assert f"/bucket/{key}" in site.aws.objects


@BOTH
def test_nothing_of_the_dummy_key_reaches_aws(site: Site, grant: str) -> None:
    key_id, secret, token = site.key(grant)
    site.client(grant=grant).put_object(Bucket="bucket", Key="k", Body=b"x")
    said = repr(site.aws.asked)
    assert key_id not in said
    assert token not in said
    assert secret not in said
    assert all(token not in repr([(h.name, h.value) for h in call.headers]) for call in site.calls.asked)


@BOTH
def test_head_range_condition_error_and_delete_are_as_aws_says_them(site: Site, grant: str) -> None:
    s3 = site.client(grant=grant)
    s3.put_object(Bucket="bucket", Key="k", Body=b"0123456789")
    head = s3.head_object(Bucket="bucket", Key="k")
    assert (head["ContentLength"], head["ETag"], head["Metadata"]) == (
        10,
        '"etag"',
        {"letters": LETTERS},
    )
    part = s3.get_object(Bucket="bucket", Key="k", Range="bytes=2-5")
    assert (part["Body"].read(), part["ContentRange"]) == (b"2345", "bytes 2-5/10")
    with pytest.raises(ClientError) as same:
        s3.get_object(Bucket="bucket", Key="k", IfNoneMatch='"etag"')
    assert same.value.response["Error"]["Code"] == "304"
    with pytest.raises(ClientError) as none:
        s3.get_object(Bucket="bucket", Key="none")
    assert none.value.response["Error"]["Code"] == "NoSuchKey"
    s3.delete_object(Bucket="bucket", Key="k")
    assert "/bucket/k" not in site.aws.objects


@BOTH
def test_a_file_without_an_end_in_sight_goes_in_parts(site: Site, grant: str) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

    site.client(grant=grant).upload_fileobj(Unseekable(b"z" * 100_000), "bucket", "k")
    assert site.aws.objects["/bucket/k"] == b"z" * 100_000


def test_many_calls_go_on_few_connections(site: Site) -> None:
    s3, before = site.client(), site.aws.opened
    for _ in range(10):
        s3.put_object(Bucket="bucket", Key="k", Body=b"x")
    assert site.aws.opened - before <= 1


@BOTH
def test_a_service_whose_operation_is_in_the_body(site: Site, grant: str) -> None:
    assert site.client("sqs", grant).list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
    (call,) = site.calls.asked
    assert (call.service, call.region, call.method, call.target) == ("sqs", "eu-central-1", "POST", "/")
    assert (call.body is None) == (grant == "carried")  # a call that is carried brings it along
    assert site.aws.asked[-1].refusal is None


def test_a_short_body_is_shown_at_once_also_when_its_hash_is_said(site: Site) -> None:
    """As the SDK for JavaScript does with every service."""
    body = b"{}"
    digest = hashlib.sha256(body).hexdigest()
    said = {"x-amz-target": "AmazonSQS.ListQueues", "x-amz-content-sha256": digest}
    headers = site.signed("POST", "/", {"host": site.host, **said}, payload=digest, service="sqs")
    assert site.send("POST", "/", headers, body).status == 200
    (call,) = site.calls.asked
    assert call.body == "e30="


def test_the_keys_of_a_multiple_delete_are_shown_to_the_gateway_at_once(site: Site) -> None:
    site.client().delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    (call,) = site.calls.asked
    assert call.body is not None
    assert b"<Key>b</Key>" in site.aws.asked[-1].body


def test_a_body_is_shown_when_the_gateway_wants_it_and_not_before(site: Site) -> None:
    site.calls.wants_body = lambda call: call.body is None
    site.client().put_object(Bucket="bucket", Key="k", Body=b"hello")
    first, second = site.calls.asked
    assert (first.body, second.body) == (None, "aGVsbG8=")
    assert ("content-length", "5") in [(header.name, header.value) for header in first.headers]
    assert site.aws.objects["/bucket/k"] == b"hello"


def test_a_body_that_is_too_long_to_be_shown_is_refused(site: Site) -> None:
    site.calls.wants_body = lambda call: call.body is None
    with pytest.raises(ClientError) as refused:
        site.client().put_object(Bucket="bucket", Key="long", Body=bytes(1024 * 1024 + 1))
    assert refused.value.response["Error"]["Code"] == "EntityTooLarge"
    assert "/bucket/long" not in site.aws.objects


def test_a_long_body_without_a_hash_is_read_for_it(site: Site) -> None:
    """As for Lambda's code: more than stays in memory."""
    body = b"code" * 600_000
    headers = site.signed("POST", "/2015-03-31/functions", payload=hashlib.sha256(body).hexdigest(), service="lambda")
    del headers["host"]
    headers = {"host": site.host, **headers}
    assert site.send("POST", "/2015-03-31/functions", headers, body).status == 200
    assert site.aws.asked[-1].length == len(body)


@pytest.mark.parametrize("way", ["sign", "proxy", "token"])
def test_the_gateway_chooses_the_way(site: Site, way: str) -> None:
    site.calls.way = lambda _: way
    site.aws.keys["ASIA0000000000000001"] = "canarySecretAccessKey1"  # what is vended
    before = dict(site.machine.status()["grants"][1]["calls"])
    site.client(grant="mixed").put_object(Bucket="bucket", Key=way, Body=b"x")
    assert site.aws.objects[f"/bucket/{way}"] == b"x"
    assert site.aws.asked[-1].headers["authorization"].count("ASIA0") == (way == "token")
    mixed = site.machine.status()["grants"][1]
    assert mixed["calls"].get(way, 0) == before.get(way, 0) + 1


def test_a_grant_that_goes_by_proxy_alone_asks_for_no_signature(site: Site) -> None:
    before = len(site.gateway.seen)
    site.client(grant="carried").put_object(Bucket="bucket", Key="k", Body=b"x")
    assert "POST /v1/signatures" not in site.gateway.paths(since=before)
    assert "POST /v1/calls" in site.gateway.paths(since=before)


@BOTH
def test_a_bucket_before_the_host_stands_in_the_path(site: Site, grant: str) -> None:
    host = f"bucket.localhost:{urlsplit(site.endpoint).port}"
    headers = site.signed("PUT", "/k", {"host": host}, grant=grant)
    assert site.send("PUT", "/k", headers).status == 200
    assert "/bucket/k" in site.aws.objects
    (call,) = site.calls.asked
    assert call.target == "/bucket/k"


@BOTH
@pytest.mark.parametrize("method", ["get_object", "put_object", "head_object"])
def test_a_presigned_url_is_good_here(site: Site, grant: str, method: str) -> None:
    s3 = site.client(grant=grant, signature_version="s3v4")
    s3.put_object(Bucket="bucket", Key="k", Body=b"hello")
    url = urlsplit(s3.generate_presigned_url(method, {"Bucket": "bucket", "Key": "k"}, ExpiresIn=60))
    verb = method.partition("_")[0].upper()
    answer = site.send(verb, f"{url.path}?{url.query}", {"host": site.host}, b"new" if verb == "PUT" else b"")
    assert answer.status == 200
    assert answer.body == (b"hello" if verb == "GET" else b"")
    assert "X-Amz-Signature" not in site.aws.asked[-1].target
    assert site.aws.asked[-1].headers["x-amz-content-sha256"] == (
        "UNSIGNED-PAYLOAD" if verb == "PUT" else "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_headers_that_an_sdk_moved_into_the_query_are_headers_again(site: Site) -> None:
    s3 = site.client(signature_version="s3v4")
    told = {"Bucket": "bucket", "Key": "k", "ACL": "public-read", "Metadata": {"a": "ü b"}}
    url = urlsplit(s3.generate_presigned_url("put_object", {**told, "Metadata": {"a": "b c"}}, ExpiresIn=60))
    headers = {"host": site.host, "x-amz-meta-a": "b c"} if "x-amz-meta-a" in url.query.lower() else {"host": site.host}
    signed = [name for name in ("x-amz-acl", "x-amz-meta-a") if name in url.query.split("SignedHeaders=")[1]]
    headers |= {"x-amz-acl": "public-read"} if "x-amz-acl" in signed else {}
    answer = site.send("PUT", f"{url.path}?{url.query}", headers, b"x")
    assert answer.status == 200, answer.body
    assert site.aws.asked[-1].headers["x-amz-acl"] == "public-read"


def test_connections_of_clients_are_kept_and_requests_do_not_mix(site: Site) -> None:
    connection = http.client.HTTPConnection(site.host, timeout=5)
    for number in range(5):
        target = f"/bucket/{number}"
        connection.request("PUT", target, b"%d" % number, site.signed("PUT", target, payload="UNSIGNED-PAYLOAD"))
        assert connection.getresponse().read() == b""
    assert [asked.body for asked in site.aws.asked] == [b"0", b"1", b"2", b"3", b"4"]
    connection.close()


def test_calls_carry_what_the_client_said_and_nothing_of_one_hop(site: Site) -> None:
    headers = site.signed("GET", "/bucket/k", {"x-amz-meta-a": "1"}) | {
        "User-Agent": "tool/1", "Accept": "*/*", "Connection": "keep-alive, x-hop", "x-hop": "1", "Cookie": "a=b",
        "Range": "bytes=0-1", "TE": "trailers",
    }  # fmt: skip
    site.send("GET", "/bucket/k", headers)
    (call,) = site.calls.asked
    names = [header.name for header in call.headers]
    assert {"host", "x-amz-meta-a", "user-agent", "accept", "range", "authorization", "x-amz-date"} <= set(names)
    assert not {"connection", "x-hop", "cookie", "te", "x-amz-security-token"} & set(names)
    assert isinstance(call, Call)
    assert site.aws.asked[-1].headers["user-agent"] == "tool/1"
    assert "x-hop" not in site.aws.asked[-1].headers

"""The verifying front: what it refuses, and that without it the local AWS takes it; what it passes on, whole."""

import base64
import hashlib
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from deploy.demo.cloud import Cloud, Seeded, client, root_client, seed
from gateway.wire.secret import Secret
from tests.conftest import Known
from tests.verifying_front import VerifyingFront

ACCOUNT, BUCKET = "222233334444", "verified-data"
WHO: dict[str, Any] = {
    "SourceIdentity": "i-0abc",
    "Tags": [{"Key": "gateway:instance", "Value": "i-0abc"}, {"Key": "gateway:lease", "Value": "1"}],
}
Sender = Callable[[str, dict[str, str], bytes], bytes]


@pytest.fixture(scope="module")
def place(cloud: Cloud, known: Known) -> Seeded:
    """An account of its own, with a role that may write, and whose sessions last two hours at most."""
    made = seed(cloud.endpoint, ACCOUNT, BUCKET)
    known.add(made.secret)
    iam = root_client(cloud.endpoint, "iam", ACCOUNT)
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="reader", PolicyName="writes", PolicyDocument=json.dumps(everything))
    iam.update_role(RoleName="reader", MaxSessionDuration=7200)
    return made


@pytest.fixture
def front(cloud: Cloud) -> Iterator[VerifyingFront]:
    with VerifyingFront(cloud.endpoint) as made:
        yield made


def assume(endpoint: str, place: Seeded, **arguments: Any) -> dict[str, Any]:
    sts = client(endpoint, "sts", place.access_key_id, place.secret)
    answer: dict[str, Any] = sts.assume_role(RoleArn=place.role_arn, RoleSessionName="one", **arguments)["Credentials"]
    return answer


def storage(endpoint: str, given: dict[str, Any]) -> Any:
    return client(endpoint, "s3", given["AccessKeyId"], Secret(given["SecretAccessKey"]), Secret(given["SessionToken"]))


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def put(endpoint: str, given: dict[str, Any], key: str, signed_for: dict[str, str], body: bytes) -> bytes:
    """PUT an object with headers that were signed, and a body that may not be; the status line and the answer."""
    credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    request = AWSRequest("PUT", f"{endpoint}/{BUCKET}/{key}", headers=signed_for, data=b"")
    SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    headers = dict(request.headers.items()) | {"Host": urlsplit(endpoint).netloc, "Connection": "close"}
    head = f"PUT /{BUCKET}/{key} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", int(urlsplit(endpoint).port or 0)), timeout=30) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# What passes


def test_what_is_right_passes_whole(front: VerifyingFront, place: Seeded) -> None:
    s3 = storage(front.endpoint, assume(front.endpoint, place, **WHO))
    for key in ("plain", "a b+c/%2F/../d//é~*", "-"):
        for body in (b"", b"\r\n\r\n0\r\n", bytes(range(256)) * 1024):
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == 256 * 1024
    assert {"plain", "a b+c/%2F/../d//é~*", "-"} <= {
        each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    }
    assert front.refusals == []
    assert [each.fields["SourceIdentity"] for each in front.asked_for("AssumeRole")] == ["i-0abc"]
    assert len(front.keys_used()) == 1


def test_signatures_are_judged_behind(front: VerifyingFront, place: Seeded) -> None:
    """The control: the front signs nothing, so the cloud refuses as ever."""
    liar = client(front.endpoint, "sts", place.access_key_id, Secret("0" * 40))
    assert code_of(liar.get_caller_identity) == "SignatureDoesNotMatch"
    assert front.refusals == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ((b"", b""), None),
        ((b"hello", b"hullo"), b"BadDigest"),
        ((b"5\r\nhello", b"4\r\nhell"), b"IncompleteBody"),
        ((b"0\r\nx-amz", b"x-amz"), b"IncompleteBody"),
    ],
)
def test_aws_chunked_bodies_are_judged_behind(
    front: VerifyingFront, place: Seeded, change: tuple[bytes, bytes], code: bytes | None
) -> None:
    given = assume(front.endpoint, place, **WHO)
    checksum = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big"))
    body = (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + checksum + b"\r\n\r\n").replace(*change, 1)
    answer = put(
        front.endpoint,
        given,
        "aws-chunked",
        {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "Content-Encoding": "aws-chunked",
            "Content-Length": str(len(body)),
            "x-amz-decoded-content-length": "5",
            "x-amz-trailer": "x-amz-checksum-crc32",
        },
        body,
    )
    assert front.refusals == []
    if code is None:
        assert b" 200 " in answer.splitlines()[0]
        assert storage(front.endpoint, given).get_object(Bucket=BUCKET, Key="aws-chunked")["Body"].read() == b"hello"
    else:
        assert code in answer


def test_a_body_in_chunks_of_http_passes(front: VerifyingFront, place: Seeded) -> None:
    given = assume(front.endpoint, place, **WHO)
    body = b"5\r\nhello\r\n0\r\n\r\n"
    signed_for = {"x-amz-content-sha256": hashlib.sha256(b"hello").hexdigest(), "Transfer-Encoding": "chunked"}
    assert b" 200 " in put(front.endpoint, given, "chunks", signed_for, body).splitlines()[0]
    assert storage(front.endpoint, given).get_object(Bucket=BUCKET, Key="chunks")["Body"].read() == b"hello"
    wrong = body.replace(b"hello", b"hullo")
    assert b"XAmzContentSHA256Mismatch" in put(front.endpoint, given, "chunks", signed_for, wrong)


# What does not


def test_a_body_that_was_not_signed_for_is_refused(front: VerifyingFront, cloud: Cloud, place: Seeded) -> None:
    given = assume(front.endpoint, place, **WHO)
    signed_for = {"x-amz-content-sha256": hashlib.sha256(b"mine").hexdigest(), "Content-Length": "4"}
    assert b" 200 " in put(front.endpoint, given, "hex", signed_for, b"mine").splitlines()[0]
    assert b"XAmzContentSHA256Mismatch" in put(front.endpoint, given, "hex", signed_for, b"evil")
    assert storage(front.endpoint, given).get_object(Bucket=BUCKET, Key="hex")["Body"].read() == b"mine"
    assert b" 200 " in put(cloud.endpoint, given, "hex", signed_for, b"evil").splitlines()[0], "the cloud stores it"


@pytest.mark.parametrize(
    "without",
    [
        {"Tags": WHO["Tags"]},
        {"SourceIdentity": "i-0abc"},
        {**WHO, "Tags": WHO["Tags"][:1]},
        {**WHO, "Tags": WHO["Tags"][1:]},
        {**WHO, "Tags": [WHO["Tags"][0], {"Key": "gateway:lease", "Value": ""}]},
    ],
)
def test_a_session_of_nobody_is_refused(
    front: VerifyingFront, cloud: Cloud, place: Seeded, without: dict[str, Any]
) -> None:
    with pytest.raises(ClientError, match="The trust policy asks for"):
        assume(front.endpoint, place, **without)
    assert assume(cloud.endpoint, place, **without), "the cloud gives it"


def test_a_session_longer_than_its_role_allows_is_refused(front: VerifyingFront, cloud: Cloud, place: Seeded) -> None:
    assert assume(front.endpoint, place, DurationSeconds=7200, **WHO)
    with pytest.raises(ClientError, match="MaxSessionDuration"):
        assume(front.endpoint, place, DurationSeconds=7201, **WHO)
    assert assume(cloud.endpoint, place, DurationSeconds=7201, **WHO), "the cloud gives it"


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        ("x${*}y${?}z${$}", None),
        ("${instance.id}", "a template was not filled in"),
        ("${lease.id}", "a template was not filled in"),
        ("${aws:PrincipalTag/team}", "expands no variables"),
        ("${", "expands no variables"),
    ],
)
def test_a_policy_holds_no_variable_but_the_escapes(
    front: VerifyingFront, place: Seeded, resource: str, why: str | None
) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/{resource}"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    if why is None:
        assert assume(front.endpoint, place, Policy=policy, **WHO)
    else:
        with pytest.raises(ClientError, match=why):
            assume(front.endpoint, place, Policy=policy, **WHO)


def test_what_a_source_identity_is_denied_others_are_not(front: VerifyingFront, place: Seeded) -> None:
    one = storage(front.endpoint, assume(front.endpoint, place, **WHO))
    other = storage(front.endpoint, assume(front.endpoint, place, **{**WHO, "SourceIdentity": "i-0def"}))
    with front.denying("i-0abc"):
        assert code_of(one.list_objects_v2, Bucket=BUCKET) == "AccessDenied"
        assert other.list_objects_v2(Bucket=BUCKET)["KeyCount"] > 0
    assert one.list_objects_v2(Bucket=BUCKET)["KeyCount"] > 0

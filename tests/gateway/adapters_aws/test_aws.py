"""The AWS adapter against an AWS that answers whatever a test says: what is sent, what is believed, what is told."""

import functools
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import SSLError

from gateway import ceremonies
from gateway.adapters.aws import Aws
from gateway.core.errors import Refusal
from gateway.core.model import SessionRequest
from gateway.ports import OpenableKey
from gateway.settings import read
from gateway.wire.messages import instant
from gateway.wire.secret import Secret
from tests.end_to_end.door import ListeningDoor, Reply
from tests.gateway.web_server import pki

SECRET = "a-secret-that-is-nowhere-else"
REQUEST = SessionRequest(
    role="arn:aws:iam::111122223333:role/reader",
    region="us-east-1",
    session_name="i-0123456789abcdef0",
    source_identity="i-0123456789abcdef0",
    duration=timedelta(hours=1),
    policy='{"Version":"2012-10-17","Statement":[]}',
    tags={"gateway:instance": "i-0123456789abcdef0", "gateway:lease": "abc"},
)
NOBODY = "http://127.0.0.1:1"
WHO = (
    "<AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/reader/i-0123456789abcdef0</Arn>"
    "<AssumedRoleId>AROA1:i-0123456789abcdef0</AssumedRoleId></AssumedRoleUser>"
)


@pytest.fixture
def door() -> Iterator[ListeningDoor]:
    with ListeningDoor(NOBODY) as made:
        yield made


class Vaulted:
    """A key in a vault, which counts how often it was opened."""

    def __init__(self) -> None:
        self.opened = 0
        self.key = OpenableKey("main", "AKIAIOSFODNN7EXAMPLE", self._open)

    def _open(self) -> Secret:
        self.opened += 1
        return Secret(SECRET)


KEY = Vaulted().key


def session(
    expiration: str | None = "2030-01-02T03:04:05Z", access_key_id: str | None = "ASIA1", more: str = ""
) -> bytes:
    def element(name: str, text: str | None) -> str:
        return "" if text is None else f"<{name}>{text}</{name}>"

    inside = element("AccessKeyId", access_key_id) + element("SecretAccessKey", "s") + element("SessionToken", "t")
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"{inside}{element('Expiration', expiration)}</Credentials>{WHO}</AssumeRoleResult>{more}</AssumeRoleResponse>"
    ).encode()


def error(code: str, message: str = "words of AWS") -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()


def described(instance: str, owner: str = "<ownerId>111122223333</ownerId>") -> bytes:
    return (
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item>'
        f"{owner}<instancesSet>{instance}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
    ).encode()


INSTANCE = (
    "<item><instanceId>i-0123456789abcdef0</instanceId><imageId>ami-1</imageId><instanceState><name>running</name>"
    "</instanceState><privateIpAddress>10.0.0.1</privateIpAddress>"
    "<launchTime>2030-01-02T03:04:05.000Z</launchTime></item>"
)


def refused(call: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value


def test_one_call_with_everything_in_it_signed_by_the_vaulted_key(door: ListeningDoor) -> None:
    vaulted = Vaulted()
    aws = Aws(door.endpoint)
    with door.answering(lambda _: Reply(200, session())):
        answer = aws.session(vaulted.key, REQUEST)
        assert vaulted.opened == 1
        aws.session(vaulted.key, REQUEST)
    assert vaulted.opened == 2, "once for each signature, and not kept"
    assert (answer.access_key_id, instant(answer.expires_at)) == ("ASIA1", "2030-01-02T03:04:05Z")
    asked = door.asked[0]
    assert asked.fields == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": REQUEST.role,
        "RoleSessionName": REQUEST.session_name,
        "SourceIdentity": REQUEST.source_identity,
        "DurationSeconds": "3600",
        "Policy": REQUEST.policy,
        "Tags.member.1.Key": "gateway:instance",
        "Tags.member.1.Value": REQUEST.session_name,
        "Tags.member.2.Key": "gateway:lease",
        "Tags.member.2.Value": "abc",
    }
    assert "Credential=AKIAIOSFODNN7EXAMPLE/" in asked.headers["authorization"]
    assert "/us-east-1/sts/aws4_request" in asked.headers["authorization"]


def test_a_federation_token_has_a_name_and_no_source_identity(door: ListeningDoor) -> None:
    request = replace(
        REQUEST,
        role=None,
        session_name="i-0123456789abcdef0.abcdef012345",
        source_identity=None,
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
    )
    body = (
        session().replace(b"AssumeRole", b"GetFederationToken")
        .replace(WHO.encode(), b"<FederatedUser><Arn>arn:aws:sts::111122223333:federated-user/i-0123456789abcdef0."
                               b"abcdef012345</Arn><FederatedUserId>111122223333:i-0</FederatedUserId></FederatedUser>")
    )  # fmt: skip
    with door.answering(lambda _: Reply(200, body)):
        answer = Aws(door.endpoint).session(KEY, request)
    assert answer.principal == "arn:aws:sts::111122223333:federated-user/i-0123456789abcdef0.abcdef012345"
    fields = door.asked[0].fields
    assert (fields["Action"], fields["Name"]) == ("GetFederationToken", request.session_name)
    assert fields["PolicyArns.member.1.arn"] == "arn:aws:iam::aws:policy/ReadOnlyAccess"
    assert {"RoleArn", "RoleSessionName", "SourceIdentity", "ExternalId"}.isdisjoint(fields)


def test_an_external_id_is_sent_when_the_grant_has_one(door: ListeningDoor) -> None:
    with door.answering(lambda _: Reply(200, session())):
        Aws(door.endpoint).session(KEY, replace(REQUEST, external_id="their-id"))
        Aws(door.endpoint).session(KEY, REQUEST)
    assert [asked.fields.get("ExternalId") for asked in door.asked] == ["their-id", None]


@pytest.mark.threat("D05")
def test_D05_another_time_zone_is_the_same_moment(door: ListeningDoor) -> None:
    with door.answering(lambda _: Reply(200, session("2030-01-02T05:04:05+02:00"))):
        assert instant(Aws(door.endpoint).session(KEY, REQUEST).expires_at) == "2030-01-02T03:04:05Z"


@pytest.mark.threat("D05", "D13")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(session(None), id="no expiration"),
        pytest.param(session(""), id="an empty expiration"),
        pytest.param(session("garbage"), id="a garbled expiration"),
        pytest.param(session("2030-01-02T03:04:05"), id="an expiration without a time zone"),
        pytest.param(session("0001-01-01T00:00:00+14:00"), id="an expiration before all time"),
        pytest.param(session("99999999999999999"), id="an expiration beyond all time"),
        pytest.param(session(access_key_id=None), id="no access key id"),
        pytest.param(session(access_key_id=""), id="an empty access key id"),
        pytest.param(b"<AssumeRoleResponse/>", id="no result"),
        pytest.param(b"<html>words of a proxy</html>", id="a proxy"),
        pytest.param(error("Throttling", "words"), id="an error as success"),
    ],
)
def test_D05_what_is_no_session_is_refused(door: ListeningDoor, body: bytes) -> None:
    with door.answering(lambda _: Reply(200, body)):
        refusal = refused(lambda: Aws(door.endpoint).session(KEY, REQUEST))
    assert (refusal.code, refusal.reason) == ("upstream_refused", "aws_answer_malformed")
    assert "words" not in _everything(refusal)


@pytest.mark.threat("D13", "C19")
@pytest.mark.parametrize(
    ("status", "body", "code", "retry_after"),
    [
        (400, error("Throttling"), "upstream_unavailable", 5),
        (429, error("TooManyRequests"), "upstream_unavailable", 5),
        (500, error("InternalFailure"), "upstream_unavailable", 5),
        (503, error("ServiceUnavailable"), "upstream_unavailable", 5),
        (503, b"words of a load balancer", "upstream_unavailable", 5),
        (200, b'<?xml version="1.0"?><words><of>', "upstream_unavailable", 5),
        (200, b"", "upstream_unavailable", 5),
        (200, b'{"words": 1}', "upstream_unavailable", 5),
        (403, error("AccessDenied"), "upstream_refused", None),
        (403, error("ExpiredToken"), "upstream_refused", None),
        (403, error("words of AWS, and a\nline"), "upstream_refused", None),
        (403, error("x" * 1000), "upstream_refused", None),
        (302, b"words", "upstream_unavailable", 5),
    ],
)
def test_D13_errors_become_later_or_no_and_carry_no_words_of_aws(
    door: ListeningDoor, status: int, body: bytes, code: str, retry_after: int | None
) -> None:
    with door.answering(lambda _: Reply(status, body)):
        refusal = refused(lambda: Aws(door.endpoint).session(KEY, REQUEST))
    assert (refusal.code, refusal.retry_after) == (code, retry_after)
    assert len(door.asked) == 1, "asked once, not again"
    assert "words" not in _everything(refusal)
    assert len(_everything(refusal)) < 400
    assert SECRET not in _everything(refusal)


@pytest.mark.threat("D13")
def test_D13_an_aws_that_hangs_or_is_gone_is_unavailable_within_5_seconds(door: ListeningDoor) -> None:
    aws = Aws(door.endpoint)
    begun = time.monotonic()
    with door.misbehaving(_hang):
        refusal = refused(lambda: aws.session(KEY, REQUEST))
    took = time.monotonic() - begun
    assert (refusal.code, refusal.retry_after) == ("upstream_unavailable", 5)
    with door.misbehaving(
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<Ass")
    ):
        assert refused(lambda: Aws(door.endpoint).account(KEY)).code == "upstream_unavailable"
    assert refused(lambda: Aws(NOBODY).account(KEY)).code == "upstream_unavailable"
    assert took < 5


def test_a_key_that_does_not_open_is_told_as_it_is(door: ListeningDoor) -> None:
    def altered() -> Secret:
        raise Refusal("internal_error", reason="sealed_value_altered")

    refusal = refused(lambda: Aws(door.endpoint).session(OpenableKey("main", "AKIA1", altered), REQUEST))
    assert refusal.reason == "sealed_value_altered"
    assert door.asked == []


def test_an_instance_is_what_aws_says_it_is(door: ListeningDoor) -> None:
    ask = functools.partial(Aws(door.endpoint).instance, KEY, "us-east-1", "i-0123456789abcdef0")
    with door.answering(lambda _: Reply(200, described(INSTANCE))):
        facts = ask()
    assert facts is not None
    assert (facts.account, facts.state, facts.image_id, facts.private_ip) == (
        "111122223333",
        "running",
        "ami-1",
        "10.0.0.1",
    )
    assert facts.launch_time == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    for known_to_nobody in (
        Reply(400, error("InvalidInstanceID.NotFound")),
        Reply(400, error("InvalidInstanceID.Malformed")),
        Reply(200, described("")),
        Reply(200, described(INSTANCE.replace("i-0123456789abcdef0", "i-0fedcba9876543210"))),
        Reply(200, described(INSTANCE + INSTANCE)),
    ):
        with door.answering(lambda _, reply=known_to_nobody: reply):  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert ask() is None
    for no_answer in (
        described(INSTANCE.replace("launchTime", "lunchTime")),
        described(INSTANCE.replace("2030-01-02T03:04:05.000Z", "soon")),
        described(INSTANCE.replace("05.000Z", "05")),
    ):
        with door.answering(lambda _, body=no_answer: Reply(200, body)):  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert refused(ask).reason == "aws_answer_malformed"


DISKS = (
    "<rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item><deviceName>/dev/xvdb</deviceName><ebs>"
    "<attachTime>2031-01-01T00:00:00.000Z</attachTime></ebs></item><item><deviceName>/dev/xvda</deviceName><ebs>"
    "<attachTime>2030-01-02T03:04:06.000Z</attachTime></ebs></item></blockDeviceMapping><networkInterfaceSet><item>"
    "<attachment><deviceIndex>0</deviceIndex><attachTime>2030-01-02T03:04:05.000Z</attachTime></attachment></item>"
    "</networkInterfaceSet></item>"
)


@pytest.mark.threat("A13")
def test_A13_when_root_volume_and_first_interface_were_attached(door: ListeningDoor) -> None:
    ask = functools.partial(Aws(door.endpoint).instance, KEY, "us-east-1", "i-0123456789abcdef0")
    with door.answering(lambda _: Reply(200, described(INSTANCE.removesuffix("</item>") + DISKS))):
        facts = ask()
    assert facts is not None
    assert facts.root_attached == datetime(2030, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert facts.interface_attached == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    with door.answering(lambda _: Reply(200, described(INSTANCE))):
        facts = ask()
    assert facts is not None
    assert (facts.root_attached, facts.interface_attached) == (None, None)


# D12: nobody but our settings says which AWS it is

REAL = "https://sts.eu-west-1.amazonaws.com"


@pytest.mark.threat("D12")
def test_D12_the_environment_redirects_nothing(
    door: ListeningDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = {door.endpoint}\nregion = eu-west-1\n")
    hostile = {
        "AWS_ENDPOINT_URL": door.endpoint,
        "AWS_ENDPOINT_URL_STS": door.endpoint,
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_PROFILE": "nobody",
        "AWS_CA_BUNDLE": str(config),
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "HTTP_PROXY": door.endpoint,
        "HTTPS_PROXY": door.endpoint,
        "REQUESTS_CA_BUNDLE": str(config),
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("AWS_PROFILE")
    control = boto3.session.Session(aws_access_key_id="AKIA1", aws_secret_access_key="x").client("sts")
    assert control.meta.endpoint_url.rstrip("/") == door.endpoint, "the control: this environment does redirect"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    settings = read({"names": ["gateway.example"]}, {})
    client = ceremonies.aws_of(settings)._client(KEY, "sts", "eu-west-1")
    assert client.meta.endpoint_url == REAL
    http = client._endpoint.http_session
    assert http._proxy_config.proxy_url_for(REAL) is None
    assert http._verify is True
    assert door.asked == []


@pytest.mark.threat("D12")
def test_D12_no_bundle_of_the_environment_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pki.make(tmp_path)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with _https(made) as (url, asked):
        keys = {"aws_access_key_id": "AKIA1", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        control = boto3.session.Session(**keys).client("sts", endpoint_url=url)
        try:
            control.get_caller_identity()
        except SSLError:
            pytest.fail("the control: botocore does believe these variables")
        except Exception:
            assert len(asked) >= 1
        asked.clear()
        development = {
            "names": ["gateway.example"],
            "environment": "development",
            "aws": {"endpoint": url},
        }
        refusal = refused(lambda: ceremonies.aws_of(read(development, {})).account(KEY))
        assert (refusal.code, refusal.reason) == ("upstream_unavailable", "SSLError")
        assert asked == []


def _hang(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)  # until the caller gives up


@contextmanager
def _https(made: pki.Pki) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(400)

        def log_message(self, *_: Any) -> None:
            return None

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Who does not trust us hangs up."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.folder / "server.pem")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def _everything(refusal: Refusal) -> str:
    return f"{refusal} {refusal.detail} {refusal.reason} {refusal.context}"

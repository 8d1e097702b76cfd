"""Calls over the wire: a real gateway decides, and the local AWS judges what it signed or carried."""

import base64
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.demo.visitor import Answer, Visitor
from gateway.wire import calls
from tests.end_to_end.crowd import order_ticket
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.gateway.flows.calling import SECRET, request

PROFILE = "caller"


@dataclass
class Caller:
    """An instance that speaks for itself, as an agent does: its certificate, and a dummy key of its grant."""

    visitor: Visitor
    bucket: str
    access_key_id: str
    instance_id: str = ""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def register(self, grant: str) -> Answer:
        return self.visitor.call("POST", "/v1/dummy-keys", calls.DummyKey(grant, self.access_key_id, SECRET))

    def ask(self, call: calls.Call) -> Answer:
        return self.visitor.call("POST", "/v1/signatures", _plain(call))

    def call(self, method: str = "GET", target: str | None = None, **more: Any) -> calls.Call:
        target = target if target is not None else f"/{self.bucket}/reports/2026-10.csv"
        return request(self, method, target, **{"grant": "signed", **more})


def _plain(call: calls.Call) -> dict[str, Any]:
    return {key: value for key, value in asdict(call).items() if value is not None}


def send(signature: dict[str, Any], method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    """What the holder of a signature sends, to the letter."""
    origin = urlsplit(signature["origin"])
    assert origin.hostname is not None
    connection = http.client.HTTPConnection(origin.hostname, origin.port, timeout=10)
    connection.putrequest(method, signature["target"], skip_host=True, skip_accept_encoding=True)
    for header in signature["headers"]:
        connection.putheader(header["name"], header["value"])
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def carry(visitor: Visitor, call: calls.Call, body: bytes = b"") -> tuple[Answer, calls.Answer | None]:
    """POST /v1/calls."""
    answer = visitor.call("POST", "/v1/calls", body, headers={calls.HEAD: calls.in_header(call)})
    told = answer.headers.get(calls.HEAD.lower())
    return answer, calls.from_header(calls.Answer, told) if told else None


def new_key() -> str:
    return "TGDK" + base64.b32encode(os.urandom(10)).decode()


@pytest.fixture
def caller(rough: Rough, tmp_path: Path) -> Iterator[Caller]:
    """A new instance with the two grants `signed` and `carried`."""
    seeded = rough.world.seeded
    bucket = f"arn:aws:s3:::{seeded.bucket}"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{bucket}/reports/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket},
            {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"},
        ],
    }
    path = tmp_path / "caller.toml"
    grants = [
        f'[[grants]]\nname = "{name}"\nrole = "{seeded.role_arn}"\nregion = "{seeded.region}"\n'
        f"deliver = \"{way}\"\npresign = \"5m\"\npolicy = '''{json.dumps(policy)}'''\n"
        for name, way in (("signed", "sign"), ("carried", "proxy"))
    ]
    path.write_text(f'name = "{PROFILE}"\n' + "\n".join(grants))
    rough.world.site.cli("profile", "apply", str(path))
    launched, visitor = rough.world.launch(), rough.world.visitor()
    answer = visitor.enroll(launched.document, order_ticket(rough.operator, profile=PROFILE)["ticket"])
    assert answer.status == 201, answer.body
    made = Caller(visitor, seeded.bucket, new_key(), launched.id)
    assert made.register("signed").status == 201
    yield made
    visitor.close()


# Signed


def test_aws_takes_what_the_gateway_signed(caller: Caller) -> None:
    answer = caller.ask(caller.call(headers=(("range", "bytes=0-3"),)))
    assert (answer.status, answer.body["way"]) == (200, "sign")
    status, body = send(answer.body)
    assert (status, len(body)) == (206, 4)
    forged = {**answer.body, "target": answer.body["target"].replace("2026-10", "2026-11")}
    assert send(forged)[0] == 403


def test_a_presigned_url_works_for_whoever_has_it(caller: Caller) -> None:
    answer = caller.ask(caller.call(presign=60))
    assert answer.status == 200, answer.body
    assert send(answer.body)[0] == 200
    assert caller.ask(caller.call(presign=301)).code == "presign_refused"


@pytest.mark.threat("E02")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"service": "dynamodb"}, "signature_refused"),
        ({"region": "eu-west-1"}, "signature_refused"),
        ({"method": "DELETE"}, "signature_refused"),
        ({"host": "169.254.169.254"}, "call_denied"),
        ({"host": "evil.example"}, "call_denied"),
        ({"host": "s3.us-east-1.amazonaws.com.evil.example"}, "call_denied"),
        ({"grant": "absent"}, "signature_refused"),
        ({"grant": "carried"}, "signature_refused"),
    ],
)
def test_E02_nothing_is_signed_for_what_was_not_asked_for_here(
    rough: Rough, caller: Caller, change: dict[str, Any], code: str
) -> None:
    answer = caller.ask(replace(caller.call(), **change))
    assert (answer.status, answer.code) == (403, code)
    assert "AWS4-HMAC-SHA256" not in json.dumps(answer.body)
    (record,) = rough.world.audit(answer.body["instance"].rpartition(":")[2], kind="decision")
    assert not record["allowed"]


@pytest.mark.threat("E02")
def test_E02_a_request_whose_host_was_not_signed(caller: Caller) -> None:
    call = caller.call()
    headers = tuple(
        replace(header, value=header.value.replace("SignedHeaders=host;", "SignedHeaders="))
        if header.name == "authorization" else header
        for header in call.headers
    )  # fmt: skip
    assert caller.ask(replace(call, headers=headers)).code == "signature_refused"


@pytest.mark.threat("E04")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "127.0.0.1:9913"),
        ("x-amz-date", "20260101T000000Z"),
        ("x-amz-security-token", "one"),
        ("x-amz-target", "DynamoDB_20120810.DeleteTable"),
        ("authorization", "AWS4-HMAC-SHA256 x"),
        ("x-amz-meta-a", "b\r\nx-amz-acl: public-read"),
    ],
)
def test_E04_one_header_too_many(caller: Caller, name: str, value: str) -> None:
    answer = caller.ask(with_header(caller.call(), name, value))
    assert (answer.status, answer.code) == (403, "signature_refused")


@pytest.mark.threat("E04")
def test_E04_a_header_that_is_not_signed_is_not_sent(caller: Caller) -> None:
    answer = caller.ask(with_header(caller.call(), "x-http-method-override", "DELETE"))
    assert answer.status == 200
    assert "x-http-method-override" not in {header["name"] for header in answer.body["headers"]}
    assert send(answer.body)[0] == 200


def with_header(call: calls.Call, name: str, value: str) -> calls.Call:
    """The call with a header that its signature does not know."""
    return replace(call, headers=(*call.headers, calls.Header(name, value)))


@pytest.mark.threat("E04")
@pytest.mark.parametrize("more", ["?acl&tagging", "?versionId=1&versionId=2", "?newsubresource", "?acl=&%61cl="])
def test_E04_a_query_that_can_be_read_twice(caller: Caller, more: str) -> None:
    answer = caller.ask(caller.call(target=f"/{caller.bucket}/reports/2026-10.csv{more}"))
    assert (answer.status, answer.code) == (400, "call_ambiguous")


@pytest.mark.threat("E09")
@pytest.mark.parametrize("algorithm", ["AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA1", "AWS4-HMAC-SHA512", "AWS"])
def test_E09_another_algorithm_is_not_fallen_back_from(caller: Caller, algorithm: str) -> None:
    call = caller.call()
    headers = tuple(
        replace(each, value=each.value.replace("AWS4-HMAC-SHA256", algorithm)) if each.name == "authorization" else each
        for each in call.headers
    )
    answer = caller.ask(replace(call, headers=headers))
    assert (answer.status, answer.code) == (403, "signature_refused")


@pytest.mark.threat("E08")
def test_E08_not_one_signature_after_a_revocation_and_a_record_for_each_before(rough: Rough, caller: Caller) -> None:
    """Six at a time, as fast as they go; the revocation comes in between."""
    certificate, key = caller.visitor.certificate or "", caller.visitor.key
    revoked, stop = threading.Event(), threading.Event()
    given: list[tuple[float, str]] = []
    late: list[str] = []

    def press() -> None:
        visitor = rough.world.visitor()
        visitor.present(certificate, key)
        mine = replace(caller, visitor=visitor)
        while not stop.is_set():
            begun_after = revoked.is_set()
            answer = mine.ask(mine.call())
            if answer.status == 200:
                given.append((time.monotonic(), answer.body["target"]))
                if begun_after:
                    late.append(answer.body["target"])
            elif revoked.is_set():
                assert answer.code == "instance_revoked", answer.body
                break
        visitor.close()

    with ThreadPoolExecutor(6) as pool:
        threads = [pool.submit(press) for _ in range(6)]
        while len(given) < 100:
            time.sleep(0.01)
        rough.world.site.cli("revoke", "instance", caller.instance_id)
        revoked.set()
        for each in threads:
            each.result(30)
        stop.set()
    assert late == []
    subject = next(row for row in rough.world.rows("instance") if row["instance_id"] == caller.instance_id)["id"]
    records = [
        each for each in rough.world.audit(name="instance:call:sign", kind="decision", subject=subject)
        if each["allowed"]
    ]  # fmt: skip
    assert len(records) == len(given)
    assert all(len(each["facts"]["canonical_sha256"]) == 64 for each in records)


# Carried


def test_what_is_carried_comes_back_as_aws_said_it(rough: Rough, caller: Caller) -> None:
    caller.access_key_id = new_key()
    assert caller.register("carried").status == 201
    answer, head = carry(caller.visitor, caller.call(grant="carried"))
    assert head is not None, answer.body
    assert (answer.status, head.status) == (200, 200)
    fields = {header.name: header.value for header in head.headers}
    assert int(fields["content-length"]) == int(answer.headers["content-length"])
    missing, head = carry(caller.visitor, caller.call(grant="carried", target=f"/{caller.bucket}/reports/none"))
    assert head is not None
    assert head.status == 404
    assert b"NoSuchKey" in (missing.body if isinstance(missing.body, bytes) else str(missing.body).encode())
    refused, head = carry(caller.visitor, caller.call(grant="carried", target=f"/{caller.bucket}/payroll/2026-11.csv"))
    assert (head, refused.status, refused.code) == (None, 403, "call_denied")


@pytest.mark.threat("F01")
@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "127.0.0.1", "localhost", "0", "2130706433", "0x7f000001", "017700000001", "metadata.internal"],
)
def test_F01_no_host_of_the_clients_choice_is_ever_reached(rough: Rough, caller: Caller, host: str) -> None:
    before = len(rough.trap.asked)
    caller.access_key_id = new_key()
    assert caller.register("carried").status == 201
    answer, head = carry(caller.visitor, replace(caller.call(grant="carried"), host=host))
    assert (head, answer.status, answer.code) == (None, 403, "call_denied")
    assert len(rough.trap.asked) == before


@pytest.mark.threat("F04")
@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("PUT", "/{bucket}/reports/x", (("x-amz-copy-source", "/{bucket}/payroll/2026-11.csv"),)),
        ("PUT", "/{bucket}/reports/x", (("x-amz-copy-source", "%2F{bucket}%2Fpayroll%2F2026-11.csv"),)),
        ("PUT", "/{bucket}/reports/x", (("x-amz-acl", "public-read"),)),
        ("PUT", "/{bucket}/reports/x", (("x-amz-tagging", "a=b"),)),
        ("GET", "/{bucket}?policy", ()),
        ("GET", "/{bucket}/reports/2026-10.csv?acl", ()),
        ("GET", "/{bucket}/reports/2026-10.csv?torrent", ()),
        ("GET", "/{bucket}/reports/2026-10.csv?versionId=1", ()),
        ("DELETE", "/{bucket}/reports/2026-10.csv", ()),
    ],
)
def test_F04_no_side_door_of_s3(caller: Caller, method: str, target: str, headers: tuple[tuple[str, str], ...]) -> None:
    filled = tuple((name, value.format(bucket=caller.bucket)) for name, value in headers)
    answer = caller.ask(caller.call(method, target.format(bucket=caller.bucket), headers=filled))
    assert (answer.status, answer.code) == (403, "call_denied")


@pytest.mark.threat("F04")
@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/{bucket}/reports/../payroll/2026-11.csv", ()),
        ("GET", "/{bucket}/reports/%2e%2e/payroll/2026-11.csv", ()),
        ("GET", "/{bucket}%2Fpayroll/2026-11.csv", ()),
        ("POST", "/{bucket}", (("content-type", "multipart/form-data; boundary=x"),)),
    ],
)
def test_F04_no_target_of_s3_in_two_readings(
    caller: Caller, method: str, target: str, headers: tuple[tuple[str, str], ...]
) -> None:
    answer = caller.ask(caller.call(method, target.format(bucket=caller.bucket), headers=headers))
    assert (answer.status, answer.code) == (400, "call_ambiguous")


@pytest.mark.threat("F04")
def test_F04_each_key_of_a_deletion_is_decided(caller: Caller) -> None:
    body = b"<Delete><Object><Key>reports/a</Key></Object><Object><Key>payroll/2026-11.csv</Key></Object></Delete>"
    answer = caller.ask(caller.call("POST", f"/{caller.bucket}?delete", body=body))
    assert (answer.status, answer.code) == (403, "call_denied")


@pytest.mark.threat("F02")
def test_F02_a_signature_of_the_clients_own_is_no_way_in(caller: Caller) -> None:
    call = replace(caller.call(), target=f"/{caller.bucket}/reports/2026-10.csv?X-Amz-Signature=0&X-Amz-Expires=60")
    assert caller.ask(call).code in ("signature_refused", "malformed_request", "call_malformed")
    answer = caller.ask(caller.call(headers=(("cookie", "a=b"), ("proxy-authorization", "Basic x"))))
    names = {header["name"] for header in answer.body.get("headers", [])}
    assert "proxy-authorization" not in names


# Decoys


def test_a_stolen_dummy_key_is_noticed_elsewhere_without_a_certificate_and_after_the_revocation(
    rough: Rough, caller: Caller
) -> None:
    def misuses() -> list[str]:
        return [
            each["reason"] for each in rough.world.audit(name="instance:key:misuse")
            if each["object"] == f"key/{caller.access_key_id}"
        ]  # fmt: skip

    assert misuses() == []
    _, thief = rough.enrolled()
    assert thief.call("POST", "/v1/signatures", _plain(caller.call())).status == 403
    nobody = rough.world.visitor()
    assert nobody.call("POST", "/v1/signatures", _plain(caller.call())).code == "certificate_required"
    rough.world.site.cli("revoke", "instance", caller.instance_id)
    assert caller.ask(caller.call()).code == "instance_revoked"
    assert sorted(misuses()) == sorted(
        ["dummy_key_elsewhere", "dummy_key_without_identity", "dummy_key_without_identity"]
    )

"""Vending, against an AWS that enforces: what is asked of it, what leaves the gateway, and what never does."""

import functools
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.demo.cloud import client, prefix_policy
from deploy.demo.visitor import Answer, Visitor
from gateway.adapters import clock
from gateway.wire.messages import CredentialsRequest, instant, parse_instant
from gateway.wire.secret import Secret
from tests.end_to_end.door import Reply
from tests.end_to_end.host import processes
from tests.end_to_end.receipts import sessions
from tests.end_to_end.rough import Rough, rough_fixture  # noqa: F401  # a fixture
from tests.end_to_end.world import GRANT, OTHER_GRANT, OTHER_PROFILE, PROFILE, World

SECRETS = ("secret_access_key", "session_token", "SecretAccessKey", "SessionToken")


def vend(visitor: Visitor, grant: str = GRANT, **more: Any) -> Answer:
    return visitor.call("POST", "/v1/credentials", CredentialsRequest(grant, **more))


def s3(world: World, answer: Answer) -> Any:
    """A client with what was vended."""
    body = answer.body
    keys = body["access_key_id"], Secret(body["secret_access_key"]), Secret(body["session_token"])
    return client(world.cloud.endpoint, "s3", *keys)


def denied(call: Any, **arguments: Any) -> bool:
    """Does the cloud itself refuse?"""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return bool(refused.value.response["Error"]["Code"] == "AccessDenied")


def refused(rough: Rough, answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A refusal: its one record, and nothing of a session in it. After it, who is well is served."""
    assert (answer.status, answer.code) == (status, code), answer
    assert not any(name in json.dumps(answer.body) for name in SECRETS)
    *before, record = rough.world.audit(answer.body["instance"])
    assert [(each["kind"], each["allowed"]) for each in before] in ([], [("decision", True), ("intent", True)])
    assert (record["kind"], record["allowed"]) == ("outcome" if before else "decision", False)
    assert record["facts"]["code"] == code
    return record


# What it is for


def test_the_cloud_gives_what_the_grant_allows_and_refuses_the_rest(rough: Rough) -> None:
    world = rough.world
    reports, payroll = world.seeded.prefixes
    bucket = world.seeded.bucket
    for profile, grant, allowed, other in (
        (PROFILE, GRANT, reports, payroll),
        (OTHER_PROFILE, OTHER_GRANT, payroll, reports),
    ):
        _, visitor = rough.enrolled(profile)
        storage = s3(world, vend(visitor, grant))
        assert storage.list_objects_v2(Bucket=bucket, Prefix=allowed)["KeyCount"] > 0
        assert storage.get_object(Bucket=bucket, Key=f"{allowed}2026-11.csv")["Body"].read() == b"month,total\n"
        assert denied(storage.list_objects_v2, Bucket=bucket, Prefix=other)
        assert denied(storage.get_object, Bucket=bucket, Key=f"{other}2026-11.csv")
        assert denied(storage.put_object, Bucket=bucket, Key=f"{allowed}mine", Body=b"")


def test_aws_is_asked_once_for_exactly_this_instance_and_grant(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    calls = len(rough.door.asked)
    begun = clock.now()
    answer = vend(visitor)
    assert answer.status == 200
    assert len(rough.door.asked) == calls + 1
    asked = rough.door.asked[-1]
    policy = json.loads(prefix_policy(world.seeded.bucket, world.seeded.prefixes[0]))
    assert json.loads(asked.fields["Policy"]) == policy
    assert {k: v for k, v in asked.fields.items() if k != "Policy"} == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": world.seeded.role_arn,
        "RoleSessionName": launched.id,
        "SourceIdentity": launched.id,
        "DurationSeconds": "3600",
        "Tags.member.1.Key": "gateway:instance",
        "Tags.member.1.Value": launched.id,
        "Tags.member.2.Key": "gateway:lease",
        "Tags.member.2.Value": answer.body["lease"],
    }
    assert f"Credential={world.seeded.access_key_id}/" in asked.headers["authorization"]
    assert timedelta(minutes=59) < parse_instant(answer.body["expiration"]) - begun < timedelta(minutes=61)
    (lease,) = world.rows("lease", id=answer.body["lease"])
    assert (lease["access_key_id"], lease["session_name"]) == (answer.body["access_key_id"], launched.id)
    records = world.audit(name="instance:credentials:vend", object=f"grant/{GRANT}", subject=lease["instance"])
    assert [(each["kind"], each["allowed"]) for each in records] == [
        ("decision", True),
        ("intent", True),
        ("outcome", True),
    ]
    assert records[0]["facts"]["lease"] == records[2]["facts"]["lease"] == lease["id"]


@pytest.mark.threat("D06")
def test_D06_less_time_may_be_asked_for_and_never_more(rough: Rough) -> None:
    _, visitor = rough.enrolled()
    assert vend(visitor, duration=900).status == 200
    assert rough.door.asked[-1].fields["DurationSeconds"] == "900"
    calls = len(rough.door.asked)
    assert refused(rough, vend(visitor, duration=3601), 403, "grant_refused")["reason"] == "duration"
    for odd in (0, -1, 899, 43201, "900", 900.5, True, "９００", " 900\n", "9_00"):
        answer = visitor.call("POST", "/v1/credentials", {"grant": GRANT, "duration": odd})
        refused(rough, answer, 400, "malformed_request")
    assert len(rough.door.asked) == calls


@pytest.mark.threat("D01")
def test_D01_another_profiles_grant_is_refused_and_aws_is_not_asked(rough: Rough) -> None:
    launched, visitor = rough.enrolled()
    _, neighbour = rough.enrolled(OTHER_PROFILE)
    theirs = vend(neighbour, OTHER_GRANT)
    assert theirs.status == 200
    calls = len(rough.door.asked)
    record = refused(rough, vend(visitor, OTHER_GRANT), 403, "grant_refused")
    assert record["subject"].endswith(launched.id)
    assert record["facts"]["grant"] == OTHER_GRANT
    refused(rough, vend(visitor, "nobodys"), 403, "grant_refused")
    smuggled = {"grant": GRANT, "lease": theirs.body["lease"], "role": "arn:aws:iam::111122223333:role/admin"}
    refused(rough, visitor.call("POST", "/v1/credentials", smuggled), 400, "malformed_request")
    assert len(rough.door.asked) == calls
    assert vend(visitor).status == 200


# What AWS may answer


def with_expiration(written: str | None) -> Any:
    """AWS's own answer, with another end."""

    def change(reply: Reply) -> Reply:
        element = "" if written is None else f"<Expiration>{written}</Expiration>"
        body, count = re.subn(rb"<Expiration>[^<]*</Expiration>", element.encode(), reply.body)
        assert count == 1
        return Reply(reply.status, body)

    return change


@pytest.mark.threat("D05")
def test_D05_a_session_of_another_length_is_never_handed_out(rough: Rough) -> None:
    _, visitor = rough.enrolled()
    now = clock.now()
    lies = {
        "absent": None,
        "past": instant(now - timedelta(hours=1)),
        "in 5 s": instant(now + timedelta(seconds=5)),
        "in 10 min": instant(now + timedelta(minutes=10)),
        "in a day": instant(now + timedelta(days=1)),
        "in 100 years": instant(now + timedelta(days=36525)),
        "garbage": "garbage",
        "empty": "",
        "without a time zone": (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S"),
    }
    leases = world_leases(rough.world)
    for what, written in lies.items():
        with rough.door.changing(with_expiration(written)):
            answer = vend(visitor)
        record = refused(rough, answer, 502, "upstream_refused")
        assert record["reason"] in ("session_of_another_length", "aws_answer_malformed"), what
    assert world_leases(rough.world) == leases
    elsewhere = (now + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S+02:00")
    with rough.door.changing(with_expiration(elsewhere)):  # the control: the same moment in another time zone
        assert vend(visitor).body["expiration"] == instant(now + timedelta(hours=1))


def world_leases(world: World) -> int:
    return len(world.rows("lease"))


def says(status: int, code: str) -> Any:
    """An error of AWS's, with words in it."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>words of AWS</Message></Error></ErrorResponse>"
    return lambda asked: Reply(status, body.encode()) if asked.action == "AssumeRole" else None


def hang(connection: socket.socket, _: bytes) -> None:
    """Until whoever asked gives up."""
    connection.recv(1)


@pytest.mark.threat("D13", "C19")
def test_D13_an_aws_that_says_later_or_no_is_quoted_in_nothing(rough: Rough) -> None:
    _, visitor = rough.enrolled()
    for status, code in ((400, "Throttling"), (429, "TooMany"), (500, "InternalFailure"), (503, "ServiceUnavailable")):
        calls = len(rough.door.asked)
        with rough.door.answering(says(status, code)):
            answer = vend(visitor)
        refused(rough, answer, 503, "upstream_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "words" not in json.dumps(answer.body)
        assert len(rough.door.asked) == calls + 1, "asked once"
        asked_again(visitor)
    with rough.door.answering(says(403, "AccessDenied")):
        answer = vend(visitor, duration=900)
    record = refused(rough, answer, 502, "upstream_refused")
    assert "words" not in json.dumps([answer.body, record])
    assert record["facts"]["aws_code"] == "AccessDenied"
    begun = time.monotonic()
    with rough.door.misbehaving(hang):
        answer = vend(visitor, duration=901)
    took = time.monotonic() - begun
    refused(rough, answer, 503, "upstream_unavailable")
    assert took < 10, "AWS has three seconds"
    asked_again(visitor)


def asked_again(visitor: Visitor) -> None:
    """Have something made that is not there yet, until AWS has answered: what failed before is forgotten then."""
    deadline, seconds = time.monotonic() + 10, iter(range(1000, 1100))
    while vend(visitor, duration=next(seconds)).status != 200:
        assert time.monotonic() < deadline, "recovery within 10 s"
        time.sleep(0.2)


@pytest.mark.threat("D13", "D14")
def test_D13_while_sts_throttles_it_is_asked_little_and_what_is_there_is_given(rough: Rough) -> None:
    """Two workers ask for five seconds: without a breaker each request of the crowd would be one more call."""
    _, served = rough.enrolled()
    lease = vend(served).body["lease"]
    crowd = [rough.enrolled()[1] for _ in range(6)]
    over = threading.Event()

    def press(visitor: Visitor) -> list[int]:
        statuses = []
        while not over.is_set():
            answer = vend(visitor)
            statuses.append(answer.status)
            assert answer.code == "upstream_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
        return statuses

    with rough.door.answering(says(400, "Throttling")), ThreadPoolExecutor(len(crowd)) as pool:
        calls = len(rough.door.asked_for("AssumeRole"))
        pressing = [pool.submit(press, visitor) for visitor in crowd]
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            answer = vend(served)
            assert (answer.status, answer.body["lease"]) == (200, lease)
        over.set()
        refused_ones = sum(len(each.result(20)) for each in pressing)
        calls = len(rough.door.asked_for("AssumeRole")) - calls
    assert calls <= 2 * 12, "for each worker: four before it breaks, and one after each pause, which grow"
    assert refused_ones > 2 * calls, "the control: they did press"
    begun = time.monotonic()
    while vend(crowd[0]).status != 200:
        assert time.monotonic() - begun < 10, "recovery within 10 s"
        time.sleep(0.1)
    for visitor in crowd:  # in both workers
        asked_again(visitor)


def test_what_the_cloud_itself_denies_is_refused(rough: Rough) -> None:
    world = rough.world
    document = world.site.folder / "denied.toml"
    policy = prefix_policy(world.seeded.bucket, "x/")
    role = world.seeded.role_arn.replace("role/reader", "role/nobody")
    document.write_text(
        f"name = 'denied'\n[[grants]]\nname = 'all'\nrole = '{role}'\nregion = 'us-east-1'\npolicy = '''{policy}'''\n"
    )
    world.site.cli("profile", "apply", str(document))
    _, visitor = rough.enrolled("denied")
    record = refused(rough, vend(visitor, "all"), 502, "upstream_refused")
    assert (record["reason"], record["facts"]["aws_operation"]) == ("aws_refused", "sts:assume_role")
    assert not world.rows("lease", profile="denied")


# What happens meanwhile


@pytest.mark.threat("B05", "D15")
def test_an_instance_revoked_while_its_session_is_made_gets_nothing_and_the_lease_is_on_record(rough: Rough) -> None:
    world = rough.world
    launched, visitor = rough.enrolled()
    arrived, go_on = threading.Event(), threading.Event()

    def hold(reply: Reply) -> Reply:
        arrived.set()
        assert go_on.wait(10)
        return reply

    with rough.door.changing(hold), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(vend, visitor)
        assert arrived.wait(10)
        receipt = rough.operator.call("POST", f"/v1/revocations/instances/{launched.id}").body
        go_on.set()
        answer = asked.result(10)
    assert sessions(receipt) == []  # AWS had not given it yet
    record = refused(rough, answer, 403, "instance_revoked")
    assert record["reason"] == "revoked_while_vending"
    (lease,) = world.rows("lease", instance=receipt["name"])
    assert lease["id"] == record["facts"]["lease"]
    again = rough.operator.call("POST", f"/v1/revocations/instances/{launched.id}").body
    assert [each["lease"] for each in sessions(again)] == [lease["id"]], "and now the receipt names it"


@pytest.mark.threat("D12")
def test_D12_the_gateways_environment_redirects_nothing(rough: Rough) -> None:
    for pid in processes(rough.world.site):
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert f"AWS_ENDPOINT_URL={rough.trap.endpoint}" in environment, "the control: it is hostile"
        assert f"HTTP_PROXY={rough.trap.endpoint}" in environment
    _, visitor = rough.enrolled()
    assert vend(visitor).status == 200
    assert rough.trap.calls == 0


@pytest.mark.threat("D12")
def test_the_region_of_a_grant_is_one_that_has_the_form_of_one(rough: Rough) -> None:
    """The host of AWS is built from it."""
    world = rough.world
    grant = {
        "name": "all",
        "role": world.seeded.role_arn,
        "policy": prefix_policy(world.seeded.bucket, "x/"),
    }
    apply = functools.partial(rough.operator.call, "PUT", "/v1/profiles/odd")
    for region in ("us-east-1.evil.test/", "us-east-1#", "../", "us-east-1\n", "US-EAST-1", "", "us-east-1@evil"):
        refused(rough, apply({"name": "odd", "grants": [{**grant, "region": region}]}), 400, "profile_invalid")
    assert world.rows("profile", name="odd") == []
    assert apply({"name": "odd", "grants": [{**grant, "region": "us-east-1"}]}).status == 200

"""`ports.Machines`: what every one of them does. By boto3 against an AWS that enforces, and against moto, which knows
more of EC2; and the fake of the flows' tests.
"""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from deploy.demo.cloud import IMAGE, Cloud, Seeded
from gateway.adapters.aws import Aws
from gateway.adapters.aws_machines import PAGE, AwsMachines
from gateway.core.errors import Refusal
from gateway.core.servers import LaunchPlan, MachineOrder, Verb
from gateway.ports import Machines, OpenableKey
from gateway.wire.secret import Secret
from tests.contracts.fake_machines import FakeMachines
from tests.end_to_end.door import Asked, ListeningDoor, Reply

REGION = "us-east-1"
USER_DATA = "#cloud-config\n#trusted-gateway {}\n"
ABSENT = "i-0fedcba9876543210"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines of an account, a key of it, and an image there."""

    machines: Machines
    key: OpenableKey
    account: str
    image: str

    def order(self, token: str | None = None, **tags: str) -> MachineOrder:
        plan = LaunchPlan(self.image, REGION, "t3.micro")
        return MachineOrder(plan, tags, USER_DATA, token or uuid4().hex)


@pytest.fixture
def enforcing(cloud: Cloud, seeded: Seeded) -> Fleet:
    key = OpenableKey("main", seeded.access_key_id, lambda: seeded.secret)
    return Fleet(AwsMachines(Aws(cloud.endpoint)), key, seeded.account, IMAGE)


@pytest.fixture
def broad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with mock_aws():
        ec2: Any = boto3.client("ec2", region_name=REGION)
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        account = str(boto3.client("sts", region_name=REGION).get_caller_identity()["Account"])
        key = OpenableKey("main", "AKIAIOSFODNN7EXAMPLE", lambda: Secret("secret"))
        yield Fleet(AwsMachines(Aws()), key, account, image)


@pytest.fixture
def fake() -> Fleet:
    key = OpenableKey("main", "AKIAIOSFODNN7EXAMPLE", lambda: Secret("secret"))
    return Fleet(FakeMachines("111122223333"), key, "111122223333", IMAGE)


@pytest.fixture(params=["fake", "enforcing", "broad"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    found: Fleet = request.getfixturevalue(request.param)
    return found


def test_a_machine_that_was_ordered_is_there(fleet: Fleet) -> None:
    made, request_id = fleet.machines.run(fleet.key, fleet.order(Name="web", team="a"))
    assert request_id
    found = fleet.machines.one(fleet.key, REGION, made.instance_id)
    assert found is not None
    assert (found.account, found.region, found.image, found.type) == (fleet.account, REGION, fleet.image, "t3.micro")
    assert (found.state, found.name, dict(found.tags)) == ("running", "web", {"Name": "web", "team": "a"})
    assert found.private_ip
    assert abs(datetime.now(UTC) - found.launched_at) < timedelta(minutes=5)
    assert found in fleet.machines.all(fleet.key, REGION)
    assert found.id == f"aws/{fleet.account}/{REGION}/{made.instance_id}"


@pytest.mark.parametrize("instance_id", [ABSENT, "i-nonsense"])
def test_a_machine_that_is_not_there_is_none(fleet: Fleet, instance_id: str) -> None:
    assert fleet.machines.one(fleet.key, REGION, instance_id) is None


def test_each_verb_does_what_it_says(fleet: Fleet) -> None:
    made, _ = fleet.machines.run(fleet.key, fleet.order())

    def state() -> str:
        found = fleet.machines.one(fleet.key, REGION, made.instance_id)
        assert found is not None
        return found.state

    for verb, while_, then in (
        (Verb.STOP, {"stopping", "stopped"}, "stopped"),
        (Verb.START, {"pending", "running"}, "running"),
        (Verb.REBOOT, {"running"}, "running"),
        (Verb.TERMINATE, {"shutting-down", "terminated"}, "terminated"),
    ):
        done = fleet.machines.change(fleet.key, REGION, made.instance_id, verb)
        assert done.state in while_
        assert done.request_id
        assert state() == then


@pytest.mark.parametrize("verb", list(Verb))
def test_nothing_is_done_to_a_machine_that_is_not_there(fleet: Fleet, verb: Verb) -> None:
    with pytest.raises(Refusal) as caught:
        fleet.machines.change(fleet.key, REGION, ABSENT, verb)
    assert (caught.value.code, caught.value.context["aws_code"]) == ("upstream_refused", "InvalidInstanceID.NotFound")
    assert caught.value.context["aws_request_id"]


def test_the_same_token_never_makes_a_second_machine(fake: Fleet) -> None:
    """AWS: "Ensuring idempotency". Neither of the local ones does it, so that theirs is only sent (see below)."""
    first, _ = fake.machines.run(fake.key, fake.order("token"))
    again, _ = fake.machines.run(fake.key, fake.order("token"))
    other, _ = fake.machines.run(fake.key, fake.order("another"))
    assert first.instance_id == again.instance_id != other.instance_id


@pytest.mark.parametrize("which", ["fake", "broad"])  # the enforcing one has no such operation
def test_the_output_is_what_was_written(request: pytest.FixtureRequest, which: str) -> None:
    fleet: Fleet = request.getfixturevalue(which)
    made, _ = fleet.machines.run(fleet.key, fleet.order())
    assert isinstance(fleet.machines.output(fleet.key, REGION, made.instance_id).text, str)
    with pytest.raises(Refusal):
        fleet.machines.output(fleet.key, REGION, ABSENT)


def test_the_enforcing_one_wants_the_right(cloud: Cloud, enforcing: Fleet) -> None:
    liar = OpenableKey("main", enforcing.key.access_key_id, lambda: Secret("0" * 40))
    with pytest.raises(Refusal) as caught:
        enforcing.machines.run(liar, enforcing.order())
    assert caught.value.code == "upstream_refused"


# What is sent, and what is believed


@pytest.fixture
def door() -> Iterator[ListeningDoor]:
    with ListeningDoor("http://127.0.0.1:1") as made:
        yield made


KEY = OpenableKey("main", "AKIAIOSFODNN7EXAMPLE", lambda: Secret("secret"))


def _described(*ids: str, token: str = "") -> bytes:
    items = "".join(
        f"<item><ownerId>111122223333</ownerId><instancesSet><item><instanceId>{each}</instanceId><instanceState>"
        "<code>16</code><name>running</name></instanceState><launchTime>2030-01-02T03:04:05Z</launchTime></item>"
        "</instancesSet></item>"
        for each in ids
    )
    more = f"<nextToken>{token}</nextToken>" if token else ""
    name, xmlns = "DescribeInstancesResponse", "http://ec2.amazonaws.com/doc/2016-11-15/"
    return f'<{name} xmlns="{xmlns}"><reservationSet>{items}</reservationSet>{more}</{name}>'.encode()


def test_every_page_is_read(door: ListeningDoor) -> None:
    def page(asked: Asked) -> Reply:
        first = "NextToken" not in asked.fields
        return Reply(
            200, _described("i-0000000000000001" if first else "i-0000000000000002", token="x" if first else "")
        )

    with door.answering(page):
        found = AwsMachines(Aws(door.endpoint)).all(KEY, REGION)
    assert [each.instance_id for each in found] == ["i-0000000000000001", "i-0000000000000002"]
    assert [asked.fields.get("MaxResults") for asked in door.asked] == [str(PAGE)] * 2


def test_a_list_without_end_is_refused(door: ListeningDoor) -> None:
    with door.answering(lambda _: Reply(200, _described(token="x"))), pytest.raises(Refusal) as caught:
        AwsMachines(Aws(door.endpoint)).all(KEY, REGION)
    assert (caught.value.code, caught.value.reason) == ("upstream_refused", "machines_too_many")


def test_an_order_says_all_that_it_has_to(door: ListeningDoor) -> None:
    plan = LaunchPlan("ami-0123456789abcdef0", REGION, "t3.micro", "subnet-0123abcd", ("sg-0123abcd",))
    order = MachineOrder(plan, {"Name": "web"}, USER_DATA, "a-token")
    with door.answering(lambda _: Reply(500, b"")), pytest.raises(Refusal) as caught:
        AwsMachines(Aws(door.endpoint)).run(KEY, order)
    assert caught.value.code == "upstream_unavailable"
    (asked,) = door.asked  # and it is not sent twice
    sent = asked.fields
    assert base64.b64decode(sent.pop("UserData")).decode() == USER_DATA
    assert sent == {
        "Action": "RunInstances", "Version": "2016-11-15", "ImageId": plan.image, "InstanceType": "t3.micro",
        "MinCount": "1", "MaxCount": "1", "ClientToken": "a-token", "SubnetId": "subnet-0123abcd",
        "SecurityGroupId.1": "sg-0123abcd", "MetadataOptions.HttpTokens": "required",
        "TagSpecification.1.ResourceType": "instance", "TagSpecification.1.Tag.1.Key": "Name",
        "TagSpecification.1.Tag.1.Value": "web",
    }  # fmt: skip
    assert "a-token" not in repr(order)


@pytest.mark.parametrize("body", [b"<DescribeInstancesResponse/>", _described("i-0000000000000001").replace(b"Z", b"")])
def test_an_answer_that_is_not_whole_is_refused(door: ListeningDoor, body: bytes) -> None:
    with door.answering(lambda _: Reply(200, body)), pytest.raises(Refusal) as caught:
        AwsMachines(Aws(door.endpoint)).all(KEY, REGION)
    assert caught.value.reason == "aws_answer_malformed"

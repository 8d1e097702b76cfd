"""`ports.Cloud` and `ports.Upstream` by boto3, against an AWS that enforces and against moto, which has breadth only.

What both say is what the adapter may rely on. Nothing about security is shown by the second.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from deploy.demo.cloud import IMAGE, Cloud, Seeded, prefix_policy
from gateway.adapters.aws import Aws
from gateway.core.errors import Refusal
from gateway.core.model import SessionRequest
from gateway.ports import OpenableKey
from gateway.wire.secret import Secret

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Account:
    """An account, a key of it, a role that the key may assume, and an instance that runs."""

    aws: Aws
    key: OpenableKey
    account: str
    role: str
    instance_id: str


def _policy() -> str:
    return prefix_policy("demo-data", "reports/")


@pytest.fixture
def enforcing(cloud: Cloud, seeded: Seeded) -> Account:
    key = OpenableKey("main", seeded.access_key_id, lambda: seeded.secret)
    running = cloud.run_instance()
    return Account(Aws(cloud.endpoint), key, seeded.account, seeded.role_arn, running.instance_id)


@pytest.fixture
def broad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with mock_aws():
        ec2: Any = boto3.client("ec2", region_name=REGION)
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        run = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
        account = str(boto3.client("sts", region_name=REGION).get_caller_identity()["Account"])
        role = f"arn:aws:iam::{account}:role/reader"
        key = OpenableKey("main", "AKIAIOSFODNN7EXAMPLE", lambda: Secret("secret"))
        yield Account(Aws(), key, account, role, run["Instances"][0]["InstanceId"])


@pytest.fixture(params=["enforcing", "broad"])
def account(request: pytest.FixtureRequest) -> Account:
    found: Account = request.getfixturevalue(request.param)
    return found


def test_a_key_is_of_its_account(account: Account) -> None:
    assert account.aws.account(account.key) == account.account


def test_an_instance_that_runs_is_described(account: Account) -> None:
    facts = account.aws.instance(account.key, REGION, account.instance_id)
    assert facts is not None
    assert (facts.account, facts.region, facts.instance_id) == (account.account, REGION, account.instance_id)
    assert facts.state == "running"
    assert facts.image_id.startswith("ami-")
    assert facts.private_ip
    assert abs(datetime.now(UTC) - facts.launch_time) < timedelta(minutes=5)


@pytest.mark.parametrize("instance_id", ["i-0fedcba9876543210", "i-nonsense"])
def test_an_instance_that_aws_does_not_know_is_none(account: Account, instance_id: str) -> None:
    assert account.aws.instance(account.key, REGION, instance_id) is None


def test_a_session_has_all_that_an_sdk_needs(account: Account) -> None:
    request = SessionRequest(
        role=account.role,
        region=REGION,
        session_name="i-0123456789abcdef0",
        source_identity="i-0123456789abcdef0",
        duration=timedelta(minutes=15),
        policy=_policy(),
        tags={"gateway:instance": "i-0123456789abcdef0", "gateway:lease": "abc"},
    )
    given = account.aws.session(account.key, request)
    assert given.access_key_id
    assert given.secret_access_key
    assert given.session_token
    assert given.principal.endswith(":assumed-role/" + account.role.rpartition("/")[2] + "/i-0123456789abcdef0")
    left = given.expires_at - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


def test_the_enforcing_one_refuses_a_wrong_secret(enforcing: Account) -> None:
    liar = OpenableKey("main", enforcing.key.access_key_id, lambda: Secret("0" * 40))
    with pytest.raises(Refusal) as caught:
        enforcing.aws.account(liar)
    assert caught.value.code == "upstream_refused"


def test_the_image_of_the_enforcing_one_is_the_one_that_was_asked_for(enforcing: Account) -> None:
    facts = enforcing.aws.instance(enforcing.key, REGION, enforcing.instance_id)
    assert facts is not None
    assert facts.image_id == IMAGE

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.errors import Refusal
from gateway.core.lease import choose_grant, plan_session
from gateway.core.profile import parse_duration, read
from tests.gateway.core.rows import INSTANCE

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}],
}
ROLE = "arn:aws:iam::111122223333:role/reports"


def grant(**change: Any) -> dict[str, Any]:
    return {"name": "reports", "role": ROLE, "region": "us-east-1", "policy": json.dumps(POLICY, indent=2)} | change


def document(**change: Any) -> dict[str, Any]:
    return {"name": "web", "grants": [grant()]} | change


def test_a_profile_is_read_with_its_defaults() -> None:
    rules = read(document(), source_address=True)
    assert rules.upstream == "main"
    assert rules.attestation.source_address
    assert rules.attestation.max_age == timedelta(hours=1)
    assert rules.grants["reports"].duration == timedelta(hours=1)
    assert not read(document(attestation={"source_address": False}), source_address=True).attestation.source_address
    assert not read(document(), source_address=False).attestation.source_address
    assert not rules.attestation.root_volume
    assert read(document(attestation={"root_volume": True}), source_address=True).attestation.root_volume


def policy(**change: Any) -> dict[str, Any]:
    return document(grants=[grant(policy=json.dumps(POLICY | change))])


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({}, "name: is missing"),
        (document(grants=[]), "allows nothing"),
        (document(name="Web"), "name: does not have"),
        (document(extra=1), "extra: is not known"),
        (document(grants=[grant(), grant()]), "stands twice"),
        (document(grants=[grant(duration="14m")]), "15m to 12h"),
        (document(grants=[grant(duration="13h")]), "15m to 12h"),
        (document(grants=[grant(duration="1 hour")]), "duration: does not have"),
        (document(grants=[grant(role="arn:aws:iam::1:role/x")]), "role: does not have"),
        (document(grants=[grant(region="us-east-1.evil.test/")]), "region: does not have"),
        (document(grants=[grant(policy="{")]), "not JSON"),
        (document(grants=[grant(policy='{"Version":"2012-10-17","Statement":[],"Statement":[]}')]), "a key twice"),
        (document(grants=[grant(policy=" " * 2049)]), "too long"),
        (policy(Version="2008-10-17"), "Version"),
        (policy(Statement=[]), "at least one Statement"),
        (policy(Statement=[{"Effect": "allow", "Action": "*", "Resource": "*"}]), "needs an Effect"),
        (policy(Statement=[{"Effect": "Allow", "Resource": "*"}]), "needs an Action"),
        (policy(Statement=[POLICY["Statement"][0] | {"Principal": "*"}]), "Principal"),
        (document(attestation={"max_age": "soon"}), "max_age: does not have"),
    ],
)
def test_faults_are_named(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(wrong, source_address=True)
    assert caught.value.code == "profile_invalid"
    assert fault in (caught.value.detail or "")


def test_a_session_carries_the_instance_and_never_lasts_longer_than_its_grant() -> None:
    rules = read(document(), source_address=True)
    session = plan_session(INSTANCE, choose_grant(rules, "reports"), None, "lease-1")
    assert session.session_name == session.source_identity == "i-0abc0abc"
    assert session.tags == {"gateway:instance": "i-0abc0abc", "gateway:lease": "lease-1"}
    assert session.policy == json.dumps(POLICY, separators=(",", ":"))
    assert session.duration == timedelta(hours=1)
    assert plan_session(INSTANCE, rules.grants["reports"], 900, "l").duration == timedelta(minutes=15)
    with pytest.raises(Refusal) as caught:
        plan_session(INSTANCE, rules.grants["reports"], 3601, "l")
    assert caught.value.reason == "duration"


def test_a_grant_that_the_profile_has_not_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        choose_grant(read(document(), source_address=True), "payroll")
    assert caught.value.code == "grant_refused"


@pytest.mark.parametrize("written", ["", "0s", "1", "1d", "-1h", "1.5h", "１h", "1h\n"])
def test_durations_have_one_form(written: str) -> None:
    with pytest.raises(ValueError, match="written like"):
        parse_duration(written)
    assert parse_duration("90m") == timedelta(minutes=90)

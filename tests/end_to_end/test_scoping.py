"""What a grant says is what its session can do, exactly: asked of an AWS that enforces, through the verifying front.

What is asked of AWS is compared field by field; what comes of it is tried with the session itself. That a session's end
is its end takes 15 minutes to see: the long run in tests/clients does.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from deploy.demo.cloud import ACCOUNT, REGION, Cloud, Seeded, client, prefix_policy
from deploy.demo.ec2_document import DocumentAuthority
from deploy.demo.visitor import Answer, Visitor
from gateway.adapters import clock
from gateway.wire.messages import CredentialsRequest, instant
from gateway.wire.secret import Secret
from tests.conftest import Known
from tests.end_to_end.crowd import order_ticket, wait_until
from tests.end_to_end.world import Launched, World
from tests.end_to_end.world import world as make_world
from tests.verifying_front import Request, VerifyingFront

NAME = "scoping"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{NAME}"
MANAGED = f"arn:aws:iam::{ACCOUNT}:policy/{NAME}"
OPEN_SESAME = "open:sesame"
BUCKET = "demo-data"
REPORTS, PAYROLL = "reports/2026-11.csv", "payroll/2026-11.csv"


@dataclass
class Scope:
    """A gateway with an upstream key `scoping`, before which the front stands, and what a test does there."""

    world: World
    front: VerifyingFront
    operator: Visitor
    access_key_id: str

    def grant(self, *, profile: str = NAME, **fields: Any) -> None:
        """Apply a profile with one grant, `it`."""
        whole = {"name": "it", "region": REGION, "role": ROLE, "external_id": OPEN_SESAME, **fields}
        whole = {name: value for name, value in whole.items() if value is not None}
        document = {"name": profile, "upstream": NAME, "grants": [whole]}
        answer = self.operator.call("PUT", f"/v1/profiles/{profile}", document)
        assert answer.status == 200, answer.body

    def instance(self, *, profile: str = NAME, tags: dict[str, str] | None = None) -> tuple[Launched, Visitor]:
        """An enrolled one."""
        launched, visitor = self.world.launch(), self.world.visitor()
        if tags:
            pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
            self.world.cloud.root("ec2").create_tags(Resources=[launched.id], Tags=pairs)
        answer = visitor.enroll(launched.document, order_ticket(self.operator, profile=profile)["ticket"])
        assert answer.status == 201, answer.body
        return launched, visitor

    def s3(self, answer: Answer) -> Any:
        """A client with what was vended."""
        assert answer.status == 200, answer.body
        keys = Secret(answer.body["secret_access_key"]), Secret(answer.body["session_token"])
        return client(self.front.endpoint, "s3", answer.body["access_key_id"], *keys)

    def put(self, key: str) -> str:
        """An object, by the root of the account; its key."""
        self.world.cloud.root("s3").put_object(Bucket=BUCKET, Key=key, Body=b"here\n")
        return key

    @property
    def asked(self) -> Request:
        """The last session that was asked for."""
        actions = ("AssumeRole", "GetFederationToken")
        return [request for request in self.front.asked if request.fields.get("Action") in actions][-1]


@pytest.fixture(scope="module")
def scope(
    tmp_path_factory: pytest.TempPathFactory, cloud: Cloud, seeded: Seeded, authority: DocumentAuthority, known: Known
) -> Iterator[Scope]:
    iam = cloud.root("iam")
    user = iam.create_user(UserName=NAME)["User"]["Arn"]
    key = iam.create_access_key(UserName=NAME)["AccessKey"]
    known.add(Secret(key["SecretAccessKey"]))
    assume = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    knows = {"StringEquals": {"sts:ExternalId": OPEN_SESAME}}
    trust = {"Effect": "Allow", "Principal": {"AWS": user}, "Action": assume[1:]}
    trusts = _policy(trust, {**trust, "Action": assume[0], "Condition": knows})
    iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=trusts)
    reads = _allow(["s3:ListBucket", "s3:GetObject"], f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*")
    iam.put_role_policy(RoleName=NAME, PolicyName="reads", PolicyDocument=_policy(reads))
    federates = _allow(["sts:GetFederationToken", "sts:TagSession", "ec2:DescribeInstances"], "*")
    iam.put_user_policy(
        UserName=NAME, PolicyName="least", PolicyDocument=_policy(_allow(assume, ROLE), federates, reads)
    )
    iam.create_policy(PolicyName=NAME, PolicyDocument=prefix_policy(BUCKET, "reports/"))
    with VerifyingFront(cloud.endpoint) as front:
        folder = tmp_path_factory.mktemp("scoping")
        with make_world(folder, cloud, seeded, authority, endpoint=front.endpoint) as world:
            known.add(world.site.passphrase)
            known.watch(world.site.log)
            world.site.import_key(key["AccessKeyId"], Secret(key["SecretAccessKey"]), NAME)
            made = Scope(world, front, world.operator(), key["AccessKeyId"])
            yield made
            made.operator.close()


@pytest.fixture(autouse=True)
def the_front_refuses_nothing(scope: Scope) -> Iterator[None]:
    """All that the gateway asks is as AWS wants it; a test that means it takes the refusal away."""
    seen = len(scope.front.refusals)
    yield
    scope.world.hang_up()
    assert [str(each) for each in scope.front.refusals[seen:]] == []


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _allow(actions: str | list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}


def _read(key: str) -> str:
    return _policy(_allow("s3:GetObject", f"arn:aws:s3:::{BUCKET}/{key}"))


def vend(visitor: Visitor, **more: Any) -> Answer:
    return visitor.call("POST", "/v1/credentials", CredentialsRequest("it", **more))


def may(s3: Any, key: str) -> bool:
    """Whether this session may read an object that is there."""
    try:
        s3.get_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


# What it may do


@pytest.mark.threat("D01")
def test_a_template_gives_each_instance_its_own_and_no_others(scope: Scope) -> None:
    scope.grant(
        policy=_read("reports/${instance.id}/*"),
        session_name="${profile.name}-${instance.id}",
        tags={"team": "${instance.tags.team}"},
        duration="30m",
    )
    launched, visitor = scope.instance(tags={"team": "blue"})
    other, theirs = scope.instance(tags={"team": "blue"})
    mine, his = (scope.put(f"reports/{each.id}/mine.csv") for each in (launched, other))
    answer = vend(visitor)
    s3 = scope.s3(answer)
    assert {k: v for k, v in scope.asked.fields.items() if k != "Policy"} == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": f"{NAME}-{launched.id}",
        "SourceIdentity": launched.id,
        "ExternalId": OPEN_SESAME,
        "DurationSeconds": "1800",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "blue",
        "Tags.member.2.Key": "gateway:instance",
        "Tags.member.2.Value": launched.id,
        "Tags.member.3.Key": "gateway:lease",
        "Tags.member.3.Value": answer.body["lease"],
    }
    assert json.loads(scope.asked.fields["Policy"]) == json.loads(_read(f"reports/{launched.id}/*"))
    assert scope.asked.credential[0] == scope.access_key_id
    assert (may(s3, mine), may(s3, his), may(s3, REPORTS)) == (True, False, False)
    s3 = scope.s3(vend(theirs))
    assert (may(s3, mine), may(s3, his)) == (False, True)


@pytest.mark.threat("D01")
@pytest.mark.parametrize("team", ["*", "blue*", "b?ue", "$"])
def test_a_tag_with_special_letters_widens_nothing(scope: Scope, team: str) -> None:
    scope.grant(policy=_read("reports/team-${instance.tags.team}"))
    there = [scope.put(f"reports/team-{each}") for each in ("blue", "bXue", "")]
    _, visitor = scope.instance(tags={"team": team})
    s3 = scope.s3(vend(visitor))
    escaped = re.sub(r"([*?$])", r"${\1}", team)
    assert f'reports/team-{escaped}"' in scope.asked.fields["Policy"]
    assert [may(s3, key) for key in there] == [False, False, False]
    _, visitor = scope.instance(tags={"team": "blue"})
    assert [may(scope.s3(vend(visitor)), key) for key in there] == [True, False, False], "the control"


@pytest.mark.threat("D01")
@pytest.mark.parametrize("team", ["blue/../../payroll", 'blue","arn:aws:s3:::demo-data/payroll/*', None])
def test_a_tag_that_leads_out_or_is_not_there_gives_nothing(scope: Scope, team: str | None) -> None:
    scope.grant(policy=_read("reports/${instance.tags.team}/*"))
    _, visitor = scope.instance(tags={"team": team} if team else None)
    calls = len(scope.front.asked)
    answer = vend(visitor)
    assert (answer.status, answer.code) == (403, "grant_refused")
    assert len(scope.front.asked) == calls, "AWS was not asked"


def test_what_is_narrowed_is_what_both_policies_allow(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"))
    _, visitor = scope.instance()
    older = "reports/2026-10.csv"
    asked_for = _policy(_allow("s3:*", f"arn:aws:s3:::{BUCKET}/{REPORTS}", f"arn:aws:s3:::{BUCKET}/payroll/*"))
    s3 = scope.s3(vend(visitor, policy=asked_for))
    assert [may(s3, key) for key in (REPORTS, older, PAYROLL)] == [True, False, False]
    assert "payroll" not in scope.asked.fields["Policy"]
    s3 = scope.s3(vend(visitor))
    assert [may(s3, key) for key in (REPORTS, older, PAYROLL)] == [True, True, False], "the control: the grant's own"
    calls = len(scope.front.asked)
    answer = vend(visitor, policy=_read("payroll/*"))
    assert (answer.status, answer.code) == (400, "policy_refused")
    assert len(scope.front.asked) == calls, "AWS was not asked"


def test_a_managed_policy_is_asked_for_and_holds(scope: Scope) -> None:
    scope.grant(policy_arns=[MANAGED])
    _, visitor = scope.instance()
    s3 = scope.s3(vend(visitor))
    assert scope.asked.fields["PolicyArns.member.1.arn"] == MANAGED
    assert "Policy" not in scope.asked.fields
    assert (may(s3, REPORTS), may(s3, PAYROLL)) == (True, False)


def test_a_session_that_is_bound_to_an_address_works_from_there_only(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"), bind="public_ip")
    _, away = scope.instance()
    with _public_address(scope.front, "127.0.0.1"):
        _, here = scope.instance()
    assert may(scope.s3(vend(here)), REPORTS)
    assert _last_statement(scope)["Condition"]["NotIpAddress"] == {"aws:SourceIp": "127.0.0.1"}
    assert not may(scope.s3(vend(away)), REPORTS)
    assert _last_statement(scope)["Condition"]["NotIpAddress"]["aws:SourceIp"].startswith("54.")


def test_a_session_does_not_outlast_the_time_of_its_grant(scope: Scope) -> None:
    closes = clock.now().replace(microsecond=0) + timedelta(seconds=20)
    scope.grant(policy=_read("reports/*"), conditions={"not_after": instant(closes)})
    _, visitor = scope.instance()
    s3 = scope.s3(vend(visitor))
    assert _last_statement(scope)["Condition"] == {"DateGreaterThanEquals": {"aws:CurrentTime": instant(closes)}}
    assert may(s3, REPORTS)
    wait_until(closes + timedelta(seconds=1))
    assert not may(s3, REPORTS)
    assert vend(visitor).code == "grant_refused"


def test_a_federation_token_is_narrowed_as_a_role_is(scope: Scope) -> None:
    scope.grant(role=None, external_id=None, federation=True, policy=_read("reports/*"))
    launched, visitor = scope.instance()
    answer = vend(visitor)
    s3 = scope.s3(answer)
    asked = scope.asked.fields
    assert (asked["Action"], asked["DurationSeconds"]) == ("GetFederationToken", "3600")
    assert asked["Name"] == f"{launched.id}.{answer.body['lease'][:12]}"
    assert scope.asked.tags == {"gateway:instance": launched.id, "gateway:lease": answer.body["lease"]}
    assert (may(s3, REPORTS), may(s3, PAYROLL)) == (True, False)


# What AWS no longer gives


def test_a_role_without_its_external_id_is_refused(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"), external_id=None)
    _, visitor = scope.instance()
    answer = vend(visitor)
    assert (answer.status, answer.code) == (502, "upstream_refused")
    assert "ExternalId" not in scope.asked.fields


def test_a_session_longer_than_its_role_allows_is_an_error_that_says_so(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"), duration="2h")
    _, visitor = scope.instance()
    answer = vend(visitor)
    assert (answer.status, answer.code) == (502, "upstream_refused")
    assert "MaxSessionDuration" in str(scope.front.refusals.pop())
    record = scope.world.audit(answer.body["instance"])[-1]
    assert record["facts"]["aws_code"] == "ValidationError"
    assert vend(visitor, duration=3600).status == 200, "the control: what the role allows"


def test_sessions_from_before_a_moment_can_be_denied(scope: Scope) -> None:
    """AWS: "Revoking IAM role temporary security credentials": a Deny on aws:TokenIssueTime."""
    scope.grant(policy=_read("reports/*"))
    (_, one), (_, two) = scope.instance(), scope.instance()
    old = scope.s3(vend(one))
    assert may(old, REPORTS)
    moment = clock.now().replace(microsecond=0) + timedelta(seconds=1)
    wait_until(moment)
    denial = {"Effect": "Deny", "Action": "*", "Resource": "*",
              "Condition": {"DateLessThan": {"aws:TokenIssueTime": instant(moment)}}}  # fmt: skip
    iam = scope.world.cloud.root("iam")
    iam.put_role_policy(RoleName=NAME, PolicyName="AWSRevokeOlderSessions", PolicyDocument=_policy(denial))
    try:
        assert not may(old, REPORTS)
        wait_until(moment + timedelta(seconds=1))
        assert may(scope.s3(vend(two)), REPORTS), "the control: a newer session"
    finally:
        iam.delete_role_policy(RoleName=NAME, PolicyName="AWSRevokeOlderSessions")


def test_one_instance_can_be_denied_by_its_source_identity(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"))
    (launched, one), (_, two) = scope.instance(), scope.instance()
    mine, his = scope.s3(vend(one)), scope.s3(vend(two))
    with scope.front.denying(launched.id):
        assert (may(mine, REPORTS), may(his, REPORTS)) == (False, True)
    assert may(mine, REPORTS)


def test_an_upstream_key_that_is_inactive_is_an_error_that_says_so(scope: Scope) -> None:
    scope.grant(policy=_read("reports/*"))
    (_, one), (_, two) = scope.instance(), scope.instance()
    iam = scope.world.cloud.root("iam")
    set_to = partial(iam.update_access_key, UserName=NAME, AccessKeyId=scope.access_key_id)
    set_to(Status="Inactive")
    try:
        answer = vend(one)
        assert (answer.status, answer.code) == (502, "upstream_refused")
        record = scope.world.audit(answer.body["instance"])[-1]
        assert (record["reason"], record["facts"]["aws_code"]) == ("aws_refused", "InvalidClientTokenId")
        assert "upstream key" in answer.body["hint"]
    finally:
        set_to(Status="Active")
    assert may(scope.s3(vend(two)), REPORTS), "the control"
    assert may(scope.s3(vend(one)), REPORTS), "and nothing stays of it"


def _last_statement(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scope.asked.fields["Policy"])["Statement"][-1]
    assert found["Effect"] == "Deny"
    return found


@contextmanager
def _public_address(front: VerifyingFront, address: str) -> Iterator[None]:
    """Meanwhile DescribeInstances says that every instance has this public address."""

    def written(match: "re.Match[bytes]") -> bytes:
        return f"<ipAddress>{address}</ipAddress>".encode().ljust(len(match[0]))  # as long as it was

    def changed(connection: Any, request: bytes) -> None:
        heard = BytesIO()
        front.forward(cast(Any, _Sending(heard.write)), request)
        connection.sendall(re.sub(rb"<ipAddress>[^<]*</ipAddress>", written, heard.getvalue()))

    with front.misbehaving(changed):
        yield


@dataclass(frozen=True)
class _Sending:
    sendall: Callable[[bytes], Any]

"""Profiles: what is read, and every fault by its name."""

import json
from datetime import UTC, datetime, time, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.core.conditions import Conditions, Hours
from gateway.core.errors import Refusal
from gateway.core.profile import normal, read
from gateway.core.profile_document import parse_duration
from gateway.core.rate import parse_rate

ALLOW: dict[str, Any] = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
LEASED = {"Resource": "arn:aws:s3:::b/${lease.id}"}
POLICY: dict[str, Any] = {"Version": "2012-10-17", "Statement": [ALLOW]}
ROLE = "arn:aws:iam::111122223333:role/reports"
READER = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def grant(**change: Any) -> dict[str, Any]:
    made = {"name": "reports", "role": ROLE, "region": "us-east-1", "policy": json.dumps(POLICY, indent=2)} | change
    return {key: value for key, value in made.items() if value is not None}


def document(*grants: Any, **change: Any) -> dict[str, Any]:
    return {"name": "web", "grants": [*grants] or [grant()]} | change


def of(**change: Any) -> dict[str, Any]:
    """A profile whose one grant is changed."""
    return document(grant(**change))


def policy(**change: Any) -> dict[str, Any]:
    return of(policy=json.dumps(POLICY | change))


def statement(**change: Any) -> dict[str, Any]:
    made = {key: value for key, value in (ALLOW | change).items() if value is not None}
    return policy(Statement=[made])


def condition(operator: str, value: Any, key: str = "aws:x") -> dict[str, Any]:
    return statement(Condition={operator: {key: value}})


def conditions(**asked: Any) -> dict[str, Any]:
    return of(conditions=asked)


def test_a_profile_is_read_with_its_defaults() -> None:
    rules = read(document(), source_address=True)
    assert rules.upstream == "main"
    assert rules.attestation.source_address
    assert rules.attestation.max_age == timedelta(hours=1)
    assert not read(document(attestation={"source_address": False}), source_address=True).attestation.source_address
    assert not read(document(), source_address=False).attestation.source_address
    assert not rules.attestation.root_volume
    assert read(document(attestation={"root_volume": True}), source_address=True).attestation.root_volume
    one = rules.grants["reports"]
    assert (one.duration, one.session_name, one.tags, one.bind) == (timedelta(hours=1), "${instance.id}", {}, None)
    assert one.conditions == Conditions()
    assert one.doors == ("container", "imds", "process", "sessions", "vault")
    assert one.users == ()


def test_how_its_calls_go() -> None:
    one = read(document(grant()), source_address=True).grants["reports"]
    assert (one.deliver.ways, one.presign, one.unsigned_payload, one.limits) == (("token",), None, False, None)
    assert read(document(grant(deliver="proxy")), source_address=True).grants["reports"].deliver.ways == ("proxy",)
    written = grant(
        deliver={"default": "sign", "token": ["s3:Get*"]}, presign="15m", unsigned_payload=True,
        limits={"requests": "100/minute", "bytes": "5GB/hour", "actions": {"s3:ListBucket": "10/minute"}},
    )  # fmt: skip
    one = read(document(written), source_address=True).grants["reports"]
    assert one.deliver.ways == ("token", "sign")
    assert one.deliver.way(["s3:GetObject"]) == "token"
    assert (one.presign, one.unsigned_payload) == (timedelta(minutes=15), True)
    assert one.limits is not None
    assert (one.limits.requests, one.limits.bytes) == (parse_rate("100/minute"), parse_rate("5GB/hour"))
    ((name, pattern, rate),) = one.limits.actions
    assert (name, bool(pattern.fullmatch("S3:listbucket")), rate) == ("s3:ListBucket", True, parse_rate("10/minute"))


def test_all_of_it_is_read() -> None:
    written = grant(
        policy_arns=[READER], duration="12h", session_name="web-${instance.id}", external_id="x:1", bind="vpc",
        source_identity="${instance.id}", tags={"team": "${instance.tags.team}"}, doors=["file"], users=["app"],
        conditions={
            "source_addresses": ["10.0.0.0/8", "2001:db8::/32"], "not_before": "2026-01-01T00:00:00Z",
            "not_after": "2027-01-01T00:00:00Z", "instance_tags": {"env": "prod"}, "attestation": ["root_volume"],
            "attested_within": "24h", "hours": {"start": "22:00", "end": "06:30", "days": ["mon", "tue"]},
        },
    )  # fmt: skip
    one = read(document(written), source_address=True).grants["reports"]
    assert (one.duration, one.external_id, one.bind, one.users) == (timedelta(hours=12), "x:1", "vpc", ("app",))
    assert (one.policy, one.policy_arns, one.tags) == (POLICY, (READER,), {"team": "${instance.tags.team}"})
    assert one.conditions == Conditions(
        source_addresses=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        hours=Hours(("mon", "tue"), time(22), time(6, 30)),
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2027, 1, 1, tzinfo=UTC),
        instance_tags={"env": "prod"},
        attestation=("root_volume",),
        attested_within=timedelta(days=1),
    )


@pytest.mark.parametrize(
    "written",
    [
        of(duration="900s"),
        of(duration="720m"),
        of(policy=POLICY),
        of(policy={"Version": "2012-10-17", "Id": "mine", "Statement": ALLOW}),
        of(policy=None, policy_arns=[READER]),
        of(policy_arns=[f"arn:aws:iam::111122223333:policy/p{i}" for i in range(10)]),
        of(role=None, federation=True),
        of(role="arn:aws-us-gov:iam::111122223333:role/path/to/r+=,.@-_"),
        of(policy=json.dumps(POLICY) + " " * 4000),  # white space does not count
        of(tags={f"k{i}": "" for i in range(48)}),
        of(tags={"k" * 128: "v" * 256, "a b": "é _.:/=+-@"}),
        of(session_name="${lease.id}"),
        of(session_name="${instance.tags.Cost Center}.${instance.id}"),
        statement(Action=["s3:Get*", "S3:?et", "*", "execute-api:Invoke"]),
        statement(Resource=["arn:aws:s3:::b/*", "arn:*:iam::aws:policy/*", "arn:aws:sqs:*:111122223333:q", "*"]),
        statement(Resource="arn:aws:s3:::b/${aws:PrincipalTag/team, 'none'}/${*}"),
        statement(Resource="arn:aws:sqs:${instance.region}:${instance.account}:${instance.tags.team}-${lease.id}"),
        statement(Action=None, NotAction="iam:*", Effect="Deny"),
        statement(Resource=None, NotResource="arn:aws:s3:::b"),
        statement(Sid="One1"),
        policy(Statement=[ALLOW | {"Sid": "None"}, ALLOW, ALLOW | {"Sid": "Other"}]),
        condition("StringEquals", ["a", "${instance.tags.team}"]),
        condition("ForAllValues:StringLikeIfExists", "*", "aws:TagKeys"),
        condition("Null", "true", "aws:RequestTag/Cost Center"),
        condition("Bool", True),
        condition("NumericLessThan", [1, 2.5, "3", "-4.5"]),
        condition("DateLessThan", ["2026-11-23T08:00:00Z", "2026-11-23", "1795420800"]),
        condition("NotIpAddress", ["10.0.0.1/8", "2001:db8::1"]),
        conditions(hours={"start": "00:00", "end": "23:59"}),
        conditions(source_addresses=["192.0.2.1"]),
        conditions(),
    ],
)
def test_what_is_valid(written: dict[str, Any]) -> None:
    assert len(read(written, source_address=True).grants) == 1


@pytest.mark.threat("D06", "D11")
@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({}, "name: is missing"),
        ({"name": "web"}, "grants: a profile without a grant allows nothing"),
        (document(grants=[]), "grants: a profile without a grant allows nothing"),
        (document(grants={}), "grants: must be a list"),
        (document("x"), "grants[0]: must be an object"),
        (document(name="Web"), "name: does not have the required form"),
        (document(name=1), "name: must be a string"),
        (document(extra=1), "extra: is not known here"),
        (document(upstream="Main Key"), "upstream: does not have the required form"),
        (document(grant(), grant()), "grants[1].name: stands twice"),
        (document(attestation={"max_age": "soon"}), "attestation.max_age: does not have the required form"),
        (document(attestation={"max_age": "9000h"}), "attestation.max_age: is longer than a year"),
        (document(attestation={"images": ["x"]}), "attestation.images[0]: does not have the required form"),
        (document(attestation={"source_address": "yes"}), "attestation.source_address: must be true or false"),
        (of(odd=1), ".odd: is not known here"),
        (of(name="A"), ".name: does not have the required form"),
        (of(region="us-east-1.evil.test/"), ".region: does not have the required form"),
        (of(region=None), ".region: is missing"),
        # Durations.
        (of(duration="899s"), ".duration: sessions last from 15m to 12h"),
        (of(duration="13h"), ".duration: sessions last from 15m to 12h"),
        (of(duration="43201s"), ".duration: sessions last from 15m to 12h"),
        *(
            (of(duration=wrong), f".duration: {fault}")
            for fault, forms in (
                ("does not have the required form", ("1 hour", "0s", "-1h", "900", "９００s", " 900s\n", "9_00s")),
                ("must be a string", (900, 900.5, True)),
            )
            for wrong in forms
        ),
        # Who.
        (of(role="arn:aws:iam::1:role/x"), ".role: does not have the required form"),
        (of(role="arn:aws:iam::111122223333:user/x"), ".role: does not have the required form"),
        (of(role="arn:aws:iam::111122223333:role/é"), ".role: does not have the required form"),
        (of(role=None), ".role: a grant is either of a role or a federation token (federation = true)"),
        (of(federation=True), ".role: a grant is either of a role or a federation token (federation = true)"),
        (of(role=None, federation=True, external_id="xx"), ".federation: a federation token has no external_id"
         ", and its name is made of instance and lease"),
        (of(role=None, federation=True, session_name="${lease.id}"), ".federation: a federation token has no "
         "external_id, and its name is made of instance and lease"),
        (of(source_identity="web"), ".source_identity: is always ${instance.id}: CloudTrail and the audit log "
         "are joined by it"),
        (of(session_name="${instance.id} x"), ".session_name: has a letter that AWS does not take: letters, "
         "digits and _+=,.@- are taken"),
        (of(session_name="é-${instance.id}"), ".session_name: has a letter that AWS does not take: letters, "
         "digits and _+=,.@- are taken"),
        (of(session_name="${instance.id}" + "x" * 65), ".session_name: has 65 letters, and AWS takes 64"),
        (of(session_name="web"), ".session_name: needs ${instance.id} or ${lease.id}: a name is of one "
         "instance only"),
        (of(session_name="${instance.id}${aws:x}"), ".session_name: ${aws:x} is none of our templates"),
        (of(session_name="${instance.id"), ".session_name: a ${ has no }"),
        (of(external_id="x"), ".external_id: does not have the required form"),
        # Tags.
        (of(tags={f"k{i}": "" for i in range(49)}), ".tags: AWS takes 50, and two of them are the gateway's: "
         "at most 48"),
        (of(tags={"Team": "", "TEAM": ""}), ".tags.TEAM: stands twice; AWS compares tag keys without case"),
        (of(tags={"aws:x": ""}), ".tags.aws:x: is no key that AWS takes, or is kept for AWS or the gateway"),
        (of(tags={"Gateway:Lease": ""}), ".tags.Gateway:Lease: is no key that AWS takes, or is kept for AWS or"
         " the gateway"),
        (of(tags={"k" * 129: ""}), f".tags.{'k' * 40}: is no key that AWS takes, or is kept for AWS or the "
         "gateway"),
        (of(tags={"\x1b": ""}), ".tags.\\x1b: is no key that AWS takes, or is kept for AWS or the gateway"),
        (of(tags={"": ""}), ".tags.: is no key that AWS takes, or is kept for AWS or the gateway"),
        (of(tags={"a": "v" * 257}), ".tags.a: is no value that AWS takes"),
        (of(tags={"a": "v\n"}), ".tags.a: is no value that AWS takes"),
        (of(tags={"a": "*"}), ".tags.a: is no value that AWS takes"),
        (of(tags={"a": "${instance.name}"}), ".tags.a: ${instance.name} is none of our templates"),
        (of(tags={"a": 12}), ".tags.a: must be a string"),
        (of(tags=["a"]), ".tags: must be an object"),
        # How it is delivered.
        (of(doors=[]), ".doors: a grant that may be delivered in no way is none"),
        (of(doors=["post"]), ".doors[0]: does not have the required form"),
        # How its calls go.
        (of(deliver="post"), ".deliver.default: does not have the required form"),
        (of(deliver={"sign": ["Delete*"]}), ".deliver.sign[0]: does not have the required form"),
        (of(deliver={"by": "sign"}), ".deliver.by: is not known here"),
        (of(deliver="sign", policy=None, policy_arns=[READER]), ".policy: what is signed or carried is decided by it: "
         "policy_arns are not known here"),
        (of(deliver="sign", policy=json.dumps(POLICY | {"Statement": [ALLOW | LEASED]})), ".policy: a call is "
         "decided before there is a lease: ${lease.id} is for tokens only"),
        (of(deliver={"proxy": ["s3:*"]}, bind="vpc"), ".bind: what is carried comes from the gateway's address, not "
         "from the instance's"),
        (of(presign="5m"), ".presign: is of calls that are signed or carried, and all go by token here"),
        (of(limits={"requests": "1/hour"}), ".limits: is of calls that are signed or carried, and all go by token "
         "here"),
        (of(deliver="sign", presign="13h"), ".presign: a URL lives for 12h at most"),
        (of(deliver="sign", limits={"requests": "1/fortnight"}), ".limits.requests: does not have the required form"),
        (of(deliver="sign", limits={"actions": {"GetObject": "1/hour"}}), ".limits.actions.GetObject: must be "
         "service:Action or *"),
        (of(deliver="sign", limits={"actions": {"s3:GetObject": "1"}}), ".limits.actions.s3:GetObject: does not have "
         "the required form"),
        (of(users=["a b"]), ".users[0]: does not have the required form"),
        (of(bind="subnet"), ".bind: does not have the required form"),
        # Conditions.
        (conditions(source_addresses=["10.0.0.1/8"]), ".conditions.source_addresses[0]: must be a network like "
         "10.0.0.0/8, without host bits"),
        (conditions(source_addresses=["x"]), ".conditions.source_addresses[0]: must be a network like "
         "10.0.0.0/8, without host bits"),
        (conditions(not_before="2026-01-01"), ".conditions.not_before: must be written like "
         "2026-11-23T08:00:00Z"),
        (conditions(not_after="2026-13-01T00:00:00Z"), ".conditions.not_after: must be written like "
         "2026-11-23T08:00:00Z"),
        (conditions(not_before="2026-01-01T00:00:00Z", not_after="2026-01-01T00:00:00Z"),
         ".conditions.not_after: is not after not_before"),
        (conditions(hours={"start": "8:00", "end": "18:00"}), ".conditions.hours.start: does not have the "
         "required form"),
        (conditions(hours={"start": "08:00", "end": "24:00"}), ".conditions.hours.end: does not have the "
         "required form"),
        (conditions(hours={"start": "08:00"}), ".conditions.hours.end: is missing"),
        (conditions(hours={"start": "08:00", "end": "18:00", "days": []}), ".conditions.hours.days: no day at "
         "all"),
        (conditions(hours={"start": "08:00", "end": "18:00", "days": ["Mon"]}), ".conditions.hours.days[0]: "
         "does not have the required form"),
        (conditions(attestation=["tpm"]), ".conditions.attestation[0]: does not have the required form"),
        (conditions(attested_within="9000h"), ".conditions.attested_within: is longer than a year"),
        (conditions(weather="fine"), ".conditions.weather: is not known here"),
        (conditions(instance_tags={"a": 1}), ".conditions.instance_tags.a: must be a string"),
        # Policies.
        (of(policy=None), ".policy: a grant needs a policy or policy_arns; to narrow nothing, write that down"),
        (of(policy=""), ".policy: not JSON in UTF-8"),
        (of(policy="{"), ".policy: not JSON in UTF-8"),
        (of(policy="[]"), ".policy: must be an object"),
        (of(policy=1), ".policy: must be a string"),
        (of(policy="\ud800"), ".policy: is not text in UTF-8"),
        (of(policy='{"Statement":[],"Statement":[]}'), ".policy: a key stands twice in one object"),
        (of(policy='{"Version":NaN}'), ".policy: NaN and Infinity are not JSON"),
        (of(policy="[" * 5000), ".policy: nested too deeply"),
        (of(policy=" " * 16385), ".policy: is too long"),
        (of(policy=json.dumps(POLICY), policy_arns=[f"arn:aws:iam::aws:policy/{'x' * 200}{i}" for i in range(9)]),
         ".policy: has 2122 letters with policy_arns, and AWS takes 2048"),
        (of(policy_arns=[f"arn:aws:iam::aws:policy/{i}" for i in range(11)]), ".policy_arns: at most 10, each "
         "once"),
        (of(policy_arns=[READER, READER]), ".policy_arns: at most 10, each once"),
        (of(policy_arns=["arn:aws:iam::444455556666:policy/x"]), ".policy_arns[0]: is of another account than "
         "the role"),
        (of(policy_arns=["x"]), ".policy_arns[0]: does not have the required form"),
        (policy(Version="2008-10-17"), '.policy: Version: must be "2012-10-17"'),
        (policy(Statement=[]), ".policy: Statement: a policy needs at least one"),
        (policy(Id=1), ".policy: Id: must be a string"),
        (policy(Odd=1), ".policy: Odd: is not known here"),
        (policy(Statement="x"), ".policy: Statement[0]: must be an object"),
        (policy(Statement=[ALLOW, None]), ".policy: Statement[1]: must be an object"),
        (policy(Statement=[ALLOW | {"Sid": "A"}, ALLOW | {"Sid": "A"}]), ".policy: Statement[1].Sid: stands "
         "twice"),
        (statement(Sid="a b"), ".policy: Statement[0].Sid: has letters and digits only"),
        (statement(effect="Allow"), ".policy: Statement[0].effect: is not known here"),
        (statement(Effect="allow"), '.policy: Statement[0].Effect: must be "Allow" or "Deny"'),
        (statement(Effect=None), '.policy: Statement[0].Effect: must be "Allow" or "Deny"'),
        (statement(Principal="*"), ".policy: Statement[0]: names a Principal, which a session policy may not"),
        (statement(Action=None), ".policy: Statement[0]: needs either Action or NotAction"),
        (statement(NotAction="s3:*"), ".policy: Statement[0]: needs either Action or NotAction"),
        (statement(Resource=None), ".policy: Statement[0]: needs either Resource or NotResource"),
        (statement(Action=[]), ".policy: Statement[0].Action: an empty list matches nothing"),
        (statement(Action=["s3:*", "s3"]), ".policy: Statement[0].Action[1]: must be service:Action or *"),
        (statement(Action={"s3": 1}), ".policy: Statement[0].Action: must be service:Action or *"),
        (statement(Action="s3:[a-z]"), ".policy: Statement[0].Action: must be service:Action or *"),
        (statement(Action="s3:${aws:username}"), ".policy: Statement[0].Action: must be service:Action or *"),
        (statement(Action="s3:${instance.id}"), ".policy: Statement[0].Action: a template may stand in Resource "
         "and in Condition only"),
        (statement(Resource="bucket"), ".policy: Statement[0].Resource: must be an ARN or *"),
        (statement(Resource="arn:aws:s3"), ".policy: Statement[0].Resource: must be an ARN or *"),
        (statement(Resource="arn:aws:s3:::"), ".policy: Statement[0].Resource: must be an ARN or *"),
        (statement(Resource="arn:aws:s3:::${instance.name}"), ".policy: Statement[0].Resource: ${instance.name}"
         " is none of our templates, and none of IAM's variables"),
        (statement(Resource="arn:aws:s3:::${x"), ".policy: Statement[0].Resource: a ${ has no }"),
        (statement(Condition=[]), ".policy: Statement[0].Condition: must be an object"),
        (condition("StringIs", "a"), ".policy: Statement[0].Condition.StringIs: is no condition operator"),
        (condition("stringEquals", "a"), ".policy: Statement[0].Condition.stringEquals: is no condition "
         "operator"),
        (condition("NullIfExists", "true"), ".policy: Statement[0].Condition.NullIfExists: is no condition "
         "operator"),
        (statement(Condition={"Bool": {}}), ".policy: Statement[0].Condition.Bool: must be an object of "
         "condition keys"),
        (condition("Bool", "true", "nokey"), ".policy: Statement[0].Condition.Bool.nokey: is no condition key"),
        (condition("Bool", "true", "aws:${instance.id}"), ".policy: Statement[0].Condition.Bool."
         "aws:${instance.id}: is no condition key"),
        (statement(Condition={"Bool": {"aws:x": "true", "AWS:X": "true"}}), ".policy: Statement[0].Condition."
         "Bool.AWS:X: stands twice; condition keys know no case"),
        (condition("Bool", "yes"), ".policy: Statement[0].Condition.Bool.aws:x: must be a true or false, or a "
         "list of such"),
        (condition("StringEquals", []), ".policy: Statement[0].Condition.StringEquals.aws:x: must be a string, "
         "or a list of such"),
        (condition("StringEquals", [["a"]]), ".policy: Statement[0].Condition.StringEquals.aws:x: must be a "
         "string, or a list of such"),
        (condition("NumericEquals", "1e3"), ".policy: Statement[0].Condition.NumericEquals.aws:x: must be a "
         "number, or a list of such"),
        (condition("NumericEquals", True), ".policy: Statement[0].Condition.NumericEquals.aws:x: must be a "
         "number, or a list of such"),
        (condition("DateLessThan", "soon"), ".policy: Statement[0].Condition.DateLessThan.aws:x: must be a "
         "date, or a list of such"),
        (condition("IpAddress", "10.0.0.0/33"), ".policy: Statement[0].Condition.IpAddress.aws:x: must be a "
         "address, or a list of such"),
    ],
)  # fmt: skip
def test_each_fault_is_named(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(wrong, source_address=True)
    assert caught.value.code == "profile_invalid"
    assert (f"grants[0]{fault}" if fault.startswith(".") else fault) in caught.value.faults
    assert caught.value.detail == "; ".join(caught.value.faults)


def test_a_policy_that_just_fits() -> None:
    def of_length(length: int) -> dict[str, Any]:
        without = len(json.dumps({**POLICY, "Id": ""}, separators=(",", ":")))
        return of(policy=json.dumps({**POLICY, "Id": "x" * (length - without)}, indent=4))

    assert read(of_length(2048), source_address=True)
    with pytest.raises(Refusal, match="has 2049 letters"):
        read(of_length(2049), source_address=True)


def test_all_faults_are_named_at_once() -> None:
    """A field of the wrong form hides only what depends on it."""
    wrong = grant(name="A", duration="13h", session_name="x", tags={"aws:x": "", "b": 1}, conditions={"not_after": "x"})
    broken = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW, {"Effect": "allow", "Action": "x"}]})
    with pytest.raises(Refusal) as caught:
        read(
            document(wrong | {"policy": broken}, grant(region=1, doors=[]), attestation={"max_age": "9000h"}, odd=1),
            source_address=True,
        )
    assert sorted(caught.value.faults) == [
        "attestation.max_age: is longer than a year",
        "grants[0].conditions.not_after: must be written like 2026-11-23T08:00:00Z",
        "grants[0].duration: sessions last from 15m to 12h",
        "grants[0].name: does not have the required form",
        "grants[0].policy: Statement[1].Action: must be service:Action or *",
        'grants[0].policy: Statement[1].Effect: must be "Allow" or "Deny"',
        "grants[0].policy: Statement[1]: needs either Resource or NotResource",
        "grants[0].session_name: needs ${instance.id} or ${lease.id}: a name is of one instance only",
        "grants[0].tags.b: must be a string",
        "grants[1].doors: a grant that may be delivered in no way is none",
        "grants[1].region: must be a string",
        "odd: is not known here",
    ]


def test_a_policy_is_the_same_however_it_is_written() -> None:
    as_text, as_table = normal(of()), normal(of(policy=POLICY))
    assert as_text == as_table
    assert as_text["grants"][0]["policy"] == json.dumps(POLICY, separators=(",", ":"))
    assert normal(as_text) == as_text
    assert normal(of(policy="{")) == of(policy="{")
    for odd in ({}, {"grants": 1}, {"grants": [1, {"policy": 1}]}):
        assert normal(odd) == odd


def test_a_table_that_is_nested_as_deep_as_nothing_should_be() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(Refusal, match="policy: not JSON"):
        read(of(policy=deep), source_address=True)
    while deep:
        deep = deep.pop("a")


@pytest.mark.parametrize("written", ["", "0s", "1", "1d", "-1h", "1.5h", "１h", "1h\n"])
def test_durations_have_one_form(written: str) -> None:
    with pytest.raises(ValueError, match="written like"):
        parse_duration(written)
    assert parse_duration("90m") == timedelta(minutes=90)


LAUNCH: dict[str, Any] = {"image": "ami-0123456789abcdef0", "region": "eu-central-1", "type": "t3.micro"}


def test_a_launch_is_read_and_left_out_is_none() -> None:
    assert read(of(), source_address=True).launch is None
    plan = read(of() | {"launch": LAUNCH | {"tags": {"team": "a"}}}, source_address=True).launch
    assert plan is not None
    assert (plan.image, plan.region, plan.type) == tuple(LAUNCH.values())
    assert (plan.subnet, plan.security_groups, plan.tags, plan.user_data) == (None, (), {"team": "a"}, "")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image": "ami-x"}, "launch.image: does not have the required form"),
        ({"type": "t3"}, "launch.type: does not have the required form"),
        ({"subnet": "vpc-0123abcd"}, "launch.subnet: does not have the required form"),
        ({"security_groups": ["default"]}, "launch.security_groups[0]: does not have the required form"),
        ({"iam_instance_profile": "admin"}, "launch.iam_instance_profile: is not known here"),
        ({"tags": {"aws:x": "a"}}, "launch.tags: aws:x: is no key that AWS takes"),
        ({"user_data": "#trusted-gateway {}"}, "launch.user_data: a line that begins with #trusted-gateway"),
        ({"user_data": "x" * 15361}, "launch.user_data: is too long"),
        ({"image": "ami-0fedcba9876543210"}, "launch.image: is not among attestation.images"),
        ({"region": "eu-west-1"}, "launch.region: is not among attestation.regions"),
    ],
)
def test_what_is_wrong_with_a_launch_is_named(change: dict[str, Any], fault: str) -> None:
    attested = {"images": [LAUNCH["image"]], "regions": [LAUNCH["region"]]}
    document = of() | {"attestation": attested, "launch": LAUNCH}
    assert read(document, source_address=True).launch is not None  # the control
    with pytest.raises(Refusal) as caught:
        read(document | {"launch": LAUNCH | change}, source_address=True)
    (found,) = caught.value.faults
    assert found.startswith(fault)

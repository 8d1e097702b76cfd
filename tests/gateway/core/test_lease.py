"""What STS is asked for: two plans are the same exactly when the sessions would be, and each names its instance."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.errors import Refusal
from gateway.core.lease import Order, Plan, choose_grant, plan
from gateway.core.model import Instance
from gateway.core.policy.document import LONGEST
from gateway.core.profile import read
from gateway.core.profile_faults import FENCE
from tests.gateway.core.rows import ID, INSTANCE, NOW
from tests.policy_evaluator import Request, allows

ROLE = "arn:aws:iam::111122223333:role/reports"
DATA = "arn:aws:s3:::data/"
LEASE, OTHER_LEASE = "0123456789abcdef" * 2, "fedcba9876543210" * 2
BASE: dict[str, Any] = {
    "name": "web",
    "upstream": "main",
    "grants": [
        {"name": "reports", "role": ROLE, "region": "us-east-1", "duration": "2h", "tags": {"team": "a"},
         "external_id": "x1",
         "policy": json.dumps({"Version": "2012-10-17", "Statement": [
             {"Effect": "Allow", "Action": "s3:*", "Resource": DATA + "*"}]})}
    ],
}  # fmt: skip
KEY = "AKIAIOSFODNN7EXAMPLE of 111122223333"


def written(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def planned(
    document: dict[str, Any] | None = None, *, instance: Instance = INSTANCE, order: Order | None = None,
    key: str = KEY, source: str | None = "10.0.0.1", now: datetime = NOW, **grant: Any,
) -> Plan:  # fmt: skip
    """The plan of the base, with changes; `grant` changes its one grant."""
    base = BASE | (document or {})
    one = {name: value for name, value in (base["grants"][0] | grant).items() if value is not None}
    rules = read(base | {"grants": [one]}, source_address=True)
    order = order or Order(one["name"])
    return plan(instance, rules, choose_grant(rules, order), order, key, source, now)


def refused(**change: Any) -> str:
    with pytest.raises(Refusal) as caught:
        planned(**change).request(LEASE)
    return caught.value.reason


NARROWER = written({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
ELSEWHERE = ID.replace("i-0abc0abc", "i-0abc0abd")
DIFFERENT: dict[str, dict[str, Any]] = {
    "instance": {"instance": replace(INSTANCE, id=ELSEWHERE, instance_id="i-0abc0abd")},
    "instance of another account": {"instance": replace(INSTANCE, id=ID.replace("1111", "2222"))},
    "key of the instance": {"instance": replace(INSTANCE, key_sha256="b" * 64)},
    "enrolment": {"instance": replace(INSTANCE, enrolled_at=NOW - timedelta(seconds=1))},
    "role": {"role": ROLE + "2"},
    "a federation token": {"role": None, "federation": True, "external_id": None},
    "account": {"key": "AKIAIOSFODNN7EXAMPLE of 444455556666"},
    "upstream key": {"key": "AKIAIOSFODNN7EXAMPLF of 111122223333"},
    "name of the upstream key": {"document": {"upstream": "other"}},
    "region": {"region": "us-east-2"},
    "duration": {"duration": "7201s"},
    "duration of the order": {"order": Order("reports", seconds=900)},
    "policy": {"policy": BASE["grants"][0]["policy"].replace("data/", "data/x")},
    "policy of the order": {"order": Order("reports", policy=NARROWER)},
    "managed policies": {"policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]},
    "value of a tag": {"tags": {"team": "b"}},
    "key of a tag": {"tags": {"Team": "a"}},
    "one tag more": {"tags": {"team": "a", "x": ""}},
    "external id": {"external_id": "x2"},
    "no external id": {"external_id": None},
    "session name": {"session_name": "${instance.id}-x"},
    "profile": {"document": {"name": "batch"}},
    "grant": {"name": "other"},
    "end of its time": {"conditions": {"not_after": "2026-12-01T00:00:00Z"}},
}


@pytest.mark.threat("D02")
def test_whatever_differs_makes_another_plan() -> None:
    plans = {what: planned(**change).sha256 for what, change in DIFFERENT.items()}
    plans["nothing"] = planned().sha256
    assert len(set(plans.values())) == len(DIFFERENT) + 1, plans


@pytest.mark.threat("D02")
@pytest.mark.parametrize("what", ["tags", "address"])
def test_what_an_instance_is_makes_another_plan_where_the_grant_speaks_of_it(what: str) -> None:
    claims: dict[str, Any] = {"tags": {"team": "a"}, "public_ip": "192.0.2.1"}
    other: dict[str, Any] = {"tags": {"team": "b"}, "public_ip": "192.0.2.2"}
    grants: dict[str, Any] = {"tags": {"tags": {"team": "${instance.tags.team}"}}, "address": {"bind": "public_ip"}}
    grant: dict[str, Any] = grants[what]
    one, two = (planned(instance=replace(INSTANCE, claims=each), **grant).sha256 for each in (claims, other))
    assert one != two
    one, two = (planned(instance=replace(INSTANCE, claims=each)).sha256 for each in (claims, other))
    assert one == two


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"now": NOW + timedelta(days=1)},
        {"source": "192.0.2.1"},
        {"policy": json.dumps(json.loads(BASE["grants"][0]["policy"]), indent=4)},
        {"order": Order("reports", door="container")},
        {"order": Order("reports", seconds=7200)},
        {"order": Order("reports", seconds=9000, clamp=True)},
        {"doors": ["container"], "users": ["app"]},
        {"conditions": {"source_addresses": ["10.0.0.0/8"]}},
    ],
)
def test_the_same_session_is_the_same_plan(same: dict[str, Any]) -> None:
    assert planned(**same).sha256 == planned().sha256


def test_a_session_carries_its_instance_and_its_lease() -> None:
    asked = planned().request(LEASE)
    assert (asked.role, asked.region, asked.external_id) == (ROLE, "us-east-1", "x1")
    assert asked.session_name == asked.source_identity == "i-0abc0abc"
    assert asked.tags == {"team": "a", "gateway:instance": "i-0abc0abc", "gateway:lease": LEASE}
    assert asked.duration == timedelta(hours=2)
    assert asked.policy == json.dumps(json.loads(BASE["grants"][0]["policy"]), separators=(",", ":"))


@pytest.mark.threat("D07")
def test_names_are_full_and_distinct() -> None:
    """Nothing is cut: a name that would be too long is refused."""
    ids = ["i-0123456789abcdef0", "i-0123456789abcdef1", "i-0123456789abcdef", "i-01234567"]
    room = 64 - len(ids[0])
    names, identities = set(), set()
    for each in ids:
        instance = replace(INSTANCE, id=ID.replace("i-0abc0abc", each), instance_id=each)
        asked = planned(instance=instance, session_name="x" * room + "${instance.id}").request(LEASE)
        assert asked.session_name == "x" * room + each
        names.add(asked.session_name)
        identities.add(asked.source_identity)
    assert (len(names), identities) == (4, set(ids))
    longest = replace(INSTANCE, instance_id=ids[0])
    reason = refused(instance=longest, session_name="x" * room + "-${instance.id}")
    assert reason == "session_name_length"


@pytest.mark.threat("D07")
def test_a_federation_token_is_named_by_instance_and_lease() -> None:
    federated: dict[str, Any] = {"role": None, "federation": True, "external_id": None}
    one = planned(instance=replace(INSTANCE, instance_id="i-0123456789abcdef0"), **federated)
    asked, other = one.request(LEASE), one.request(OTHER_LEASE)
    assert (asked.role, asked.source_identity) == (None, None)
    assert asked.session_name == "i-0123456789abcdef0.0123456789ab"
    assert len(asked.session_name) == 32
    assert other.session_name == "i-0123456789abcdef0.fedcba987654"
    assert asked.tags["gateway:instance"] == "i-0123456789abcdef0"


def test_the_lease_is_in_policy_tags_and_name() -> None:
    policy = written({"Effect": "Allow", "Action": "s3:*", "Resource": DATA + "${lease.id}/*"})
    made = planned(policy=policy, tags={"lease": "${lease.id}"}, session_name="${lease.id}")
    one, other = made.request(LEASE), made.request(OTHER_LEASE)
    assert one.session_name == one.tags["lease"] == LEASE
    assert other.session_name == other.tags["lease"] == OTHER_LEASE
    for asked, mine in ((one, LEASE), (other, OTHER_LEASE)):
        for each in (LEASE, OTHER_LEASE):
            assert allows(asked.policy or "", Request("s3:GetObject", f"{DATA}{each}/x")) == (each == mine)


@pytest.mark.threat("D09")
def test_a_value_that_the_instance_lacks_is_refused() -> None:
    policy = written({"Effect": "Allow", "Action": "s3:*", "Resource": DATA + "${instance.tags.team}/*"})
    for change in ({"policy": policy}, {"tags": {"team": "${instance.tags.team}"}}):
        assert refused(**change) == "template_value_missing"
        assert refused(instance=replace(INSTANCE, claims={"tags": {"team": ""}}), **change) == "template_value_missing"
        assert planned(instance=replace(INSTANCE, claims={"tags": {"team": "a"}}), **change).request(LEASE)


# What ties a session to a place and to a time


@pytest.mark.parametrize(
    ("bind", "fact", "key", "elsewhere"),
    [
        ("public_ip", "192.0.2.1", "aws:sourceip", "192.0.2.2"),
        ("private_ip", "10.0.0.1", "aws:vpcsourceip", "10.0.0.2"),
        ("vpc", "vpc-1", "aws:sourcevpc", "vpc-2"),
    ],
)
def test_a_session_is_tied_to_what_was_attested(bind: str, fact: str, key: str, elsewhere: str) -> None:
    assert refused(bind=bind) == "bind_missing"
    assert refused(bind=bind, instance=replace(INSTANCE, claims={bind: None})) == "bind_missing"
    made = planned(bind=bind, instance=replace(INSTANCE, claims={bind: fact})).request(LEASE).policy
    assert made is not None
    free = planned().request(LEASE).policy
    assert free is not None
    for context, holds in (
        ({key: fact}, True),
        ({key: elsewhere}, False),
        ({}, False),  # no such key, as from outside of every VPC: not tied, so not allowed
        ({key: fact, "aws:viaawsservice": "false"}, True),
        ({key: elsewhere, "aws:viaawsservice": "false"}, False),
        ({key: elsewhere, "aws:viaawsservice": "true"}, True),  # AWS's own address, on behalf of the session
    ):
        asked = Request("s3:GetObject", DATA + "x", context)
        assert allows(made, asked) == holds, context
        assert allows(free, asked)
    assert not allows(made, Request("s3:GetObject", "arn:aws:s3:::other/x", {key: fact}))


def test_a_session_ends_with_its_grants_time() -> None:
    hours = {"start": "08:00", "end": "13:00", "days": ["mon"]}  # NOW is a Monday's noon
    made = planned(conditions={"hours": hours, "not_after": "2026-11-23T14:00:00Z"}).request(LEASE).policy
    assert made is not None
    (end,) = [each for each in json.loads(made)["Statement"] if each["Effect"] == "Deny"]
    assert end == {
        "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-23T13:00:00Z"}},
    }  # fmt: skip
    for moment, holds in (("12:59:59", True), ("13:00:00", False), ("13:30:00", False)):
        asked = Request("s3:GetObject", DATA + "x", {"aws:currenttime": f"2026-11-23T{moment}Z"})
        assert allows(made, asked) == holds
    assert refused(conditions={"hours": hours}, now=NOW + timedelta(hours=1)) == "condition_hours"


def test_managed_policies_alone_are_tied_too() -> None:
    asked = planned(
        policy=None, policy_arns=["arn:aws:iam::aws:policy/x"], conditions={"not_after": "2026-11-24T00:00:00Z"}
    ).request(LEASE)
    assert asked.policy_arns == ("arn:aws:iam::aws:policy/x",)
    assert [each["Effect"] for each in json.loads(asked.policy or "")["Statement"]] == ["Deny"]
    assert planned(policy=None, policy_arns=["arn:aws:iam::aws:policy/x"]).request(LEASE).policy is None


# What an order may change


@pytest.mark.threat("D08")
def test_an_order_narrows_and_never_widens() -> None:
    tied: dict[str, Any] = {"bind": "public_ip", "instance": replace(INSTANCE, claims={"public_ip": "192.0.2.1"})}
    wide = written({"Effect": "Allow", "Action": "*", "Resource": "*"})
    for policy, key, holds in (
        (NARROWER, "s3:GetObject", True),
        (NARROWER, "s3:PutObject", False),
        (wide, "s3:PutObject", True),
    ):
        made = planned(order=Order("reports", policy=policy), **tied).request(LEASE).policy
        assert made is not None
        for resource, address in (
            (DATA + "x", "192.0.2.1"),
            (DATA + "x", "192.0.2.2"),
            ("arn:aws:s3:::b/x", "192.0.2.1"),
        ):
            inside = resource.startswith(DATA) and address == "192.0.2.1"
            assert allows(made, Request(key, resource, {"aws:sourceip": address})) == (holds and inside)
    nothing = written({"Effect": "Allow", "Action": "sqs:*", "Resource": "*"})
    assert refused(order=Order("reports", policy=nothing)) == "policy_disjoint"
    arns = ["arn:aws:iam::aws:policy/x"]
    assert refused(order=Order("reports", policy=NARROWER), policy_arns=arns) == "policy_managed"
    assert refused(order=Order("reports", policy=NARROWER), policy=None, policy_arns=arns) == "policy_managed"


@pytest.mark.threat("D09")
def test_an_order_brings_no_templates_of_ours_that_open_anything() -> None:
    policy = written({"Effect": "Allow", "Action": "s3:*", "Resource": DATA + "${instance.tags.team}/*"})
    evil = replace(INSTANCE, claims={"tags": {"team": "*"}})
    made = planned(order=Order("reports", policy=policy), instance=evil).request(LEASE).policy
    assert made is not None
    assert allows(made, Request("s3:GetObject", DATA + "*/x"))
    assert not allows(made, Request("s3:GetObject", DATA + "b/x"))


@pytest.mark.parametrize(
    ("seconds", "clamp", "expected"),
    [
        (None, False, 7200),
        (900, False, 900),
        (7200, False, 7200),
        (7201, False, None),
        (7201, True, 7200),
        (60, True, 900),
    ],
)
def test_durations(seconds: int | None, clamp: bool, expected: int | None) -> None:
    order = Order("reports", seconds=seconds, clamp=clamp)
    if expected is None:
        assert refused(order=order) == "duration"
    else:
        assert planned(order=order).request(LEASE).duration == timedelta(seconds=expected)


def test_what_no_longer_fits_is_refused() -> None:
    """What fits as it is written may not when it is filled in; one that is tied must leave room for that."""
    fill = "x" * (LONGEST - len(planned().request(LEASE).policy or ""))
    exact = BASE["grants"][0]["policy"].replace("data/", f"data/{fill}")
    assert len(planned(policy=exact).request(LEASE).policy or "") == LONGEST
    tied = replace(INSTANCE, claims={"vpc": "vpc-1"})
    assert refused(policy=exact, bind="vpc", instance=tied) == "profile_invalid"
    long = written(
        {"Effect": "Allow", "Action": "s3:*", "Resource": [f"{DATA}${{instance.tags.t}}/{i}" for i in range(30)]}
    )
    assert refused(policy=long, instance=replace(INSTANCE, claims={"tags": {"t": "x" * 200}})) == "policy_too_long"


def test_which_grants_there_are_and_how_they_are_delivered() -> None:
    with pytest.raises(Refusal) as caught:
        planned(order=Order("payroll"))
    assert (caught.value.code, caught.value.reason) == ("grant_refused", "grant_refused")
    assert refused(order=Order("reports", door="file")) == "door"
    assert planned(order=Order("reports", door="file"), doors=["file"])


def test_what_bind_and_time_add_has_room_that_is_kept_for_it() -> None:
    """A profile that was applied is not refused when its sessions are made, for want of some letters."""
    where = {"vpc": "vpc-0123456789abcdef0", "public_ip": "255.255.255.255", "private_ip": "255.255.255.255"}
    instance = replace(INSTANCE, claims={**INSTANCE.claims, **where})
    for bind in where:
        rules = read(_largest(bind), source_address=True)
        found = plan(instance, rules, rules.grants["reports"], Order("reports"), "k", "127.0.0.1", NOW)
        policy = found.request("0" * 32).policy or ""
        assert LONGEST - 2 * FENCE < len(policy) <= LONGEST


def _largest(bind: str) -> dict[str, Any]:
    """The profile whose policy is as long as one may be that binds, and ends."""
    for letters in range(LONGEST, 0, -1):
        resource = f"arn:aws:s3:::{'b' * letters}"
        statement = {"Effect": "Allow", "Action": "*", "Resource": resource}
        document = {
            "name": "web",
            "grants": [
                {
                    "name": "reports",
                    "role": "arn:aws:iam::111122223333:role/reader",
                    "region": "us-east-1",
                    "policy": {"Version": "2012-10-17", "Statement": [statement]},
                    "bind": bind,
                    "conditions": {"not_after": "2099-01-01T00:00:00Z"},
                }
            ],
        }
        try:
            read(document, source_address=True)
        except Refusal:
            continue
        return document
    raise AssertionError("no policy is short enough")

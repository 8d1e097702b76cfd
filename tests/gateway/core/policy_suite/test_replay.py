"""Recorded calls, read strictly; and a candidate held against them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.audit import Kind, Name
from gateway.core.policy.judge import Ask, Judge, Named
from gateway.core.policy.replay import Decide, replay
from gateway.core.policy.traffic import Call, read
from tests.gateway.core.policy_suite.recorded import ACCOUNT, AT, INSTANCE, body, call, event, need

GET, PUT = "s3:GetObject", "s3:PutObject"
KEY = "arn:aws:s3:::data/a"
OTHER = INSTANCE.replace("i-0abc", "i-0def")


def candidate(*statements: dict[str, Any]) -> Decide:
    judge = Judge()
    named = Named("new", {"Version": "2012-10-17", "Statement": list(statements)})

    def decide(_: Call, ask: Ask) -> tuple[str, tuple[str, ...]]:
        decision = judge([named], ask)
        return decision.kind, tuple(decision.statements)

    return decide


def test_a_record_is_read() -> None:
    made = event(
        need(GET, KEY, context={"s3:Prefix": ["a", "b"]}),
        need(None, None),
        context={"aws:SourceIp": "192.0.2.1"},
        needs_total=30,
    )
    found = read(body(made))
    assert found is not None
    assert (found.at, found.instance, found.profile, found.grant, found.operation) == (
        AT, INSTANCE, "web", "reports", "s3:GetObject",
    )  # fmt: skip
    assert found.needs[0].ask == Ask(GET, KEY, {"aws:sourceip": "192.0.2.1", "s3:prefix": ("a", "b")})
    assert found.needs[1].ask == Ask(None, None, {"aws:sourceip": "192.0.2.1"})
    assert found.allowed
    assert not found.whole
    assert found.values() == {"profile.name": "web", "grant.name": "reports", "instance.account": ACCOUNT,
                              "instance.region": "eu-central-1", "instance.id": "i-0abc"}  # fmt: skip
    assert replace(found, instance="spiffe://example.org/machine/x").values() == {
        "profile.name": "web",
        "grant.name": "reports",
    }
    assert not call(need(GET, KEY), need(PUT, KEY, "not_allowed")).allowed


def test_other_records_are_passed_over() -> None:
    made = event(need(GET, KEY))
    assert read(body(replace(made, kind=Kind.OUTCOME))) is None
    assert read(body(replace(made, name=Name.INSTANCE_CREDENTIALS_VEND))) is None
    assert read(body(replace(made, facts={"code": "call_ambiguous"}))) is None
    assert read(body(replace(made, name=Name.INSTANCE_CALL_CARRY))) is not None


@pytest.mark.parametrize(
    "change", [{"needs": 1}, {"needs": [1]}, {"needs": [{}]}, {"profile": None, "needs": [{"action": "a"}]},
               {"context": 1},
               {"needs_total": "many"}],
)  # fmt: skip
def test_a_record_of_a_call_that_is_none_is_an_error(change: dict[str, Any]) -> None:
    made = event(need(GET, KEY))
    with pytest.raises(ValueError, match="not the record of a call"):
        read(body(replace(made, facts={**made.facts, **change})))


def test_what_would_be_refused_is_counted_by_call_and_by_instance() -> None:
    calls = [call(need(GET, KEY)), call(need(PUT, KEY)), call(need(PUT, KEY)), call(need(PUT, KEY), instance=OTHER)]
    report = replay(calls, candidate({"Effect": "Allow", "Action": GET, "Resource": "*"}))
    assert (report.judged, report.refused.calls, report.refused.instances) == (4, 3, 2)
    assert [(each.instance, each.action, each.resource, each.count, each.why) for each in report.refused.changes] == [
        (INSTANCE, PUT, KEY, 2, ()),
        (OTHER, PUT, KEY, 1, ()),
    ]
    assert report.allowed.calls == 0


def test_a_deny_is_named() -> None:
    statements = (
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Sid": "No", "Effect": "Deny", "Action": PUT, "Resource": "*"},
    )
    (change,) = replay([call(need(PUT, KEY))], candidate(*statements)).refused.changes
    assert (change.decision, change.why) == ("denied", ("new, Statement[1] (No)",))


def test_what_would_be_allowed_is_told_too() -> None:
    calls = [
        call(need(GET, KEY), need(PUT, KEY, "not_allowed")),
        call(need(PUT, KEY, "denied"), need(GET, KEY, "not_allowed")),
    ]
    report = replay(calls, candidate({"Effect": "Allow", "Action": ["s3:*"], "Resource": KEY}))
    assert (report.refused.calls, report.allowed.calls, report.allowed.instances) == (0, 2, 1)
    assert {(each.action, each.count) for each in report.allowed.changes} == {(PUT, 2), (GET, 1)}
    report = replay(calls, candidate({"Effect": "Allow", "Action": PUT, "Resource": KEY}))
    assert (report.refused.calls, report.allowed.calls) == (0, 0)  # each still lacks a part


def test_a_call_is_refused_when_any_need_is_and_counts_once() -> None:
    needs = [need("s3:DeleteObject", f"arn:aws:s3:::data/{i}") for i in range(3)]
    report = replay([call(*needs)], candidate({"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::data/0"}))
    assert report.refused.calls == 1
    assert len(report.refused.changes) == 2


def test_a_call_that_was_denied_for_a_need_that_is_not_on_record_was_not_allowed() -> None:
    denied = call(need(GET, KEY), needs_total=25, code="call_denied")
    assert not denied.allowed
    nothing = candidate({"Effect": "Deny", "Action": "*", "Resource": "*"})
    for decide in (candidate({"Effect": "Allow", "Action": "*", "Resource": "*"}), nothing):
        report = replay([denied], decide)
        assert (report.judged, report.partial, report.refused.calls, report.allowed.calls) == (1, 1, 0, 0)
    assert replay([call(need(GET, KEY))], nothing).refused.calls == 1  # the control


def test_what_cannot_be_said_is_counted_apart() -> None:
    report = replay(
        [call(need(GET, KEY)), call(need(PUT, KEY), needs_total=25)],
        lambda call, ask: None if ask.action == GET else ("allowed", ()),
    )
    assert (report.judged, report.partial, report.undecided) == (1, 1, 1)


PATTERNS = st.sampled_from([GET, PUT, "s3:*", "s3:Get*", "*"])
STATEMENTS = st.lists(
    st.fixed_dictionaries({"Effect": st.sampled_from(["Allow", "Deny"]), "Action": PATTERNS,
                           "Resource": st.sampled_from(["*", KEY, "arn:aws:s3:::data/*"])}),
    min_size=1, max_size=3,
)  # fmt: skip
ASKS = st.lists(
    st.tuples(st.sampled_from([GET, PUT, None]), st.sampled_from([KEY, "arn:aws:s3:::data/b", None])),
    min_size=1,
    max_size=3,
)


@given(STATEMENTS, st.lists(ASKS, max_size=5))
def test_the_policy_that_was_in_force_changes_nothing(statements: list[dict[str, Any]], asked: list[list[Any]]) -> None:
    decide = candidate(*statements)
    calls = []
    for asks in asked:
        probe = call(*(need(action, resource) for action, resource in asks))
        needs = [need(a.ask.action, a.ask.resource, (decide(probe, a.ask) or ("", ()))[0]) for a in probe.needs]
        calls.append(call(*needs))
    report = replay(calls, decide)
    assert (report.judged, report.refused.calls, report.allowed.calls) == (len(calls), 0, 0)
    nothing = replay(calls, candidate({"Effect": "Deny", "Action": "*", "Resource": "*"}))
    assert nothing.refused.calls == sum(each.allowed for each in calls)

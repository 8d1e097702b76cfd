"""Why a statement does not match, as the engine has it; and policies whose templates have no value."""

import pytest

from gateway.core.policy.explain import explain
from gateway.core.policy.judge import Ask, Judge, Named, supposing
from gateway.wire.strict import Malformed
from tests.gateway.core.policy_suite.suite import written

POLICY = Named("p.json", {"Version": "2012-10-17", "Statement": [
    {"Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/*",
     "Condition": {"StringEquals": {"aws:username": "alice", "aws:PrincipalTag/Team": "web"}}},
    {"Effect": "Deny", "NotAction": "s3:Get*", "NotResource": "arn:aws:s3:::scratch/*"},
]})  # fmt: skip
USER = {"aws:username": "alice", "aws:PrincipalTag/team": "web"}


def failing(ask: Ask) -> list[tuple[str, ...]]:
    return [each.failing for each in explain([POLICY], ask, Judge())]


def test_each_element_that_does_not_match_is_named() -> None:
    reports = "arn:aws:s3:::reports/a"
    assert failing(Ask("s3:GetObject", reports, USER)) == [(), ("NotAction",)]
    assert failing(Ask("s3:PutObject", "arn:aws:s3:::scratch/a", USER)) == [("Action", "Resource"), ("NotResource",)]
    assert failing(Ask("s3:GetObject", reports, {"aws:username": "bob"}))[0] == (
        "Condition.StringEquals.aws:username (is 'bob')",
        "Condition.StringEquals.aws:PrincipalTag/Team (is not there)",
    )
    assert failing(Ask(None, None, USER)) == [("Action", "Resource"), ()]  # what is unknown, a Deny matches
    names = [(each.name, each.effect) for each in explain([POLICY], Ask("a:b", "*"), Judge())]
    assert names == [("p.json, Statement[0] (Read)", "Allow"), ("p.json, Statement[1]", "Deny")]


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(Malformed):
        explain([Named("x", {"Version": "2012-10-17", "Statement": []})], Ask("a:b", "*"), Judge())


def test_for_every_case_of_the_suite_the_explanation_is_the_decision() -> None:
    judge = Judge()
    for name, case in written():
        if case.expect == "malformed":
            continue
        found = explain(case.policies, case.ask, judge)
        matching = {each.effect for each in found if not each.failing}
        decided = "denied" if "Deny" in matching else "allowed" if "Allow" in matching else "not_allowed"
        assert decided == case.expect, (name, case.place)


def test_templates_are_filled_in_and_what_has_no_value_allows_nothing() -> None:
    statements = [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::d/${instance.id}/*"},
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::d/${instance.tags.a b}/*"},
        {"Effect": "Deny", "Action": "s3:Put*", "Resource": "arn:aws:s3:::d/${instance.tags.a b}/*"},
    ]
    grant = Named("grant g", {"Version": "2012-10-17", "Statement": statements})
    judge = Judge()

    named, missing = supposing(grant, {"instance.id": "i-1"})
    assert missing == {"instance.tags.a b"}
    assert judge([named], Ask("s3:GetObject", "arn:aws:s3:::d/i-1/x")).kind == "allowed"
    assert judge([named], Ask("s3:PutObject", "arn:aws:s3:::d/i-1/x")).kind == "denied"
    named, missing = supposing(grant, {"instance.tags.a b": "*"})
    assert missing == {"instance.id"}
    assert judge([named], Ask("s3:GetObject", "arn:aws:s3:::d/i-1/x")).kind == "not_allowed"  # a star is a star
    assert judge([named], Ask("s3:GetObject", "arn:aws:s3:::d/*/x")).kind == "allowed"
    named, missing = supposing(grant, {"instance.id": "i-1", "instance.tags.a b": "a/b"})
    assert missing == {"instance.tags.a b"}  # a value that would be refused is none

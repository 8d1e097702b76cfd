"""Expectations as a document: what holds for what, every fault told, and what an outcome says."""

from typing import Any

import pytest

from gateway.core.policy import expectations
from gateway.core.policy.judge import Ask, Judge, Named
from gateway.wire.strict import Malformed

READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/*"}
REPORTS = "arn:aws:s3:::reports/a"
FILES = {"a.json": Named("a.json", {"Version": "2012-10-17", "Statement": [READ]})}


def load(name: str) -> list[Named]:
    if name not in FILES:
        raise Malformed(f"{name}: is not there")
    return [FILES[name]]


def read(**document: Any) -> tuple[expectations.Case, ...]:
    return expectations.read(document, load)


def faults(document: object) -> list[str]:
    with pytest.raises(Malformed) as refused:
        expectations.read(document, load)
    return list(refused.value.faults)


TEXTS, NO_POLICY = "must be a text, or a list of such", "has no policy, and nothing above has"
CASE = {"action": "s3:GetObject", "resource": REPORTS, "expect": "allowed"}


def test_what_stands_above_holds_below_until_it_is_said_otherwise() -> None:
    cases = read(
        policy="a.json", action="s3:GetObject", resource=REPORTS, context={"aws:username": "alice"},
        cases=[{"expect": "allowed"}],
        groups=[
            {"what": "other", "resource": "arn:aws:s3:::x", "context": {"S3:Prefix": "p"}, "cases": [
                {"expect": "not_allowed"},
                {"action": "s3:PutObject", "expect": "not_allowed", "why": "no", "page": "p"},
            ]},
            {"cases": [{"expect": "allowed", "context": {"aws:username": "bob"}}]},
        ],
    )  # fmt: skip
    assert [case.place for case in cases] == [
        "cases[0]",
        "groups[0].cases[0]",
        "groups[0].cases[1]",
        "groups[1].cases[0]",
    ]
    assert cases[1].ask == Ask("s3:GetObject", "arn:aws:s3:::x", {"aws:username": "alice", "s3:prefix": "p"})
    assert (cases[2].ask.action, cases[2].why, cases[2].page, cases[2].what) == ("s3:PutObject", "no", "p", "other")
    assert cases[3].ask.context == {"aws:username": "bob"}
    outcomes = expectations.run(cases, Judge())
    assert all(outcomes)
    assert outcomes[0].statements == ("a.json, Statement[0]",)


def test_lists_are_a_case_for_each_and_unknown_is_unknown() -> None:
    cases = read(
        policy="a.json", cases=[{**CASE, "action": ["s3:GetObject", "unknown"], "resource": [REPORTS, "unknown"]}]
    )
    assert {(case.ask.action, case.ask.resource) for case in cases} == {
        ("s3:GetObject", REPORTS), ("s3:GetObject", None), (None, REPORTS), (None, None),
    }  # fmt: skip
    assert [bool(each) for each in expectations.run(cases, Judge())] == [True, False, False, False]


def test_a_context_is_text() -> None:
    (case,) = read(policy="a.json", cases=[{**CASE, "context": {"A:b": True, "a:c": 10, "a:d": ["x", 1], "a:e": []}}])
    assert case.ask.context == {"a:b": "true", "a:c": "10", "a:d": ("x", "1"), "a:e": ()}


@pytest.mark.parametrize("short", [{"statements": [READ]}, {"policy": FILES["a.json"].document}, {"condition": {}},
                                   {"policy": ["a.json", FILES["a.json"].document]}])  # fmt: skip
def test_a_policy_may_be_written_in_several_ways(short: dict[str, Any]) -> None:
    assert all(expectations.run(read(cases=[{**CASE, **short}]), Judge()))


def test_a_malformed_policy_is_an_outcome_with_its_faults() -> None:
    bad = {"statements": [{**READ, "Effect": "allow"}]}
    good, wrong = expectations.run(read(cases=[{**CASE, **bad, "expect": "malformed"}, {**CASE, **bad}]), Judge())
    assert good
    assert not wrong
    assert (wrong.found, wrong.statements) == ("malformed", ('Statement[0].Effect: must be "Allow" or "Deny"',))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], ["body: must be an object"]),
        ({}, ["cases: there is none"]),
        ({"cases": []}, ["cases: there is none"]),
        ({"groups": []}, ["cases: there is none"]),
        ({"cases": {}}, ["cases: must be a list"]),
        ({"groups": {}}, ["groups: must be a list"]),
        ({"groups": [1]}, ["groups[0]: must be an object"]),
        ({"groups": [{}]}, ["groups[0].cases: must be a list"]),
        ({"cases": [1]}, ["cases[0]: must be an object"]),
        ({"policy": "a.json", "cases": [{"action": "s3:GetObject", "resource": "*"}]},
         ["cases[0].expect: must be one of allowed, denied, not_allowed, malformed"]),
        ({"cases": [{"expect": "allowed"}]}, [f"cases[0]: has no {name}, and nothing above has"
                                              for name in ("action", "resource", "policy")]),
        ({"policy": "a.json", "cases": [{**CASE, "expected": "x"}]}, ["cases[0].expected: is not known here"]),
        ({"policy": "a.json", "what": "x", "cases": [CASE]}, ["what: is not known here"]),
        ({"policy": "b.json", "cases": [CASE]}, ["policy: b.json: is not there", f"cases[0]: {NO_POLICY}"]),
        ({"policy": 1, "cases": [CASE]}, ["policy: must be a file's name or a policy", f"cases[0]: {NO_POLICY}"]),
        ({"policy": "a.json", "statements": [], "cases": [{**CASE, "policy": "a.json"}]},
         ["statements: stands beside policy"]),
        ({"policy": "a.json", "cases": [{**CASE, "action": []}]}, [f"cases[0].action: {TEXTS}"]),
        ({"policy": "a.json", "cases": [{**CASE, "resource": 1}]}, [f"cases[0].resource: {TEXTS}"]),
        ({"policy": "a.json", "context": 1, "cases": [CASE]}, ["context: must be an object"]),
        ({"policy": "a.json", "context": {"a:b": {}}, "cases": [CASE]}, [f"context.a:b: {TEXTS}"]),
    ],
)  # fmt: skip
def test_every_fault_is_told(document: object, told: list[str]) -> None:
    assert faults(document) == told

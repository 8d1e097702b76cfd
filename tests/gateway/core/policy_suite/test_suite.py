"""What IAM's pages say about policies, case by case, and what the engine makes of it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from deploy.demo import REPOSITORY
from gateway.core.policy.document import statements
from gateway.core.policy.expectations import Case, run
from gateway.core.policy.judge import Ask, Judge, Named
from tests.gateway.core.policy_suite.suite import AWS, cases, written
from tests.policy_evaluator import Request, allows

LEAST = 400


@pytest.mark.threat("D10")
@pytest.mark.parametrize("file", cases())
def test_the_engine_decides_as_the_pages_say(file: str) -> None:
    outcomes = run(cases()[file], Judge())
    assert [(each.case.place, each.case.ask, each.case.expect, each.found) for each in outcomes if not each] == []


@pytest.mark.parametrize("file", cases())
def test_a_case_that_expects_something_else_is_noticed(file: str) -> None:
    """The control: no expectation holds by accident, as each would if nothing were compared."""
    other = {"allowed": "not_allowed", "not_allowed": "allowed", "denied": "allowed", "malformed": "allowed"}
    wrong = tuple(
        Case(c.place, c.what, c.policies, c.ask, other[c.expect], c.why, c.page) for c in cases()[file]
    )  # fmt: skip
    assert not any(run(wrong, Judge()))


def test_there_are_enough_and_each_cites_the_page_that_decides() -> None:
    by_aws = [case for _, case in written() if case.page.startswith(AWS)]
    assert len(by_aws) >= LEAST
    pages = {case.page for case in by_aws}
    assert len({page.partition("#")[0] for page in pages}) >= 15
    assert all(re.fullmatch(rf"{AWS}[\w/-]+\.html(#[\w.-]+)?", page) for page in pages)
    for page in {case.page for _, case in written()} - pages:
        path, _, anchor = page.partition("#")
        headings = re.findall(r"^#+ (.+)$", (REPOSITORY / path).read_text(), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_decision_and_every_operator_is_there() -> None:
    assert {case.expect for _, case in written()} == {"allowed", "denied", "not_allowed", "malformed"}
    operators = {
        operator for case in _well_formed() for policy in case.policies for operator in _operators(policy.document)
    }
    bare = {each.rpartition(":")[2].removesuffix("IfExists") for each in operators}
    assert bare == {
        "StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike",
        "StringNotLike", "NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals",
        "NumericGreaterThan", "NumericGreaterThanEquals", "DateEquals", "DateNotEquals", "DateLessThan",
        "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals", "Bool", "BinaryEquals", "IpAddress",
        "NotIpAddress", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Null",
    }  # fmt: skip
    assert {each.partition(":")[0] for each in operators if ":" in each} == {"ForAllValues", "ForAnyValue"}


def test_a_condition_denies_exactly_what_it_allows() -> None:
    """A condition says of a request yes or no, and what follows is the effect's; but for what cannot be known."""
    judge, seen = Judge(), 0
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    for name, each in cases().items():
        for case in each:
            if name in ("ours.yaml", "grammar.yaml") or not _is_condition(case) or _unresolved(case) or _odd(case.ask):
                continue
            (allow,) = statements(dict(case.policies[0].document))
            deny = {**case.policies[0].document, "Statement": [everything, {**allow, "Effect": "Deny"}]}
            decided = judge([Named("turned round", deny)], case.ask).kind
            assert decided == {"allowed": "denied", "not_allowed": "allowed"}[case.expect], (name, case.place)
            seen += 1
    assert seen > 200


# What the evaluator of the tests does not know.
UNKNOWN_TO_IT = re.compile(r"Binary|^Arn|IfExists$|^ForAll|^ForAny|^Date")


def test_an_evaluator_that_shares_no_code_says_the_same() -> None:
    seen = 0
    for name, each in cases().items():
        for case in each:
            if name == "ours.yaml" or case.expect == "malformed" or len(case.policies) > 1:
                continue
            policy, ask = case.policies[0].document, case.ask
            if any(UNKNOWN_TO_IT.search(operator) for operator in _operators(policy)) or _odd(ask):
                continue
            if case.what == "a default in a condition":  # it knows defaults in patterns only
                continue
            context = {key: list(value) if isinstance(value, tuple) else value for key, value in ask.context.items()}
            request = Request(ask.action or "", ask.resource or "", context)
            assert allows(policy, request) == (case.expect == "allowed"), (name, case.place, case.what)
            seen += 1
    assert seen > 350


def _odd(ask: Ask) -> bool:
    """Whether a value of the request is not of the kind that the operator compares."""
    return any(
        value in ("ten", "yesterday", "ec2.amazonaws.com", "my-bucket", "arn:aws:s3", "")
        for value in ask.context.values()
    )


def _well_formed() -> list[Case]:
    return [case for _, case in written() if case.expect != "malformed"]


def _operators(policy: Mapping[str, Any]) -> set[str]:
    found = [each for each in statements(dict(policy)) if isinstance(each, dict)]
    return {operator for each in found for operator in each.get("Condition", {})}


def _is_condition(case: Case) -> bool:
    found = statements(dict(case.policies[0].document))
    plain = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    return len(found) == len(case.policies) == 1 and {**found[0], "Condition": 0} == {**plain, "Condition": 0}


def _unresolved(case: Case) -> bool:
    """Whether a variable in its condition has no value."""
    variables = re.findall(r"\$\{([\w:/]+)\}", str(case.policies[0].document))
    return any(key.lower() not in case.ask.context for key in variables)

"""The least privilege that covers what was done: it covers all of it, and no more than it has to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.document import faults
from gateway.core.policy.judge import Ask, Judge, Named
from gateway.core.policy.suggest import suggest
from gateway.core.policy.traffic import Call
from tests.gateway.core.policy_suite.recorded import call, need

GET, PUT, SEND = "s3:GetObject", "s3:PutObject", "sqs:SendMessage"


def key(name: str) -> str:
    return f"arn:aws:s3:::data/{name}"


def queue(name: str) -> str:
    return f"arn:aws:sqs:eu-central-1:111122223333:{name}"


def statements(calls: list[Call], generalise: int | None = None) -> list[dict[str, Any]]:
    policy = suggest(calls, generalise).policy
    assert policy is not None
    found: list[dict[str, Any]] = policy["Statement"]
    assert all(each.pop("Effect") == "Allow" for each in found)
    return found


def test_actions_on_the_same_resources_are_one_statement() -> None:
    calls = [call(need(GET, key("a"))), call(need(PUT, key("a"))), call(need(GET, key("b")), need(PUT, key("b"))),
             call(need(SEND, queue("q"))), call(need("S3:getobject", key("a")))]  # fmt: skip
    assert statements(calls) == [
        {"Action": [GET, PUT], "Resource": [key("a"), key("b")]},
        {"Action": SEND, "Resource": queue("q")},
    ]


def test_what_was_refused_is_not_suggested() -> None:
    calls = [call(need(GET, key("a"))), call(need(PUT, key("a"), "not_allowed"), need(GET, key("b")))]
    assert statements(calls) == [{"Action": GET, "Resource": key("a")}]
    assert suggest(calls[1:]).policy is None
    assert suggest([]).policy is None


def test_what_cannot_be_known_is_said() -> None:
    found = suggest([call(need(None, key("a"))), call(need(GET, None), needs_total=30), call(need(PUT, key("a")))])
    assert found.policy is not None
    assert found.policy["Statement"] == [
        {"Effect": "Allow", "Action": GET, "Resource": "*"},
        {"Effect": "Allow", "Action": PUT, "Resource": key("a")},
    ]
    assert (found.calls, found.unknown_actions, found.unknown_resources, found.partial) == (3, 1, (GET,), 1)
    found = suggest([call(need(GET, "no arn"))])
    assert (found.policy, found.unwritable) == (None, ("no arn",))


def test_letters_that_are_more_in_a_policy_are_escaped() -> None:
    odd = key("a*b?c${aws:username}")
    calls = [call(need(GET, odd))]
    assert statements(calls) == [{"Action": GET, "Resource": key("a${*}b${?}c${$}{aws:username}")}]
    judge = Judge()
    policy = suggest(calls).policy
    assert policy is not None
    assert judge([Named("s", policy)], Ask(GET, odd)).kind == "allowed"
    for other in ("aXb?c${aws:username}", "a*bXc${aws:username}", "a*b?calice"):
        assert judge([Named("s", policy)], Ask(GET, key(other), {"aws:username": "alice"})).kind == "not_allowed"


@pytest.mark.parametrize(
    ("names", "most", "expected"),
    [
        ([key("a/1"), key("a/2"), key("a/3"), key("b/1")], 2, [key("a/*"), key("b/1")]),
        ([key("a/1"), key("a/2"), key("b/1")], 3, [key("a/1"), key("a/2"), key("b/1")]),
        ([key("a/1"), key("a/2"), key("b/1"), key("c")], 2, [key("*")]),
        ([key(f"{i}/x") for i in range(5)], 3, [key("*")]),
        ([key(f"{i}/{j}") for i in range(2) for j in range(5)], 3, [key("0/*"), key("1/*")]),
        ([f"arn:aws:s3:::b{i}/x" for i in range(5)], 2, [f"arn:aws:s3:::b{i}/x" for i in range(5)]),
        ([f"arn:aws:s3:::b-{i}" for i in range(5)], 2, [f"arn:aws:s3:::b-{i}" for i in range(5)]),
        ([queue(f"jobs-{i}") for i in range(5)], 4, [queue("jobs-*")]),
        ([queue(f"q{i}") for i in range(5)], 4, [queue(f"q{i}") for i in range(5)]),
    ],
)  # fmt: skip
def test_resources_are_taken_together_only_when_asked_and_under_one_prefix(
    names: list[str], most: int, expected: list[str]
) -> None:
    calls = [call(need(GET, name)) for name in names]
    (exact,) = statements(calls)
    assert exact["Resource"] == sorted(names)
    (found,) = statements(calls, most)
    assert found["Resource"] == (expected[0] if len(expected) == 1 else expected)


NAMES = st.text(st.sampled_from("ab*?$/{}-:é"), min_size=1, max_size=6)
NEEDS = st.tuples(st.sampled_from([GET, PUT, SEND]), NAMES.map(key))


@given(st.lists(NEEDS, min_size=1, max_size=8), st.one_of(st.none(), st.integers(1, 4)), NEEDS)
def test_it_allows_all_that_was_done_and_exactly_that_unless_asked(
    done: list[tuple[str, str]], most: int | None, other: tuple[str, str]
) -> None:
    found = suggest([call(need(action, resource)) for action, resource in done], most)
    assert found.policy is not None
    assert not list(faults(found.policy))
    judge, policies = Judge(), [Named("suggested", found.policy)]
    assert all(judge(policies, Ask(*each)) for each in done)
    if most is None:
        assert bool(judge(policies, Ask(*other))) == (other in done)

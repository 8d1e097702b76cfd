"""Threat D10: what policies mean, judged by three who share no code: our patterns and intersections, an evaluator of
the tests, and the one of the local AWS that the demo runs on (ministack, in an environment of its own)."""

import json
import random
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import REPOSITORY
from gateway.core.errors import Refusal
from gateway.core.policy.intersect import narrowed
from gateway.core.policy.patterns import Search
from tests.policy_evaluator import Request, allows, like

TRIPLES = 2000
# JSON lines in: [policy, action, resource, context]; out: whether it is allowed.
SECOND = """
import json, sys
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document
for line in sys.stdin:
    policy, action, resource, context = json.loads(line)
    asked = EvalContext("arn:aws:iam::111122223333:user/u", "User", "111122223333", action, resource, "eu-west-1",
                        source_ip=context.get("aws:sourceip", "192.0.2.1"), service_context=context)
    print(int(evaluate(asked, [parse_policy_document(policy)]).decision == "Allow"))
"""
Triple = tuple[str, Request]


def second_opinion(triples: list[Triple]) -> list[bool]:
    python = REPOSITORY / ".cloud-venv" / "bin" / "python"
    lines = "".join(
        json.dumps([policy, request.action, request.resource, dict(request.context)]) + "\n"
        for policy, request in triples
    )
    run = [str(python), "-c", SECOND]
    done = subprocess.run(run, input=lines, capture_output=True, text=True, check=True, cwd=Path("/"), timeout=100)
    return [line == "1" for line in done.stdout.splitlines()]


ACTIONS = ("s3:GetObject", "S3:GETOBJECT", "s3:PutObject", "sqs:SendMessage", "s3:GetObjectAcl")
ACTION_PATTERNS = ("s3:GetObject", "S3:getobject", "s3:Get*", "s3:*", "*", "s3:?etObject", "s3:G*t", "sqs:*", "s3:Get?")
RESOURCES = ("data/a", "data/A", "data/a/b", "data/[a-z]", "data/", "data/!a", "DATA/a", "data/a/b/c", "data/aa")
RESOURCE_PATTERNS = (
    "data/*", "data/?", "data/a", "data/A", "data/[a-z]", "data/[!a]", "data/*/b", "*", "data/a*", "data",
    "dat?/*", "**",
)  # fmt: skip


def statement(dice: random.Random) -> dict[str, Any]:
    def some(pool: tuple[str, ...], prefix: str = "") -> Any:
        found = [prefix + each for each in dice.sample(pool, dice.randint(1, 2))]
        return found[0] if len(found) == 1 else found

    arn = "arn:aws:s3:::"
    action, resource = dice.choice(("Action", "Action", "Action", "NotAction")), "Resource"
    if dice.random() < 0.15:
        resource = "NotResource"
    out = {
        "Effect": dice.choice(("Allow", "Allow", "Deny")),
        action: some(ACTION_PATTERNS),
        resource: "*" if dice.random() < 0.2 else some(RESOURCE_PATTERNS, arn),
    }
    if dice.random() < 0.4:
        out["Condition"] = {
            dice.choice(("StringEquals", "StringLike", "StringNotEquals", "StringNotLike", "StringLikeIfExists")): {
                "s3:prefix": some(("a", "A", "a*", "?", "[a-z]"))
            }
        }
    return out


def triples(dice: random.Random) -> list[Triple]:
    found = []
    for _ in range(TRIPLES):
        policy = {"Version": "2012-10-17", "Statement": [statement(dice) for _ in range(dice.randint(1, 3))]}
        context = {"s3:prefix": dice.choice(("a", "A", "b", "ab"))} if dice.random() < 0.7 else {}
        request = Request(dice.choice(ACTIONS), "arn:aws:s3:::" + dice.choice(RESOURCES), context)
        found.append((json.dumps(policy), request))
    return found


@pytest.mark.threat("D10")
def test_two_thousand_verdicts_are_the_same_by_a_second_implementation() -> None:
    asked = triples(random.Random(20261123))  # noqa: S311  # the same ones each time
    ours = [allows(policy, request) for policy, request in asked]
    assert len(asked) == TRIPLES
    assert 400 < sum(ours) < 1600  # both verdicts are there
    different = [triple for triple, one, other in zip(asked, ours, second_opinion(asked), strict=True) if one != other]
    assert different == []


@pytest.mark.threat("D08", "D10")
def test_an_intersection_is_judged_alike_by_a_second_implementation() -> None:
    dice = random.Random(8)  # noqa: S311  # the same ones each time
    written: list[tuple[Triple, Triple, Triple]] = []
    for (grant, request), (asked, _) in zip(triples(dice), triples(dice), strict=True):
        try:
            both = narrowed(grant, asked)
        except Refusal:
            continue
        written.append(((both, request), (grant, request), (asked, request)))
    assert len(written) > 300
    judged, grants, asked_ones = (second_opinion([each[i] for each in written]) for i in range(3))
    assert sum(judged) > 30
    expected = [a and b for a, b in zip(grants, asked_ones, strict=True)]
    assert [each for each, one, other in zip(written, judged, expected, strict=True) if one != other] == []


@pytest.mark.threat("D10")
def test_patterns_cover_a_plain_text_where_the_other_two_say_that_they_match() -> None:
    actions = [(a.lower(), p.lower()) for a in ACTIONS for p in ACTION_PATTERNS]
    resources = [(f"arn:aws:s3:::{r}", f"arn:aws:s3:::{p}") for r in RESOURCES for p in RESOURCE_PATTERNS]
    for given, pattern in actions + resources:
        assert Search().covers(pattern, given) == like(given, pattern, {}), (given, pattern)
    policies = [{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": p}}
                for _, p in resources]  # fmt: skip
    asked = [(json.dumps(p), Request("s3:x", r)) for p, (r, _) in zip(policies, resources, strict=True)]
    assert second_opinion(asked) == [Search().covers(pattern, given) for given, pattern in resources]


@pytest.mark.threat("D10")
@pytest.mark.parametrize(
    ("given", "pattern", "matches"),
    [
        ("arn:aws:s3:::data/b", "arn:aws:s3:::data/[a-z]", False),  # no class of letters
        ("arn:aws:s3:::data/[a-z]", "arn:aws:s3:::data/[a-z]", True),
        ("arn:aws:s3:::data/b", "arn:aws:s3:::data/[!a]", False),
        ("arn:aws:s3:::data/A", "arn:aws:s3:::data/a", False),  # case counts
        ("arn:aws:s3:::data/a/b", "arn:aws:s3:::data/*", True),  # a star crosses slashes
        ("arn:aws:s3:::data/a/b", "arn:aws:s3:::data/?", False),
    ],
)
def test_fnmatch_is_not_how_iam_matches(given: str, pattern: str, matches: bool) -> None:
    assert like(given, pattern, {}) is matches
    assert Search().covers(pattern, given) is matches
    policy = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": pattern}})
    assert second_opinion([(policy, Request("s3:GetObject", given))]) == [matches]


def test_fnmatch_would_have_been_wrong() -> None:
    """The control."""
    assert fnmatchcase("arn:aws:s3:::data/b", "arn:aws:s3:::data/[a-z]")
    assert not fnmatchcase("arn:aws:s3:::data/[a-z]", "arn:aws:s3:::data/[a-z]")


# Where the second implementation differs from AWS's pages, and we follow the pages.
DIFFERENT = {
    "a variable of IAM": ("arn:aws:s3:::data/alice", "arn:aws:s3:::data/${aws:username}", {"aws:username": "alice"}),
    "an escaped star": ("arn:aws:s3:::data/*", "arn:aws:s3:::data/${*}", {}),
    "a line end in a name": ("arn:aws:s3:::data/a\nb", "arn:aws:s3:::data/*", {}),
}


@pytest.mark.threat("D10")
@pytest.mark.parametrize("what", DIFFERENT)
def test_the_differences_are_these(what: str) -> None:
    """It puts in no variables ("Variables and tags"), and its `.` is no line end. With these, it allows less."""
    given, pattern, context = DIFFERENT[what]
    assert like(given, pattern, context)
    policy = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": pattern}})
    assert second_opinion([(policy, Request("s3:GetObject", given, context))]) == [False]


def test_in_a_line_end_behind_the_name_it_allows_more() -> None:
    """Its `$` takes one."""
    given, pattern = "arn:aws:s3:::data/a\n", "arn:aws:s3:::data/a"
    assert not like(given, pattern, {})
    assert not Search().covers(pattern, given)
    policy = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": pattern}})
    assert second_opinion([(policy, Request("s3:GetObject", given))]) == [True]

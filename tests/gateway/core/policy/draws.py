"""Random policies and questions, of small pools so that they often have to do with one another.

What engines read differently is left out, and tested by hand: variables without a value, addresses that are not of the
range's family, `${*}` where a star is no wildcard, stars in what is asked for, ForAnyValue with IfExists.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

ARN = "arn:aws:s3:::"


class Draw(NamedTuple):
    """A policy, and what is asked of it."""

    policy: dict[str, Any]
    action: str
    resource: str
    context: dict[str, str | tuple[str, ...]]


ACTIONS = ("s3:GetObject", "S3:GETOBJECT", "s3:PutObject", "s3:ListBucket", "sqs:SendMessage", "s3:GetObjectAcl")
ACTION_PATTERNS = (*ACTIONS[:5], "s3:Get*", "s3:*", "*", "s3:?etObject", "s3:G*t", "sqs:*", "S3:*object", "s3:*t*")
RESOURCES = ("data/a", "data/A", "data/a/b", "data/a:b", "data/alice/x", "data/[a]", "data/", "other/a", "a")
RESOURCE_PATTERNS = (
    "data/*", "data/a", "data/?", "data/A", "data/a*b", "*/b", "dat?/*", "data/[a]", "data/${*}", "*", "data/a?b",
    "data/${aws:username}/*", "data/${aws:PrincipalTag/absent, 'a'}", "${aws:PrincipalTag/team}/*",
    "${aws:PrincipalTag/team}", "a",
)  # fmt: skip
TEXTS = ("a", "A", "alice", "a/b", "", "*", "data")
TEXT_PATTERNS = (*TEXTS[:4], "a*", "?", "*", "${aws:username}", "${aws:PrincipalTag/absent, 'data'}",
                 "${aws:username}*")  # fmt: skip
NUMBERS = ("1", "2", "10", "-3", "2.50", "2.5", "007")
DATES = ("2026-01-01T00:00:00Z", "2026-06-30T12:00:00Z", "2026-06-30T12:00:01Z", "2027-01-01T00:00:00Z")
ADDRESSES = ("192.0.2.7", "10.1.2.3", "10.9.9.9")
NETWORKS = ("192.0.2.0/24", "10.0.0.0/8", "10.1.2.3", "10.1.2.3/32", "0.0.0.0/1", "10.1.0.0/15")
ARNS = (
    "arn:aws:iam::111122223333:role/a",
    "arn:aws:iam::111122223333:role/A",
    "arn:aws:sns:eu-west-1:111122223333:t:x",
)
ARN_PATTERNS = (
    *ARNS, "arn:aws:iam::*:role/*", "arn:aws:iam::111122223333:role/?", "arn:aws:*:*:*:*",
    "arn:aws:iam::111122223333:*", "arn:*:iam::111122223333:role/a", "arn:aws:sns:eu-*-?:111122223333:t*",
    "arn:aws:sns:*:t:x:y",
)  # fmt: skip
BYTES = ("QmluYXJ5", "AAEC", "")
TRUTHS = ("true", "false")

_COMPARISONS = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
_STRINGS = ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike",
            "StringNotLike")  # fmt: skip
Pool = Sequence[str]
# key: (operators, values of a policy, values of a request)
SINGLE: dict[str, tuple[Pool, Pool, Pool]] = {
    "s3:prefix": (_STRINGS, TEXT_PATTERNS, TEXTS),
    "aws:SourceArn": (("ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"), ARN_PATTERNS, ARNS),
    "s3:max-keys": ([f"Numeric{each}" for each in _COMPARISONS], NUMBERS, NUMBERS),
    "aws:CurrentTime": ([f"Date{each}" for each in _COMPARISONS], DATES, DATES),
    "aws:SourceIp": (("IpAddress", "NotIpAddress"), NETWORKS, ADDRESSES),
    "aws:SecureTransport": (("Bool",), TRUTHS, TRUTHS),
    "s3:x-amz-bytes": (("BinaryEquals",), BYTES[:2], BYTES[:2]),
}
SEVERAL: dict[str, tuple[Pool, Pool, Pool]] = {"aws:TagKeys": (_STRINGS, TEXT_PATTERNS, TEXTS[:4])}


def draw(dice: random.Random) -> Draw:
    """A policy of one to three statements and a question."""
    statements = [statement(dice) for _ in range(dice.randint(1, 3))]
    context: dict[str, str | tuple[str, ...]] = {}
    for key, (_, _, values) in SINGLE.items():
        if dice.random() < 0.75:
            context[key.lower()] = dice.choice(values)
    for key, (_, _, values) in SEVERAL.items():
        if dice.random() < 0.75:
            context[key.lower()] = tuple(dice.sample(values, dice.randint(1, 3)))
    for key in ("aws:username", "aws:principaltag/team"):
        context[key] = dice.choice(("alice", "a", "data", "*"))
    policy = {"Version": "2012-10-17", "Statement": statements}
    return Draw(policy, dice.choice(ACTIONS), ARN + dice.choice(RESOURCES), context)


def statement(dice: random.Random) -> dict[str, Any]:
    """A statement of either effect."""
    action = dice.choice(("Action", "Action", "Action", "NotAction"))
    resource = dice.choice(("Resource", "Resource", "Resource", "NotResource"))
    patterns = ["*"] if dice.random() < 0.3 else _some(dice, RESOURCE_PATTERNS, ARN)
    out = {
        "Effect": dice.choice(("Allow", "Allow", "Deny")),
        action: _one_or_list(_some(dice, ACTION_PATTERNS)),
        resource: _one_or_list(patterns),
    }
    if dice.random() < 0.6:
        out["Condition"] = _condition(dice)
    return out


def _condition(dice: random.Random) -> dict[str, dict[str, Any]]:
    block: dict[str, dict[str, Any]] = {}
    for _ in range(dice.randint(1, 2)):
        key, (operators, values, _) = dice.choice([*SINGLE.items(), *SEVERAL.items()])
        operator = dice.choice(operators)
        if key in SEVERAL:
            operator = dice.choice(("ForAllValues:", "ForAnyValue:")) + operator
        elif dice.random() < 0.25:
            operator += "IfExists"
        elif dice.random() < 0.1:
            operator, values = "Null", TRUTHS
        keys = block.setdefault(operator, {})
        if key.lower() not in map(str.lower, keys):
            keys[_cased(dice, key)] = dice.choice(values) if operator == "Null" else _one_or_list(_some(dice, values))
    return block


def _cased(dice: random.Random, key: str) -> str:
    return dice.choice((key, key.lower(), key.upper()))


def _some(dice: random.Random, pool: Pool, prefix: str = "") -> list[str]:
    return [prefix + each for each in dice.sample(list(pool), dice.randint(1, 2))]


def _one_or_list(found: list[str]) -> Any:
    return found[0] if len(found) == 1 else found

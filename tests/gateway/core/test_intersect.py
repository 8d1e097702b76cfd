"""What two policies both allow (threat D08): the same verdicts as both together, judged by an evaluator of its own."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.policy.intersect import minified, narrowed
from gateway.core.policy.patterns import Search
from tests.effort import counted
from tests.policy_evaluator import Context, Request, allows, like

VERSION = "2012-10-17"
DATA = "arn:aws:s3:::data/"


def policy(*statements: dict[str, Any], **more: Any) -> str:
    return json.dumps({"Version": VERSION, "Statement": list(statements), **more})


def allow(action: Any = "s3:GetObject", resource: Any = DATA + "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return allow(action, resource, **more) | {"Effect": "Deny"}


def refused(grant: str, asked: str) -> str:
    with pytest.raises(Refusal) as caught:
        narrowed(grant, asked)
    assert caught.value.code == "policy_refused"
    return caught.value.reason


def attempted(grant: str, asked: str) -> tuple[str | None, str]:
    """The intersection, or None and the reason."""
    try:
        return narrowed(grant, asked), "written"
    except Refusal as refusal:
        return None, refusal.reason


# Random policies against random requests

WORD = st.text("ab/[", min_size=1, max_size=4)
PATTERN = st.lists(st.sampled_from(["a", "b", "/", "[", "*", "?", "${*}", "${?}"]), min_size=1, max_size=5).map("".join)
ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "sqs:SendMessage"]
ACTION = st.sampled_from([*ACTIONS, "S3:getobject", "s3:Get*", "s3:*", "*", "s3:?etObject", "s3:*Object", "sqs:*s*e"])
REGION, ACCOUNT = st.sampled_from(["", "*", "eu-west-1", "eu-*-?"]), st.sampled_from(["", "*", "111122223333"])
RESOURCE = st.one_of(st.just("*"), st.builds("arn:aws:s3:{}:{}:{}".format, REGION, ACCOUNT, PATTERN))

STRINGS = st.lists(PATTERN, min_size=1, max_size=2)
ADDRESSES = st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24", "::/0"]), min_size=1,
                     max_size=2)  # fmt: skip
QUANTIFIED = ["", "ForAllValues:", "ForAnyValue:"]
CONDITION = st.one_of(
    *(
        st.builds(lambda quantifier, if_exists, key, values, name=name: {quantifier + name + if_exists: {key: values}},
                  st.sampled_from(QUANTIFIED), st.sampled_from(["", "IfExists"]),
                  st.sampled_from(["s3:prefix", "S3:Prefix", "aws:TagKeys"]), STRINGS)
        for name in ("StringEquals", "StringLike", "StringNotEquals", "StringNotLike", "StringEqualsIgnoreCase")
    ),
    *(
        st.builds(lambda if_exists, values, name=name: {name + if_exists: {"aws:SourceIp": values}},
                  st.sampled_from(["", "IfExists"]), ADDRESSES)
        for name in ("IpAddress", "NotIpAddress")
    ),
    st.sampled_from(["true", "false", True]).map(lambda value: {"Bool": {"aws:SecureTransport": value}}),
    st.sampled_from(["true", "false"]).map(lambda value: {"Null": {"s3:prefix": value}}),
    st.integers(1, 3).map(lambda value: {"NumericLessThan": {"s3:max-keys": str(value)}}),
    st.sampled_from(["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]).map(
        lambda value: {"DateLessThan": {"aws:CurrentTime": value}}),
)  # fmt: skip


@st.composite
def a_statement(draw: st.DrawFn) -> dict[str, Any]:
    out: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Allow", "Deny"]))}
    for name, one in (("Action", ACTION), ("Resource", RESOURCE)):
        values = draw(st.lists(one, min_size=1, max_size=3))
        key = name if draw(st.integers(0, 5)) else f"Not{name}"
        out[key] = values[0] if len(values) == 1 and draw(st.booleans()) else values
    if draw(st.booleans()):
        out["Condition"] = draw(CONDITION)
        if not draw(st.integers(0, 2)):
            out["Condition"] = draw(CONDITION) | out["Condition"]
    return out


POLICY = st.lists(a_statement(), min_size=1, max_size=3).map(lambda found: policy(*found))
CONTEXT = st.fixed_dictionaries(
    {},
    optional={
        "s3:prefix": WORD,
        "aws:tagkeys": st.lists(WORD, min_size=1, max_size=2),
        "aws:sourceip": st.sampled_from(["10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "2001:db8::1"]),
        "aws:securetransport": st.sampled_from(["true", "false"]),
        "s3:max-keys": st.sampled_from(["0", "1", "2", "9"]),
        "aws:currenttime": st.sampled_from(["2025-06-01T00:00:00Z", "2026-06-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
    },
)
# With a resource of six parts, in which no further colon stands, it makes no difference how far a `*` reaches.
PLACE = st.builds(
    "arn:aws:s3:{}:{}:{}".format, st.sampled_from(["", "eu-west-1"]), st.sampled_from(["", "111122223333"]),
    st.text("ab/[*?", min_size=1, max_size=4),
)  # fmt: skip
REQUEST = st.builds(Request, st.sampled_from(ACTIONS), PLACE, CONTEXT)
REASONS = {"policy_unwritable", "policy_disjoint", "policy_too_long"}


@pytest.mark.threat("D08")
@pytest.mark.timeout(600)
def test_the_intersection_allows_what_both_allow_and_nothing_else() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    @given(POLICY, POLICY, st.lists(REQUEST, min_size=25, max_size=25))
    def holds(grant: str, asked: str, requests: list[Request]) -> None:
        both = [allows(grant, request) and allows(asked, request) for request in requests]
        found, outcome = attempted(grant, asked)
        seen[outcome] += 1
        if found is not None:
            seen["allowed"] += sum(both)
            assert len(found) <= 2048
            assert [allows(found, request) for request in requests] == both
        else:
            assert outcome in REASONS
            assert outcome != "policy_disjoint" or not any(both)

    holds()
    assert seen["written"] > 50, seen  # or it would have shown nothing
    assert seen["allowed"] > 50, seen
    assert seen["policy_disjoint"] > 10, seen


SAME_KEY = [
    (quantifier + name + if_exists, "aws:TagKeys" if quantifier else "s3:prefix", STRINGS)
    for name in ("StringEquals", "StringLike", "StringNotEquals", "StringNotLike", "StringNotEqualsIgnoreCase")
    for quantifier in QUANTIFIED
    for if_exists in ("", "IfExists")
] + [(name, "aws:SourceIp", ADDRESSES) for name in ("IpAddress", "NotIpAddress", "IpAddressIfExists")]


@pytest.mark.threat("D08")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("operator", "key", "values"), SAME_KEY, ids=[operator for operator, *_ in SAME_KEY])
def test_two_conditions_of_one_key_hold_together(operator: str, key: str, values: st.SearchStrategy[list[str]]) -> None:
    @settings(max_examples=60)
    @given(values, values, st.lists(CONTEXT, min_size=15, max_size=15))
    def holds(one: list[str], other: list[str], contexts: list[Context]) -> None:
        grant, asked = (policy(allow("*", "*", Condition={operator: {key: each}})) for each in (one, other))
        found, outcome = attempted(grant, asked)
        for context in contexts:
            request = Request("s3:GetObject", DATA + "x", context)
            both = allows(grant, request) and allows(asked, request)
            if found is not None:
                assert allows(found, request) == both
            else:
                assert outcome == "policy_unwritable" or not both

    holds()


PIECES = st.sampled_from(["a", "b", "*", "?", "${*}", "${?}", "${$}", "${aws:username}"])
PATTERNS = st.lists(PIECES, max_size=7).map("".join)


@given(PATTERNS, PATTERNS, st.lists(st.text("ab*?$", max_size=6), min_size=20, max_size=20))
@example("?", "${aws:username}", ["ab"])  # nobody knows how long a variable is
@example("a?", "a${aws:username}", ["aab"])
@settings(max_examples=500)
def test_two_patterns_meet_in_what_both_match(one: str, other: str, words: list[str]) -> None:
    context: Context = {"aws:username": "ab"}
    found = Search().meet(one, other)
    for word in words:
        both = like(word, one, context) and like(word, other, context)
        met = any(like(word, each, context) for each in found)
        assert met == both or ("${aws" in one + other and both)  # never wider; with a variable maybe narrower


@given(PATTERNS, PATTERNS, st.lists(st.text("ab*?$", max_size=6), min_size=20, max_size=20))
@example("?", "${aws:username}", ["ab"])
@settings(max_examples=500)
def test_what_covers_a_pattern_matches_all_that_it_matches(wide: str, narrow: str, words: list[str]) -> None:
    if Search().covers(wide, narrow):
        assert all(
            like(word, wide, {"aws:username": "ab"}) for word in words if like(word, narrow, {"aws:username": "ab"})
        )
    assert Search().covers(wide, wide)


ODD = st.lists(st.sampled_from(["a", ":", "*", "?"]), max_size=6).map("".join)
ODD_ARN = st.builds("arn:aws:{}:{}:{}:{}".format, st.sampled_from(["s3", "s*", "*"]), st.sampled_from(["", "*", "a*a"]),
                    st.sampled_from(["", "*", "?*"]), ODD.map(lambda text: text or "a"))  # fmt: skip
ODD_PLACE = st.builds("arn:aws:{}".format, st.text("a:s3", max_size=9))


@pytest.mark.threat("D08")
@given(ODD_ARN, ODD_ARN, st.lists(ODD_PLACE, min_size=20, max_size=20))
@settings(max_examples=400)
def test_no_colon_makes_an_intersection_wider(one: str, other: str, places: list[str]) -> None:
    """However far a `*` reaches over them: part by part, or over the whole."""
    for each in Search().meet_arns(one, other):
        for place in places:
            for reads in (like, _part_by_part):
                if reads(place, each, {}):
                    assert reads(place, one, {})
                    assert reads(place, other, {})


def _part_by_part(text: str, pattern: str, context: Context) -> bool:
    parts, patterns = text.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(map(like, parts, patterns, [context] * 6))


def test_a_star_that_reaches_over_a_colon_does_not_join_two_resources() -> None:
    """The control: over the whole, `us*` and `a` of one would take the other's account and more."""
    one, other = "arn:aws:logs:us*:111122223333:x", "arn:aws:logs:us-east-1:444455556666:y:111122223333:x"
    assert like(other, one, {})
    assert Search().meet(one, other) == [other]
    assert Search().meet_arns(one, other) == []


# By example


@pytest.mark.parametrize(
    ("grant", "asked", "expected"),
    [
        ([allow("s3:*")], [allow("s3:GetObject", DATA + "mine/*")], [allow(resource=DATA + "mine/*")]),
        ([allow()], [allow("*", "*")], [allow()]),
        ([allow()], [allow("S3:GETOBJECT")], [allow("S3:GETOBJECT")]),
        ([allow()], [allow(resource=DATA + "*.csv")], [allow(resource=DATA + "*.csv")]),
        ([allow(resource=DATA + "a*")], [allow(resource=DATA + "*z")], [allow(resource=DATA + "a*z")]),
        ([allow()], [allow(), deny("s3:GetObject", DATA + "x")], [allow(), deny("s3:GetObject", DATA + "x")]),
        ([allow(), deny(Condition={"Bool": {"aws:SecureTransport": "false"}})], [allow("*", "*")],
         [allow(), deny(Condition={"Bool": {"aws:SecureTransport": "false"}})]),
        ([allow()], [{"Effect": "Allow", "NotAction": "s3:Put*", "Resource": "*"}], [allow(), deny("s3:Put*")]),
        ([allow()], [{"Effect": "Allow", "Action": "*", "NotResource": DATA + "x"}], 
         [allow(), deny(resource=DATA + "x")]),
        ([allow(Condition={"StringLike": {"s3:prefix": ["a*", "b*"]}})],
         [allow(Condition={"StringLike": {"S3:PREFIX": "a/*"}})],
         [allow(Condition={"StringLike": {"s3:prefix": "a/*"}})]),
        ([allow(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})],
         [allow(Condition={"IpAddress": {"aws:SourceIp": ["10.1.0.0/16", "192.0.2.0/24"]}})],
         [allow(Condition={"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}})]),
        ([allow(resource=DATA + "${aws:username}/*")], [allow("*", "*")], [allow(resource=DATA + "${aws:username}/*")]),
        ([allow()], [allow(), allow()], [allow()]),
        ([allow(Sid="One")], [allow(Sid="Two")], [allow()]),
    ],
)  # fmt: skip
def test_what_is_written(grant: list[Any], asked: list[Any], expected: list[Any]) -> None:
    assert json.loads(narrowed(policy(*grant), policy(*asked))) == {"Version": VERSION, "Statement": expected}


@pytest.mark.threat("D08")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("", "policy_malformed"),
        ("[]", "policy_malformed"),
        ('{"Version": "2012-10-17", /* mine */ "Statement": []}', "policy_malformed"),
        ("// all\n" + policy(allow()), "policy_malformed"),
        (policy(allow())[:-1] + ', "Statement": []}', "policy_malformed"),
        (policy(allow()).replace('"Effect"', '"Effect": "Deny", "Effect"'), "policy_malformed"),
        (policy(allow()) + "x", "policy_malformed"),
        ('{"Version": NaN}', "policy_malformed"),
        ("[" * 5000 + "]" * 5000, "policy_malformed"),
        (policy(allow()).replace("data", "\ud800"), "policy_malformed"),
        (policy(allow(), Version="2008-10-17"), "policy_invalid"),
        (json.dumps({"Statement": [allow()]}), "policy_invalid"),
        (policy(), "policy_invalid"),
        (json.dumps({"Version": VERSION}), "policy_invalid"),
        (policy(allow(Principal="*")), "policy_invalid"),
        (policy(allow("s3")), "policy_invalid"),
        (policy(allow("${aws:username}:*")), "policy_invalid"),
        (policy(allow(resource="data")), "policy_invalid"),
        (policy(allow(NotAction="s3:*")), "policy_invalid"),
        (policy(allow(), Statement2=[]), "policy_invalid"),
        (policy(allow(Condition={"StringIs": {"s3:prefix": "a"}})), "policy_invalid"),
        (policy(deny()), "policy_disjoint"),
        (policy(allow("sqs:*", "*")), "policy_disjoint"),
        (policy(allow("*", "arn:aws:s3:::other/*")), "policy_disjoint"),
        (policy({"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"}, allow()), "policy_unwritable"),
        (policy({"Effect": "Allow", "Action": "*", "NotResource": DATA}, allow()), "policy_unwritable"),
        (policy(*(allow(resource=f"{DATA}{i:03}/*") for i in range(60))), "policy_too_long"),
        (policy(allow(), deny(resource=[f"{DATA}{i:03}/*" for i in range(400)])), "policy_too_long"),  # some 10 KB
    ],
)
def test_what_is_refused(asked: str, reason: str) -> None:
    assert refused(policy(allow()), asked) == reason


@pytest.mark.parametrize(
    ("operator", "key", "one", "other", "reason"),
    [
        ("StringEquals", "s3:prefix", "a", "b", "policy_disjoint"),
        ("StringLike", "s3:prefix", "a*", "b*", "policy_disjoint"),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "192.0.2.0/24", "policy_disjoint"),
        ("Bool", "aws:SecureTransport", "true", "false", "policy_disjoint"),
        # They hold together where there is no such key.
        ("StringEqualsIfExists", "s3:prefix", "a", "b", "policy_unwritable"),
        ("ForAllValues:StringEquals", "aws:TagKeys", "a", "b", "policy_unwritable"),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["a", "b"], "b", "policy_unwritable"),
        ("NumericLessThan", "s3:max-keys", "5", "6", "policy_unwritable"),
        ("DateLessThan", "aws:CurrentTime", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "policy_unwritable"),
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::a*", "arn:aws:s3:::b*", "policy_unwritable"),
    ],
)  # fmt: skip
def test_conditions_of_one_key(operator: str, key: str, one: Any, other: Any, reason: str) -> None:
    grant = policy(allow(Condition={operator: {key: one}}))
    assert refused(grant, policy(allow(Condition={operator: {key: other}}))) == reason
    assert json.loads(narrowed(grant, grant))["Statement"][0]["Condition"] == {operator: {key: one}}


# Work

MOST_LINES = 4_000_000  # of Python that run: some tenths of a second

STARS = [
    ("*a" * 20, "*b" * 20),
    ("*a" * 200, "a*" * 200),
    ("?*" * 100, "*?a" * 100),
    ("*" + "a" * 250, "a" * 250 + "*"),
    ("*ab" * 80, "*ba" * 80),
    ("a" * 500 + "*", "*" + "b" * 500),
]


@pytest.mark.threat("D08")
@pytest.mark.parametrize(("one", "other"), STARS)
def test_stars_take_no_longer_than_they_may(one: str, other: str) -> None:
    lines, (_, outcome) = counted(
        lambda: attempted(policy(allow(resource=DATA + one[:512])), policy(allow(resource=DATA + other[:512])))
    )
    assert outcome in {*REASONS, "written"}
    assert lines < MOST_LINES


@pytest.mark.threat("D08")
@pytest.mark.parametrize(
    "asked",
    [
        policy(allow(resource=[f"arn:*:a:::*a{i}*b" for i in range(350)])),
        policy(*(allow("*", f"arn:*:a:::*{i}") for i in range(90))),
        policy(allow(Condition={"StringLike": {"s3:prefix": [f"*{i}*" for i in range(800)]}})),
        policy(allow(Condition={"IpAddress": {"aws:SourceIp": [f"10.0.{i}.0" for i in range(250)] * 2}})),
        policy(allow([f"s3:*{i}*" for i in range(700)])),
    ],
)
def test_many_values_take_no_longer_than_they_may(asked: str) -> None:
    assert len(asked) < 10_000
    grant = policy(
        allow([f"s3:*{letter}*" for letter in "abcdefghijklmnop"], [f"arn:*:*:*:*:*{i}*" for i in range(40)],
              Condition={"StringLike": {"s3:prefix": [f"*{i}*" for i in range(40)]},
                         "IpAddress": {"aws:SourceIp": [f"10.0.{i}.0/24" for i in range(20)]}})
    )  # fmt: skip
    assert len(minified(json.loads(grant))) < 2048
    lines, (_, outcome) = counted(lambda: attempted(grant, asked))
    assert outcome in {*REASONS, "written"}
    assert lines < MOST_LINES

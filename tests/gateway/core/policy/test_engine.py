"""Decisions: which statements are about a request, which of them count, and what cannot be known."""

import json
from typing import Any

import pytest

from gateway.core.policy.engine import Decision, Question, compile_policy, decide
from gateway.wire.strict import Malformed
from tests.gateway.core.policy.asking import GET, OBJECT, allow, asked, deny, matches, policy, without

# AWS: "Policy evaluation logic"


def test_no_statement_that_matches_is_a_denial_by_default() -> None:
    assert asked(allow("s3:PutObject")) == Decision("not_allowed", ())
    assert asked(deny("s3:PutObject")).kind == "not_allowed"
    assert decide([], Question(GET, OBJECT, {})) == Decision("not_allowed", ())
    assert not asked(allow("s3:PutObject"))


def test_an_allow_counts() -> None:
    assert asked(allow(GET)) == Decision("allowed", ("p, Statement[0]",))
    assert asked(allow(GET))


@pytest.mark.parametrize("order", [1, -1])
def test_a_deny_wins_over_every_allow(order: int) -> None:
    found = asked(*[allow(), deny(GET), allow(GET)][::order])
    assert found == Decision("denied", ("p, Statement[1]",))
    assert not found


def test_every_statement_that_decided_is_named_and_no_other() -> None:
    written = [allow(GET, Sid="Read"), allow("s3:PutObject", Sid="Write"), allow("s3:*"), allow("*", Sid="All")]
    assert asked(*written).statements == ("p, Statement[0] (Read)", "p, Statement[2]", "p, Statement[3] (All)")
    assert asked(*written, deny("s3:*", Sid="No"), deny("sqs:*"), deny()).statements == (
        "p, Statement[4] (No)", "p, Statement[6]",
    )  # fmt: skip


def test_several_policies_count_as_one() -> None:
    question = Question(GET, OBJECT, {})
    one, other = compile_policy(policy(allow(GET)), "grant one"), compile_policy(policy(allow("s3:*")), "grant other")
    none, no = compile_policy(policy(allow("sqs:*")), "none"), compile_policy(policy(deny(Sid="No")), "fence")
    assert decide([one, other], question).statements == ("grant one, Statement[0]", "grant other, Statement[0]")
    assert decide([none, other], question).statements == ("grant other, Statement[0]",)
    assert (
        decide([one, no], question) == decide([no, one], question) == Decision("denied", ("fence, Statement[0] (No)",))
    )
    assert decide([none], question).kind == "not_allowed"


def test_a_statement_may_stand_without_a_list() -> None:
    compiled = compile_policy({"Version": "2012-10-17", "Statement": allow()}, "p")
    assert decide([compiled], Question(GET, OBJECT, {})).statements == ("p, Statement[0]",)


# AWS: "IAM JSON policy elements: Action", "NotAction"


@pytest.mark.parametrize(
    ("written", "action", "found"),
    [
        ("s3:GetObject", "s3:GetObject", True),
        ("s3:GetObject", "s3:getobject", True),
        ("S3:GETOBJECT", "s3:GetObject", True),
        ("s3:GetObject", "s3:GetObjectAcl", False),
        ("s3:GetObject", "sqs:GetObject", False),
        ("s3:Get*", "s3:GetObject", True),
        ("s3:get*", "S3:GETobject", True),
        ("s3:Get*", "s3:ListBucket", False),
        ("s3:*", "s3:GetObject", True),
        ("s3:*", "s3express:GetObject", False),
        ("s3:*", "s3-outposts:GetObject", False),
        ("*", "s3:GetObject", True),
        ("s3:?etObject", "s3:GetObject", True),
        ("s3:?GetObject", "s3:GetObject", False),
        ("s3:GetObject?", "s3:GetObject", False),
        ("s3:*Object*", "s3:GetObjectAcl", True),
        (["sqs:*", "s3:PutObject"], "s3:GetObject", False),
        (["sqs:*", "s3:GetObject"], "s3:GetObject", True),
        (["sqs:*", "*"], "s3:GetObject", True),
        ("ec2:*", "s3:GetObject", False),
    ],
)
def test_actions(written: Any, action: str, found: bool) -> None:
    for statement in (allow(written), deny(written)):
        assert matches(statement, action=action) is found
        assert matches(without(statement, "Action"), action=action) is not found


def test_each_statement_is_found_whatever_the_service_of_the_others() -> None:
    """The index by service."""
    written = [
        allow("s3:*"), allow("sqs:*"), without(allow("sqs:*"), "Action"), allow("*"), allow(["s3:*", "sqs:*"]),
        without(allow(["s3:*"]), "Action"), allow(["S3:*", "sqs:x"]), allow(["ec2:*", "*"]),
    ]  # fmt: skip
    for action, expected in (("s3:x", "023467"), ("sqs:x", "134567"), ("ec2:x", "2357"), ("S3:X", "023467")):
        found = asked(*written, action=action).statements
        assert found == tuple(f"p, Statement[{i}]" for i in expected)


def test_only_statements_that_may_match_are_looked_at() -> None:
    compiled = compile_policy(policy(allow("s3:*"), allow("SQS:*"), allow(), without(deny("ec2:*"), "Action")), "p")
    names = {action: [each.name[-2] for each in compiled.about(action)] for action in ("s3:x", "sqs:x", "ec2:x", None)}
    assert names == {"s3:x": ["0", "2", "3"], "sqs:x": ["1", "2", "3"], "ec2:x": ["2", "3"], None: ["0", "1", "2", "3"]}


# AWS: "IAM JSON policy elements: Resource", "NotResource"


@pytest.mark.parametrize(
    ("written", "resource", "found"),
    [
        ("arn:aws:s3:::data/a", "arn:aws:s3:::data/a", True),
        ("arn:aws:s3:::data/a", "arn:aws:s3:::data/A", False),
        ("arn:aws:s3:::data/a", "arn:aws:s3:::data/a/", False),
        ("arn:aws:s3:::data/*", "arn:aws:s3:::data/a/b", True),
        ("arn:aws:s3:::data/*", "arn:aws:s3:::data/", True),
        ("arn:aws:s3:::data/*", "arn:aws:s3:::data", False),
        ("arn:aws:s3:::data/*", "arn:aws:s3:::DATA/a", False),
        ("arn:aws:s3:::data/?", "arn:aws:s3:::data/a", True),
        ("arn:aws:s3:::data/?", "arn:aws:s3:::data/", False),
        ("arn:aws:s3:::data/?", "arn:aws:s3:::data/aa", False),
        ("arn:aws:s3:::data/[ab]", "arn:aws:s3:::data/a", False),
        ("arn:aws:s3:::data/[ab]", "arn:aws:s3:::data/[ab]", True),
        ("arn:aws:s3:::data/a.c", "arn:aws:s3:::data/abc", False),
        ("arn:aws:s3:::data/*.csv", "arn:aws:s3:::data/a.csv.gz", False),
        ("arn:aws:s3:::data/*.csv", "arn:aws:s3:::data/x.csv/a.csv", True),
        ("arn:aws:s3:::data/*a*b*", "arn:aws:s3:::data/xxbxaxxb", True),
        ("arn:aws:s3:::data/*a*b*", "arn:aws:s3:::data/xxbxa", False),
        ("arn:aws:s3:::data/*", "arn:aws:s3:::data/a\nb", True),
        ("arn:aws:s3:::data/a", "arn:aws:s3:::data/a\n", False),
        ("arn:aws:s3:::data/**", "arn:aws:s3:::data/a", True),
        ("arn:aws:s3:::data/${*}", "arn:aws:s3:::data/*", True),
        ("arn:aws:s3:::data/${*}", "arn:aws:s3:::data/a", False),
        ("arn:aws:s3:::data/${?}", "arn:aws:s3:::data/a", False),
        ("arn:aws:s3:::data/${$}{x}", "arn:aws:s3:::data/${x}", True),
        ("arn:aws:s3:::data/$x", "arn:aws:s3:::data/$x", True),
        ("arn:aws:sqs:*:111122223333:q", "arn:aws:sqs:eu-west-1:111122223333:q", True),
        ("arn:aws:sqs:eu-*-1:111122223333:q", "arn:aws:sqs:eu-west-1:111122223333:q", True),
        ("arn:aws:sqs:eu-?-1:111122223333:q", "arn:aws:sqs:eu-west-1:111122223333:q", False),
        ("arn:*:s3:::data/*", "arn:aws-cn:s3:::data/a", True),
        ("arn:aws:logs:*:*:log-group:*", "arn:aws:logs:eu-west-1:111122223333:log-group:a:log-stream:b", True),
        (["arn:aws:s3:::x", "arn:aws:s3:::data/a"], "arn:aws:s3:::data/a", True),
        (["arn:aws:s3:::x", "arn:aws:s3:::y/*"], "arn:aws:s3:::data/a", False),
        ("*", "arn:aws:s3:::data/a", True),
        ("*", "*", True),
        (["arn:aws:s3:::x", "*"], "*", True),
        ("arn:aws:s3:::*", "*", False),
        ("arn:*:*:*:*:*", "*", False),
    ],
)
def test_resources(written: Any, resource: str, found: bool) -> None:
    for statement in (allow("*", written), deny("*", written)):
        assert matches(statement, resource=resource) is found
        assert matches(without(statement, "Resource"), resource=resource) is not found


@pytest.mark.parametrize(
    ("written", "resource"),
    [
        ("arn:aws:s3:*:*:data/a", "arn:aws:s3:::other/x:data/a"),
        ("arn:aws:s3:*::data/a", "arn:aws:s3:::other/x::data/a"),
        ("arn:aws:s3:*:111122223333:a", "arn:aws:s3:::b:111122223333:a"),
        ("arn:aws:sqs:e*1:111122223333:q", "arn:aws:sqs:eu-west-1:999999999999:1:111122223333:q"),
    ],
)
def test_how_far_a_star_reaches_over_colons_is_read_against_who_asks(written: str, resource: str) -> None:
    """AWS: "If the * wildcard is the last character of a resource ARN segment, it can expand to match beyond the colon
    boundaries." In which segments, and whether only there, it does not say; an object's name may hold colons."""
    assert not matches(allow("*", written), resource=resource)
    assert matches(deny("*", written), resource=resource)
    assert not matches(without(allow("*", written), "Resource"), resource=resource)
    assert matches(without(deny("*", written), "Resource"), resource=resource)


def test_stars_that_would_need_ages_by_backtracking() -> None:
    pattern, resource = "arn:aws:s3:::" + "*a" * 40 + "*b", "arn:aws:s3:::" + "a" * 8000
    region = "arn:aws:s3:" + "*a" * 40 + "*b::x"
    assert not matches(allow("*", [pattern, region]), resource=resource)
    assert not matches(deny("*", [pattern, region]), resource=resource)
    assert matches(allow("*", pattern), resource=resource + "b")


# What cannot be known


@pytest.mark.parametrize("element", ["Action", "Resource"])
@pytest.mark.parametrize("narrow", ["s3:*", ["s3:GetObject", "sqs:*"]])
def test_an_unknown_action_or_resource(element: str, narrow: Any) -> None:
    unknown: dict[str, Any] = {element.lower(): None}
    written = narrow if element == "Action" else "arn:*:*:*:*:*"
    assert matches(allow(), **unknown)
    assert matches(deny(), **unknown)
    assert not matches(allow() | {element: written}, **unknown)
    assert matches(deny() | {element: written}, **unknown)
    assert not matches(without(allow() | {element: written}, element), **unknown)
    assert matches(without(deny() | {element: written}, element), **unknown)
    assert matches(allow() | {element: ["*"]}, **unknown)


def test_a_deny_of_an_unknown_action_still_has_its_other_elements() -> None:
    elsewhere = "arn:aws:s3:::other/*"
    assert not matches(deny("s3:GetObject", elsewhere), action=None)
    assert not matches(deny("s3:GetObject", Condition={"Bool": {"aws:x": "true"}}), action=None, resource=None)
    assert not matches(deny("sqs:*", "*"), resource=None)
    assert not matches(without(deny("*", "*"), "Resource"), resource=None)
    assert not matches(without(deny("*", "*"), "Action"), action=None)


# Conditions: all of them


def test_every_operator_and_every_key_of_a_condition_must_hold() -> None:
    condition = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": True}}
    whole = {"aws:a": "1", "aws:b": "2", "aws:c": "true"}
    for statement in (allow(Condition=condition), deny(Condition=condition)):
        assert matches(statement, context=whole)
        for key in whole:
            assert not matches(statement, context=whole | {key: "false"})
            assert not matches(statement, context={k: v for k, v in whole.items() if k != key})


# Variables


HOME = "arn:aws:s3:::data/${aws:username}/*"


def test_a_variable_has_the_value_of_its_key() -> None:
    context = {"aws:username": "alice"}
    for statement in (allow("*", HOME), deny("*", HOME), allow("*", HOME.replace("username", "UserName"))):
        assert matches(statement, resource="arn:aws:s3:::data/alice/x", context=context)
        assert not matches(statement, resource="arn:aws:s3:::data/bob/x", context=context)
        assert not matches(statement, resource="arn:aws:s3:::data/Alice/x", context=context)
        assert not matches(statement, resource="arn:aws:s3:::other/alice/x", context=context)


def test_two_variables_in_one_pattern() -> None:
    two = "arn:aws:s3:::${aws:PrincipalTag/team}/${aws:username}-*"
    context = {"aws:principaltag/team": "red", "aws:username": "alice"}
    assert matches(allow("*", two), resource="arn:aws:s3:::red/alice-1", context=context)
    assert not matches(allow("*", two), resource="arn:aws:s3:::alice/red-1", context=context)
    assert not matches(allow("*", two), resource="arn:aws:s3:::red/alice-1", context={"aws:username": "alice"})


@pytest.mark.parametrize("value", ["*", "?", ".*", "a*", "${*}", "(", "alice/x|"])
def test_a_value_is_letters_and_no_pattern(value: str) -> None:
    for statement in (allow("*", HOME), deny("*", HOME)):
        context = {"aws:username": value}
        assert not matches(statement, resource="arn:aws:s3:::data/alice/x", context=context)
        assert matches(statement, resource=f"arn:aws:s3:::data/{value}/x", context=context)


@pytest.mark.parametrize("context", [{}, {"aws:username": ("alice", "bob")}, {"aws:username": ("alice",)}])
def test_a_variable_without_a_value_is_any_text_in_a_deny_and_none_in_an_allow(context: dict[str, Any]) -> None:
    """AWS: "you cannot use a multivalued context key as a policy variable"."""
    resource = "arn:aws:s3:::data/alice/x"
    assert not matches(allow("*", HOME), resource=resource, context=context)
    assert matches(deny("*", HOME), resource=resource, context=context)
    assert not matches(without(allow("*", HOME), "Resource"), resource=resource, context=context)
    assert matches(without(deny("*", HOME), "Resource"), resource=resource, context=context)
    assert not matches(deny("*", HOME), resource="arn:aws:s3:::other/alice/x", context=context)
    assert matches(allow("*", [HOME, "arn:aws:s3:::data/a*"]), resource=resource, context=context)
    assert not matches(
        without(deny("*", [HOME, "arn:aws:s3:::data/a*"]), "Resource"), resource=resource, context=context
    )


@pytest.mark.parametrize(
    ("context", "name"), [({}, "none"), ({"aws:username": ()}, "none"), ({"aws:username": "alice"}, "alice")]
)
@pytest.mark.parametrize("written", ["${aws:username, 'none'}", "${aws:username,'none'}", "${ aws:username , 'none' }"])
def test_a_default_stands_in_where_the_key_is_absent(context: dict[str, Any], name: str, written: str) -> None:
    for statement in (allow("*", f"arn:aws:s3:::data/{written}"), deny("*", f"arn:aws:s3:::data/{written}")):
        assert matches(statement, resource=f"arn:aws:s3:::data/{name}", context=context)
        assert not matches(statement, resource="arn:aws:s3:::data/x", context=context)


def test_a_default_is_no_value_for_a_key_with_several() -> None:
    written, context = "arn:aws:s3:::data/${aws:username, 'none'}", {"aws:username": ("a", "b")}
    assert not matches(allow("*", written), resource="arn:aws:s3:::data/none", context=context)
    assert matches(deny("*", written), resource="arn:aws:s3:::data/x", context=context)


def test_an_empty_value_is_one() -> None:
    written = "arn:aws:s3:::data/${aws:username}"
    assert matches(allow("*", written), resource="arn:aws:s3:::data/", context={"aws:username": ""})
    assert not matches(deny("*", written), resource="arn:aws:s3:::data/a", context={"aws:username": ""})
    defaulted = "arn:aws:s3:::data/${aws:username, ''}x"
    assert matches(allow("*", defaulted), resource="arn:aws:s3:::data/x")


def test_values_with_colons_do_not_shift_what_a_star_may_take() -> None:
    written = "arn:aws:sqs:${aws:x}:*:q"
    context = {"aws:x": "eu-west-1"}
    assert matches(allow("*", written), resource="arn:aws:sqs:eu-west-1:1:q", context=context)
    assert not matches(allow("*", written), resource="arn:aws:sqs:eu-west-1:1:2:q", context=context)
    assert matches(deny("*", written), resource="arn:aws:sqs:eu-west-1:1:2:q", context=context)


# What is refused when it is compiled


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (allow() | {"Effect": "allow"}, "Statement[0].Effect: must be"),
        (allow("s3"), "Statement[0].Action: must be"),
        (allow([]), "Statement[0].Action: an empty list"),
        (allow("s3:${aws:username}"), "Statement[0].Action: must be"),
        (allow("*", "bucket"), "Statement[0].Resource: must be an ARN"),
        (allow("*", "arn:aws:s3:::${x}"), "Statement[0].Resource: has a ${…} that is no variable of IAM"),
        (allow("*", "arn:aws:s3:::${instance.id}"), "Statement[0].Resource: has a ${…} that is no variable of IAM"),
        (allow("*", "arn:aws:s3:::${aws:username"), "Statement[0].Resource: has a ${ without its }"),
        (allow("*", "arn:aws:s3:::${aws:username, none}"), "Statement[0].Resource: has a ${…} that is no variable"),
        (without(deny("*", "arn:aws:s3:::${x}"), "Resource"), "Statement[0].NotResource: has a ${…}"),
        (allow(Condition={"StringEquals": {"aws:x": "${x}"}}), "Statement[0].Condition.StringEquals.aws:x: has a ${…}"),
        (allow(Condition={"ArnLike": {"aws:x": "role/a"}}), "Statement[0].Condition.ArnLike.aws:x: must be an ARN"),
        (allow(Condition={"ArnEquals": {"aws:x": ["*", "arn:a:b:c:d"]}}), "ArnEquals.aws:x: must be an ARN"),
        (allow(Condition={"Like": {"aws:x": "a"}}), "Statement[0].Condition.Like: is no condition operator"),
        (allow(Condition={"ForAnyValue:Null": {"aws:x": "true"}}), "ForAnyValue:Null: is no condition operator"),
        (allow(Condition={"NullIfExists": {"aws:x": "true"}}), "NullIfExists: is no condition operator"),
        (allow(Condition={"ForSomeValue:StringEquals": {"aws:x": "a"}}), "is no condition operator"),
        (allow(Condition={"Bool": {"aws:x": "${aws:y}"}}), "Bool.aws:x: must be a true or false"),
        (allow(Condition={"Bool": {"aws:x": "yes"}}), "Bool.aws:x: must be a true or false"),
        *(
            (allow(Condition={"NumericEquals": {"aws:x": value}}), "NumericEquals.aws:x: must be a number")
            for value in ("1e3", "", "0x1", "1_000", "\u0661", float("nan"), float("inf"), True, "${aws:y}", "1.",
                          10**20)
        ),
        *(
            (allow(Condition={"DateLessThan": {"aws:x": value}}), "DateLessThan.aws:x: must be a date")
            for value in ("soon", "2026-13-01", "2026-01-01 00:00", "2026-W01-1", "20260101T000000Z",
                          "2026-01-01T24:00:01Z", "2026-01-01T00:00:00 Z", "${aws:y}", "2026-01-01T")
        ),
        *(
            (allow(Condition={"NotIpAddress": {"aws:x": value}}), "NotIpAddress.aws:x: must be a address")
            for value in ("10.0.0.0/33", "10.0.0", "10.0.0.0/255.0.0.0", "host", "::/129", "${aws:y}", "10.0.0.256", "")
        ),
        *(
            (allow(Condition={"BinaryEquals": {"aws:x": value}}), "BinaryEquals.aws:x: must be a base64 text")
            for value in ("a", "AA=A", "A A=", "\u00e9\u00e9\u00e9\u00e9", "${aws:y}")
        ),
        # Of ours, its value still missing: a policy is decided on when it is whole.
        *(
            (allow(Condition={operator: {"aws:x": "${instance.id}"}}), f"{operator}.aws:x: no ")
            for operator in ("IpAddress", "DateEquals", "NumericEquals")
        ),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(statement: dict[str, Any], fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        compile_policy(policy(statement), "p")
    (found,) = caught.value.faults
    assert fault in found


def test_every_fault_is_told_at_once() -> None:
    wrong = allow("*", "arn:aws:s3:::${x}", Condition={"ArnLike": {"aws:x": "x"}, "StringLike": {"aws:y": "${y}"}})
    with pytest.raises(Malformed) as caught:
        compile_policy(policy(wrong, allow(), without(wrong, "Resource")), "p")
    assert [each.partition(": ")[0] for each in caught.value.faults] == [
        "Statement[0].Resource", "Statement[0].Condition.ArnLike.aws:x", "Statement[0].Condition.StringLike.aws:y",
        "Statement[2].NotResource", "Statement[2].Condition.ArnLike.aws:x", "Statement[2].Condition.StringLike.aws:y",
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["2008-10-17", None])
def test_the_older_version_of_the_language_is_refused(version: str | None) -> None:
    """It has no variables, and would take ours for letters."""
    with pytest.raises(Malformed, match="Version"):
        compile_policy(policy(allow()) | {"Version": version}, "p")


def test_a_policy_needs_a_statement() -> None:
    with pytest.raises(Malformed, match="Statement"):
        compile_policy(policy(), "p")


def test_what_is_compiled_is_not_changed_by_what_was_written() -> None:
    written = policy(allow(GET, ["arn:aws:s3:::data/a"]))
    before = json.dumps(written)
    compiled = compile_policy(written, "p")
    assert json.dumps(written) == before
    written["Statement"][0]["Resource"].append("*")
    assert not decide([compiled], Question(GET, "arn:aws:s3:::data/b", {}))

"""Each condition operator, its negation, and what a request may lack. AWS: "Condition operators"."""

from typing import Any

import pytest

from gateway.core.policy.variables import Context
from tests.gateway.core.policy.asking import allow, holds, matches

# operator, its negation, values of the policy, value of the request, whether it holds
TABLE: list[tuple[str, str | None, Any, str, bool]] = [
    ("StringEquals", "StringNotEquals", "a", "a", True),
    ("StringEquals", "StringNotEquals", "a", "A", False),
    ("StringEquals", "StringNotEquals", "a", "ab", False),
    ("StringEquals", "StringNotEquals", "a*", "ab", False),
    ("StringEquals", "StringNotEquals", "a*", "a*", True),
    ("StringEquals", "StringNotEquals", "?", "a", False),
    ("StringEquals", "StringNotEquals", "*", "a", False),
    ("StringEquals", "StringNotEquals", "${*}", "*", True),
    ("StringEquals", "StringNotEquals", "", "", True),
    ("StringEquals", "StringNotEquals", "", "a", False),
    ("StringEquals", "StringNotEquals", ["a", "b"], "b", True),
    ("StringEquals", "StringNotEquals", ["a", "b"], "c", False),
    ("StringEquals", "StringNotEquals", "${aws:username}", "alice", True),
    ("StringEquals", "StringNotEquals", "${aws:username}", "Alice", False),
    ("StringEquals", "StringNotEquals", "${aws:username}*", "alice*", True),
    ("StringEquals", "StringNotEquals", "${aws:username}*", "alice", False),
    ("StringEquals", "StringNotEquals", "${aws:absent, 'x'}", "x", True),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Ab", "aB", True),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "ab", "abc", False),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "a*", "A*", True),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "a*", "ab", False),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "${aws:Team}s", "REDS", True),
    ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "X${aws:absent, 'Y'}", "xy", True),
    ("StringLike", "StringNotLike", "a*", "abc", True),
    ("StringLike", "StringNotLike", "a*", "a", True),
    ("StringLike", "StringNotLike", "a*", "Abc", False),
    ("StringLike", "StringNotLike", "a?c", "abc", True),
    ("StringLike", "StringNotLike", "a?c", "ac", False),
    ("StringLike", "StringNotLike", "*", "", True),
    ("StringLike", "StringNotLike", "*", "a:b:c\n", True),
    ("StringLike", "StringNotLike", "a${*}", "ab", False),
    ("StringLike", "StringNotLike", "a${*}", "a*", True),
    ("StringLike", "StringNotLike", "a.c", "abc", False),
    ("StringLike", "StringNotLike", ["x", "a*"], "ab", True),
    ("StringLike", "StringNotLike", "home/${aws:username}/*", "home/alice/x", True),
    ("StringLike", "StringNotLike", "home/${aws:username}/*", "home/bob/x", False),
    ("StringLike", "StringNotLike", "*:*:*", "a:b", False),
    ("ArnEquals", "ArnNotEquals", "arn:aws:iam::1:role/a", "arn:aws:iam::1:role/a", True),
    ("ArnEquals", "ArnNotEquals", "arn:aws:iam::1:role/a", "arn:aws:iam::1:role/A", False),
    ("ArnEquals", "ArnNotEquals", "arn:aws:iam::*:role/?", "arn:aws:iam::1:role/a", True),
    ("ArnLike", "ArnNotLike", "arn:aws:iam::*:role/*", "arn:aws:iam::1:role/a/b", True),
    ("ArnLike", "ArnNotLike", "arn:aws:sns:*:1:*", "arn:aws:sns:eu-west-1:1:t:sub", True),
    ("ArnLike", "ArnNotLike", "arn:aws:sns:*:1:t", "arn:aws:sns:eu:2:1:t", False),
    ("ArnLike", "ArnNotLike", "arn:aws:sns:??:1:t", "arn:aws:sns:e::1:t", False),
    ("ArnLike", "ArnNotLike", "arn:aws:sns:eu:1:t", "arn:aws:sns:eu:1:t:x", False),
    ("ArnLike", "ArnNotLike", "*", "arn:aws:sns:eu:1:t", True),
    ("ArnLike", "ArnNotLike", "arn:aws:iam::1:role/${aws:username}", "arn:aws:iam::1:role/alice", True),
    ("ArnLike", "ArnNotLike", "arn:aws:iam::1:role/${aws:username}", "arn:aws:iam::1:role/bob", False),
    ("ArnEquals", "ArnNotEquals", "${aws:PrincipalArn}", "arn:aws:iam::1:role/r", True),
    ("ArnEquals", "ArnNotEquals", "${aws:PrincipalArn}", "arn:aws:iam::1:role/s", False),
    ("Bool", None, "true", "true", True),
    ("Bool", None, True, "true", True),
    ("Bool", None, False, "false", True),
    ("Bool", None, True, "false", False),
    ("Bool", None, "false", "true", False),
    ("Bool", None, "true", "True", True),
    ("Bool", None, ["true", "false"], "false", True),
    ("BinaryEquals", None, "QmluYXJ5", "QmluYXJ5", True),
    ("BinaryEquals", None, "QmluYXJ5", "QmluYXJ6", False),
    ("BinaryEquals", None, ["AAEC", "QmluYXJ5"], "AAEC", True),
    ("BinaryEquals", None, "AA==", "AB==", True),  # the same byte
    ("NumericEquals", "NumericNotEquals", "2", "2.0", True),
    ("NumericEquals", "NumericNotEquals", 2, "2", True),
    ("NumericEquals", "NumericNotEquals", 2.5, "2.50", True),
    ("NumericEquals", "NumericNotEquals", 0.00001, "0.00001", True),
    ("NumericEquals", "NumericNotEquals", "-1", "1", False),
    ("NumericEquals", "NumericNotEquals", "9007199254740993", "9007199254740992", False),  # a float takes them for one
    ("NumericEquals", "NumericNotEquals", "0.1", "0.10000000000000001", False),
    ("NumericEquals", "NumericNotEquals", ["1", "2"], "2", True),
    ("NumericLessThan", None, "10", "9", True),
    ("NumericLessThan", None, "10", "10", False),
    ("NumericLessThan", None, "10", "-11", True),
    ("NumericLessThan", None, ["1", "10"], "5", True),
    ("NumericLessThanEquals", None, "10", "10", True),
    ("NumericLessThanEquals", None, "10", "10.1", False),
    ("NumericGreaterThan", None, "9", "10", True),
    ("NumericGreaterThan", None, "9", "9", False),
    ("NumericGreaterThanEquals", None, "9", "9", True),
    ("NumericGreaterThanEquals", None, "9", "8.9", False),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", True),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00:00Z", "2025-12-31T19:00-05:00", True),
    ("DateEquals", "DateNotEquals", "2026-01-01", "2026-01-01T00:00:00Z", True),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00", "2026-01-01T00:00:00Z", True),
    ("DateEquals", "DateNotEquals", "1767225600", "2026-01-01T00:00:00Z", True),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00:00.5Z", "1767225600.5", True),
    ("DateEquals", "DateNotEquals", "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00Z", False),
    ("DateEquals", "DateNotEquals", "-1", "1969-12-31T23:59:59Z", True),
    ("DateLessThan", None, "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
    ("DateLessThan", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
    ("DateLessThan", None, "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", True),
    ("DateLessThan", None, "9999-12-31T23:59:59-01:00", "999999999999999999", False),
    ("DateLessThanEquals", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
    ("DateLessThanEquals", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", False),
    ("DateGreaterThan", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", True),
    ("DateGreaterThan", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
    ("DateGreaterThanEquals", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
    ("DateGreaterThanEquals", None, "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", False),
    ("IpAddress", "NotIpAddress", "192.0.2.0/24", "192.0.2.255", True),
    ("IpAddress", "NotIpAddress", "192.0.2.0/24", "192.0.3.0", False),
    ("IpAddress", "NotIpAddress", "192.0.2.7", "192.0.2.7", True),
    ("IpAddress", "NotIpAddress", "192.0.2.7", "192.0.2.8", False),
    ("IpAddress", "NotIpAddress", "10.1.2.3/8", "10.9.9.9", True),
    ("IpAddress", "NotIpAddress", "0.0.0.0/0", "203.0.113.1", True),
    ("IpAddress", "NotIpAddress", "0.0.0.0/0", "2001:db8::1", False),
    ("IpAddress", "NotIpAddress", "::/0", "192.0.2.1", False),
    ("IpAddress", "NotIpAddress", "2001:DB8::/32", "2001:db8:0:1::5", True),
    ("IpAddress", "NotIpAddress", "192.0.2.0/24", "::ffff:192.0.2.9", True),
    ("IpAddress", "NotIpAddress", ["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1", True),
    ("IpAddress", "NotIpAddress", ["192.0.2.0/24", "2001:db8::/32"], "198.51.100.1", False),
]  # fmt: skip
CONTEXT = {"aws:username": "alice", "aws:team": "Red", "aws:principalarn": "arn:aws:iam::1:role/r"}


@pytest.mark.parametrize(("operator", "negation", "wanted", "given", "found"), TABLE)
def test_one_value(operator: str, negation: str | None, wanted: Any, given: str, found: bool) -> None:
    context = {**CONTEXT, "aws:key": given}
    assert holds(operator, "aws:Key", wanted, context) == (found, found)
    assert holds(f"{operator}IfExists", "aws:Key", wanted, context) == (found, found)
    assert holds(operator, "aws:Key", wanted, {**CONTEXT, "aws:key": (given,)}) == (found, found)
    if negation:
        assert holds(negation, "aws:Key", wanted, context) == (not found, not found)
        assert holds(f"{negation}IfExists", "aws:Key", wanted, context) == (not found, not found)


VALUES = {
    **dict.fromkeys(("StringLike", "ArnEquals", "ArnLike"), "*"),
    **dict.fromkeys(("StringEquals", "StringEqualsIgnoreCase"), "a"),
    "Bool": "true",
    "BinaryEquals": "AAEC",
    "IpAddress": "0.0.0.0/0",
    **{
        f"{kind}{how}": "1"
        for kind in ("Numeric", "Date")
        for how in ("Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    },
}
NEGATED = {
    **dict.fromkeys(("StringNotLike", "ArnNotEquals", "ArnNotLike"), "*"),
    **dict.fromkeys(("StringNotEquals", "StringNotEqualsIgnoreCase"), "a"),
    **dict.fromkeys(("NumericNotEquals", "DateNotEquals"), "1"),
    "NotIpAddress": "0.0.0.0/0",
}


def test_the_table_has_every_operator() -> None:
    assert {row[0] for row in TABLE} == VALUES.keys()
    assert {row[1] for row in TABLE if row[1]} == NEGATED.keys()


@pytest.mark.parametrize("absent", [{}, {"aws:x": ()}, {"aws:other": "1"}])
@pytest.mark.parametrize("operator", [*VALUES, *NEGATED])
def test_an_absent_key(operator: str, absent: dict[str, Any]) -> None:
    """AWS: "the values do not match and the condition is false. If the policy condition requires that the key is not
    matched […] the condition is true"; IfExists: "the condition element evaluates to true"."""
    wanted, negated = (VALUES | NEGATED)[operator], operator in NEGATED
    assert holds(operator, "aws:x", wanted, absent) == (negated, negated)
    assert holds(f"{operator}IfExists", "aws:x", wanted, absent) == (True, True)
    assert holds(f"ForAllValues:{operator}", "aws:x", wanted, absent) == (True, True)
    assert holds(f"ForAllValues:{operator}IfExists", "aws:x", wanted, absent) == (True, True)
    assert holds(f"ForAnyValue:{operator}", "aws:x", wanted, absent) == (False, False)


def test_any_value_of_an_absent_key_if_it_exists_is_read_against_who_asks() -> None:
    """The one says true, the other false, of a key that is absent."""
    assert holds("ForAnyValue:StringEqualsIfExists", "aws:x", "a", {}) == (False, True)
    assert holds("ForAnyValue:StringNotEqualsIfExists", "aws:x", "a", {}) == (False, True)
    assert holds("ForAnyValue:StringEqualsIfExists", "aws:x", "a", {"aws:x": ("b", "c")}) == (False, False)
    assert holds("ForAnyValue:StringEqualsIfExists", "aws:x", "a", {"aws:x": ("b", "a")}) == (True, True)


@pytest.mark.parametrize(
    ("wanted", "context", "found"),
    [
        ("true", {}, True),
        ("true", {"aws:x": ()}, True),
        ("true", {"aws:x": "a"}, False),
        ("true", {"aws:x": ""}, False),
        ("true", {"aws:x": ("a", "b")}, False),
        ("false", {}, False),
        ("false", {"aws:x": ()}, False),
        ("false", {"aws:x": "a"}, True),
        ("false", {"aws:x": ("",)}, True),
        (True, {}, True),
        (False, {"aws:x": "true"}, True),
        (["true", "false"], {}, True),
        (["true", "false"], {"aws:x": "a"}, True),
    ],
)
def test_null(wanted: Any, context: dict[str, Any], found: bool) -> None:
    assert holds("Null", "AWS:X", wanted, context) == (found, found)


@pytest.mark.parametrize(
    ("given", "every", "some", "every_not", "some_not"),
    [
        (("a", "b"), True, True, False, False),
        (("a",), True, True, False, False),
        ("a", True, True, False, False),
        (("a", "c"), False, True, False, True),
        (("c", "d"), False, False, True, True),
        ("c", False, False, True, True),
        (("A",), False, False, True, True),
    ],
)
def test_several_values(given: Any, every: bool, some: bool, every_not: bool, some_not: bool) -> None:
    """AWS: "Multivalued context keys"."""
    context = {"aws:tagkeys": given}
    for operator, negation in (("StringEquals", "StringNotEquals"), ("StringLike", "StringNotLike")):
        for suffix in ("", "IfExists"):
            found = [
                holds(f"{quantifier}:{name}{suffix}", "aws:TagKeys", ["a", "b"], context)
                for name in (operator, negation)
                for quantifier in ("ForAllValues", "ForAnyValue")
            ]
            assert found == [(each, each) for each in (every, some, every_not, some_not)]


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "every", "some"),
    [
        ("NumericLessThan", "5", ("1", "4"), True, True),
        ("NumericLessThan", "5", ("1", "6"), False, True),
        ("ArnLike", "arn:aws:iam::1:role/*", ("arn:aws:iam::1:role/a", "arn:aws:iam::2:role/a"), False, True),
        ("IpAddress", "10.0.0.0/8", ("10.0.0.1", "10.0.0.2"), True, True),
        ("StringEqualsIgnoreCase", "A", ("a", "b"), False, True),
        ("Bool", "true", ("false", "false"), False, False),
    ],
)
def test_several_values_of_other_kinds(operator: str, wanted: str, given: Any, every: bool, some: bool) -> None:
    assert holds(f"ForAllValues:{operator}", "aws:x", wanted, {"aws:x": given}) == (every, every)
    assert holds(f"ForAnyValue:{operator}", "aws:x", wanted, {"aws:x": given}) == (some, some)


@pytest.mark.parametrize("operator", [*VALUES, *NEGATED])
def test_several_values_without_a_set_operator_are_read_against_who_asks(operator: str) -> None:
    """AWS: "Multivalued context keys require a condition set operator"."""
    wanted = (VALUES | NEGATED)[operator]
    for given in (("a", "b"), ("1", "1"), ("10.0.0.1", "::1")):
        assert holds(operator, "aws:x", wanted, {"aws:x": given}) == (False, True)


@pytest.mark.parametrize("empty", ["", ("",), ("", "")])
def test_empty_values_pass_for_all_values_of_a_deny(empty: Any) -> None:
    """AWS: ForAllValues "also returns true […] if the key values resolve to a null data set, such as an empty string".
    An Allow has to name the empty text."""
    assert holds("ForAllValues:StringEquals", "aws:x", "a", {"aws:x": empty}) == (False, True)
    assert holds("ForAllValues:StringEquals", "aws:x", ["a", ""], {"aws:x": empty}) == (True, True)
    assert holds("ForAnyValue:StringEquals", "aws:x", "a", {"aws:x": empty}) == (False, False)
    assert holds("ForAllValues:StringEquals", "aws:x", "a", {"aws:x": ("", "b")}) == (False, False)


@pytest.mark.parametrize(
    ("operator", "negation", "wanted", "given"),
    [
        *(("NumericEquals", "NumericNotEquals", "1", each) for each in ("", "a", "1e3", "NaN", "0x1", "1_0", "\u0661")),
        ("NumericLessThan", None, "1", "many"),
        ("NumericGreaterThanEquals", None, "1", "infinity"),
        *(("DateEquals", "DateNotEquals", "2026-01-01", each) for each in ("", "now", "2026-13-01", "2026-1-1")),
        ("DateLessThan", None, "2026-01-01", "yesterday"),
        *(("IpAddress", "NotIpAddress", "0.0.0.0/0", each)
          for each in ("", "host", "10.0.0", "10.0.0.0/8", "1.2.3.4.5")),
        *(("Bool", None, each, "yes") for each in ("true", "false")),
        ("Bool", None, "true", ""),
        ("BinaryEquals", None, "AAEC", "A"),
        ("BinaryEquals", None, "AAEC", "AA EC"),
        *(("ArnLike", "ArnNotLike", "arn:aws:s3:::*", each) for each in ("", "*", "s3:::b", "arn:aws:s3::b")),
        *(("ArnLike", "ArnNotLike", "*", each) for each in ("", "role")),
        ("ArnEquals", "ArnNotEquals", "${aws:username}", "arn:aws:s3:::b"),
        ("StringEquals", "StringNotEquals", "${aws:username}", "a"),
        ("StringEquals", "StringNotEquals", "${aws:several, 'a'}", "a"),
        ("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "x${aws:username}", "Xa"),
        ("StringLike", "StringNotLike", "${aws:username}/*", "a/b"),
        ("StringEquals", "StringNotEquals", ["x", "${aws:username}"], "a"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_read_against_who_asks(
    operator: str, negation: str | None, wanted: Any, given: str
) -> None:
    context: Context = {"aws:x": given, "aws:several": ("a", "b")}
    for each in (operator, negation):
        if each:
            assert holds(each, "aws:x", wanted, context) == (False, True)
            assert holds(f"{each}IfExists", "aws:x", wanted, context) == (False, True)


def test_a_variable_without_a_value_is_no_text_that_does_not_fit() -> None:
    """It could be any text, and the text around it is known."""
    assert holds("StringEquals", "aws:x", "a${aws:username}", {"aws:x": "b"}) == (False, False)
    assert holds("StringNotEquals", "aws:x", "a${aws:username}", {"aws:x": "b"}) == (True, True)
    assert holds("StringEquals", "aws:x", ["a", "${aws:username}"], {"aws:x": "a"}) == (True, True)
    assert holds("StringNotEquals", "aws:x", ["a", "${aws:username}"], {"aws:x": "a"}) == (False, False)
    assert holds("ArnLike", "aws:x", "arn:aws:s3:::${aws:username}", {"aws:x": "arn:aws:s3:::b"}) == (False, True)
    assert holds("ArnLike", "aws:x", "arn:aws:s3:::${aws:username}", {"aws:x": "arn:aws:sqs:::b"}) == (False, False)


def test_keys_know_no_case() -> None:
    for written in ("aws:PrincipalTag/Team", "AWS:principaltag/team", "aws:PRINCIPALTAG/TEAM"):
        condition = {"StringEquals": {written: "red"}}
        assert matches(allow(Condition=condition), context={"aws:principaltag/team": "red"})
        assert not matches(allow(Condition=condition), context={"aws:principaltag/other": "red"})

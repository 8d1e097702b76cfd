"""Hints: each where it is meant, and none at what is as it should be."""

from typing import Any

import pytest

from gateway.core.policy.lint import hints

BUCKET = "arn:aws:s3:::data/*"


def told(*statements: dict[str, Any], known: Any = None) -> list[str]:
    return list(hints({"Version": "2012-10-17", "Statement": list(statements)}, known))


def allow(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": BUCKET, **more}


def without(statement: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key not in names}


@pytest.mark.parametrize(
    "fine",
    [
        [allow()],
        [allow(Action="*", Condition={"StringEquals": {"aws:username": "a"}}, Resource="*")],
        [allow(Action="*")],
        [allow(Resource="*")],
        [allow(Action=["s3:*", "sqs:*"])],
        [allow(Action="s3-object-lambda:GetObject")],
        [allow(Action="s*:GetObject", Resource="arn:aws:sqs:*:*:q")],
        [allow(), {"Effect": "Deny", "Action": "S3:getobject", "Resource": "arn:aws:s3:::data/secret/*"}],
        [allow(),
         {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:ViaAWSService": "true"}}}],
        [allow(), {"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"}],
        [allow(Resource="arn:aws:s3:::${instance.id}/*"),
         {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::data/x"}],
        [allow(Condition={"Null": {"aws:x": "true"}, "StringEqualsIfExists": {"aws:x": "a"}})],
        [allow(Condition={"Null": {"aws:x": "true"}, "StringNotEquals": {"aws:x": "a"}})],
        [allow(Condition={"Null": {"aws:x": "false"}, "StringEquals": {"aws:x": "a"}})],
        [allow(Condition={"NumericGreaterThan": {"aws:x": "1"}, "NumericLessThan": {"aws:x": "20"}})],
        [allow(Condition={"NumericGreaterThan": {"aws:x": "9"}, "NumericLessThan": {"aws:y": "2"}})],
        [{"Effect": "Deny", "Action": "s3:Put*", "Resource": "*"}, allow(Action=["s3:PutObject", "s3:GetObject"])],
    ],
)  # fmt: skip
def test_what_is_fine_is_passed_over(fine: list[dict[str, Any]]) -> None:
    assert told(*fine) == []


@pytest.mark.parametrize(
    ("odd", "place", "what"),
    [
        ([allow(Action="*", Resource="*")], "Statement[0].Action", "everything on everything"),
        ([without(allow(NotAction="iam:*"), "Action")], "Statement[0].NotAction", "all that is not named"),
        ([without(allow(NotResource=BUCKET), "Resource")], "Statement[0].NotResource", "all that is not named"),
        ([allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": "a"}})],
         "Statement[0].Condition.ForAllValues:StringEquals", "not there at all"),
        ([allow(Action="sqs:SendMessage")], "Statement[0].Resource", "actions of sqs and resources of s3"),
        ([allow(Condition={"Null": {"aws:X": True}, "StringEquals": {"aws:x": "a"}})],
         "Statement[0].Condition.StringEquals.aws:x", "never holds"),
        ([allow(Condition={"Null": {"aws:x": "true"}, "NumericLessThan": {"aws:x": "1"}})],
         "Statement[0].Condition.NumericLessThan.aws:x", "never holds"),
        ([allow(Condition={"NumericGreaterThan": {"aws:x": "9"}, "NumericLessThanEquals": {"AWS:X": "2"}})],
         "Statement[0].Condition", "more than 9 and less than 2"),
        ([allow(Condition={"DateGreaterThan": {"aws:x": "2027-01-01T00:00:00Z"},
                           "DateLessThan": {"aws:x": "2026-01-01T00:00:00Z"}})],
         "Statement[0].Condition", "more than 2027"),
        ([allow(), {"Effect": "Deny", "Action": "sqs:*", "Resource": "*"}], "Statement[1]", "denies nothing"),
        ([allow(), {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::other/*"}],
         "Statement[1]", "denies nothing"),
        ([{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}, allow()], "Statement[1]", "allows nothing"),
    ],
)  # fmt: skip
def test_what_is_odd_is_told_with_its_place(odd: list[dict[str, Any]], place: str, what: str) -> None:
    (hint,) = told(*odd)
    assert hint.startswith(f"{place}: ")
    assert what in hint


def test_names_are_looked_up_where_there_is_a_catalogue() -> None:
    catalogue = {"s3": frozenset({"getobject", "putobject"})}
    assert told(allow(Action=["s3:GetObject", "S3:Put*", "*"]), known=catalogue.get) == []
    assert told(allow(Action=["s3:GetObjekt", "s3:G?t*"], Resource="*"), known=catalogue.get) == [
        "Statement[0].Action: s3 has no action getobjekt"
    ]
    assert told(allow(Action="s4:GetObject", Resource="*"), known=catalogue.get) == [
        "Statement[0].Action: there is no service s4"
    ]


def test_too_much_to_compare_is_no_hint() -> None:
    star = [f"s3:{'*a' * 20}{i}*" for i in range(40)]
    assert told(allow(Action=star), {"Effect": "Deny", "Action": [each + "b*" for each in star], "Resource": "*"}) == []

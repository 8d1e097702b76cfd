"""Templates (threat D09): whatever a tag holds, what is filled in means that text and nothing more."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import template
from gateway.core.errors import Refusal
from gateway.core.policy import document
from tests.policy_evaluator import Request, allows

ARN = "arn:aws:s3:::data/"
TAG = "instance.tags.team"


def policy(resource: Any = ARN + "${instance.tags.team}/*", **more: Any) -> dict[str, Any]:
    one = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource, **more}
    return {"Version": "2012-10-17", "Statement": [one]}


def filled(value: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = template.in_policy(policy(**more), {TAG: value})
    return found


def reads(policy: dict[str, Any], key: str) -> bool:
    return allows(policy, Request("s3:GetObject", ARN + key, {"aws:username": "alice"}))


EVIL = {
    "a star": "*", "a question mark": "?", "stars": "a*b?", "a dollar": "$", "an escape": "${*}",
    "a variable of IAM": "${aws:username}", "a template": "${instance.id}", "half a variable": "${", "a brace": "}",
    "a quote": '"', "the end of a policy": '"}],"Statement":[{', "a backslash": "\\", "an escaped letter": "\\u002a",
    "a line end": "a\n", "NUL": "a\0", "a tab": "\t", "a slash": "a/b", "a way up": "../x", "a colon": "a:b",
    "another letter": "é", "a wide star": "＊", "300 letters": "a" * 300, "a comma": "a,b", "blanks": " ", "empty": "",
    "a line separator": "a\u2028b", "brackets": "[a-z]", "an emoji": "🙂",
}  # fmt: skip
LITERAL = {"a star", "a question mark", "stars", "a dollar", "another letter", "300 letters", "a comma", "blanks"}


@pytest.mark.threat("D09")
@pytest.mark.parametrize("what", EVIL)
def test_a_value_is_taken_as_it_is_or_refused(what: str) -> None:
    value = EVIL[what]
    if what not in LITERAL:
        with pytest.raises(Refusal) as caught:
            filled(value)
        assert caught.value.code == "grant_refused"
        assert caught.value.reason == ("template_value_refused" if value else "template_value_missing")
        assert caught.value.context == {"template": TAG}
        assert len(value) < 3 or value not in str(caught.value)
        return
    made = filled(value)
    assert list(document.faults(made)) == []
    assert reads(made, f"{value}/x")
    assert not any(reads(made, key) for key in ("alice/x", "other/x", "a/x", "a1b2/x", f"{value}2/x", "x"))


def test_what_an_unescaped_value_would_open() -> None:
    """The control."""
    assert reads(policy(resource=ARN + "*/*"), "other/x")
    assert reads(policy(resource=ARN + "${aws:username}/*"), "alice/x")


@pytest.mark.threat("D09")
@settings(max_examples=400)
@given(
    st.one_of(st.text(max_size=12), st.text("*?${}aws:usernm'\",./\\ -", max_size=12)),
    st.lists(st.text("*?$ab/", max_size=6), min_size=10, max_size=10),
)
def test_no_value_opens_more_than_itself(value: str, others: list[str]) -> None:
    condition = {"StringLike": {"s3:prefix": "${instance.tags.team}/*"}}
    try:
        by_name, by_condition = filled(value), filled(value, resource="*", Condition=condition)
    except Refusal:
        return
    for other in [*others, value, "alice", ""]:
        context = {"aws:username": "alice", "s3:prefix": f"{other}/x"}
        asked = Request("s3:GetObject", f"{ARN}{other}/x", context)
        same = other.startswith(value) and f"{other}/x".startswith(f"{value}/")
        assert allows(by_name, asked) == same
        assert allows(by_condition, asked) == same


@pytest.mark.threat("D09")
@pytest.mark.parametrize("values", [{}, {TAG: ""}, {"instance.tags.Team": "x"}])
def test_a_value_that_is_missing_is_refused(values: dict[str, str]) -> None:
    name = "${instance.tags.team}"
    for fill in (
        lambda: template.in_policy(policy(), values),
        lambda: template.in_name(name, values),
        lambda: template.in_tag(name, values),
    ):
        with pytest.raises(Refusal) as caught:
            fill()
        assert (caught.value.code, caught.value.reason) == ("grant_refused", "template_value_missing")


def test_every_place_is_filled_and_iam_keeps_its_own() -> None:
    written = policy(
        resource=[ARN + "${instance.id}/${aws:username}", ARN + "${*}/${instance.account}"],
        Condition={"StringEquals": {"aws:PrincipalTag/x": ["${instance.region}", "${profile.name}-${grant.name}"]}},
    )
    values = {"instance.id": "i-1", "instance.account": "1", "instance.region": "r", "profile.name": "p",
              "grant.name": "g", "lease.id": "l"}  # fmt: skip
    one = template.in_policy(written, values)["Statement"][0]
    assert one["Resource"] == [ARN + "i-1/${aws:username}", ARN + "${*}/1"]
    assert one["Condition"] == {"StringEquals": {"aws:PrincipalTag/x": ["r", "p-g"]}}
    assert template.in_policy(policy(resource=ARN + "${lease.id}"), values)["Statement"][0]["Resource"] == ARN + "l"
    assert template.in_name("${instance.id}@${lease.id}", values) == "i-1@l"
    assert template.in_tag("${profile.name} / ${lease.id}", values) == "p / l"


@pytest.mark.parametrize(
    ("value", "name", "tag"),
    [
        ("a-b_c.d@e=f,g+h", True, False),  # a comma is nothing for tags
        ("a b", False, True),
        ("a/b:c", False, True),
        ("é", False, True),
        ("a\n", False, False),
        ("*", False, False),
        ("${instance.id}", False, False),
        ("a" * 257, True, False),
    ],
)
def test_names_and_tags_take_what_aws_takes(value: str, name: bool, tag: bool) -> None:
    for fill, taken in ((template.in_name, name), (template.in_tag, tag)):
        if taken:
            assert fill("${instance.tags.team}", {TAG: value}) == value
        else:
            with pytest.raises(Refusal) as caught:
                fill("${instance.tags.team}", {TAG: value})
            assert caught.value.reason in ("template_value_refused", "tag_too_long")


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ({"Resource": ARN + "${instance.name}"}, "Statement[0].Resource: ${instance.name} is none of our templates"),
        ({"Resource": ARN + "${instance.tags.}"}, "Statement[0].Resource: ${instance.tags.} is none"),
        ({"Resource": ARN + "${Instance.id}"}, "Statement[0].Resource: ${Instance.id} is none"),
        ({"Resource": ARN + "${instance.id"}, "Statement[0].Resource: a ${ has no }"),
        ({"Resource": ARN + "${a${instance.id}}"}, "Statement[0].Resource: a ${ has no }"),
        ({"Action": "s3:${instance.id}"}, "Statement[0].Action: a template may stand in Resource and"),
        ({"Sid": "${instance.id}"}, "Statement[0].Sid: a template may stand"),
        ({"Condition": {"StringEquals": {"aws:x": "${x}"}}}, "Statement[0].Condition: ${x} is none of our templates"),
        ({"Condition": {"Bool": {"aws:x": "${aws:a, '${instance.id}'}"}}}, "Statement[0].Condition: a ${ has no }"),
        ({"Resource": "${\x1b[2J}"}, "Statement[0].Resource: ${\\x1b[2J} is none of our templates"),
    ],
)  # fmt: skip
def test_faults_of_policies(statement: dict[str, Any], fault: str) -> None:
    found = list(template.policy_faults({"Statement": [statement]}))
    assert any(each.startswith(fault) for each in found), found
    fine = policy(
        Condition={"StringLike": {"aws:x": ["${aws:PrincipalTag/a, 'b'}", "${instance.tags.Cost Center}", "${$}"]}}
    )
    assert list(template.policy_faults(fine)) == []


def test_faults_of_a_policy_that_is_nested_as_deep_as_json_goes() -> None:
    deep: Any = "${x}"
    for _ in range(100_000):
        deep = [deep]
    assert list(template.policy_faults({"Statement": {"Resource": deep}}))
    while isinstance(deep, list):  # or its end would be deep, too
        deep = deep.pop()


@pytest.mark.parametrize("written", ["${lease}", "${aws:username}", "${*}", "${}", "${instance.id", "${ instance.id}"])
def test_names_and_tags_know_our_templates_only(written: str) -> None:
    assert list(template.faults(written))
    assert list(template.faults("a-${instance.id}-${lease.id}$")) == []

"""What holds for every policy and every question."""

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.policy.engine import Decision, Question, compile_policy, decide
from gateway.core.policy.variables import Context
from tests.gateway.core.policy.asking import allow, asked, deny, holds, policy
from tests.gateway.core.policy.draws import Draw, draw, statement

SEEDS = st.integers(0, 2**32)


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # the seed is what hypothesis looks for


DRAWS = SEEDS.map(lambda seed: draw(_dice(seed)))
STATEMENTS = SEEDS.map(lambda seed: statement(_dice(seed)))
LAW = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


def decided(each: Draw, *more: dict[str, Any], **changed: Any) -> Decision:
    """The decision of the draw's policy, with more statements, and asked something else."""
    question: dict[str, Any] = {"action": each.action, "resource": each.resource, "context": each.context} | changed
    return asked(*each.policy["Statement"], *more, **question)


@LAW
@given(DRAWS, STATEMENTS)
def test_one_more_deny_never_allows(each: Draw, more: dict[str, Any]) -> None:
    before, after = decided(each), decided(each, more | {"Effect": "Deny"})
    assert before or not after
    assert after.kind == "denied" or after == before


@LAW
@given(DRAWS, STATEMENTS)
def test_one_more_allow_never_denies(each: Draw, more: dict[str, Any]) -> None:
    before, after = decided(each), decided(each, more | {"Effect": "Allow"})
    assert bool(after) >= bool(before)
    assert (after.kind == "denied") == (before.kind == "denied")


@LAW
@given(DRAWS, st.randoms(use_true_random=False))
def test_order_never_matters(each: Draw, dice: random.Random) -> None:
    shuffled = list(each.policy["Statement"])
    dice.shuffle(shuffled)
    reordered = each._replace(policy=each.policy | {"Statement": shuffled})
    assert decided(reordered).kind == decided(each).kind
    assert len(decided(reordered).statements) == len(decided(each).statements)


@LAW
@given(DRAWS)
def test_one_policy_of_two_statements_is_two_policies_of_one(each: Draw) -> None:
    apart = [compile_policy(policy(one), "p") for one in each.policy["Statement"]]
    assert decide(apart, Question(each.action, each.resource, each.context)).kind == decided(each).kind


@LAW
@given(DRAWS)
def test_no_policy_allows_nothing_and_everything_denied_is_denied(each: Draw) -> None:
    assert not decide([], Question(each.action, each.resource, each.context))
    assert decided(each, deny()).kind == "denied"
    assert decided(each, allow()).kind != "not_allowed"
    nothing = [one for one in each.policy["Statement"] if one["Effect"] == "Deny"]
    assert not nothing or not decided(each._replace(policy=policy(*nothing)))


@LAW
@given(DRAWS)
def test_the_case_of_the_action_never_matters(each: Draw) -> None:
    assert decided(each, action=each.action.swapcase()) == decided(each)
    assert decided(each, action=each.action.upper()) == decided(each)


@LAW
@given(DRAWS)
def test_the_statements_that_are_named_decide_alone(each: Draw) -> None:
    found = decided(each)
    places = [int(name.partition("[")[2].partition("]")[0]) for name in found.statements]
    assert bool(places) == (found.kind != "not_allowed")
    for place in places:
        assert decided(each._replace(policy=policy(each.policy["Statement"][place]))).kind == found.kind


@LAW
@given(DRAWS, st.sampled_from(["action", "resource"]))
def test_what_is_not_known_is_allowed_only_where_anything_is(each: Draw, what: str) -> None:
    """Whatever the unknown would turn out to be: no Deny of it is missed, and no Allow of it is invented."""
    unknown, known = decided(each, **{what: None}), decided(each)
    if known.kind == "denied":
        assert unknown.kind == "denied"
    if unknown:
        assert known


@LAW
@given(
    DRAWS, st.sampled_from(["aws:username", "aws:principaltag/team"]), st.sampled_from(["alice", "a", "*", "data", ""])
)
def test_a_variable_that_is_not_known_is_allowed_only_where_any_value_is(each: Draw, key: str, value: str) -> None:
    unknown = decided(each, context={k: v for k, v in each.context.items() if k != key})
    known = decided(each, context=each.context | {key: value})
    if known.kind == "denied":
        assert unknown.kind == "denied"
    if unknown:
        assert known


TEXT = st.text("aA/:*?[.$\n", max_size=8)
PATTERN = st.lists(st.sampled_from(["a", "A", "/", ":", "*", "?", "[", ".", "${*}", "${?}"]), max_size=7).map("".join)


def _like(text: str, pattern: list[str]) -> bool:
    """What a pattern matches, by its definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _like(text, pattern[1:]) or (text != "" and _like(text[1:], pattern))
    letter = pattern[0].removeprefix("${").removesuffix("}") if len(pattern[0]) > 1 else pattern[0]
    return text != "" and (pattern[0] == "?" or text[0] == letter) and _like(text[1:], pattern[1:])


@LAW
@given(TEXT, PATTERN)
def test_a_pattern_matches_by_its_definition(text: str, pattern: str) -> None:
    tokens = pattern.replace("${*}", "\0").replace("${?}", "\1")
    expected = _like(text, [{"\0": "${*}", "\1": "${?}"}.get(each, each) for each in tokens])
    assert holds("StringLike", "aws:x", pattern, {"aws:x": text}) == (expected, expected)
    assert holds("StringNotLike", "aws:x", pattern, {"aws:x": text}) == (not expected, not expected)


@LAW
@given(TEXT.map(lambda text: text.replace("$", "")), TEXT)
def test_letters_match_themselves_and_equality_knows_no_pattern(written: str, text: str) -> None:
    context: Context = {"aws:x": text, "aws:username": written}
    for form in (written, "${aws:username}", "${aws:absent, '" + written + "'}"):
        for key, same in (("", text == written), ("IgnoreCase", text.lower() == written.lower())):
            assert holds(f"StringEquals{key}", "aws:x", form, context) == (same, same)
    escaped = "".join("${" + letter + "}" if letter in "*?" else letter for letter in written)
    assert holds("StringLike", "aws:x", escaped, context) == (text == written,) * 2
    assert holds("StringLike", "aws:x", "${aws:username}", context) == (text == written,) * 2


PART = st.text("ab*?", max_size=3)
ARN_PATTERN = st.lists(PART, min_size=3, max_size=4).map(lambda parts: ":".join(["arn", "aws", "s3", *parts]))
ARN = st.lists(st.text("ab", max_size=3), min_size=3, max_size=5).map(
    lambda parts: ":".join(["arn", "aws", "s3", *parts])
)


@LAW
@given(ARN_PATTERN, ARN)
def test_an_arn_matches_part_by_part(pattern: str, arn: str) -> None:
    expected = all(
        _like(part, list(wanted)) for part, wanted in zip(arn.split(":", 5), pattern.split(":", 5), strict=True)
    )
    assert holds("ArnLike", "aws:x", pattern, {"aws:x": arn}) == (expected, expected)
    assert holds("ArnNotEquals", "aws:x", pattern, {"aws:x": arn}) == (not expected, not expected)
    if expected:
        assert holds("StringLike", "aws:x", pattern, {"aws:x": arn}) == (True, True)

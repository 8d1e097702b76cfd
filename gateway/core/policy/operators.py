"""Condition operators: each line of a Condition becomes one test of a request's context. Pure.

AWS: "IAM JSON policy elements: Condition operators", "Conditions with multiple context keys or values", "Single-valued
vs. multivalued context keys". An absent key fails the test, but passes a negated operator, IfExists and ForAllValues.

Where a value of the request cannot be compared (no number, several values without a set operator), and where AWS's
pages contradict one another (ForAnyValue with IfExists), the test passes in a Deny and fails in an Allow.
"""

import operator as comparisons
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TypeVar

from gateway.core.policy import literals
from gateway.core.policy.matching import PARTS, Patterns
from gateway.core.policy.variables import Context

Test = Callable[[Context], bool]
Fits = Callable[[str, Context], bool]
"""Whether one value of a request is as one of the wanted values; where that cannot be said, it is as `wide` has it."""
T = TypeVar("T")

TRUTHS = ("true", "false")


def test_of(operator: str, key: str, wanted: Sequence[str], *, deny: bool) -> Test:
    """The test for one operator, one key and its values, as `document.faults` lets them pass; `deny` is the effect.

    Raises ValueError: a value that can never match, or a variable where IAM puts none in.
    """
    key = key.lower()
    if operator == "Null":
        return partial(_null, key, frozenset(wanted))
    quantifier, _, name = operator.rpartition(":")
    bare = name.removesuffix("IfExists")
    if_exists = bare != name
    negated = bare in _NEGATED
    fits = _OPERATORS[_NEGATED.get(bare, bare)](wanted, deny != negated)
    if quantifier == "ForAllValues":
        return partial(_all, key, fits, negated, deny)
    if quantifier == "ForAnyValue":
        return partial(_any, key, fits, negated, deny and if_exists)
    return partial(_one, key, fits, negated, if_exists or negated, deny)


def _null(key: str, wanted: frozenset[str], context: Context) -> bool:
    return ("false" if context.get(key, ()) != () else "true") in wanted


def _one(key: str, fits: Fits, negated: bool, absent: bool, unsure: bool, context: Context) -> bool:
    given = context.get(key, ())
    if not isinstance(given, str):
        if len(given) != 1:
            return unsure if given else absent
        given = given[0]
    return fits(given, context) != negated


def _all(key: str, fits: Fits, negated: bool, deny: bool, context: Context) -> bool:
    """Of values that are all empty AWS says that they pass: "a null data set, such as an empty string"."""
    given = _values(key, context)
    return (deny and not any(given)) or all(fits(each, context) != negated for each in given)


def _any(key: str, fits: Fits, negated: bool, absent: bool, context: Context) -> bool:
    given = _values(key, context)
    return any(fits(each, context) != negated for each in given) if given else absent


def _values(key: str, context: Context) -> tuple[str, ...]:
    given = context.get(key, ())
    return (given,) if isinstance(given, str) else given


# The operators, each without its negation


def _equal(wanted: Sequence[str], wide: bool) -> Fits:
    return Patterns(wanted, wide=wide, wildcards=False).match


def _equal_ignoring_case(wanted: Sequence[str], wide: bool) -> Fits:
    patterns = Patterns(wanted, wide=wide, wildcards=False, fold=True)
    return lambda given, context: patterns.match(given.lower(), context)


def _like(wanted: Sequence[str], wide: bool) -> Fits:
    return Patterns(wanted, wide=wide).match


def _arn(wanted: Sequence[str], wide: bool) -> Fits:
    """AWS: "Each of the six colon-delimited components of the ARN is checked separately"."""
    for each in wanted:
        if each != "*" and "${" not in each and not _is_arn(each):
            raise ValueError("must be an ARN")
    patterns = Patterns(wanted, wide=wide, by_parts=True)
    return lambda given, context: patterns.match(given, context) if _is_arn(given) else wide


def _is_arn(text: str) -> bool:
    return text.count(":") >= PARTS - 1


def _truth(wanted: Sequence[str], wide: bool) -> Fits:
    return lambda given, _: given.lower() in wanted if given.lower() in TRUTHS else wide


def _read(read: Callable[[str], T], holds: Callable[[T], bool], wide: bool) -> Fits:
    """What `holds` says of the value as `read` understands it."""

    def fits(given: str, _: Context) -> bool:
        try:
            value = read(given)
        except ValueError:
            return wide
        return holds(value)

    return fits


def _binary(wanted: Sequence[str], wide: bool) -> Fits:
    return _read(literals.binary, {literals.binary(each) for each in wanted}.__contains__, wide)


def _address(wanted: Sequence[str], wide: bool) -> Fits:
    networks = [literals.network(each) for each in wanted]
    return _read(literals.address, lambda address: any(address in each for each in networks), wide)


def _ordered(
    read: Callable[[str], Decimal], holds: Callable[[Decimal, Decimal], bool], wanted: Sequence[str], wide: bool
) -> Fits:
    limits = [read(each) for each in wanted]
    return _read(read, lambda value: any(holds(value, limit) for limit in limits), wide)


_COMPARISONS = {
    "Equals": comparisons.eq,
    "LessThan": comparisons.lt,
    "LessThanEquals": comparisons.le,
    "GreaterThan": comparisons.gt,
    "GreaterThanEquals": comparisons.ge,
}
_OPERATORS: dict[str, Callable[[Sequence[str], bool], Fits]] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": _equal_ignoring_case,
    "StringLike": _like,
    "ArnEquals": _arn,  # "ArnEquals and ArnLike behave identically"
    "ArnLike": _arn,
    "Bool": _truth,
    "BinaryEquals": _binary,
    "IpAddress": _address,
    **{f"Numeric{name}": partial(_ordered, literals.number, holds) for name, holds in _COMPARISONS.items()},
    **{f"Date{name}": partial(_ordered, literals.moment, holds) for name, holds in _COMPARISONS.items()},
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}

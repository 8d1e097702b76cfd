"""A session policy as IAM reads it: the grammar, before AWS sees it. Pure.

AWS: "IAM JSON policy element reference" and "Grammar of the IAM JSON policy language". A document that passes may still
be refused for what only AWS knows (the services and actions that there are).
"""

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from gateway.core.policy import literals
from gateway.core.policy.patterns import VARIABLE
from gateway.wire.strict import Malformed, loads

# AssumeRole: "The plaintext that you use for both inline and managed session policies can't exceed 2,048 characters."
LONGEST = 2048
VERSION = "2012-10-17"  # the older one has no policy variables, and takes ours for text

_ACTION = re.compile(r"\*|[A-Za-z0-9-]{1,64}:[A-Za-z0-9*?]{1,128}")
_RESOURCE = re.compile(r"\*|arn:[a-z*?-]+:[a-z0-9*?-]+:[a-z0-9*?-]*:([0-9]{12}|aws|[*?]*):.+", re.DOTALL)
_SID = re.compile(r"[A-Za-z0-9]{1,128}")
_CONDITION_KEY = re.compile(r"[A-Za-z0-9-]{1,64}:[\w.:/=+@*-]{1,256}(/[\w .:/=+@-]{1,128})?")
_OPERATOR = re.compile(r"(?:ForAllValues:|ForAnyValue:)?(\w+?)(?:IfExists)?")
_OURS = re.compile(r"\$\{[a-z]+\.[^{}]*\}")  # a template of ours, whose value comes later

_COMPARISONS = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
_OPERATORS = {
    **dict.fromkeys(
        ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike",
         "StringNotLike", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"), "string"),
    "BinaryEquals": "base64 text",
    **{f"Numeric{each}": "number" for each in _COMPARISONS},
    **{f"Date{each}": "date" for each in _COMPARISONS},
    "Bool": "true or false",
    "Null": "true or false",
    "IpAddress": "address",
    "NotIpAddress": "address",
}  # fmt: skip
_READ: dict[str, Callable[[str], object]] = {
    "number": literals.number, "date": literals.moment, "address": literals.network, "base64 text": literals.binary,
}  # fmt: skip


def parse(written: str) -> dict[str, Any]:
    """The policy as plain values, its form unchecked. Raises Malformed: no JSON, a key twice, no object."""
    try:
        policy = loads(written.encode())
    except Malformed as malformed:
        raise Malformed(*(fault.removeprefix("body: ") for fault in malformed.faults)) from None
    except UnicodeEncodeError:
        raise Malformed("is not text in UTF-8") from None
    if not isinstance(policy, dict):
        raise Malformed("must be an object")
    return policy


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements; one alone may stand without a list around it."""
    found = policy.get("Statement")
    return found if isinstance(found, list) else [found]  # type: ignore[list-item]  # `faults` finds what is none


def values(element: Any) -> list[Any]:
    """The values of an element; one alone may stand without a list around it."""
    return element if isinstance(element, list) else [element]


def faults(policy: dict[str, Any]) -> Iterator[str]:
    """What IAM would refuse in a session policy, each as `path: what is wrong`."""
    yield from _unknown(policy, {"Version", "Id", "Statement"}, "")
    if policy.get("Version") != VERSION:
        yield f'Version: must be "{VERSION}"'
    if not isinstance(policy.get("Id", ""), str):
        yield "Id: must be a string"
    found = statements(policy) if "Statement" in policy else []
    if not found:
        yield "Statement: a policy needs at least one"
    sids: set[str] = set()
    for i, statement in enumerate(found):
        where = f"Statement[{i}]"
        if not isinstance(statement, dict):
            yield f"{where}: must be an object"
            continue
        yield from _statement(statement, where)
        if isinstance(sid := statement.get("Sid"), str):
            if sid in sids:
                yield f"{where}.Sid: stands twice"
            sids.add(sid)


def _statement(statement: dict[str, Any], where: str) -> Iterator[str]:
    if {"Principal", "NotPrincipal"} & statement.keys():
        yield f"{where}: names a Principal, which a session policy may not"
    known = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
    yield from _unknown(statement, known | {"Principal", "NotPrincipal"}, f"{where}.")
    if "Sid" in statement and not (isinstance(statement["Sid"], str) and _SID.fullmatch(statement["Sid"])):
        yield f"{where}.Sid: has letters and digits only"
    if statement.get("Effect") not in ("Allow", "Deny"):
        yield f'{where}.Effect: must be "Allow" or "Deny"'
    for name, form, what in (("Action", _ACTION, "service:Action"), ("Resource", _RESOURCE, "an ARN")):
        present = [key for key in (name, f"Not{name}") if key in statement]
        if len(present) != 1:
            yield f"{where}: needs either {name} or Not{name}"
        for key in present:
            yield from _texts(statement[key], form, what, f"{where}.{key}")
    yield from _condition(statement.get("Condition", {}), f"{where}.Condition")


def _texts(element: Any, form: re.Pattern[str], what: str, where: str) -> Iterator[str]:
    if element == []:
        yield f"{where}: an empty list matches nothing"
    for i, text in enumerate(values(element)):
        place = f"{where}[{i}]" if isinstance(element, list) else where
        # IAM puts values into resources, and not into actions.
        plain = VARIABLE.sub("0" * 12, text) if isinstance(text, str) and form is _RESOURCE else text
        if not isinstance(plain, str) or not form.fullmatch(plain):
            yield f"{place}: must be {what} or *"


def _condition(block: Any, where: str) -> Iterator[str]:
    if not isinstance(block, dict):
        yield f"{where}: must be an object"
        return
    for operator, keys in block.items():
        place = f"{where}.{ascii(operator)[1:-1][:60]}"
        match = _OPERATOR.fullmatch(operator)
        kind = _OPERATORS.get(match[1]) if match else None
        if kind is None or (match and match[1] == "Null" and operator != "Null"):
            yield f"{place}: is no condition operator"
        elif not isinstance(keys, dict) or not keys:
            yield f"{place}: must be an object of condition keys"
        else:
            yield from _keys(keys, kind, place)


def _keys(keys: dict[str, Any], kind: str, where: str) -> Iterator[str]:
    seen: set[str] = set()
    for key, element in keys.items():
        place = f"{where}.{ascii(key)[1:-1][:100]}"
        if not _CONDITION_KEY.fullmatch(key):
            yield f"{place}: is no condition key"
        if key.lower() in seen:
            yield f"{place}: stands twice; condition keys know no case"
        seen.add(key.lower())
        found = values(element)
        if not found or not all(_is_of(kind, value) for value in found):
            yield f"{place}: must be a {kind}, or a list of such"


def word(value: Any) -> str:
    """A value of a condition as text: JSON's true and false, and its numbers, mean what they would as strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}"


def _is_of(kind: str, value: Any) -> bool:
    if kind == "true or false":
        return isinstance(value, bool) or value in ("true", "false")
    if kind == "number" and (type(value) is int or (type(value) is float and math.isfinite(value))):
        value = word(value)
    if not isinstance(value, str):
        return False
    # IAM puts variables into texts and ARNs only ("Condition operators", under each kind).
    if kind == "string" or _OURS.search(value):
        return True
    try:
        _READ[kind](value)
    except ValueError:
        return False
    return True


def _unknown(value: dict[str, Any], known: set[str], where: str) -> Iterator[str]:
    for key in (key for key in value if key not in known):
        yield f"{where}{ascii(key)[1:-1][:40]}: is not known here"

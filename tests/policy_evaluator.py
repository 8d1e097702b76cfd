"""What an IAM policy allows, judged from AWS's pages alone: nothing of this shares code with gateway.core.policy.

One policy by itself, as a session policy is judged: an explicit Deny wins, then an Allow counts, and nothing else does.
AWS: "Policy evaluation logic", "IAM JSON policy elements: Condition operators", "Variables and tags", "Conditions with
multiple context keys or values". `*` and `?` are read over the whole text, also over the colons of an ARN.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

Context = Mapping[str, str | list[str]]


class Request(NamedTuple):
    """What is asked for. The keys of `context` are in lower case."""

    action: str
    resource: str
    context: Context = MappingProxyType({})


def allows(policy: str | Mapping[str, Any], request: Request) -> bool:
    """The verdict."""
    document = json.loads(policy) if isinstance(policy, str) else policy
    matching = [each["Effect"] for each in _list(document["Statement"]) if _matches(each, request)]
    return "Deny" not in matching and "Allow" in matching


def _matches(statement: Mapping[str, Any], request: Request) -> bool:
    action = request.action.lower()
    for name, given, cased in (("Action", action, False), ("Resource", request.resource, True)):
        if name in statement:
            found = any(
                like(given, each if cased else each.lower(), request.context) for each in _list(statement[name])
            )
        else:
            patterns = _list(statement[f"Not{name}"])
            found = not any(like(given, each if cased else each.lower(), request.context) for each in patterns)
        if not found:
            return False
    blocks = statement.get("Condition", {}).items()
    return all(
        _holds(operator, key, values, request.context) for operator, keys in blocks for key, values in keys.items()
    )


def like(text: str, pattern: str, context: Context) -> bool:
    """Whether the pattern matches; a variable without a value matches nothing."""
    out = ""
    for token in re.findall(r"\$\{[^}]*\}|.", pattern, re.DOTALL):
        if token in ("${*}", "${?}", "${$}"):
            out += re.escape(token[2])
        elif len(token) > 1:
            key, _, default = token[2:-1].partition(",")
            value = context.get(key.strip().lower(), default.strip().strip("'") or None)
            if not isinstance(value, str):
                return False
            out += re.escape(value)
        else:
            out += {"*": ".*", "?": "."}.get(token, re.escape(token))
    return re.fullmatch(out, text, re.DOTALL) is not None


def _plain(text: str, context: Context) -> str:
    """A value of a condition without wildcards, its variables filled in."""

    def value(match: re.Match[str]) -> str:
        return match[1] if match[1] in "*?$" else str(context.get(match[1].lower(), "\0"))

    return re.sub(r"\$\{([^}]*)\}", value, text)


def _moment(text: str) -> datetime:
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return datetime.fromtimestamp(float(text), UTC)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _compared(kind: Callable[[str], Any], how: str) -> Callable[[str, str, Context], bool]:
    def compare(given: str, wanted: str, _: Context) -> bool:
        a, b = kind(given), kind(wanted)
        return bool({"Equals": a == b, "LessThan": a < b, "LessThanEquals": a <= b, "GreaterThan": a > b,
                     "GreaterThanEquals": a >= b}[how])  # fmt: skip

    return compare


_POSITIVE: dict[str, Callable[[str, str, Context], bool]] = {
    "StringEquals": lambda given, wanted, context: given == _plain(wanted, context),
    "StringEqualsIgnoreCase": lambda given, wanted, context: given.lower() == _plain(wanted, context).lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda given, wanted, _: given.lower() == wanted.lower(),
    "IpAddress": lambda given, wanted, _: ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False),
} | {
    f"{kind}{how}": _compared(reader, how)
    for kind, reader in (("Numeric", float), ("Date", _moment))
    for how in ("Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
}
_NEGATED = {
    "StringNotEquals": "StringEquals", "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike", "ArnNotEquals": "ArnEquals", "ArnNotLike": "ArnLike", "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals", "DateNotEquals": "DateEquals",
}  # fmt: skip


def _holds(operator: str, key: str, wanted: Any, context: Context) -> bool:
    values = [str(each).lower() if isinstance(each, bool) else str(each) for each in _list(wanted)]
    given = context.get(key.lower())
    if operator == "Null":
        return (given is None) == (values[0] == "true")
    quantifier, _, bare = operator.rpartition(":")
    if_exists, bare = bare.endswith("IfExists"), bare.removesuffix("IfExists")
    negated = bare in _NEGATED
    compare = _POSITIVE[_NEGATED.get(bare, bare)]

    def fits(one: str) -> bool:
        return negated != any(compare(one, each, context) for each in values)

    if given is None:
        return if_exists or quantifier == "ForAllValues" or (negated and not quantifier)
    if quantifier:
        return (all if quantifier == "ForAllValues" else any)(map(fits, _list(given)))
    return isinstance(given, str) and fits(given)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

"""What two session policies both allow, as one policy. Pure.

STS takes the union of the session policies that it is given, so the intersection has to be written down: for each pair
of Allow statements what they have in common, and every Deny of both. What cannot be written down is refused: the answer
is never wider than either policy. AWS: "Session policies"; "Policy evaluation logic".
"""

import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.policy import document
from gateway.core.policy.document import statements, values
from gateway.core.policy.patterns import Search, TooComplex

Statement = dict[str, Any]
Condition = dict[str, dict[str, Any]]

_NEGATED = {
    "StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike", "ArnNotEquals", "ArnNotLike", "NotIpAddress",
}  # fmt: skip


class _Unwritable(ValueError):
    """The intersection exists, and no policy of this form says it."""


def narrowed(grant: str, asked: str) -> str:
    """The policy (JSON text) that allows what `grant` and `asked` both allow.

    Raises Refusal `policy_refused`: `asked` is no policy, nothing is in both, or it cannot be written in 2,048 letters.
    """
    try:
        policy = document.parse(asked)
    except ValueError as malformed:
        raise Refusal("policy_refused", f"policy: {malformed}", reason="policy_malformed") from None
    if faults := list(document.faults(policy)):
        raise Refusal("policy_refused", "; ".join(f"policy: {fault}" for fault in faults[:20]), reason="policy_invalid")
    try:
        found = _meet(_plain(document.parse(grant)), _plain(policy), Search())
    except (_Unwritable, TooComplex) as why:
        raise Refusal("policy_refused", f"The policy cannot be united with the grant's: {why}",
                      reason="policy_unwritable") from None  # fmt: skip
    if not any(statement["Effect"] == "Allow" for statement in found):
        raise Refusal("policy_refused", "The grant allows nothing of what the policy allows", reason="policy_disjoint")
    written = minified({"Version": document.VERSION, "Statement": found})
    if len(written) > document.LONGEST:
        size = f"Together with the grant's, the policy has {len(written)} letters, and AWS takes {document.LONGEST}"
        raise Refusal("policy_refused", size, reason="policy_too_long")
    return written


def minified(policy: Mapping[str, Any]) -> str:
    """The policy as text without white space: STS counts every letter."""
    return json.dumps(policy, separators=(",", ":"))


def _plain(policy: dict[str, Any]) -> list[Statement]:
    """The same policy without NotAction and NotResource in what it allows.

    An Allow that stands alone says the same as "everything" and a Deny of what it leaves out. Beside another Allow the
    Deny would reach too far. Raises _Unwritable.
    """
    out = [{key: value for key, value in each.items() if key != "Sid"} for each in statements(policy)]
    allows = [each for each in out if each["Effect"] == "Allow"]
    for allow in allows:
        for name in ("Action", "Resource"):
            if f"Not{name}" in allow:
                if len(allows) > 1:
                    raise _Unwritable(f"Not{name} in one of several Allow statements")
                deny = {"Effect": "Deny", "Action": "*", "Resource": "*", name: allow.pop(f"Not{name}")}
                allow[name] = "*"
                out.append(deny)
    return out


def _meet(one: list[Statement], other: list[Statement], search: Search) -> list[Statement]:
    allowed = []
    for a in one:
        for b in other:
            if a["Effect"] == b["Effect"] == "Allow" and (both := _both(a, b, search)) is not None:
                allowed.append(both)
    denied = [each for each in (*one, *other) if each["Effect"] == "Deny"]
    return _once(allowed) + _once(denied)


def _once(found: list[Statement]) -> list[Statement]:
    return list({minified(each): each for each in found}.values())


def _both(a: Statement, b: Statement, search: Search) -> Statement | None:
    """The Allow statement of what both allow; None when that is nothing."""

    def actions_of(one: str, other: str) -> list[str]:
        """Actions know no case; as they were written they are kept where one is the narrower."""
        low, narrow = one.lower(), other.lower()
        found = search.meet(low, narrow)
        return [other] if found == [narrow] else [one] if found == [low] else found

    actions = _patterns(a["Action"], b["Action"], actions_of, search)
    resources = _patterns(a["Resource"], b["Resource"], search.meet_arns, search) if actions else []
    if not resources or (condition := _conditions(a.get("Condition", {}), b.get("Condition", {}), search)) is None:
        return None
    out = {"Effect": "Allow", "Action": _one_or_list(actions), "Resource": _one_or_list(resources)}
    return out | ({"Condition": condition} if condition else {})


def _patterns(one: Any, other: Any, meet: Callable[[str, str], list[str]], search: Search) -> list[str]:
    return search.without_covered(both for a in values(one) for b in values(other) for both in meet(a, b))


def _conditions(one: Any, other: Any, search: Search) -> Condition | None:
    """Both conditions at once; None when they cannot both hold. Keys of one operator know no case."""
    out: Condition = {operator: dict(keys) for operator, keys in one.items()}
    for operator, keys in other.items():
        for key, element in keys.items():
            there = out.setdefault(operator, {})
            same = next((known for known in there if known.lower() == key.lower()), None)
            if same is None:
                there[key] = element
                continue
            both = _condition_values(operator, values(there[same]), values(element), search)
            if not both:
                return None
            there[same] = _one_or_list(both)
    return out


def _condition_values(operator: str, one: list[Any], other: list[Any], search: Search) -> list[Any]:
    """Values with which this operator says what both lists say; none when no request fits both. Raises _Unwritable.

    Values of one key are alternatives, but those of a negated operator must all hold. AWS: "Conditions with multiple
    context keys or values".
    """
    bare = operator.removeprefix("ForAllValues:").removesuffix("IfExists")
    search.spend(len(one) * len(other))
    if sorted(map(_word, one)) == sorted(map(_word, other)):
        return one
    if bare.startswith("ForAnyValue:"):
        raise _Unwritable(f"{operator} twice with the same key")
    if bare in _NEGATED:
        return [*one, *(value for value in other if value not in one)]
    if bare in ("StringEquals", "BinaryEquals", "Bool", "Null"):
        words = {_word(each) for each in other}
        both = [value for value in one if _word(value) in words]
    elif bare == "StringLike":
        both = search.without_covered(each for a in one for b in other for each in search.meet(a, b))
    elif bare == "IpAddress":
        search.spend(20 * len(one) * len(other))
        both = sorted({each for a in one for b in other if (each := _network(a, b))})
    else:
        raise _Unwritable(f"{operator} twice with the same key")
    if not both and bare != operator:  # they hold together where the key is absent: there is no list that says so
        raise _Unwritable(f"{operator} twice with the same key, and no value in both")
    return both


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _network(one: str, other: str) -> str | None:
    try:
        a, b = ipaddress.ip_network(one, strict=False), ipaddress.ip_network(other, strict=False)
    except ValueError:  # a variable
        raise _Unwritable("an address with a variable in it") from None
    if a.version != b.version or not a.overlaps(b):
        return None
    return str(max(a, b, key=lambda network: network.prefixlen))


def _one_or_list(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else found

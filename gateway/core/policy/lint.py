"""What a policy may say, and hardly anybody means: hints for those who write one. Pure.

Each hint has the form of a fault, `path: what is odd`. A policy without a hint may still be wrong, and one with hints
may be right: nothing is refused for them. The policy has passed `document.faults`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from gateway.core.policy.document import statements, values
from gateway.core.policy.patterns import VARIABLE, Search, TooComplex

Known = Callable[[str], frozenset[str] | None]
"""The names of a service's actions by its prefix (all in lower case); None for a prefix that there is not."""

_POSITIVE = re.compile(r"(?:For\w+Values?:)?(?!.*Not)(String|Numeric|Date|Arn|Bool|Binary|IpAddress)\w*(?<!IfExists)")


def hints(policy: dict[str, Any], known: Known | None = None) -> Iterator[str]:
    """Every hint, in the order of the statements. `known` is the catalogue of actions, where there is one."""
    found = statements(policy)
    for i, statement in enumerate(found):
        where = f"Statement[{i}]"
        yield from _wide(statement, where)
        yield from _never(statement, where)
        if known is not None:
            yield from _names(statement, where, known)
    yield from _without_effect(found)


def _wide(statement: dict[str, Any], where: str) -> Iterator[str]:
    if statement["Effect"] != "Allow":
        return
    everything = "*" in values(statement.get("Action", []))
    anywhere = "*" in values(statement.get("Resource", []))
    if everything and anywhere and not statement.get("Condition"):
        yield f"{where}.Action: allows everything on everything: the role alone is the limit"
    for element in ("NotAction", "NotResource"):
        if element in statement:
            yield f"{where}.{element}: in an Allow, it allows all that is not named, and all that there will ever be"
    for operator in statement.get("Condition", {}):
        if operator.startswith("ForAllValues:"):
            yield f"{where}.Condition.{operator}: in an Allow, it also holds where the key is not there at all"


def _never(statement: dict[str, Any], where: str) -> Iterator[str]:
    """Statements that match nothing, whatever is asked."""
    services = {_service(each) for each in values(statement.get("Action", "*"))}
    owners = {_owner(each) for each in values(statement.get("Resource", "*"))}
    plain = not any(set("*?") & set(each) for each in services | owners)
    # Resources of one service that actions of another take are rare, and have the other's prefix in their names.
    if plain and services and owners and not services & owners and not _lends(services, owners):
        named = f"{', '.join(sorted(services))} and resources of {', '.join(sorted(owners))}"
        yield f"{where}.Resource: matches nothing: actions of {named}"
    condition = statement.get("Condition", {})
    absent = {key.lower() for key, value in condition.get("Null", {}).items() if values(value) in (["true"], [True])}
    for operator, keys in condition.items():
        for key in keys:
            if key.lower() in absent and _POSITIVE.fullmatch(operator) and not operator.startswith("ForAllValues:"):
                yield f"{where}.Condition.{operator}.{key}: never holds beside Null, which asks that it is not there"
    yield from _empty_ranges(condition, where)


def _empty_ranges(condition: dict[str, Any], where: str) -> Iterator[str]:
    for kind in ("Numeric", "Date"):
        lows = _bounds(condition, f"{kind}GreaterThan")
        highs = _bounds(condition, f"{kind}LessThan")
        for key in sorted(lows.keys() & highs.keys()):
            low, high = lows[key], highs[key]
            try:
                empty = float(low) > float(high)
            except ValueError:  # dates of one form sort as they are written
                empty = len(low) == len(high) and low.endswith("Z") and high.endswith("Z") and low > high
            if empty:
                yield f"{where}.Condition: {key} cannot be more than {low} and less than {high}"


def _bounds(condition: dict[str, Any], operator: str) -> dict[str, str]:
    found = {**condition.get(operator, {}), **condition.get(f"{operator}Equals", {})}
    return {key.lower(): str(values(value)[0]) for key, value in found.items() if len(values(value)) == 1}


def _names(statement: dict[str, Any], where: str, known: Known) -> Iterator[str]:
    for element in ("Action", "NotAction"):
        for written in values(statement.get(element, [])):
            prefix, _, name = written.lower().partition(":")
            if written == "*" or set("*?") & set(prefix):
                continue
            actions = known(prefix)
            if actions is None:
                yield f"{where}.{element}: there is no service {prefix}"
            elif not any(_matches(name, each) for each in actions):
                yield f"{where}.{element}: {prefix} has no action {name}"


def _without_effect(found: list[dict[str, Any]]) -> Iterator[str]:
    """A Deny of what no Allow allows, and an Allow of which a Deny takes everything."""
    search = Search()
    for i, statement in enumerate(found):
        others = [each for each in found if each["Effect"] != statement["Effect"]]
        try:
            if statement["Effect"] == "Deny" and not any(_overlap(search, statement, each) for each in others):
                yield f"Statement[{i}]: denies nothing that any statement allows"
            elif statement["Effect"] == "Allow" and any(_swallows(search, each, statement) for each in others):
                yield f"Statement[{i}]: allows nothing that is not denied"
        except TooComplex:
            return


def _overlap(search: Search, one: dict[str, Any], other: dict[str, Any]) -> bool:
    for element in ("Action", "Resource"):
        if element not in one or element not in other:
            continue  # what is named by exception overlaps, as far as we look
        meet = search.meet if element == "Action" else search.meet_arns
        pairs = ((a, b) for a in _folded(one, element) for b in _folded(other, element))
        if not any(meet(a, b) for a, b in pairs):
            return False
    return True


def _swallows(search: Search, deny: dict[str, Any], allow: dict[str, Any]) -> bool:
    if deny.get("Condition") or not {"Action", "Resource"} <= deny.keys() & allow.keys():
        return False
    return all(
        any(search.covers(wide, narrow) for wide in _folded(deny, element))
        for element in ("Action", "Resource")
        for narrow in _folded(allow, element)
    )


def _folded(statement: dict[str, Any], element: str) -> list[str]:
    """Actions know no case. A template or a variable may be anything."""
    found = values(statement[element])
    if element == "Action":
        return [each.lower() for each in found]
    return [re.sub(VARIABLE, "*", each) for each in found]


def _lends(services: set[str], owners: set[str]) -> bool:
    """Services whose actions are on resources with another name in their ARNs."""
    return any(a.partition("-")[0] == b.partition("-")[0] for a in services for b in owners)


def _service(action: str) -> str:
    return action.lower().partition(":")[0]


def _owner(resource: str) -> str:
    return resource if resource == "*" else resource.split(":")[2]


def _matches(pattern: str, name: str) -> bool:
    return Search().covers(pattern, name)

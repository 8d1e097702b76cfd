"""A policy made ready to decide many requests: parsed once, its statements indexed by the service of the action. Pure.

AWS: "IAM JSON policy elements" of Effect, Action, NotAction, Resource, NotResource and Condition.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.policy import document
from gateway.core.policy.matching import Patterns
from gateway.core.policy.operators import Test, test_of
from gateway.core.policy.variables import Context
from gateway.wire.strict import Malformed


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `name` is where it stands, and its Sid; `not_actions` and `not_resources` turn the match round."""

    name: str
    deny: bool
    actions: Patterns
    not_actions: bool
    resources: Patterns
    not_resources: bool
    conditions: tuple[Test, ...]

    def matches(self, action: str | None, resource: str | None, context: Context) -> bool:
        """Whether it is about this request. `action` is in lower case; None is what cannot be known."""
        if self.actions.match(action, context) is self.not_actions:
            return False
        if self.resources.match(resource, context) is self.not_resources:
            return False
        for test in self.conditions:  # noqa: SIM110  # half the time of all()
            if not test(context):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy. `services` holds, for each service that an Action names, what may be about its actions."""

    name: str
    statements: tuple[Statement, ...]
    services: Mapping[str, tuple[Statement, ...]]
    general: tuple[Statement, ...]

    def about(self, action: str | None) -> tuple[Statement, ...]:
        """The statements that may match this action (in lower case), in their order."""
        if action is None:
            return self.statements
        return self.services.get(action.partition(":")[0], self.general)


def compile_policy(policy: Mapping[str, Any], name: str) -> Policy:
    """The policy, ready to decide. `name` is how decisions shall call it: `grant reports`.

    Raises Malformed: what IAM would refuse, or what could never match as it is meant.
    """
    written = dict(policy)
    if faults := tuple(document.faults(written)):
        raise Malformed(*faults)
    found: list[tuple[Statement, frozenset[str]]] = []
    unreadable: list[str] = []
    for i, each in enumerate(document.statements(written)):
        where = f"Statement[{i}]"
        sid = f" ({each['Sid']})" if "Sid" in each else ""
        statement = _statement(each, f"{name}, {where}{sid}", where, unreadable)
        if statement is not None:
            found.append((statement, _services(each)))
    if unreadable:
        raise Malformed(*unreadable)
    every = frozenset(service for _, services in found for service in services)
    return Policy(
        name,
        tuple(statement for statement, _ in found),
        {each: tuple(s for s, services in found if not services or each in services) for each in every},
        tuple(statement for statement, services in found if not services),
    )


def _services(statement: Mapping[str, Any]) -> frozenset[str]:
    """The services whose actions alone the statement can match; none when it can match those of any."""
    actions = document.values(statement.get("Action", "*"))
    return frozenset() if "*" in actions else frozenset(each.lower().partition(":")[0] for each in actions)


def _statement(written: Mapping[str, Any], name: str, where: str, faults: list[str]) -> Statement | None:
    """None, and what is wrong in `faults`."""
    before = len(faults)
    deny = written["Effect"] == "Deny"
    not_actions, not_resources = "NotAction" in written, "NotResource" in written
    element = "NotAction" if not_actions else "Action"
    actions = Patterns(document.values(written[element]), wide=deny != not_actions, fold=True)
    element = "NotResource" if not_resources else "Resource"
    resources = None
    try:
        wide = deny != not_resources
        resources = Patterns(document.values(written[element]), wide=wide, by_parts=not wide)
    except ValueError as error:
        faults.append(f"{where}.{element}: {error}")
    conditions = tuple(_conditions(written.get("Condition", {}), deny, f"{where}.Condition", faults))
    if resources is None or len(faults) > before:
        return None
    return Statement(name, deny, actions, not_actions, resources, not_resources, conditions)


def _conditions(block: Mapping[str, Any], deny: bool, where: str, faults: list[str]) -> Iterator[Test]:
    for operator, keys in block.items():
        for key, element in keys.items():
            wanted = [document.word(each) for each in document.values(element)]
            try:
                yield test_of(operator, key, wanted, deny=deny)
            except ValueError as error:
                faults.append(f"{where}.{operator}.{key}: {error}")

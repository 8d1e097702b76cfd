"""Why a policy decides as it does, statement by statement. Pure.

The engine itself is asked: each element of a statement is put to it as a statement of its own, beside elements that
match everything. So no explanation can differ from a decision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.policy.document import VERSION, statements
from gateway.core.policy.judge import Ask, Judge, Named


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and one question. `failing` are its elements that do not match; none: it matches.

    `name` is as decisions have it: `grant reports, Statement[1] (ReadOnly)`.
    """

    name: str
    effect: str
    failing: tuple[str, ...]


def explain(policies: Sequence[Named], ask: Ask, judge: Judge) -> tuple[Statement, ...]:
    """Every statement of these policies, in order. Raises Malformed for a policy that IAM would refuse."""
    judge(policies, ask)  # so that each is well-formed
    found = []
    for policy in policies:
        for i, statement in enumerate(statements(dict(policy.document))):
            sid = f" ({statement['Sid']})" if "Sid" in statement else ""
            failing = tuple(_failing(statement, ask, judge))
            found.append(Statement(f"{policy.name}, Statement[{i}]{sid}", statement["Effect"], failing))
    return tuple(found)


def _failing(statement: dict[str, Any], ask: Ask, judge: Judge) -> Iterator[str]:
    effect = statement["Effect"]

    def matches(**elements: Any) -> bool:
        probe = {"Effect": effect, **elements}
        probe |= {} if {"Action", "NotAction"} & probe.keys() else {"Action": "*"}
        probe |= {} if {"Resource", "NotResource"} & probe.keys() else {"Resource": "*"}
        kind = judge([Named("probe", {"Version": VERSION, "Statement": [probe]})], ask).kind
        return kind == {"Allow": "allowed", "Deny": "denied"}[effect]

    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if name in statement and not matches(**{name: statement[name]}):
            yield name
    for operator, keys in statement.get("Condition", {}).items():
        for key, value in keys.items():
            if not matches(Condition={operator: {key: value}}):
                given = ask.question().context.get(key.lower())
                has = "is not there" if given is None else f"is {_shown(given)}"
                yield f"Condition.{operator}.{key} ({has})"


def _shown(given: str | tuple[str, ...]) -> str:
    several = (given,) if isinstance(given, str) else given
    return " and ".join(f"'{each}'" for each in several) or "empty"

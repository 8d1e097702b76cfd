"""One question put to named policies, for tools that put thousands: each policy is compiled once. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core import template
from gateway.core.errors import Refusal
from gateway.core.policy.engine import Decision, Policy, Question, compile_policy, decide
from gateway.core.policy.patterns import VARIABLE

Context = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Named:
    """A policy as plain values, under the name that decisions shall give it: `grant reports`, `reports.json`."""

    name: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for. None: it cannot be known. Condition keys are taken in any case."""

    action: str | None
    resource: str | None
    context: Context = field(default_factory=dict)

    def question(self) -> Question:
        """As the engine wants it."""
        return Question(self.action, self.resource, {key.lower(): value for key, value in self.context.items()})


class Judge:
    """Decides, and remembers what it has compiled."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, str], Policy] = {}

    def __call__(self, policies: Sequence[Named], ask: Ask) -> Decision:
        """The decision of all these policies together. Raises Malformed for one that IAM would refuse."""
        return decide([self._policy(each) for each in policies], ask.question())

    def _policy(self, named: Named) -> Policy:
        key = (named.name, json.dumps(named.document))
        if key not in self._compiled:
            self._compiled[key] = compile_policy(named.document, named.name)
        return self._compiled[key]


def supposing(named: Named, values: Mapping[str, str]) -> tuple[Named, frozenset[str]]:
    """The policy of a grant with the templates filled in that have a value, and the names of those that have none.

    Those become variables without a value, which match in a Deny and not in an Allow: nothing is allowed by a guess.
    """
    missing: set[str] = set()

    def filled(match: re.Match[str]) -> str:
        try:
            return str(template.in_policy(match[0], values))
        except Refusal:
            missing.add(match[0][2:-1])
            return f"${{gateway:{re.sub('[^A-Za-z0-9.]', '-', match[0][2:-1])}}}"

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return VARIABLE.sub(filled, value)
        if isinstance(value, list):
            return [walk(each) for each in value]
        return {key: walk(each) for key, each in value.items()} if isinstance(value, Mapping) else value

    return replace(named, document=walk(named.document)), frozenset(missing)

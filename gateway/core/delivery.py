"""How the calls of a grant reach AWS: with a session in the agent's hands, signed one by one, or carried. Pure.

The ways differ in what the instance ever holds: a session (`token`), one signature (`sign`), nothing (`proxy`). A call
goes by the strictest way that any of its actions asks for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gateway.wire.messages import WAYS

TOKEN, SIGN, PROXY = WAYS  # the later, the stricter


@dataclass(frozen=True)
class Delivery:
    """`default` is the way of what `patterns` does not name: for each way, IAM action patterns as a policy has them."""

    default: str = TOKEN
    patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def ways(self) -> tuple[str, ...]:
        """Every way that a call may go."""
        return tuple(way for way in WAYS if way == self.default or self.patterns.get(way))

    def way(self, actions: Iterable[str | None]) -> str:
        """The way of a call with these actions; None is one that cannot be known, and goes the strictest way."""
        return max((self._way(action) for action in actions), key=WAYS.index, default=self.ways[-1])

    def fences(self) -> list[dict[str, Any]]:
        """What a session in the agent's hands must not do, as statements of its session policy."""
        found: list[dict[str, Any]] = []
        if self.default != TOKEN:
            found.append({"Effect": "Deny", "NotAction": [*self.patterns.get(TOKEN, ())], "Resource": "*"})
        if stricter := [pattern for way in (SIGN, PROXY) for pattern in self.patterns.get(way, ())]:
            found.append({"Effect": "Deny", "Action": stricter, "Resource": "*"})
        return found

    def _way(self, action: str | None) -> str:
        if action is None:
            return self.ways[-1]
        named = [way for way, compiled in self._compiled.items() if compiled.fullmatch(action)]
        return max(named, key=WAYS.index, default=self.default)

    @cached_property
    def _compiled(self) -> dict[str, re.Pattern[str]]:
        return {way: action_pattern(patterns) for way, patterns in self.patterns.items() if patterns}


def action_pattern(patterns: Iterable[str]) -> re.Pattern[str]:
    """What matches any of these IAM action patterns: `*` and `?` stand for letters, and case is not heeded."""
    words = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns)
    return re.compile("|".join(words), re.IGNORECASE)

"""The least privilege that covers recorded calls, as a policy. Pure.

What an instance was not seen to do is not in it, and what cannot be seen is not either: calls that it made with
credentials of its own (delivered as a token) leave no record here.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.core.policy import document
from gateway.core.policy.intersect import minified
from gateway.core.policy.traffic import Call

_SPECIAL = re.compile(r"[*?$]")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`policy` is None when nothing was allowed. `calls` are covered by it, but for what the other counts say.

    `unknown_actions` calls needed an action that nobody knows: only `"Action": "*"` would cover them. `partial` calls
    are recorded with some of their needs only. `unwritable` are resources that no policy can name.
    """

    policy: dict[str, Any] | None
    calls: int
    unknown_actions: int
    unknown_resources: tuple[str, ...]
    partial: int
    unwritable: tuple[str, ...]

    @property
    def size(self) -> int:
        """Letters, as AWS counts them."""
        return len(minified(self.policy)) if self.policy else 0


def suggest(calls: Iterable[Call], generalise: int | None = None) -> Suggestion:
    """Cover every call that was allowed.

    With `generalise`, more resources than that under a common prefix become `prefix*`; without, each is named.
    """
    resources: dict[str, set[str]] = defaultdict(set)
    names: dict[str, str] = {}  # IAM knows no case in actions: one spelling of each
    seen = unknown = partial = 0
    star: set[str] = set()
    unwritable: set[str] = set()
    for call in calls:
        if not call.allowed:
            continue
        seen += 1
        partial += not call.whole
        unknown += any(need.ask.action is None for need in call.needs)
        for need in call.needs:
            if need.ask.action is None:
                continue
            action = names.setdefault(need.ask.action.lower(), need.ask.action)
            written = "*" if need.ask.resource is None else _escaped(need.ask.resource)
            if need.ask.resource is None:
                star.add(action)
            if _writable(action, written):
                resources[action].add(written)
            else:
                unwritable.add(need.ask.resource or action)
    covered = {action: _reduced(found, generalise) for action, found in resources.items()}
    policy = {"Version": document.VERSION, "Statement": _statements(covered)} if covered else None
    return Suggestion(policy, seen, unknown, tuple(sorted(star)), partial, tuple(sorted(unwritable)))


def _statements(covered: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Actions with the same resources are one statement."""
    merged: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for action, found in covered.items():
        merged[found].append(action)
    return [
        {"Effect": "Allow", "Action": _one(sorted(actions)), "Resource": _one(list(found))}
        for found, actions in sorted(merged.items(), key=lambda pair: sorted(pair[1]))
    ]


def _one(several: list[str]) -> str | list[str]:
    return several[0] if len(several) == 1 else several


def _reduced(found: set[str], generalise: int | None) -> tuple[str, ...]:
    if "*" in found:
        return ("*",)
    if generalise is not None:
        found = _generalised(found, generalise)
    return tuple(sorted(found))


def _generalised(found: set[str], most: int) -> set[str]:
    """Under each prefix, the deepest first, more than `most` become one."""
    prefixes = {prefix for each in found for prefix in _prefixes(each)}
    for prefix in sorted(prefixes, key=lambda each: (-len(each), each)):
        under = {each for each in found if each.startswith(prefix)}
        if len(under) > most:
            found = found - under | {f"{prefix}*"}
    return found


def _prefixes(resource: str) -> list[str]:
    """Where a resource's name may be cut: behind its slashes and colons; where it has none, behind dashes and dots.

    Never before the name itself begins, and buckets, which are everybody's, are never taken together.
    """
    *head, name = resource.split(":", 5)
    start = len(resource) - len(name)
    marks = "/:" if set("/:") & set(name) else "-_." if head[2] != "s3" else ""
    return [resource[: start + i + 1] for i, letter in enumerate(name) if letter in marks]


def _escaped(resource: str) -> str:
    """A resource of a call is a text; in a policy, these letters are more."""
    return resource if resource == "*" else _SPECIAL.sub(lambda match: f"${{{match[0]}}}", resource)


def _writable(action: str, resource: str) -> bool:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return not list(document.faults({"Version": document.VERSION, "Statement": [statement]}))

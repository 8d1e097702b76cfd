"""A candidate policy held against recorded calls: which would be refused, and which allowed. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.core.policy.judge import Ask
from gateway.core.policy.traffic import Call

Verdict = tuple[str, tuple[str, ...]]
"""allowed, denied or not_allowed; and the statements that decided."""
Decide = Callable[[Call, Ask], Verdict | None]
"""What the candidate says to one need of a call. None: it cannot be said (managed policies, which only AWS has)."""


@dataclass(frozen=True, slots=True)
class Change:
    """Calls of one instance that come out otherwise, for one need of them. `why` are the statements that decide."""

    instance: str
    grant: str
    action: str | None
    resource: str | None
    decision: str
    why: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Side:
    """All calls that come out otherwise in one direction, by need; the most frequent first."""

    calls: int
    instances: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`judged` calls were held against the candidate; `partial` of them are recorded with some of their needs only;
    to `undecided` ones the candidate has no answer.
    """

    judged: int
    partial: int
    undecided: int
    refused: Side
    allowed: Side


class _Tally:
    def __init__(self) -> None:
        self._calls = 0
        self._instances: set[str] = set()
        self._counts: dict[tuple[str, str, str | None, str | None, str, tuple[str, ...]], int] = {}

    def add(self, call: Call, judged: Iterable[tuple[Ask, Verdict]]) -> None:
        self._calls += 1
        self._instances.add(call.instance)
        for key in {(call.instance, call.grant, ask.action, ask.resource, *verdict) for ask, verdict in judged}:
            self._counts[key] = self._counts.get(key, 0) + 1

    def side(self) -> Side:
        changes = [Change(*key, count) for key, count in self._counts.items()]
        changes.sort(key=lambda each: (-each.count, each.instance, each.grant, each.action or "", each.resource or ""))
        return Side(self._calls, len(self._instances), tuple(changes))


def replay(calls: Iterable[Call], decide: Decide) -> Report:
    """Hold the candidate against each call. A call is allowed when each of its needs is."""
    refused, allowed = _Tally(), _Tally()
    judged = partial = undecided = 0
    for call in calls:
        verdicts = [(need, decide(call, need.ask)) for need in call.needs]
        answered = [(need, verdict) for need, verdict in verdicts if verdict is not None]
        if len(answered) < len(verdicts):
            undecided += 1
            continue
        judged += 1
        partial += not call.whole
        failing = [(need.ask, verdict) for need, verdict in answered if verdict[0] != "allowed"]
        if call.allowed and failing:
            refused.add(call, failing)
        changed = [(need.ask, verdict) for need, verdict in answered if need.decision != "allowed"]
        if changed and not failing:
            allowed.add(call, changed)
    return Report(judged, partial, undecided, refused.side(), allowed.side())

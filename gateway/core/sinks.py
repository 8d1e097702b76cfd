"""Where the audit log is sent besides: what a sink is, and how far behind the log it is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.audit_formats import Format
from gateway.core.errors import Refusal

TURN = timedelta(seconds=20)
"""How long a worker has a sink to itself after its latest step: longer than any one delivery may take."""


class SinkKind(StrEnum):
    FILE = "file"
    SYSLOG = "syslog"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class SinkRules:
    """One sink of the settings. `options` are those of its kind. A `required` one may be `within` behind, not more."""

    name: str
    kind: SinkKind
    form: Format
    required: bool
    within: timedelta
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a sink is behind: `records` are not delivered, the oldest of them was written at `since`.

    `fault` is why the latest delivery failed, one word; None when it did not.
    """

    records: int = 0
    since: datetime | None = None
    fault: str | None = None

    def age(self, now: datetime) -> timedelta:
        """How long the oldest record has waited."""
        return max(now - self.since, timedelta()) if self.since else timedelta()


class SinkFailed(Exception):
    """A sink did not take what it was given, or may not have. `reason` is one stable word, `detail` no secret."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sink has come, and whose turn it is: what lies in the cursor."""

    delivered: Mapping[str, int]
    owner: str | None = None
    until: datetime | None = None
    fault: str | None = None

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Position":
        until = written.get("until")
        moment = datetime.fromisoformat(until) if until else None
        return cls(written.get("delivered", {}), written.get("owner"), moment, written.get("fault"))

    def written(self) -> Mapping[str, Any]:
        """In plain values."""
        until = self.until.isoformat() if self.until else None
        return {"delivered": dict(self.delivered), "owner": self.owner, "until": until, "fault": self.fault}

    def is_free(self, worker: str, now: datetime) -> bool:
        """Whether this worker may send: it is its turn, or whose turn it was has not been heard of for long."""
        return self.owner in (None, worker) or self.until is None or now >= self.until


# What is not refused while a required sink is behind: what cuts off, what shows the operator why, and what an operator
# needs on the way there, be it the second person's: to come in, to agree, to see how far it is, to leave.
_VERBS = frozenset({"compromise", "disable", "revoke", "watch"})
_THINGS = frozenset({"api", "audit", "gateway"})
_ON_THE_WAY = frozenset(
    {
        "operator:approval:give",
        "operator:approval:list",
        "operator:certificate:renew",
        "operator:revocation:list",
        "operator:session:create",
        "operator:session:end",
    }
)


def demand_export(rules: SinkRules, lag: Lag, now: datetime, event: str) -> None:
    """Raises Refusal `audit_behind` when this required sink is too far behind for this event to be decided."""
    who, thing, verb = event.split(":")
    always = verb in _VERBS or (who == "operator" and thing in _THINGS) or event in _ON_THE_WAY
    if not rules.required or always:
        return
    if lag.age(now) > rules.within:
        raise Refusal("audit_behind", retry_after=5, sink=rules.name, records=lag.records)

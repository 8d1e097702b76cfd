"""Calls as the audit log has them: who asked for what, by which grant, and how it was decided. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.audit import Kind, Name
from gateway.core.policy.judge import Ask, Context

CALLS = (Name.INSTANCE_CALL_SIGN, Name.INSTANCE_CALL_CARRY)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a call needed, and how that was decided then: allowed, denied or not_allowed."""

    ask: Ask
    decision: str


@dataclass(frozen=True, slots=True)
class Call:
    """One decided call. `instance` is a SPIFFE ID; `total` counts the needs, of which a record has the first few;
    `denied`: the policy refused the call, if only for a need that the record has not.
    """

    at: datetime
    instance: str
    profile: str
    grant: str
    operation: str
    needs: tuple[Need, ...]
    total: int
    denied: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the policy allowed it: each of its needs. (It may have been refused for something else.)"""
        return bool(self.needs) and not self.denied and all(need.decision == "allowed" for need in self.needs)

    @property
    def whole(self) -> bool:
        """Whether the record has all that it needed."""
        return self.total <= len(self.needs)

    def values(self) -> dict[str, str]:
        """The templates of a grant whose values the record has."""
        found = {"profile.name": self.profile, "grant.name": self.grant}
        path = self.instance.removeprefix("spiffe://").split("/")
        if len(path) == 5 and path[1] == "aws":
            found |= {"instance.account": path[2], "instance.region": path[3], "instance.id": path[4]}
        return found


def read(body: Mapping[str, Any]) -> Call | None:
    """The call in a record of the audit log; None when it is about something else, or nothing was decided.

    Raises ValueError: a record of a call that has not the form of one.
    """
    if body.get("kind") != Kind.DECISION or body.get("name") not in CALLS or not body["facts"].get("needs"):
        return None
    try:
        facts = body["facts"]
        common = _context(facts.get("context", {}))
        needs = tuple(_need(each, common) for each in facts["needs"])
        operation = f"{facts['service']}:{facts['operation'] or 'unknown'}"
        total = int(facts.get("needs_total", len(needs)))
        at = datetime.fromisoformat(body["at"])
        denied = facts.get("code") == "call_denied"
        return Call(at, str(body["subject"]), facts["profile"], facts["grant"], operation, needs, total, denied)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("not the record of a call") from error


def _need(written: Mapping[str, Any], common: Context) -> Need:
    ask = Ask(written["action"], written["resource"], {**common, **_context(written.get("context", {}))})
    return Need(ask, written["decision"])


def _context(written: Mapping[str, Any]) -> Context:
    return {
        key.lower(): tuple(map(str, value)) if isinstance(value, list) else str(value) for key, value in written.items()
    }

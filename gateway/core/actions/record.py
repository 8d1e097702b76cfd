"""What the audit log keeps of a call: bounded, whatever the call holds. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.actions.call import Need, Routed
from gateway.core.policy.engine import Decision
from gateway.wire.calls import Call

MOST_TOLD = 20  # needs of one call that its record lists
_LONGEST_NAME = 1200  # letters of a resource in a record; S3's keys have 1,024 bytes
_LONGEST_CONTEXT = 16 * 1024  # letters of the condition keys of all needs in a record, and of those of the whole call


def facts_of(
    call: Call,
    profile: str,
    routed: Routed,
    host: str,
    needs: Sequence[Need],
    decisions: Sequence[Decision],
    common: Mapping[str, Any],
) -> dict[str, Any]:
    """What was asked for, need by need, and what decided. `core.policy.traffic` reads it."""
    # What is refused is told first: of a thousand keys it may be the last.
    told = sorted(zip(needs, decisions, strict=True), key=lambda pair: bool(pair[1]))[:MOST_TOLD]
    needed, room = [], _LONGEST_CONTEXT
    for need, each in told:
        context = _within(need.context, room)
        room -= sum(len(key) + len(str(value)) for key, value in context.items())
        needed.append(
            {"action": need.action, "resource": _cut(need.resource), "context": context, "decision": each.kind}
        )
    return {
        "grant": call.grant,
        "profile": profile,
        "service": routed.service,
        "operation": routed.operation,
        "region": call.region,
        "host": host,
        "needs": needed,
        "needs_total": len(needs),
        "context": _within(common, _LONGEST_CONTEXT),
        "statements": list(dict.fromkeys(name for _, each in told for name in each.statements)),
        "known": all(need.action is not None and need.resource is not None for need in needs),
        "payload": "hash" if is_hash(call.payload_sha256) else call.payload_sha256,
    }


def _within(context: Mapping[str, Any], room: int) -> dict[str, Any]:
    """The condition keys, but for those with which a record would grow beyond all measure."""
    out: dict[str, Any] = {}
    for key, value in context.items():
        room -= len(key) + len(str(value))
        if room < 0:
            return {**out, "cut": "true"}
        out[key] = value
    return out


def _cut(resource: str | None) -> str | None:
    return resource if resource is None or len(resource) <= _LONGEST_NAME else f"{resource[:_LONGEST_NAME]}…"


def why_not(needs: Sequence[Need], decisions: Sequence[Decision]) -> str:
    """The first need that is not allowed, in words."""
    for need, decision in zip(needs, decisions, strict=True):
        if not decision:
            by = f" by {', '.join(decision.statements)}" if decision.statements else ""
            what = "is denied" if decision.statements else "is not allowed"
            action, resource = need.action or "An action that is not known", _cut(need.resource) or "what is not known"
            return f"{action} on {resource} {what}{by}"
    return "Nothing is known of what the call needs"


def is_hash(payload: str) -> bool:
    """Whether a call's `payload_sha256` is the hash of its body, not one of S3's words."""
    return not payload.isupper()

"""Records of calls, as a gateway writes them."""

import json
from datetime import UTC, datetime
from typing import Any

from gateway.core.audit import Event, Kind, Name, append
from gateway.core.policy.traffic import Call, read

ACCOUNT = "111122223333"
AT = datetime(2026, 11, 23, 8, tzinfo=UTC)
INSTANCE = f"spiffe://example.org/aws/{ACCOUNT}/eu-central-1/i-0abc"


def need(
    action: str | None, resource: str | None, decision: str = "allowed", context: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"action": action, "resource": resource, "context": context or {}, "decision": decision}


def event(
    *needs: dict[str, Any], instance: str = INSTANCE, profile: str = "web", grant: str = "reports", **more: Any
) -> Event:
    """The decision about a call that needed these."""
    allowed = all(each["decision"] == "allowed" for each in needs)
    facts = {"grant": grant, "profile": profile, "way": "sign", "service": "s3", "operation": "GetObject",
             "region": "eu-central-1", "needs": list(needs), "needs_total": len(needs), "context": {}}  # fmt: skip
    reason = "ok" if allowed else "call_denied"
    return Event(
        Kind.DECISION, Name.INSTANCE_CALL_SIGN, allowed, reason, "id", instance, instance, "192.0.2.1", facts | more
    )


def body(made: Event, at: datetime = AT) -> dict[str, Any]:
    """The record's content."""
    found: dict[str, Any] = json.loads(append(None, "node-1.worker-0", made, at).line)
    return found


def call(*needs: dict[str, Any], **more: Any) -> Call:
    found = read(body(event(*needs, **more)))
    assert found is not None
    return found

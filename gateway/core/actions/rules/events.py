"""EventBridge: a rule is of its bus, and events go each to their own.

AWS: "Service Authorization Reference: Amazon EventBridge" (rule-on-default-event-bus, rule-on-custom-event-bus);
"EventBridge API reference", PutEvents: EventBusName is a name or an ARN, the default bus when it is absent.
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.filling import literal, name_of
from gateway.core.actions.indexed import tags
from gateway.core.actions.passing import role_needs

_BUS = ("arn:${Partition}:events:${Region}:${Account}:event-bus/${EventBusName}",)
_RULES = {
    "DeleteRule": "Name", "DescribeRule": "Name", "DisableRule": "Name", "EnableRule": "Name", "PutRule": "Name",
    "ListTargetsByRule": "Rule", "PutTargets": "Rule", "RemoveTargets": "Rule",
}  # fmt: skip


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of PutEvents, and of what is done to a rule."""
    entry = ask.entry
    if entry is None:
        return None
    if ask.operation == "PutEvents":
        return tuple(_event(ask, each) for each in ask.each("Entries"))
    if ask.operation not in _RULES:
        return None
    name = name_of(ask.text(_RULES[ask.operation]))
    bus = _bus(ask, ask.member("EventBusName"))
    resource = None
    if name and bus:
        inner = bus.partition(":event-bus/")[2]
        resource = re.sub(r":event-bus/.+", ":rule/", bus) + (name if inner == "default" else f"{inner}/{name}")
    return (Need(entry.action, resource, tags(ask)), *role_needs(ask, entry.roles, passes=entry.passes))


def _event(ask: Ask, entry: object) -> Need:
    if not isinstance(entry, dict):
        return Need("events:PutEvents", None, {})
    keys = (("events:source", "Source"), ("events:detail-type", "DetailType"))
    context = {key: value for key, member in keys if isinstance(value := entry.get(member), str)}
    return Need("events:PutEvents", _bus(ask, entry.get("EventBusName")), context)


def _bus(ask: Ask, value: object) -> str | None:
    if isinstance(value, str) and value.startswith("arn:"):
        return literal(ask, value, _BUS)
    name = "default" if value is None else name_of(value if isinstance(value, str) else None)
    return ask.arn("events", f"event-bus/{name}") if name else None

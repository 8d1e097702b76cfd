"""ECS: without a cluster it is the one called `default`; a task definition without its revision is unknown.

AWS: "Service Authorization Reference: Amazon ECS"; "ECS API reference": "If you do not specify a cluster, the default
cluster is assumed"; "family:revision or full ARN … If a revision isn't specified, the latest ACTIVE one is used".
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.filling import literal, name_of
from gateway.core.actions.indexed import tags
from gateway.core.actions.passing import role_needs

_CLUSTER = ("arn:${Partition}:ecs:${Region}:${Account}:cluster/${ClusterName}",)
_DEFINITION = ("arn:${Partition}:ecs:${Region}:${Account}:task-definition/${Family}:${Revision}",)
_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}:[0-9]{1,9}")


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call that runs tasks."""
    entry = ask.entry
    if entry is None or ask.operation not in ("RunTask", "StartTask"):
        return None
    given = ask.text("taskDefinition") or ""
    if _FAMILY.fullmatch(given):
        definition: str | None = ask.arn("ecs", f"task-definition/{given}")
    else:
        definition = literal(ask, given, _DEFINITION)
    cluster = _cluster(ask)
    context = tags(ask) | ({"ecs:cluster": cluster} if cluster else {})
    return (Need(entry.action, definition, context), *role_needs(ask, entry.roles, passes=entry.passes))


def _cluster(ask: Ask) -> str | None:
    value = ask.text("cluster") or "default"
    if value.startswith("arn:"):
        return literal(ask, value, _CLUSTER)
    name = name_of(value)
    return ask.arn("ecs", f"cluster/{name}") if name else None

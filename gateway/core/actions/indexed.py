"""What the index says of a call: the action, its resources out of the members, the roles that are passed. Pure."""

from typing import Any

from gateway.core.actions.actions_model import ByArn, ByNames, Entry
from gateway.core.actions.ask import NO_CONTEXT, Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.filling import filled, literal
from gateway.core.actions.passing import role_needs


def by_index(ask: Ask, extra: Context = NO_CONTEXT) -> tuple[Need, ...]:
    """What the index says that the operation takes; `extra` are condition keys that its action has besides."""
    entry = ask.entry
    if entry is None:
        return (Need(None, None, {}),)
    context = tags(ask) | dict(extra)
    resources = resources_of(ask, entry)
    return (
        *(Need(entry.action, resource, context) for resource in resources),
        *role_needs(ask, entry.roles, passes=entry.passes),
    )


def resources_of(ask: Ask, entry: Entry) -> list[str | None]:
    """The resources: `*` for an action that has no types, None for one that cannot be known."""
    if not entry.resources and not entry.unsure:
        return ["*"]
    out: list[str | None] = []
    for resource in entry.resources:
        found = _of(ask, resource)
        out += found or ([None] if resource.required else [])
    if any(ask.each(member) for member in entry.unsure):
        out.append(None)
    return out or [None]


def _of(ask: Ask, resource: ByArn | ByNames) -> list[str | None]:
    if isinstance(resource, ByArn):
        return [literal(ask, value, resource.templates) for value in ask.each(resource.member)]
    if resource.fills is None:
        return [None]
    return filled(ask, resource.template, resource.fills)


def tags(ask: Ask) -> dict[str, str | tuple[str, ...]]:
    """`aws:RequestTag/…` and `aws:TagKeys` of the members that AWS calls so ("Global condition context keys")."""
    out: dict[str, str | tuple[str, ...]] = {}
    keys: list[str] = []
    for name in ("Tags", "tags", "TagList", "tagList", "TagKeys", "tagKeys"):
        if not (name in ask.routed.members or name in ask.routed.unread):
            continue
        for key, value in _pairs(ask.member(name)):
            keys.append(key)
            if value is not None:
                out[f"aws:requesttag/{key.lower()}"] = value
    if keys:
        out["aws:tagkeys"] = tuple(dict.fromkeys(keys))
    return out


def _pairs(value: Any) -> list[tuple[str, str | None]]:
    """The tags in a member: a map, a list of structures with key and value, or a list of keys."""
    if isinstance(value, dict):
        return [(key, each if isinstance(each, str) else None) for key, each in value.items()]
    out: list[tuple[str, str | None]] = []
    for each in value if isinstance(value, list) else ():
        if isinstance(each, str):
            out.append((each, None))
        elif isinstance(each, dict):
            low = {key.lower().removeprefix("tag"): inner for key, inner in each.items()}
            if isinstance(key := low.get("key"), str):
                inner = low.get("value")
                out.append((key, inner if isinstance(inner, str) else ""))
    return out

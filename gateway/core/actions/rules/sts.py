"""STS: whom a session is asked for, under which names and tags.

AWS: "Service Authorization Reference: AWS STS"; "Pass session tags in AWS STS": tags take sts:TagSession, a source
identity sts:SetSourceIdentity, on the same role.
"""

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.filling import literal
from gateway.core.actions.indexed import tags

_ROLE = ("arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}",)
_KEYS = {
    "ExternalId": "sts:externalid",
    "RoleSessionName": "sts:rolesessionname",
    "SourceIdentity": "sts:sourceidentity",
}


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call that assumes a role."""
    entry = ask.entry
    if entry is None or not ask.operation.startswith("AssumeRole"):
        return None
    role = literal(ask, ask.member("RoleArn"), _ROLE)
    context: Context = tags(ask) | {key: value for member, key in _KEYS.items() if (value := ask.text(member))}
    out = [Need(entry.action, role, context)]
    if ask.each("Tags"):
        out.append(Need("sts:TagSession", role, context))
    if ask.text("SourceIdentity"):
        out.append(Need("sts:SetSourceIdentity", role, context))
    return tuple(out)

"""Systems Manager: whether a command goes to an instance of EC2 or to a managed node, its id tells.

AWS: "Service Authorization Reference: AWS Systems Manager" (instance, managed-instance); "i-…" and "mi-…" are the ids.
Targets by tag name no instance: what they are is unknown.
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.filling import literal, name_of
from gateway.core.actions.passing import role_needs

_INSTANCE = re.compile(r"m?i-[0-9a-f]{8,17}")
_DOCUMENT = ("arn:${Partition}:ssm:${Region}:${Account}:document/${DocumentName}",)


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of SendCommand and StartSession: the document, and every node that it is run on."""
    entry = ask.entry
    if entry is None or ask.operation not in ("SendCommand", "StartSession"):
        return None
    if ask.operation == "StartSession":
        # "If no document is named, the account's preferences decide": the document is unknown then.
        goals = [_node(ask, ask.member("Target"))]
    else:
        goals = [_node(ask, each) for each in ask.each("InstanceIds")] + ([None] if ask.each("Targets") else [])
    needed = [Need(entry.action, each, {}) for each in [_document(ask, ask.member("DocumentName")), *(goals or [None])]]
    return (*needed, *role_needs(ask, entry.roles, passes=entry.passes))


def _document(ask: Ask, value: object) -> str | None:
    if isinstance(value, str) and value.startswith("arn:"):
        return literal(ask, value, _DOCUMENT)
    name = name_of(value if isinstance(value, str) else None)
    if name is None:
        return None
    # "Prefixes reserved for AWS": its own documents are of no account.
    return ask.arn("ssm", f"document/{name}", account=not name.lower().startswith(("aws", "amazon", "amzn")))


def _node(ask: Ask, value: object) -> str | None:
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value):
        return None
    return ask.arn("ssm", f"managed-instance/{value}") if value[0] == "m" else ask.arn("ec2", f"instance/{value}")

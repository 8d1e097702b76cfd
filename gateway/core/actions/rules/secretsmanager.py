"""Secrets Manager: only a full ARN tells which secret.

AWS: "Secrets Manager … adds a hyphen and six random characters to the end of the secret name" ("What's in a secret"): a
name, or an ARN without these six, is a resource that the request does not tell.
"""

import re

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.indexed import tags

_SECRET = re.compile(
    r"arn:([a-z-]+):secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,512}-[A-Za-z0-9]{6}"
)


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call on one secret, or on those of a batch."""
    entry = ask.entry
    if entry is None:
        return None
    if ask.operation == "BatchGetSecretValue":
        secrets = [_arn(ask, each) for each in ask.each("SecretIdList")] or [None]
        return (Need(entry.action, "*", {}), *(Need("secretsmanager:GetSecretValue", each, {}) for each in secrets))
    if "SecretId" not in ask.routed.members and "SecretId" not in ask.routed.unread:
        return None
    context = tags(ask) | {
        key: value
        for key, member in (("secretsmanager:secretid", "SecretId"), ("secretsmanager:versionstage", "VersionStage"))
        if (member in ask.routed.members or member in ask.routed.unread) and (value := ask.text(member))
    }
    return (Need(entry.action, _arn(ask, ask.member("SecretId")), context),)


def _arn(ask: Ask, value: object) -> str | None:
    found = _SECRET.fullmatch(value) if isinstance(value, str) else None
    return found[0] if found and found[1] == ask.partition else None

"""IAM: a name is not an ARN, for the path is a part of that; what is made has the path that the request gives.

AWS: "IAM identifiers: IAM ARNs" ("arn:aws:iam::account:user/path/name"); "Service Authorization Reference: IAM".
"""

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.actions.filling import name_of
from gateway.core.actions.indexed import by_index, tags
from gateway.core.actions.passing import pass_role

_MADE = {
    "CreateGroup": ("group", "GroupName"),
    "CreateInstanceProfile": ("instance-profile", "InstanceProfileName"),
    "CreatePolicy": ("policy", "PolicyName"),
    "CreateRole": ("role", "RoleName"),
    "CreateUser": ("user", "UserName"),
}


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call that makes something, or hands a role to EC2."""
    entry = ask.entry
    if entry is None:
        return None
    if ask.operation in _MADE:
        kind, member = _MADE[ask.operation]
        name, path = name_of(ask.text(member)), ask.member("Path") or "/"
        fits = name and "/" not in name and isinstance(path, str) and path[0] == path[-1] == "/" and name_of(path)
        resource = ask.arn("iam", f"{kind}{path}{name}", region=False) if fits else None
        boundary = ask.text("PermissionsBoundary") if kind in ("role", "user") else None
        extra = {"iam:permissionsboundary": boundary} if boundary else {}
        return (Need(entry.action, resource, tags(ask) | extra),)
    if ask.operation == "AddRoleToInstanceProfile":
        return (*by_index(ask), pass_role(ask, ask.text("RoleName") or "", "ec2"))
    arn = ask.text("PolicyArn") if ask.operation.startswith(("Attach", "Detach")) else None
    return by_index(ask, {"iam:policyarn": arn}) if arn else None

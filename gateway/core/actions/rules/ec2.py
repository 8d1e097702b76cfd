"""EC2: what a launch touches, tags that come with what is made, ids that tell their type.

AWS: "Service Authorization Reference: Amazon EC2"; "Example policies to control access to the EC2 API: Launch
instances"; "Grant permission to tag Amazon EC2 resources during creation" (ec2:CreateTags with ec2:CreateAction).
"""

from typing import Any

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.indexed import by_index
from gateway.core.actions.rules.ec2_launch import launch

# The letters before the id → the type in the ARN. Those of images and snapshots are of no account.
_TYPES = {
    "acl": "network-acl", "ami": "image", "cgw": "customer-gateway", "cr": "capacity-reservation",
    "dopt": "dhcp-options", "eipalloc": "elastic-ip", "eni": "network-interface", "fl": "vpc-flow-log",
    "h": "dedicated-host", "i": "instance", "igw": "internet-gateway", "lt": "launch-template", "nat": "natgateway",
    "pcx": "vpc-peering-connection", "pl": "prefix-list", "rtb": "route-table", "sg": "security-group",
    "sgr": "security-group-rule", "snap": "snapshot", "subnet": "subnet", "vgw": "vpn-gateway", "vol": "volume",
    "vpc": "vpc", "vpce": "vpc-endpoint", "vpn": "vpn-connection",
}  # fmt: skip
_OF_NO_ACCOUNT = frozenset({"image", "snapshot"})


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a launch, of tagging, and of what is tagged while it is made."""
    if ask.entry is None:
        return None
    if ask.operation in ("CreateTags", "DeleteTags"):
        context = _request_tags(ask.member("Tags"))
        return tuple(Need(ask.entry.action, _by_id(ask, each), context) for each in ask.each("Resources"))
    specifications = _specifications(ask)
    if ask.operation == "RunInstances":
        found = launch(ask, {kind: _request_tags(each) for kind, each in specifications.items()})
    elif specifications:
        every = [tag for each in specifications.values() for tag in each]
        found = by_index(ask, _request_tags(every))
    else:
        return None
    return (*found, *(_tagging(ask, kind, each) for kind, each in specifications.items()))


def _tagging(ask: Ask, kind: str, given: list[Any]) -> Need:
    context: Context = {**_request_tags(given), "ec2:createaction": ask.operation}
    resource = ask.arn("ec2", f"{kind}/*", account=kind not in _OF_NO_ACCOUNT) if kind else None
    return Need("ec2:CreateTags", resource, context)


def _specifications(ask: Ask) -> dict[str, list[Any]]:
    """Type → the tags that one of it gets when it is made. (EC2 writes the member in both numbers.)"""
    out: dict[str, list[Any]] = {}
    for name in ("TagSpecification", "TagSpecifications"):
        for each in ask.each(name) if name in ask.routed.members or name in ask.routed.unread else ():
            if isinstance(each, dict) and isinstance(each.get("Tags"), list) and each["Tags"]:
                kind = each.get("ResourceType")
                out.setdefault(kind if isinstance(kind, str) else "", []).extend(each["Tags"])
    return out


def _request_tags(given: Any) -> dict[str, str | tuple[str, ...]]:
    tags = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    pairs = [(key, each.get("Value", "")) for each in tags if isinstance(key := each.get("Key"), str)]
    if not pairs:
        return {}
    named = {f"aws:requesttag/{key.lower()}": value for key, value in pairs if isinstance(value, str)}
    return {**named, "aws:tagkeys": tuple(key for key, _ in pairs)}


def _by_id(ask: Ask, value: object) -> str | None:
    letters, dash, rest = value.partition("-") if isinstance(value, str) else ("", "", "")
    kind = _TYPES.get(letters)
    if kind is None or not dash or not rest.isalnum() or not rest.isascii():
        return None
    return ask.arn("ec2", f"{kind}/{value}", account=kind not in _OF_NO_ACCOUNT)

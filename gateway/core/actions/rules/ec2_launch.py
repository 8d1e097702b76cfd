"""RunInstances: every resource that a launch touches has to be allowed, those that it makes as `type/*`.

AWS: "Service Authorization Reference: Amazon EC2", RunInstances; "Example policies … Launch instances (RunInstances)".
What the request leaves to EC2 or to a launch template (a subnet, a security group, an image) is unknown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.actions.ask import NO_CONTEXT, Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.filling import name_of
from gateway.core.actions.passing import pass_role

RUN = "ec2:RunInstances"
_ID = re.compile(r"[a-z]+-[0-9a-z]{1,64}")


def launch(ask: Ask, tags: Mapping[str, Context]) -> tuple[Need, ...]:
    """The needs of RunInstances. `tags`: type → the keys of the tags that one of it gets."""
    shared: dict[str, str | tuple[str, ...]] = {}
    template = ask.member("LaunchTemplate")
    if isinstance(template, dict):
        arn = _with_id(ask, "launch-template", template.get("LaunchTemplateId"))
        shared = {"ec2:launchtemplate": arn} if arn else {}
    found = [
        Need(RUN, resource, {**shared, **context, **tags.get(kind, NO_CONTEXT)})
        for kind, resource, context in _touched(ask, template)
    ]
    # The role in an instance profile, given or in the template, is one that only IAM knows.
    if ask.member("IamInstanceProfile") or template:
        found.append(pass_role(ask, "", "ec2"))
    return tuple(found)


def _touched(ask: Ask, template: Any) -> Iterator[tuple[str, str | None, Context]]:
    cards = [each for each in ask.each("NetworkInterfaces") if isinstance(each, dict)]
    placement = ask.member("Placement")
    placement = placement if isinstance(placement, dict) else {}
    yield "instance", ask.arn("ec2", "instance/*"), _of_instance(ask, placement)
    yield "image", _with_id(ask, "image", ask.member("ImageId"), account=False), {}
    subnets = [ask.member("SubnetId"), *(each.get("SubnetId") for each in cards)]
    existing = [each["NetworkInterfaceId"] for each in cards if each.get("NetworkInterfaceId")]
    for subnet in [each for each in subnets if each] or ([] if existing else [None]):
        yield "subnet", _with_id(ask, "subnet", subnet), {}
    groups = [*ask.each("SecurityGroupIds"), *(group for each in cards for group in each.get("Groups") or [])]
    groups += [None for _ in ask.each("SecurityGroups")]  # a name is not an id
    for group in groups or ([] if existing else [None]):
        yield "security-group", _with_id(ask, "security-group", group), {}
    for card in existing:
        yield "network-interface", _with_id(ask, "network-interface", card), {}
    if not existing or len(existing) < len(cards):
        yield "network-interface", ask.arn("ec2", "network-interface/*"), _of_cards(cards)
    yield from _disks(ask)
    if (key := ask.member("KeyName")) is not None:
        name = name_of(key if isinstance(key, str) else None)
        yield "key-pair", ask.arn("ec2", f"key-pair/{name}") if name else None, {}
    if template:
        given = template.get("LaunchTemplateId") if isinstance(template, dict) else None
        yield "launch-template", _with_id(ask, "launch-template", given), {}
    if group := placement.get("GroupName"):
        name = name_of(group if isinstance(group, str) else None)
        yield "placement-group", ask.arn("ec2", f"placement-group/{name}") if name else None, {}
    if host := placement.get("HostId"):
        yield "dedicated-host", _with_id(ask, "dedicated-host", host), {}
    if reservation := _inner(ask.member("CapacityReservationSpecification"), "CapacityReservationTarget"):
        yield (
            "capacity-reservation",
            _with_id(ask, "capacity-reservation", reservation.get("CapacityReservationId")),
            {},
        )


def _disks(ask: Ask) -> Iterator[tuple[str, str | None, Context]]:
    """The volumes that are made; of an image's own, the request tells nothing but that there may be some."""
    disks = [disk for each in ask.each("BlockDeviceMappings") if (disk := _inner(each, "Ebs"))]
    for disk in disks or [{}]:
        keys = {"ec2:volumetype": "VolumeType", "ec2:volumesize": "VolumeSize", "ec2:encrypted": "Encrypted",
                "ec2:volumeiops": "Iops", "ec2:kmskeyid": "KmsKeyId"}  # fmt: skip
        yield "volume", ask.arn("ec2", "volume/*"), _texts(keys, disk)
        if snapshot := disk.get("SnapshotId"):
            yield "snapshot", _with_id(ask, "snapshot", snapshot, account=False), {}


def _of_instance(ask: Ask, placement: Mapping[str, Any]) -> Context:
    """Those of "Condition keys for Amazon EC2" that the request tells of the instance."""
    metadata, market = ask.member("MetadataOptions"), ask.member("InstanceMarketOptions")
    profile = _inner({"profile": ask.member("IamInstanceProfile")}, "profile")
    own = {"ec2:instancetype": "InstanceType", "ec2:ebsoptimized": "EbsOptimized"}
    return {
        **_texts(own, {name: ask.member(name) for name in own.values()}),
        **_texts({"ec2:availabilityzone": "AvailabilityZone", "ec2:tenancy": "Tenancy"}, placement),
        **_texts({"ec2:instanceprofile": "Arn"}, profile),
        **_texts({"ec2:instancemarkettype": "MarketType"}, market),
        **_texts({"ec2:metadatahttptokens": "HttpTokens", "ec2:metadatahttpendpoint": "HttpEndpoint",
                  "ec2:metadatahttpputresponsehoplimit": "HttpPutResponseHopLimit"}, metadata),
    }  # fmt: skip


def _of_cards(cards: list[dict[str, Any]]) -> Context:
    public = [_text(each[name]) for each in cards if (name := "AssociatePublicIpAddress") in each]
    return {"ec2:associatepublicipaddress": max(public)} if public else {}  # "true" is the greater word


def _texts(keys: Mapping[str, str], given: Any) -> Context:
    """The values of these keys as texts, of those that are there."""
    values = given if isinstance(given, dict) else {}
    return {key: _text(values[name]) for key, name in keys.items() if values.get(name) is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _inner(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _with_id(ask: Ask, kind: str, value: object, *, account: bool = True) -> str | None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        return None
    return ask.arn("ec2", f"{kind}/{value}", account=account)
